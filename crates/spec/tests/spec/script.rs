//! Runs one script: its directives, one after the other, in one sandbox.

use crate::exceptions;
use crate::spectest;
use crate::values::{are_results, argument, is_trap};
use sandgrain::{Engine, Error, Instance, Module, Sandbox, TrapCode, Value};
use std::collections::HashMap;
use wast::lexer::Lexer;
use wast::parser::{self, ParseBuffer};
use wast::token::{Id, Span};
use wast::{QuoteWat, QuoteWatTest, Wast, WastDirective, WastExecute, WastInvoke, Wat};

/// What a directive led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// With the reason.
    Skipped(&'static str),
    /// With what happened instead of what should.
    Failed(String),
}

/// A directive's line, counted from 1, and its outcome.
pub type Directive = (usize, Outcome);

/// Why a directive did not pass.
enum Problem {
    Skip(&'static str),
    Fail(String),
}

impl From<String> for Problem {
    fn from(what: String) -> Self {
        Self::Fail(what)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Fail(describe(&error))
    }
}

fn describe(error: &Error) -> String {
    format!("{}: {error}", error.name())
}

/// Runs the script `name` (its folder and file, for the exceptions) on an engine.
///
/// # Errors
/// When not even the first directive can be run.
pub fn run(name: &str, source: &str, spectest: &Module) -> Result<Vec<Directive>, String> {
    let mut lexer = Lexer::new(source);
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).map_err(|error| error.to_string())?;
    let script: Wast<'_> = parser::parse(&buffer).map_err(|error| error.to_string())?;
    let sandbox = spectest::sandbox(spectest).map_err(|error| describe(&error))?;
    let mut state = Script {
        engine: spectest.engine(),
        sandbox,
        current: Err("there is no module yet"),
        instances: HashMap::new(),
        definition: None,
        definitions: HashMap::new(),
    };
    let mut lines = Lines::new(source);
    let directives = script.directives.into_iter().map(|directive| {
        let line = lines.line(directive.span());
        let outcome = match state.directive(directive) {
            Ok(()) => Outcome::Passed,
            Err(Problem::Skip(reason)) => Outcome::Skipped(reason),
            Err(Problem::Fail(what)) => match exceptions::reason(name, line, &what) {
                Some(reason) => Outcome::Skipped(reason),
                None => Outcome::Failed(what),
            },
        };
        (line, outcome)
    });
    Ok(directives.collect())
}
