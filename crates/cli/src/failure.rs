//! Why the command ends: what happened, and what to try.

use crate::advice;
use crate::exit::Class;
use crate::terminal::{print_error, printable};
use sandgrain::Trap;
use serde::Serialize;
use std::io;
use std::path::Path;

/// A failure, ready to be reported.
#[derive(Debug)]
pub struct Failure {
    pub class: Class,
    pub what: String,
    pub advice: String,
    pub trap: Option<Trap>,
}

/// A failure in a report for programs.
#[derive(Debug, Serialize)]
pub struct Report {
    name: &'static str,
    message: String,
    #[serde(rename = "try")]
    advice: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trap: Option<TrapReport>,
}

#[derive(Debug, Serialize)]
struct TrapReport {
    code: String,
    backtrace: Vec<Frame>,
}

#[derive(Debug, Serialize)]
struct Frame {
    module: Option<String>,
    function: u32,
    name: Option<String>,
    offset: Option<u32>,
}

impl Failure {
    pub fn new(class: Class, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { class, what: what.into(), advice: advice.into(), trap: None }
    }

    /// A file that cannot be read or written.
    pub fn file(action: &str, path: &Path, error: &io::Error) -> Self {
        let what = format!("cannot {action} {}: {error}", path.display());
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "a path to a file that exists",
            io::ErrorKind::PermissionDenied => "changing the permissions, or another path",
            io::ErrorKind::IsADirectory => "the path of a file",
            io::ErrorKind::StorageFull => "freeing space, or another path",
            _ => "another path",
        };
        Self::new(Class::File, what, advice)
    }

    /// Standard output that cannot be written to.
    pub fn output(error: &io::Error) -> Self {
        Self::new(
            Class::File,
            format!("cannot write to standard output: {error}"),
            "sending it somewhere else",
        )
    }

    /// One line, and a line for each frame of a trap's backtrace.
    pub fn text(&self) -> String {
        let mut text =
            format!("error: {}; try: {}\n", printable(&self.what), printable(&self.advice));
        for frame in self.trap.iter().flat_map(Trap::backtrace) {
            text.push_str(&format!("    in {}\n", printable(&frame)));
        }
        text
    }

    pub fn print(&self) {
        print_error(&self.text());
    }

    /// For programs, which get what others wrote as it is.
    pub fn report(&self) -> Report {
        let trap = self.trap.as_ref().map(|trap| TrapReport {
            code: format!("{:?}", trap.code),
            backtrace: trap
                .frames
                .iter()
                .map(|frame| Frame {
                    module: frame.module.clone(),
                    function: frame.function,
                    name: frame.name.clone(),
                    offset: frame.offset,
                })
                .collect(),
        });
        Report {
            name: self.class.name(),
            message: self.what.clone(),
            advice: self.advice.clone(),
            trap,
        }
    }
}

impl From<sandgrain::Error> for Failure {
    fn from(error: sandgrain::Error) -> Self {
        let class = Class::of(&error);
        let (what, advice) = advice::explain(&error);
        let trap = match error {
            sandgrain::Error::Trap(trap) => Some(trap),
            _ => None,
        };
        Self { class, what, advice, trap }
    }
}
