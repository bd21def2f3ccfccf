//! Calls of a component's functions.

use super::{Instance, Sandbox};
use crate::component::{
    ComponentInfo, Function, FunctionType, Lift, Lower, Reader, Types, Val, Writer,
};
use crate::error::{Error, Result, described};
use crate::machine::Step;
use sandgrain_abi::component::{Attachment, Payload, ResourceHandle};
use sandgrain_abi::message::{Command, Known, Outcome};
use std::any::type_name;
use tracing::Instrument;

/// Arguments of a component's function: a tuple of Rust's values.
pub trait ComponentParams {
    /// Whether a function takes these.
    fn is_of(ty: &FunctionType, types: &Types) -> bool;
    /// Appends them.
    fn lower(&self, out: &mut Writer);
}

macro_rules! params {
    ($(($($name:ident)*))*) => {$(
        #[allow(non_snake_case, unused_variables, reason = "the type's name serves for its value")]
        impl<$($name: Lower),*> ComponentParams for ($($name,)*) {
            fn is_of(ty: &FunctionType, types: &Types) -> bool {
                let mut params = ty.params.iter();
                $(
                    if !params.next().is_some_and(|param| $name::is_of(param.ty, types)) {
                        return false;
                    }
                )*
                params.next().is_none()
            }

            fn lower(&self, out: &mut Writer) {
                let ($($name,)*) = self;
                $($name.lower(out);)*
            }
        }
    )*};
}

params! {
    ()
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
}

/// A call that has been written down.
pub(super) struct Prepared {
    command: Command,
    attachments: Vec<Vec<u8>>,
}

/// What a name of a function stands for: `name`, or `instance#name`.
fn path(name: &str) -> Vec<&str> {
    match name.split_once('#') {
        Some((instance, name)) => vec![instance, name],
        None => vec![name],
    }
}

impl Sandbox {
    /// Calls a function that the component exports, by its name, or by `instance#name`:
    /// `sandbox.call_component::<_, String>("example:greeter/greeter#greet", ("Ada", options))`. The result's type is
    /// `()` for a function without one.
    ///
    /// # Errors
    /// [`Error::BadCall`] if there is no such function of this type; otherwise what the call led to. After a trap the
    /// component cannot be called again, by the component model's rules.
    pub fn call_component<P: ComponentParams, R: for<'a> Lift<'a>>(
        &mut self,
        name: &str,
        params: P,
    ) -> Result<R> {
        let prepared = self.prepare::<P, R>(name, &params)?;
        let outcome = self.execute_attached(prepared)?;
        self.lifted(name, outcome, |from| R::lift(from))
    }

    /// As [`call_component`](Self::call_component), awaited as [`call_async`](Self::call_async) is.
    ///
    /// # Errors
    /// As [`call_component`](Self::call_component).
    pub async fn call_component_async<P: ComponentParams, R: for<'a> Lift<'a>>(
        &mut self,
        name: &str,
        params: P,
    ) -> Result<R> {
        let prepared = self.prepare::<P, R>(name, &params)?;
        let outcome = self.execute_attached_async(name, prepared).await?;
        self.lifted(name, outcome, |from| R::lift(from))
    }

    /// Calls a function that an instance of a component exports with values whose types are known only at run time.
    /// The result, if it has one.
    ///
    /// # Errors
    /// As [`call_component`](Self::call_component).
    pub fn call_component_values(
        &mut self,
        instance: Instance,
        name: &str,
        args: &[Val],
    ) -> Result<Option<Val>> {
        let (prepared, ty) = self.prepare_values(instance, name, args)?;
        let outcome = self.execute_attached(prepared)?;
        self.lifted_value(instance, name, outcome, &ty)
    }

    /// As [`call_component_values`](Self::call_component_values), awaited as [`call_async`](Self::call_async) is.
    ///
    /// # Errors
    /// As [`call_component`](Self::call_component).
    pub async fn call_component_values_async(
        &mut self,
        instance: Instance,
        name: &str,
        args: &[Val],
    ) -> Result<Option<Val>> {
        let (prepared, ty) = self.prepare_values(instance, name, args)?;
        let outcome = self.execute_attached_async(name, prepared).await?;
        self.lifted_value(instance, name, outcome, &ty)
    }

