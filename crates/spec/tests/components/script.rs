//! Runs one script: its directives, one after the other.

use crate::exceptions;
use crate::platform::{Failure, Platform};
use crate::suite;
use crate::values::{argument, is_result};
use sandgrain::compile;
use sandgrain_abi::component::{Resource, ResourceOrigin, Val};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use wast::lexer::Lexer;
use wast::parser::{self, ParseBuffer};
use wast::token::Id;
use wast::{QuoteWat, QuoteWatTest, Wast, WastDirective, WastExecute, WastInvoke};

/// What a directive led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// With the reason.
    Skipped(String),
    /// With what happened instead of what should.
    Failed(String),
}

/// What became of a directive.
pub struct Directive {
    /// Its line, counted from 1.
    pub line: usize,
    pub outcome: Outcome,
    /// What was called returned, in words, or that it trapped.
    pub seen: Vec<String>,
}

/// Why a directive did not pass.
#[derive(Clone)]
enum Problem {
    Skip(String),
    Fail(String),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            // What is switched off is no failure where it is used.
            Failure::Refused(error) if is_about_proposal(&error) => Self::Skip(proposal(&error)),
            Failure::Refused(compile::Error::Unsupported { message })
                if message.starts_with("it imports") =>
            {
                Self::Skip("a host gives only functions and resources".to_owned())
            }
            Failure::Refused(error) => Self::Fail(format!("was refused: {error}")),
            Failure::Unlinkable(words) => Self::Fail(format!("could not be linked: {words}")),
            Failure::Trap(words) => Self::Fail(format!("trapped: {words}")),
            Failure::Other(what) => Self::Fail(what),
        }
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

/// Whether a component was refused for a proposal that is off. The reader of names has its own words for it.
fn is_about_proposal(error: &compile::Error) -> bool {
    let text = error.to_string();
    text.contains("switched off") || text.contains("feature is not active")
}

/// The proposal, out of the sentence that names it.
fn proposal(error: &compile::Error) -> String {
    let text = error.to_string();
    let named = text.split("uses the proposal ").nth(1).and_then(|rest| rest.split(',').next());
    let name = named.or_else(|| text.split('`').nth(1));
    format!("proposal {} is off", name.unwrap_or("(unknown)"))
}

/// The trap of a component that has trapped before.
const NOT_ENTERED: &str = "cannot enter component instance";

/// An instance, with the component that knows its functions.
type Instance<P> = (<P as Platform>::Component, Rc<RefCell<<P as Platform>::Instance>>);

/// What is under way. What could not be made is there as the problem.
struct Script<'a, P: Platform> {
    platform: &'a P,
    compile_only: bool,
    instances: HashMap<Option<String>, Result<Instance<P>, Problem>>,
    definitions: HashMap<Option<String>, Result<P::Component, Problem>>,
    /// What calls led to, of the directive under way.
    seen: Vec<String>,
}

/// Runs a script, or skips all of it.
///
/// # Errors
/// When not even the first directive can be run.
pub fn run(platform: &impl Platform, script: &suite::Script) -> Result<Vec<Directive>, String> {
    if let Some(reason) = script.skipped {
        let outcome = Outcome::Skipped(reason.to_owned());
        return Ok(vec![Directive { line: 1, outcome, seen: Vec::new() }]);
    }
    let mut lexer = Lexer::new(&script.source);
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).map_err(|error| error.to_string())?;
    let parsed: Wast<'_> = parser::parse(&buffer).map_err(|error| error.to_string())?;
    let (instances, definitions, seen) = Default::default();
    let compile_only = script.compile_only;
    let mut state = Script { platform, compile_only, instances, definitions, seen };
    let ends: Vec<usize> = script.source.match_indices('\n').map(|(at, _)| at).collect();
    let directives = parsed.directives.into_iter().map(|directive| {
        let offset = directive.span().offset();
        let line = ends.partition_point(|end| *end < offset) + 1;
        let outcome = match state.run(directive) {
            Ok(()) => Outcome::Passed,
            Err(Problem::Skip(reason)) => Outcome::Skipped(reason),
            Err(Problem::Fail(what)) => match exceptions::reason(&script.name, &what) {
                Some(reason) => Outcome::Skipped(reason.to_owned()),
                None => Outcome::Failed(what),
            },
        };
        Directive { line, outcome, seen: std::mem::take(&mut state.seen) }
    });
    Ok(directives.collect())
}

