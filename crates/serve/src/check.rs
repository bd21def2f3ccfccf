//! Whether a manifest can be served, as far as that can be told without running anything.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::manifest::{self, Executor, Function, Manifest};
use crate::report::{Problems, Report, quoted};

/// Reads a manifest and looks whether the files that it names are there and of the right kind. Tells everything
/// that is wrong with both.
#[must_use]
pub fn check(path: impl AsRef<Path>) -> Report {
    check_seen(path.as_ref(), |_| ())
}

/// The same. `see` is shown a manifest that has no errors by itself, before any of the files that it names is looked at.
pub(crate) fn check_seen(path: &Path, see: impl FnOnce(&Manifest)) -> Report {
    let text = match manifest::load(path) {
        Ok(text) => text,
        Err(report) => return report,
    };
    let problems = Problems::new(&text);
    let (manifest, places) = manifest::parse(&problems, &text, path);
    if !problems.has_errors() {
        see(&manifest);
    }
    let wanted = wanted(&manifest);
    for ((function, places), wanted) in manifest.functions.iter().zip(&places).zip(&wanted) {
        if let Some(at) = places.source {
            check_source(&problems, at, function, wanted);
        }
        for (directory, at) in function.directories.iter().zip(&places.directories) {
            check_directory(&problems, *at, &directory.host);
        }
    }
    Report::new(problems, path, manifest)
}

/// What a file of WebAssembly is, by its first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Module,
    Component,
}

/// How triggers call a function.
#[derive(Clone, Default)]
struct Wanted {
    /// As a handler of requests, which is a component.
    handler: bool,
    /// As a program, for requests.
    program: bool,
}

fn wanted(manifest: &Manifest) -> Vec<Wanted> {
    let mut wanted = vec![Wanted::default(); manifest.functions.len()];
    for (_, trigger) in manifest.routes.iter() {
        // One of a component that is missing has none.
        let Some(wanted) = wanted.get_mut(trigger.function) else { continue };
        match trigger.executor {
            Executor::Http => wanted.handler = true,
            Executor::Wagi { .. } => wanted.program = true,
        }
    }
    wanted
}

fn check_source(problems: &Problems<'_>, at: usize, function: &Function, wanted: &Wanted) {
    let shown = quoted(&function.source.to_string_lossy());
    let kind = match kind(&function.source) {
        Ok(kind) => kind,
        Err(Unusable::Unreadable(error)) => {
            return problems.error(
                at,
                format!("the source {shown} cannot be read: {error}"),
                "building it, or the path of a file that exists",
            );
        }
        Err(Unusable::NotWasm(what)) => {
            return problems.error(
                at,
                format!("the source {shown} {what}"),
                "a component or module of WebAssembly in the binary format",
            );
        }
    };
    if kind == Kind::Module && wanted.handler {
        problems.error(
            at,
            format!(
                "the source {shown} is a module, and only components handle requests themselves"
            ),
            "executor = { type = \"wagi\" } in its trigger, or building it as a component",
        );
    }
    if wanted.handler && wanted.program {
        problems.error(
            at,
            format!("{} is called as a handler of requests and as a program", quoted(&function.id)),
            "the same executor in all of its triggers, or two components",
        );
    }
}

/// Why a file is no source.
enum Unusable {
    Unreadable(std::io::Error),
    NotWasm(String),
}

fn kind(path: &Path) -> Result<Kind, Unusable> {
    let metadata = std::fs::metadata(path).map_err(Unusable::Unreadable)?;
    // Something else, such as a pipe, might never open.
    if !metadata.is_file() {
        return Err(Unusable::NotWasm("is not a file".to_owned()));
    }
    let mut first = Vec::new();
    let file = File::open(path).map_err(Unusable::Unreadable)?;
    file.take(8).read_to_end(&mut first).map_err(Unusable::Unreadable)?;
    // Magic number, version and layer.
    match first.as_slice() {
        [0, b'a', b's', b'm', 1, 0, 0, 0] => Ok(Kind::Module),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0] => Ok(Kind::Component),
        [0, b'a', b's', b'm', a, b, c, d] => {
            let (version, layer) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
            Err(Unusable::NotWasm(format!(
                "is WebAssembly of version {version} and layer {layer}, which is unknown"
            )))
        }
        [] => Err(Unusable::NotWasm("is empty".to_owned())),
        _ => Err(Unusable::NotWasm("is not WebAssembly".to_owned())),
    }
}

fn check_directory(problems: &Problems<'_>, at: usize, path: &Path) {
    let shown = quoted(&path.to_string_lossy());
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => problems.error(
            at,
            format!("{shown} is not a directory, and single files cannot be granted"),
            "the directory that it is in",
        ),
        Err(error) => {
            let what = format!("the directory {shown} cannot be read: {error}");
            problems.error(at, what, "the path of a directory that exists");
        }
    }
}
