//! What can be called of a guest: its instances, checked before the guest is asked, and what it answers.

use crate::component::{
    ComponentInfo, Function, FunctionType, Lift, Reader, Types, Val, Writer, is_result,
};
use crate::error::{Error, Result, described};
use crate::host::Host;
use crate::module::Interface;
use crate::sandbox::{ComponentParams, Instance, check};
use crate::typed::WasmValues;
use sandgrain_abi::Value;
use sandgrain_abi::component::{Attachment, Payload};
use sandgrain_abi::message::{Command, Known, Outcome};
use sandgrain_abi::types::{ExternType, FuncType, ValType};
use std::any::type_name;
use std::sync::Arc;

/// The instances of a sandbox.
#[derive(Clone)]
pub(crate) struct Exports {
    pub(crate) instances: Vec<Arc<Interface>>,
    pub(crate) main: Instance,
}

impl Default for Exports {
    fn default() -> Self {
        Self { instances: Vec::new(), main: Instance::NONE }
    }
}

/// A call that has been written down.
pub(crate) struct Prepared {
    pub(crate) command: Command,
    pub(crate) attachments: Vec<Vec<u8>>,
}

/// What a name of a component's function stands for: `name`, or `instance#name`.
fn path(name: &str) -> Vec<&str> {
    match name.split_once('#') {
        Some((instance, name)) => vec![instance, name],
        None => vec![name],
    }
}

impl Exports {
    pub(crate) fn module(&self, instance: Instance) -> Result<&Interface> {
        let found = self.instances.get(instance.number() as usize).map(|interface| &**interface);
        found.ok_or_else(|| {
            Error::BadCall(match instance {
                Instance::NONE => "the sandbox's module is not instantiated yet".to_owned(),
                _ => "an instance of another sandbox".to_owned(),
            })
        })
    }

    pub(crate) fn interface(&self, instance: Instance) -> Result<Arc<Interface>> {
        self.module(instance)?;
        Ok(Arc::clone(&self.instances[instance.number() as usize]))
    }

    /// What an instance imports and exports, if it is one of a component.
    ///
    /// # Errors
    /// [`Error::BadCall`] if it is one of a module, or of another sandbox.
    pub(crate) fn component(&self, instance: Instance) -> Result<&ComponentInfo> {
        self.module(instance)?.component().ok_or_else(|| {
            Error::BadCall(
                "this is a module, not a component; try: `call` and `call_values` for its functions"
                    .to_owned(),
            )
        })
    }