fn key(id: Option<Id<'_>>) -> Option<String> {
    id.map(|id| id.name().to_owned())
}

fn get<T: Clone>(
    slots: &HashMap<Option<String>, Result<T, Problem>>,
    id: Option<Id<'_>>,
) -> Result<T, Problem> {
    match slots.get(&key(id)) {
        Some(Ok(found)) => Ok(found.clone()),
        Some(Err(Problem::Skip(reason))) => Err(Problem::Skip(reason.clone())),
        Some(Err(Problem::Fail(_))) | None => fail("the component that this needs is not there"),
    }
}

impl<P: Platform> Script<'_, P> {
    /// Runs one directive, and keeps what later ones need of it.
    fn run(&mut self, directive: WastDirective<'_>) -> Result<(), Problem> {
        use WastDirective as D;
        match directive {
            D::ModuleInstance { .. }
            | D::Invoke(_)
            | D::AssertReturn { .. }
            | D::AssertTrap { .. }
                if self.compile_only =>
            {
                skip("the validator's scripts are not run")
            }
            D::Module(mut wat) => {
                let id = key(wat.name());
                let component = self.compile(&mut wat);
                if self.compile_only && !self.is_closed(&component) {
                    return component.map(drop);
                }
                let made = component.and_then(|component| Ok(self.instantiate(component)?));
                self.keep(id, made)
            }
            D::ModuleDefinition(mut wat) => {
                let id = key(wat.name());
                let made = self.compile(&mut wat);
                let outcome = made.as_ref().map(|_| ()).map_err(Clone::clone);
                self.definitions.insert(id, made.clone());
                self.definitions.insert(None, made);
                outcome
            }
            D::ModuleInstance { instance, module, .. } => {
                let made = get(&self.definitions, module);
                let made = made.and_then(|component| Ok(self.instantiate(component)?));
                self.keep(key(instance), made)
            }
            D::Invoke(invoke) => Ok(self.invoke(&invoke)?.map(drop)?),
            D::AssertReturn { exec, results, .. } => {
                let actual = self.execute(exec)??;
                if is_result(&results, actual.as_ref()) {
                    return Ok(());
                }
                fail(format!("returned {actual:?}, expected {results:?}"))
            }
            D::AssertTrap { exec, message, .. } => match self.execute(exec)? {
                Err(Failure::Trap(words)) if exceptions::is_trap(message, &words) => Ok(()),
                other => unexpected(&format!("the trap {message:?}"), other),
            },
            D::AssertInvalid { mut module, message, .. }
            | D::AssertMalformed { mut module, message, .. } => {
                self.check_refused(&mut module, message)
            }
            D::AssertUnlinkable { module, message, .. } => {
                let component = self.compile(&mut QuoteWat::Wat(module))?;
                match self.instantiate(component).map(|_| None) {
                    Err(Failure::Unlinkable(_)) => Ok(()),
                    other => unexpected(message, other),
                }
            }
            D::Register { .. } => skip("components' instances cannot be imported by others"),
            D::AssertExhaustion { .. }
            | D::AssertException { .. }
            | D::AssertSuspension { .. }
            | D::AssertInvalidCustom { .. }
            | D::AssertMalformedCustom { .. }
            | D::Thread(_)
            | D::Wait { .. } => skip("no such directive is about components"),
        }
    }

    /// Whether a component imports nothing.
    fn is_closed(&self, component: &Result<P::Component, Problem>) -> bool {
        component.as_ref().is_ok_and(|component| {
            let info = self.platform.info(component);
            let is_defined = |resource: &Resource| resource.origin == ResourceOrigin::Defined;
            info.imports.is_empty() && info.types.resources.iter().all(is_defined)
        })
    }

    fn keep(
        &mut self,
        id: Option<String>,
        made: Result<Instance<P>, Problem>,
    ) -> Result<(), Problem> {
        let outcome = made.as_ref().map(|_| ()).map_err(Clone::clone);
        self.instances.insert(id, made.clone());
        self.instances.insert(None, made);
        outcome
    }

    fn compile(&self, wat: &mut QuoteWat<'_>) -> Result<P::Component, Problem> {
        Ok(self.platform.compile(&bytes(wat)?)?)
    }

    fn instantiate(&self, component: P::Component) -> Result<Instance<P>, Failure> {
        let instance = self.platform.instantiate(&component)?;
        Ok((component, Rc::new(RefCell::new(instance))))
    }

    /// Checks that a component is refused as such. The rule that it breaks is not compared: every validator
    /// has its own words.
    fn check_refused(&self, module: &mut QuoteWat<'_>, message: &str) -> Result<(), Problem> {
        // The script's parser is the library's, and may refuse it already.
        let Ok(bytes) = bytes(module) else { return Ok(()) };
        match self.platform.compile(&bytes) {
            // Refused, but perhaps for another reason than the script has in mind.
            Err(Failure::Refused(error)) if is_about_proposal(&error) => {
                Err(Problem::Skip(proposal(&error)))
            }
            Err(Failure::Refused(error)) if error.to_string().contains("has a defect") => {
                fail(error.to_string())
            }
            Err(Failure::Refused(_)) => Ok(()),
            Err(failure) => Err(failure.into()),
            Ok(_) => fail(format!("was accepted; expected: {message}")),
        }
    }

    /// Does what an assertion is about. The outer error is the script's.
    fn execute(&mut self, what: WastExecute<'_>) -> Result<Result<Option<Val>, Failure>, Problem> {
        match what {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Get { .. } => skip("components have no globals"),
            WastExecute::Wat(wat) => {
                let component = self.compile(&mut QuoteWat::Wat(wat))?;
                Ok(self.instantiate(component).map(|_| None))
            }
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Result<Result<Option<Val>, Failure>, Problem> {
        let (component, instance) = get(&self.instances, invoke.module)?;
        let info = self.platform.info(&component);
        let Some(function) = info.export(&[invoke.name]) else {
            return fail(format!("no export {:?}", invoke.name));
        };
        if invoke.args.len() != function.ty.params.len() {
            return fail(format!("{} arguments for {function:?}", invoke.args.len()));
        }
        let pairs = invoke.args.iter().zip(&function.ty.params);
        let args = pairs.map(|(arg, param)| argument(arg, param.ty, &info.types));
        let args: Vec<Val> = args.collect::<Result<_, _>>().map_err(Problem::Fail)?;
        let mut instance = instance.borrow_mut();
        let result = self.platform.call(&mut instance, function, &args);
        match &result {
            Ok(value) => self.seen.push(format!("returned {value:?}")),
            Err(Failure::Trap(_)) => {
                self.seen.push("trapped".to_owned());
                // Nor may it be entered afterwards.
                match self.platform.call(&mut instance, function, &args) {
                    Err(Failure::Trap(words)) if words.contains(NOT_ENTERED) => {}
                    other => return fail(format!("it trapped; then {other:?}")),
                }
            }
            Err(_) => {}
        }
        Ok(result)
    }
}

fn bytes(wat: &mut QuoteWat<'_>) -> Result<Vec<u8>, Problem> {
    match wat.to_test()? {
        QuoteWatTest::Binary(bytes) | QuoteWatTest::Text(bytes) => Ok(bytes),
    }
}

fn skip<T>(reason: &str) -> Result<T, Problem> {
    Err(Problem::Skip(reason.to_owned()))
}

fn unexpected(expected: &str, actual: Result<Option<Val>, Failure>) -> Result<(), Problem> {
    match actual {
        Ok(value) => fail(format!("returned {value:?}; expected: {expected}")),
        Err(Failure::Trap(words)) => fail(format!("trapped: {words}; expected: {expected}")),
        Err(failure) => Err(failure.into()),
    }
}
