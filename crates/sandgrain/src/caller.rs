//! A guest in the middle of a call of a host function.

use crate::component::{Lift, Val};
use crate::error::{BoxError, Error, Result};
use crate::exports::{self, Prepared};
use crate::host::Host;
use crate::linear_memory::LinearMemory;
use crate::sandbox::{ComponentParams, Instance};
use crate::typed::WasmValues;
use sandgrain_abi::Value;
use sandgrain_abi::message::{Command, Outcome};
use std::fmt;

/// A guest that waits for the answer to a call, and the linear memory that its caller exports, of no bytes if there is
/// none.
pub(crate) trait Calling: LinearMemory {
    /// Whether its caller exports a linear memory.
    fn has_memory(&self) -> bool;

    /// The bytes of its call's attachments.
    fn attachments(&mut self) -> Result<Vec<&[u8]>>;

    /// Has the guest do something in the middle of its call, and answers the calls that it makes meanwhile: what that has
    /// come to, and the bytes of its attachments. After an error the guest can do nothing more.
    fn execute(
        &mut self,
        command: Command,
        attachments: Vec<Vec<u8>>,
        host: &mut Host,
    ) -> Result<(Outcome, Vec<Vec<u8>>)>;
}

/// What a host function sees of the guest that called it.
pub struct Caller<'a> {
    guest: &'a mut dyn Calling,
    host: &'a mut Host,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(guest: &'a mut dyn Calling, host: &'a mut Host) -> Self {
        Self { guest, host }
    }

    fn linear_memory(&mut self) -> Result<&mut (dyn Calling + 'a), BoxError> {
        if !self.guest.has_memory() {
            return Err(
                "the calling module exports no memory named \"memory\"; it must, to pass bytes"
                    .into(),
            );
        }
        Ok(self.guest)
    }

    /// The linear memory that the calling module exports as `memory`, all of it. The guest stands
    /// still until the host function returns. If the guest is in a [worker process](crate::Workers), all of it
    /// is copied here: better ask for the [bytes](Self::bytes) that are needed.
    ///
    /// # Errors
    /// When the module exports none.
    pub fn memory(&mut self) -> Result<&mut [u8], BoxError> {
        let memory = self.linear_memory()?;
        let size = memory.size();
        Ok(memory.bytes(0..size)?)
    }

    /// The `len` bytes from `address` on in the caller's memory. Both are the guest's: checked here.
    ///
    /// # Errors
    /// When they do not lie within the memory, or the module exports none.
    pub fn bytes(&mut self, address: u32, len: u32) -> Result<&mut [u8], BoxError> {
        let memory = self.linear_memory()?;
        let size = memory.size();
        let start = address as usize;
        match start.checked_add(len as usize) {
            Some(end) if end <= size => Ok(memory.bytes(start..end)?),
            _ => {
                Err(format!("{len} bytes at {address} are outside a memory of {size} bytes").into())
            }
        }
    }

    /// Calls a function that the sandbox's module exports, as [`Sandbox::call`](crate::Sandbox::call) does, while the
    /// guest waits for this host function. The guest's memory may be another afterwards. Calls within calls are limited
    /// by [`Limits::nested_calls`](crate::Limits::nested_calls), and in the guest by its stack; time, interrupts and all
    /// other limits are those of the call from outside. Asynchronous host functions that it calls are polled by this
    /// thread, which waits for them.
    ///
    /// ```
    /// use sandgrain::{Caller, Engine, Module, Sandbox};
    ///
    /// # fn main() -> sandgrain::Result<()> {
    /// let engine = Engine::new()?;
    /// let module = Module::new(&engine, br#"
    ///     (module
    ///       (import "host" "twice" (func $twice (param i32) (result i32)))
    ///       (func (export "add_one") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
    ///       (func (export "add_two") (param i32) (result i32) (call $twice (local.get 0))))
    /// "#)?;
    /// let twice = |caller: &mut Caller<'_>, n: u32| -> sandgrain::Result<u32> {
    ///     let n: u32 = caller.call("add_one", n)?;
    ///     caller.call("add_one", n)
    /// };
    /// let mut sandbox = Sandbox::builder(&module).function("host", "twice", twice).build()?;
    /// let n: u32 = sandbox.call("add_two", 40u32)?;
    /// assert_eq!(n, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Sandbox::call`](crate::Sandbox::call). An error that [is final](Error::is_final) and the guest's exit end the
    /// call from outside too, whatever the host function makes of them.
    pub fn call<P: WasmValues, R: WasmValues>(&mut self, name: &str, params: P) -> Result<R> {
        self.host.exports.check_type::<P, R>(name)?;
        let results = self.call_values(self.main(), name, &params.into_values())?;
        self.settled(exports::typed(name, &results))
    }

    /// Calls an exported function of an instance with values known only at run time.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_values(
        &mut self,
        instance: Instance,
        name: &str,
        args: &[Value],
    ) -> Result<Vec<Value>> {
        let (command, results) = self.host.exports.call(instance, name, args)?;
        let (outcome, _) = self.execute(Prepared { command, attachments: Vec::new() })?;
        self.settled(exports::returned(outcome, &results))
    }

    /// Calls a function that the sandbox's component exports, as
    /// [`Sandbox::call_component`](crate::Sandbox::call_component) does. By the component model's rules nothing may enter
    /// a component before what it calls has returned: the caller is one of another instance, then.
    ///
    /// # Errors
    /// As [`call`](Self::call); [`Error::BadCall`] if the component is in the middle of a call.
    pub fn call_component<P: ComponentParams, R: for<'b> Lift<'b>>(
        &mut self,
        name: &str,
        params: P,
    ) -> Result<R> {
        let prepared = self.host.exports.prepare::<P, R>(name, &params)?;
        let (outcome, attached) = self.execute(prepared)?;
        let lifted = self.host.lifted(name, outcome, &attached, |from| R::lift(from));
        self.settled(lifted)
    }

    /// Calls a function that an instance of a component exports with values whose types are known only at run time.
    ///
    /// # Errors
    /// As [`call_component`](Self::call_component).
    pub fn call_component_values(
        &mut self,
        instance: Instance,
        name: &str,
        args: &[Val],
    ) -> Result<Option<Val>> {
        let (prepared, ty) = self.host.exports.prepare_values(instance, name, args)?;
        let (outcome, attached) = self.execute(prepared)?;
        let lifted = self.host.lifted_value((instance, name), outcome, &attached, &ty);
        self.settled(lifted)
    }

    /// The instance of the module that the sandbox was made for.
    #[must_use]
    pub fn main(&self) -> Instance {
        self.host.exports.main
    }

    /// Has the guest do something in the middle of its call.
    pub(crate) fn execute(&mut self, prepared: Prepared) -> Result<(Outcome, Vec<Vec<u8>>)> {
        let Self { guest, host } = self;
        if host.fatal.is_some() {
            return Err(Error::Ended("a call within this one has ended the sandbox".to_owned()));
        }
        if host.depth >= host.max_depth {
            return Err(Error::Limit {
                what: "calls of the guest by host functions within each other",
                limit: host.max_depth.to_string(),
                detail: "a host function calls the guest once more".to_owned(),
            });
        }
        // Nobody can wait for anything without a thread while a host function is on this one's stack.
        let kept = (
            std::mem::take(&mut host.awaits),
            std::mem::take(&mut host.stop_at_input),
            host.failure.take(),
        );
        host.depth += 1;
        let result = guest.execute(prepared.command, prepared.attachments, host);
        host.depth -= 1;
        let result = match result {
            Ok((outcome, attached)) => host.completed(outcome).map(|outcome| (outcome, attached)),
            Err(error) if error.is_final() => Err(error),
            // It has stopped in the middle of something.
            Err(error) => Err(Error::Guest(format!("in a call within a call: {error}"))),
        };
        (host.awaits, host.stop_at_input, host.failure) = kept;
        self.settled(result)
    }

    /// Keeps what ends the call from outside, an error after which there is no going on or the guest's exit: the host
    /// function only learns that there is one.
    fn settled<T>(&mut self, result: Result<T>) -> Result<T> {
        match result {
            Err(error) if error.is_final() || matches!(error, Error::Exit(_)) => {
                let stand_in = Error::Ended(error.to_string());
                self.host.fatal.get_or_insert(error);
                Err(stand_in)
            }
            result => result,
        }
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.guest.has_memory().then(|| self.guest.size());
        f.debug_struct("Caller").field("memory", &memory).field("depth", &self.host.depth).finish()
    }
}
