//! Calls of a component's functions.

use super::{Instance, Sandbox};
use crate::component::{FunctionType, Lift, Lower, Reader, Types, Val, Writer, are_params};
use crate::error::Result;
use crate::exports::Prepared;
use crate::machine::Step;
use sandgrain_abi::component::ResourceHandle;
use sandgrain_abi::message::{Command, Outcome};
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
                are_params(ty, types, &[$($name::is_of),*])
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

impl Sandbox {
    /// Calls a function that the component exports, by its name, or by `instance#name`:
    /// `sandbox.call_component::<_, String>("example:greeter/greeter#greet", ("Ada", options))`. The result's type is
    /// `()` for a function without one.
    ///
    /// # Errors
    /// [`Error::BadCall`](crate::Error::BadCall) if there is no such function of this type; otherwise what the call led to. After a trap the
    /// component cannot be called again, by the component model's rules.
    pub fn call_component<P: ComponentParams, R: for<'a> Lift<'a>>(
        &mut self,
        name: &str,
        params: P,
    ) -> Result<R> {
        let prepared = self.exports.prepare::<P, R>(name, &params)?;
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
        let prepared = self.exports.prepare::<P, R>(name, &params)?;
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
        let (prepared, ty) = self.exports.prepare_values(instance, name, args)?;
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
        let (prepared, ty) = self.exports.prepare_values(instance, name, args)?;
        let outcome = self.execute_attached_async(name, prepared).await?;
        self.lifted_value(instance, name, outcome, &ty)
    }

    /// Drops a resource of the guest that a call has returned.
    ///
    /// # Errors
    /// [`Error::BadCall`](crate::Error::BadCall) if there is none of this handle; otherwise what its destructor led to.
    pub fn drop_resource(&mut self, handle: ResourceHandle) -> Result<()> {
        match self.execute(Command::DropResource(handle.number))? {
            Outcome::Returned(values) if values.is_empty() => Ok(()),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Makes a call of a function that returns nothing.
    pub(super) async fn call_prepared(&mut self, name: &str, prepared: Prepared) -> Result<()> {
        let outcome = self.execute_attached_async(name, prepared).await?;
        self.lifted(name, outcome, |_| Ok(()))
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
        let attached = self.machine.take_attached();
        let lifted = self.host.lifted_value((instance, name), outcome, &attached, ty);
        self.settled(lifted)
    }

    /// Reads what a function has returned.
    fn lifted<T>(
        &mut self,
        name: &str,
        outcome: Outcome,
        lift: impl FnOnce(&mut Reader<'_>) -> Result<T, sandgrain_abi::DecodeError>,
    ) -> Result<T> {
        let attached = self.machine.take_attached();
        let lifted = self.host.lifted(name, outcome, &attached, lift);
        self.settled(lifted)
    }
}