    /// Drops a resource of the guest that a call has returned.
    ///
    /// # Errors
    /// [`Error::BadCall`] if there is none of this handle; otherwise what its destructor led to.
    pub fn drop_resource(&mut self, handle: ResourceHandle) -> Result<()> {
        match self.execute(Command::DropResource(handle.number))? {
            Outcome::Returned(values) if values.is_empty() => Ok(()),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// What an instance imports and exports, if it is one of a component.
    ///
    /// # Errors
    /// [`Error::BadCall`] if it is one of a module, or of another sandbox.
    pub(super) fn component(&self, instance: Instance) -> Result<&ComponentInfo> {
        self.module(instance)?.component().ok_or_else(|| {
            Error::BadCall(
                "this is a module, not a component; try: `call` and `call_values` for its functions"
                    .to_owned(),
            )
        })
    }

    fn function(&self, instance: Instance, name: &str) -> Result<(&Function, &Types)> {
        let info = self.component(instance)?;
        let function = info.export(&path(name)).ok_or_else(|| no_function(info, name))?;
        Ok((function, &info.types))
    }

    fn prepare<P: ComponentParams, R: for<'a> Lift<'a>>(
        &self,
        name: &str,
        params: &P,
    ) -> Result<Prepared> {
        let (Function { path, ty }, types) = self.function(self.main, name)?;
        let is_result = match ty.result {
            Some(result) => R::is_of(result, types),
            None => size_of::<R>() == 0,
        };
        if !is_result || !P::is_of(ty, types) {
            return Err(Error::BadCall(format!(
                "{name:?} has the type {}; it was called with {} for {}",
                types.summary_of_function(ty),
                type_name::<P>(),
                type_name::<R>()
            )));
        }
        let mut out = Writer::new();
        params.lower(&mut out);
        Ok(self.prepared(self.main, path.clone(), out))
    }

    fn prepare_values(
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
        Ok((self.prepared(instance, path.clone(), out), ty.clone()))
    }

    /// A call of a function of the main instance, with what the guest need not ask for.
    pub(super) fn prepare_known(
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

    /// Makes a call of a function that returns nothing.
    pub(super) async fn call_prepared(&mut self, name: &str, prepared: Prepared) -> Result<()> {
        let outcome = self.execute_attached_async(name, prepared).await?;
        self.lifted(name, outcome, |_| Ok(()))
    }

    fn prepared(&self, instance: Instance, path: Vec<String>, out: Writer) -> Prepared {
        let (args, attachments) = out.finish();
        Prepared {
            command: Command::CallComponent { instance: instance.0, path, args, known: Vec::new() },
            attachments,
        }
    }

    fn execute_attached(&mut self, prepared: Prepared) -> Result<Outcome> {
        let span = tracing::debug_span!("call");
        let _entered = span.enter();
        self.check_alive()?;
        self.machine.attach(prepared.attachments);
        self.execute(prepared.command)
    }

    async fn execute_attached_async(&mut self, name: &str, prepared: Prepared) -> Result<Outcome> {
        let span = tracing::debug_span!("call", name);
        async {
            self.check_alive()?;
            self.check_not_waiting()?;
            self.machine.attach(prepared.attachments);
            let progress = self.drive_async(Step::Execute(prepared.command)).await?;
            self.done(progress)
        }
        .instrument(span)
        .await
    }

    fn lifted_value(
        &mut self,
        instance: Instance,
        name: &str,
        outcome: Outcome,
        ty: &FunctionType,
    ) -> Result<Option<Val>> {
        let interface = self.interface(instance)?;
        self.lifted(name, outcome, |from| match (ty.result, interface.component()) {
            (Some(ty), Some(info)) => info.types.lift(ty, from).map(Some),
            _ => Ok(None),
        })
    }

    /// Reads what a function has returned.
    fn lifted<T>(
        &mut self,
        name: &str,
        outcome: Outcome,
        lift: impl FnOnce(&mut Reader<'_>) -> Result<T, sandgrain_abi::DecodeError>,
    ) -> Result<T> {
        let payload = match outcome {
            Outcome::Component { result, queued } => {
                self.host.end_queue(&queued)?;
                result
            }
            outcome => return Err(self.unexpected(outcome)),
        };
        let attached = self.machine.take_attached();
        let Payload { body, attachments, resources } = payload;
        let is_sent = |(attachment, run): (&Attachment, &Vec<u8>)| {
            *attachment == Attachment::Sent { len: run.len() as u64 }
        };
        let runs: Vec<&[u8]> = attached.iter().map(Vec::as_slice).collect();
        if attachments.len() != runs.len() || !attachments.iter().zip(&attached).all(is_sent) {
            return Err(self.end(&format!("{name:?} returned other bytes than it has sent")));
        }
        let budget = usize::try_from(self.limits.call_bytes).unwrap_or(usize::MAX);
        let mut from = Reader::new(&body, &runs, &resources, budget);
        match lift(&mut from) {
            Ok(value) => match from.finish() {
                Ok(()) => Ok(value),
                Err(error) => Err(self.end(&format!("{name:?} returned a {error}"))),
            },
            Err(_) if from.is_over_budget() => Err(Error::Limit {
                what: "what one call passes",
                limit: format!("{} bytes", self.limits.call_bytes),
                detail: format!("{name:?} returns more"),
            }),
            Err(error) => Err(self.end(&format!("{name:?} returned a {error}"))),
        }
    }
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
