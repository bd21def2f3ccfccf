//! The manifest of an application: `app.toml`, a documented subset of Spin's `spin.toml` with sections of our own.
//!
//! docs/serve.md describes it. What is not understood is an error, with its line and column; all errors of a file
//! are told, not only the first one.

mod function;
mod limits;
mod nearest;
mod outbound;
mod program;
mod read;
mod schedule;
mod sections;
mod table;
mod trigger;
mod values;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::de::DeTable;

use crate::report::{Problems, Report};
use crate::routes::Routes;
use read::Reader;

pub use function::{Directory, Function};
pub use limits::{Limits, MAX_VMS, Policy, Pool, Tenant};
pub use outbound::{Outbound, Scheme};
pub use schedule::{InvalidSchedule, Schedule};
pub use sections::{Key, SECTIONS, Section, Use};
pub use trigger::{Argument, CronTrigger, Executor, HttpTrigger};
pub use values::MAX_NAME;

pub(crate) use function::FunctionPlaces;

/// How many bytes a manifest may have.
pub const MAX_SIZE: u64 = 1 << 20;

/// An application: functions, and what calls them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Manifest {
    /// What it is.
    pub application: Application,
    /// On whose behalf it runs.
    pub tenant: Tenant,
    /// Its functions.
    pub functions: Vec<Function>,
    /// Which requests call which function.
    pub routes: Routes<HttpTrigger>,
    /// Which functions run by themselves.
    pub schedules: Vec<CronTrigger>,
}

/// What an application is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Who made it.
    pub authors: Vec<String>,
}

impl Manifest {
    /// Reads a manifest from a file.
    #[must_use]
    pub fn read(path: impl AsRef<Path>) -> Report {
        let path = path.as_ref();
        match load(path) {
            Ok(text) => Self::parse(&text, path),
            Err(report) => report,
        }
    }

    /// Reads a manifest from a text. `path` is what messages call it, and its directory is what paths in it are
    /// relative to.
    #[must_use]
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Report {
        let problems = Problems::new(text);
        let (manifest, _) = parse(&problems, text, path.as_ref());
        Report::new(problems, path.as_ref(), manifest)
    }
}

/// The text of a file.
pub(crate) fn load(path: &Path) -> Result<String, Report> {
    let fail = |text: &str, at: Option<usize>, what: String, advice: &str| {
        let problems = Problems::new(text);
        match at {
            Some(at) => problems.error(at, what, advice),
            None => problems.file(what, advice),
        }
        Report::unreadable(problems, path)
    };
    let mut bytes = Vec::new();
    // Something else, such as a pipe, might never end, or never even open.
    let read = std::fs::metadata(path).and_then(|metadata| {
        if !metadata.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        return Err(fail(
            "",
            None,
            format!("the file cannot be read: {error}"),
            "the path of a manifest",
        ));
    }
    if bytes.len() as u64 > MAX_SIZE {
        let what = format!("the file has more than {MAX_SIZE} bytes");
        return Err(fail("", None, what, "several manifests"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let end = error.utf8_error().valid_up_to();
        let valid = std::str::from_utf8(&error.as_bytes()[..end]).unwrap_or_default();
        fail(
            valid,
            Some(end),
            "there is a byte that is not UTF-8".to_owned(),
            "saving the file as UTF-8",
        )
    })
}

/// Reads as much of a manifest as can be understood, and tells what cannot.
pub(crate) fn parse(
    problems: &Problems<'_>,
    text: &str,
    path: &Path,
) -> (Manifest, Vec<FunctionPlaces>) {
    if text.len() as u64 > MAX_SIZE {
        problems.file(format!("the file has more than {MAX_SIZE} bytes"), "several manifests");
        return Default::default();
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let message = error.message();
        let advice = match message {
            "duplicate key" => "one of them",
            _ => "TOML's syntax: [section], and key = \"value\" below it",
        };
        // One without a place is about an end that came too early.
        let at = error.span().map_or(text.len(), |span| span.start);
        problems.syntax(Some(at), format!("this is not TOML: {message}"), advice);
    }
    Reader::new(problems, root.get_ref(), path).read()
}