    /// Finds before the function runs, not after, that it does not return this.
    pub(crate) fn check_type<P: WasmValues, R: WasmValues>(&self, name: &str) -> Result<()> {
        let wanted = R::types();
        match self.module(self.main)?.export(name) {
            Some(ExternType::Func(ty)) if ty.results != wanted => {
                let wanted = FuncType { params: P::types(), results: wanted };
                Err(Error::BadCall(format!(
                    "{name:?} has the type {ty}; it was called as {wanted}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// What calls a module's function, and the types of its results.
    pub(crate) fn call(
        &self,
        instance: Instance,
        name: &str,
        args: &[Value],
    ) -> Result<(Command, Vec<ValType>)> {
        let results = check::call(self.module(instance)?, name, args)?;
        let (instance, export) = (instance.number(), name.to_owned());
        Ok((Command::Call { instance, export, args: args.to_vec() }, results))
    }

    fn function(&self, instance: Instance, name: &str) -> Result<(&Function, &Types)> {
        let info = self.component(instance)?;
        let function = info.export(&path(name)).ok_or_else(|| no_function(info, name))?;
        Ok((function, &info.types))
    }

    /// What calls a component's function with values of Rust's types.
    pub(crate) fn prepare<P: ComponentParams, R: for<'a> Lift<'a>>(
        &self,
        name: &str,
        params: &P,
    ) -> Result<Prepared> {
        let (Function { path, ty }, types) = self.function(self.main, name)?;
        if !is_result::<R>(ty, types, R::is_of) || !P::is_of(ty, types) {
            return Err(Error::BadCall(format!(
                "{name:?} has the type {}; it was called with {} for {}",
                types.summary_of_function(ty),
                type_name::<P>(),
                type_name::<R>()
            )));
        }
        let mut out = Writer::new();
        params.lower(&mut out);
        Ok(prepared(self.main, path.clone(), out))
    }

    /// What calls a component's function with values whose types are known only now, and its type.
    pub(crate) fn prepare_values(
        &self,
        instance: Instance,
        name: &str,
        args: &[Val],
    ) -> Result<(Prepared, FunctionType)> {
        let (Function { path, ty }, types) = self.function(instance, name)?;
        if args.len() != ty.params.len() {
            return Err(Error::BadCall(format!(
                "{name:?} has the type {}; it was called with {} arguments",
                types.summary_of_function(ty),
                args.len()
            )));
        }
        let mut out = Writer::new();
        for (param, arg) in ty.params.iter().zip(args) {
            types.lower(arg, param.ty, &mut out).map_err(|error| {
                Error::BadCall(format!("the argument {:?} of {name:?}: {error}", param.name))
            })?;
        }
        Ok((prepared(instance, path.clone(), out), ty.clone()))
    }

    /// A call of a function of the main instance, with what the guest need not ask for.
    pub(crate) fn prepare_known(
        &self,
        name: &str,
        args: &[Val],
        answers: Vec<Known>,
    ) -> Result<Prepared> {
        let (mut prepared, _) = self.prepare_values(self.main, name, args)?;
        if let Command::CallComponent { known, .. } = &mut prepared.command {
            *known = answers;
        }
        Ok(prepared)
    }
}

fn prepared(instance: Instance, path: Vec<String>, out: Writer) -> Prepared {
    let (args, attachments) = out.finish();
    let instance = instance.number();
    let command = Command::CallComponent { instance, path, args, known: Vec::new() };
    Prepared { command, attachments }
}

fn no_function(info: &ComponentInfo, name: &str) -> Error {
    let listed = info.exports.iter().take(20).map(|function| described(&function.path.join("#")));
    let listed = listed.collect::<Vec<_>>().join(", ");
    let more = if info.exports.len() > 20 { ", ..." } else { "" };
    Error::BadCall(if info.exports.is_empty() {
        format!("the component exports no function at all; {name:?} was asked for")
    } else {
        format!("the component exports no function {name:?}; it has {listed}{more}")
    })
}

/// An answer that no guest gives to what it was asked.
pub(crate) fn unexpected(outcome: Outcome) -> Error {
    match outcome {
        Outcome::Refused(reason) => Error::BadCall(reason),
        other => Error::Guest(format!("it answered with {}", described(&other))),
    }
}

/// The results of a module's function, if they are of these types.
pub(crate) fn returned(outcome: Outcome, results: &[ValType]) -> Result<Vec<Value>> {
    match outcome {
        Outcome::Returned(values)
            if values.len() == results.len()
                && values.iter().zip(results).all(|(value, ty)| check::fits(value, *ty)) =>
        {
            Ok(values)
        }
        outcome => Err(unexpected(outcome)),
    }
}

/// The results of a module's function as Rust's.
pub(crate) fn typed<R: WasmValues>(name: &str, results: &[Value]) -> Result<R> {
    R::from_values(results)
        .ok_or_else(|| Error::Guest(format!("{name:?} returned {}", described(&results))))
}

impl Host {
    /// Reads what a component's function has returned, and the runs of bytes that it has sent before.
    pub(crate) fn lifted<T>(
        &mut self,
        name: &str,
        outcome: Outcome,
        attached: &[Vec<u8>],
        lift: impl FnOnce(&mut Reader<'_>) -> Result<T, sandgrain_abi::DecodeError>,
    ) -> Result<T> {
        let Outcome::Component { result, queued } = outcome else {
            return Err(unexpected(outcome));
        };
        match self.depth {
            0 => self.end_queue(&queued)?,
            // What the outer call is still to be told stays.
            _ => self.run_queue(&queued)?,
        }
        let Payload { body, attachments, resources } = result;
        let is_sent = |(attachment, run): (&Attachment, &Vec<u8>)| {
            *attachment == Attachment::Sent { len: run.len() as u64 }
        };
        let runs: Vec<&[u8]> = attached.iter().map(Vec::as_slice).collect();
        if attachments.len() != runs.len() || !attachments.iter().zip(attached).all(is_sent) {
            return Err(Error::Guest(format!("{name:?} returned other bytes than it has sent")));
        }
        let budget = usize::try_from(self.call_bytes).unwrap_or(usize::MAX);
        let mut from = Reader::new(&body, &runs, &resources, budget);
        match lift(&mut from) {
            Ok(value) => match from.finish() {
                Ok(()) => Ok(value),
                Err(error) => Err(Error::Guest(format!("{name:?} returned a {error}"))),
            },
            Err(_) if from.is_over_budget() => Err(Error::Limit {
                what: "what one call passes",
                limit: format!("{} bytes", self.call_bytes),
                detail: format!("{name:?} returns more"),
            }),
            Err(error) => Err(Error::Guest(format!("{name:?} returned a {error}"))),
        }
    }

    /// The same for a function whose type is known only now.
    pub(crate) fn lifted_value(
        &mut self,
        (instance, name): (Instance, &str),
        outcome: Outcome,
        attached: &[Vec<u8>],
        ty: &FunctionType,
    ) -> Result<Option<Val>> {
        let interface = self.exports.interface(instance)?;
        self.lifted(name, outcome, attached, |from| match (ty.result, interface.component()) {
            (Some(ty), Some(info)) => info.types.lift(ty, from).map(Some),
            _ => Ok(None),
        })
    }
}
