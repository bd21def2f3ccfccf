//! What calls functions.

use super::schedule::Schedule;
use super::sections::EXECUTOR;
use super::table::{Table, Text};
use crate::report::quoted;
use crate::routes::Route;

/// Requests of a route that a function answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpTrigger {
    /// Which of the manifest's functions.
    pub function: usize,
    /// How it is called.
    pub executor: Executor,
}

/// A schedule by which a function runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CronTrigger {
    /// Which of the manifest's functions.
    pub function: usize,
    /// When it runs.
    pub schedule: Schedule,
}

/// How a function is given a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executor {
    /// It is a component that exports `wasi:http/incoming-handler`.
    Http,
    /// It is a program that is called as CGI programs are: headers in the environment, the body on standard
    /// input, the response on standard output.
    Wagi {
        /// Its arguments; the first one is by custom its name.
        argv: Vec<Argument>,
        /// The function that is called.
        entrypoint: String,
    },
}

/// An argument, or what stands for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Itself.
    Text(String),
    /// `${SCRIPT_NAME}`: the part of the path that the route has without `...`.
    ScriptName,
    /// `${ARGS}`: the query's words, none or several.
    Query,
}

pub(super) fn route(table: &Table<'_>) -> Option<(Route, usize)> {
    let Some(value) = table.get("route") else {
        table.missing("route");
        return None;
    };
    let at = value.span().start;
    if value.get_ref().as_table().is_some() {
        let what = "route in [[trigger.http]] is a table; private functions are not supported";
        table.problems.error(at, what, "a route that nothing in front of the server lets through");
        return None;
    }
    let Text { text, at } = table.string("route")?;
    match text.parse::<Route>() {
        Ok(route) => Some((route, at)),
        Err(invalid) => {
            let what = format!("the route {} {}", quoted(text), invalid.what);
            table.problems.error(at, what, invalid.advice);
            None
        }
    }
}

pub(super) fn schedule(table: &Table<'_>) -> Option<Schedule> {
    let Text { text, at } = table.required_string("schedule")?;
    match text.parse() {
        Ok(schedule) => Some(schedule),
        Err(invalid) => {
            table.problems.error(
                at,
                format!("the schedule {} {invalid}", quoted(text)),
                "minute, hour, day of the month, month and day of the week, such as \"*/5 * * * *\"",
            );
            None
        }
    }
}

pub(super) fn executor(trigger: &Table<'_>) -> Executor {
    let Some(table) = trigger.table("executor", &EXECUTOR, "executor") else {
        return Executor::Http;
    };
    let kind = table.required_string("type");
    let argv = table.string("argv");
    let entrypoint = table.string("entrypoint");
    match kind.map(|kind| kind.text) {
        Some("wagi") => {}
        // Spin calls it so.
        Some("http" | "spin") => {
            for (key, given) in [("argv", argv), ("entrypoint", entrypoint)] {
                if let Some(Text { at, .. }) = given {
                    let what = format!("{key} in executor is for programs only");
                    table.problems.error(at, what, "type = \"wagi\", or leaving it out");
                }
            }
            return Executor::Http;
        }
        Some(other) => {
            let at = kind.map_or(table.at, |kind| kind.at);
            table.wrong_value("type", other, at);
            return Executor::Http;
        }
        None => return Executor::Http,
    }
    let entrypoint = entrypoint.map_or("_start", |entrypoint| {
        if entrypoint.text.is_empty() {
            let what = "entrypoint in executor is empty";
            table.problems.error(entrypoint.at, what, "the name of an exported function");
        }
        entrypoint.text
    });
    let argv = match argv {
        Some(argv) => arguments(&table, argv),
        None => vec![Argument::ScriptName, Argument::Query],
    };
    Executor::Wagi { argv, entrypoint: entrypoint.to_owned() }
}

fn arguments(table: &Table<'_>, argv: Text<'_>) -> Vec<Argument> {
    let mut arguments = Vec::new();
    for word in argv.text.split_ascii_whitespace() {
        arguments.push(match word {
            "${SCRIPT_NAME}" => Argument::ScriptName,
            "${ARGS}" => Argument::Query,
            word => {
                if word.contains("${") || word.contains('\0') {
                    table.problems.error(
                        argv.at,
                        format!("argv in executor has the word {}", quoted(word)),
                        "words, and ${SCRIPT_NAME} and ${ARGS} as words of their own",
                    );
                }
                Argument::Text(word.to_owned())
            }
        });
    }
    arguments
}
