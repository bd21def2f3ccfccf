//! Sandboxes: a module, what it was granted, and the machine that it runs on.

mod asynchronous;
mod builder;
pub(crate) mod check;
mod components;
mod http;
mod link;
mod renew;
mod run;

pub use builder::SandboxBuilder;
pub use components::ComponentParams;

use crate::engine::Engine;
use crate::error::{Error, ImportError, Result};
use crate::exports::{self, Exports};
use crate::host::Host;
use crate::host_functions::HostImport;
use crate::limits::Limits;
use crate::linear_memory::LinearMemory;
use crate::machine::{Machine, Progress, Step};
use crate::module::Module;
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::stop::{Control, InterruptHandle};
use crate::typed::WasmValues;
use bytes::Bytes;
use sandgrain_abi::Value;
use sandgrain_abi::message::{Command, Outcome};
use sandgrain_abi::types::ExternType;
use sandgrain_wasi::{Trace, Wasi, WasiConfig};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// An instance in a sandbox. It means nothing in another sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instance(u32);

impl Instance {
    /// None, in place of a module that is not instantiated yet.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn new(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

/// A module instantiated in a machine of its own. State persists from call to call.
pub struct Sandbox {
    machine: Box<dyn Machine>,
    host: Host,
    control: Arc<Control>,
    engine: Engine,
    limits: Limits,
    /// Its instances; the host has them too.
    exports: Arc<Exports>,
    names: Arc<HashMap<String, Instance>>,
    /// The host functions that the guest may call, WASI's among them, by the numbers that it knows.
    imports: Arc<BTreeMap<u32, HostImport>>,
    /// The functions of the host that its components may call, by the numbers that they know.
    component_imports: Arc<BTreeMap<u32, Vec<String>>>,
    /// The WASI that it was made with.
    granted: Option<WasiConfig>,
    /// What it was made from, if that was a snapshot.
    origin: Option<Snapshot>,
    /// Why no call is possible any more.
    ended: Option<String>,
    /// Whether a call is under way. Between calls: one was left by a panic of a host function.
    busy: bool,
    /// Whether the guest is in the middle of a run, waiting for input.
    is_waiting: bool,
    /// Whether it has done anything since it was made, or last reset.
    has_called: bool,
    stats: Stats,
    count_pages: bool,
    on_wait: Option<Box<dyn Fn() + Send + Sync>>,
    last: LastCall,
}

/// Whether a pool's sandbox is to be made what it was along with its caller's last call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LastCall {
    #[default]
    Unknown,
    /// It is the next one.
    Next,
    /// It has been made.
    Made,
}

impl Sandbox {
    /// A sandbox with nothing granted and the default limits.
    ///
    /// # Errors
    /// As [`SandboxBuilder::build`].
    pub fn new(module: &Module) -> Result<Self> {
        Self::builder(module).build()
    }

    /// Describes a sandbox.
    #[must_use]
    pub fn builder(module: &Module) -> SandboxBuilder {
        SandboxBuilder::of_module(module)
    }

    /// Calls an exported function: `let sum: u32 = sandbox.call("add", (1u32, 2u32))?`.
    ///
    /// # Errors
    /// [`Error::BadCall`] if there is no such function of this type; otherwise what the call led to.
    /// The sandbox can be used again unless the error [is final](Error::is_final).
    pub fn call<P: WasmValues, R: WasmValues>(&mut self, name: &str, params: P) -> Result<R> {
        self.exports.check_type::<P, R>(name)?;
        let results = self.call_values(self.main(), name, &params.into_values())?;
        self.settled(exports::typed(name, &results))
    }

    /// Calls an exported function of an instance with values known only at run time.
    ///
    /// # Errors
    /// As [`Sandbox::call`].
    pub fn call_values(
        &mut self,
        instance: Instance,
        name: &str,
        args: &[Value],
    ) -> Result<Vec<Value>> {
        let span = tracing::debug_span!("call", name);
        let _entered = span.enter();
        let (command, results) = self.exports.call(instance, name, args)?;
        let outcome = self.execute(command)?;
        self.settled(exports::returned(outcome, &results))
    }

    /// Instantiates another module in the same machine, linked against what is registered.
    ///
    /// # Errors
    /// As [`SandboxBuilder::build`].
    pub fn instantiate(&mut self, module: &Module) -> Result<Instance> {
        check::module(&self.engine, module, &self.limits)?;
        self.check_alive()?;
        let command = match module.component_info() {
            Some(info) => {
                let imports = self.link_component(info)?;
                let (address, len) = self.machine.load(module)?;
                Command::InstantiateComponent { address, len, imports }
            }
            None => {
                let imports = self.link(module)?;
                let (address, len) = self.machine.load(module)?;
                self.note_imports(module, &imports);
                Command::Instantiate { address, len, imports }
            }
        };
        match self.execute(command)? {
            Outcome::Instantiated(number) if number as usize == self.exports.instances.len() => {
                let interface = Arc::clone(module.interface());
                self.change_exports(|exports| exports.instances.push(interface));
                Ok(Instance(number))
            }
            Outcome::Refused(problem) => {
                Err(Error::Imports(vec![ImportError { import: None, problem }]))
            }
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Lets modules that are instantiated from now on import an instance's exports from this name.
    pub fn register(&mut self, name: impl Into<String>, instance: Instance) {
        Arc::make_mut(&mut self.names).insert(name.into(), instance);
    }

    /// The instance of the module that the sandbox was made for.
    #[must_use]
    pub fn main(&self) -> Instance {
        self.exports.main
    }

    /// The value of an exported global.
    ///
    /// # Errors
    /// [`Error::BadCall`] if there is none.
    pub fn global(&mut self, instance: Instance, name: &str) -> Result<Value> {
        let ty = self.global_type(instance, name)?;
        let command = Command::GetGlobal { instance: instance.0, export: name.to_owned() };
        match self.execute(command)? {
            Outcome::Returned(values) if values.len() == 1 && check::fits(&values[0], ty.value) => {
                Ok(values[0])
            }
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Sets an exported global.
    ///
    /// # Errors
    /// [`Error::BadCall`] if there is none that can be set to this value.
    pub fn set_global(&mut self, instance: Instance, name: &str, value: Value) -> Result<()> {
        let ty = self.global_type(instance, name)?;
        if !ty.mutable || !value.is_a(ty.value) {
            let kind = if ty.mutable { "a" } else { "an immutable" };
            return Err(Error::BadCall(format!(
                "the global {name:?} is {kind} {}; it cannot be set to {value:?}",
                ty.value
            )));
        }
        let export = name.to_owned();
        match self.execute(Command::SetGlobal { instance: instance.0, export, value })? {
            Outcome::Returned(values) if values.is_empty() => Ok(()),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Copies bytes out of an exported linear memory.
    ///
    /// # Errors
    /// [`Error::BadCall`] if there is no such memory, or the range is not within it.
    pub fn read_memory(
        &mut self,
        instance: Instance,
        name: &str,
        range: Range<u64>,
    ) -> Result<Vec<u8>> {
        let mut memory = self.memory(instance, name)?;
        let range = range.start as usize..range.end as usize;
        memory.bytes(range).map(|bytes| bytes.to_vec())
    }

    /// Copies bytes into an exported linear memory.
    ///
    /// # Errors
    /// [`Error::BadCall`] if there is no such memory, or the range is not within it.
    pub fn write_memory(
        &mut self,
        instance: Instance,
        name: &str,
        address: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let mut memory = self.memory(instance, name)?;
        let end = address.saturating_add(bytes.len() as u64);
        memory.bytes(address as usize..end as usize)?.copy_from_slice(bytes);
        memory.give_back()
    }

    /// A handle that stops the call under way from any thread.
    #[must_use]
    pub fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle(Arc::downgrade(&self.control))
    }

    /// What the last call cost; after [`SandboxBuilder::build`], what creation cost.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Says which trace, as W3C Trace Context has them, the guest's calls are part of from now on, or that it is none.
    /// HTTP requests that a component sends carry it on, unless they have a `traceparent` of their own. It does not
    /// outlast [`set_wasi`](Self::set_wasi), nor that a pool makes the sandbox what it was.
    pub fn set_trace(&mut self, trace: Option<Trace>) {
        if let Some(wasi) = &mut self.host.wasi {
            wasi.set_trace(trace);
        }
    }

    /// Takes what the guest has written to its standard output, if that is captured.
    pub fn take_stdout(&mut self) -> Bytes {
        self.host.wasi.as_mut().map(Wasi::take_stdout).unwrap_or_default()
    }

    /// Takes what the guest has written to its standard error, if that is captured.
    pub fn take_stderr(&mut self) -> Bytes {
        self.host.wasi.as_mut().map(Wasi::take_stderr).unwrap_or_default()
    }

    /// Whether the guest has made a WASI call, and with it had WASI set up.
    #[must_use]
    pub fn has_used_wasi(&self) -> bool {
        self.host.wasi.as_ref().is_some_and(Wasi::is_created)
    }

    fn global_type(&self, instance: Instance, name: &str) -> Result<sandgrain_abi::GlobalType> {
        match self.exports.module(instance)?.export(name) {
            Some(ExternType::Global(ty)) => Ok(*ty),
            other => Err(check::no_export(self.exports.module(instance)?, name, other, "global")),
        }
    }

    fn memory(&mut self, instance: Instance, name: &str) -> Result<Box<dyn LinearMemory + '_>> {
        match self.exports.module(instance)?.export(name) {
            Some(ExternType::Memory(_)) => {}
            other => {
                return Err(check::no_export(
                    self.exports.module(instance)?,
                    name,
                    other,
                    "memory",
                ));
            }
        }
        let command = Command::FindMemory { instance: instance.0, export: name.to_owned() };
        match self.execute(command)? {
            Outcome::Memory(number) => self.machine.memory(number),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    fn change_exports(&mut self, change: impl FnOnce(&mut Exports)) {
        change(Arc::make_mut(&mut self.exports));
        self.host.exports = Arc::clone(&self.exports);
    }

    fn check_alive(&self) -> Result<()> {
        match &self.ended {
            Some(reason) => Err(Error::Ended(reason.clone())),
            None if self.busy => Err(Error::Ended("a host function panicked".to_owned())),
            None => Ok(()),
        }
    }

    /// Has the machine do something, within the deadline.
    fn execute(&mut self, command: Command) -> Result<Outcome> {
        self.check_not_waiting()?;
        let progress = self.drive(&Step::Execute(command))?;
        self.done(progress)
    }

    fn check_not_waiting(&self) -> Result<()> {
        if self.is_waiting {
            return Err(Error::BadCall(
                "the guest is in the middle of a run, waiting for input; try: going on with `run` first"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// The outcome of something that does not stop in the middle.
    fn done(&mut self, progress: Progress) -> Result<Outcome> {
        match progress {
            Progress::Done(outcome) => Ok(outcome),
            Progress::Waiting => Err(self.end("it waits where it was not told to")),
        }
    }

    /// Drives the machine a bit further, within the deadline, and keeps the books.
    fn drive(&mut self, step: &Step) -> Result<Progress> {
        let pages = self.open_books()?;
        let result = step.run(&mut *self.machine, &mut self.host);
        self.close_books(pages, result)
    }

    /// Before a guest runs: from now on it can be stopped. The pages that it has to itself, if they count.
    fn open_books(&mut self) -> Result<Option<u64>> {
        self.check_alive()?;
        match self.last {
            LastCall::Unknown => {}
            LastCall::Next => {
                self.last = LastCall::Made;
                if !self.is_curious() {
                    self.machine.reset_when_done();
                }
            }
            LastCall::Made => {
                return Err(Error::BadCall(
                    "the sandbox has made the call that was to be its last, and is what it was before; try: \
                     taking another from the pool"
                        .to_owned(),
                ));
            }
        }
        self.has_called = true;
        let pages = if self.count_pages { self.machine.resident_pages()? } else { None };
        *self.machine.stats() = Stats::default();
        let started = Instant::now();
        self.host.failure = None;
        self.host.fatal = None;
        self.host.answer = None;
        self.host.begin_queue();
        self.host.started = Some(started);
        let deadline = self.limits.deadline.and_then(|limit| started.checked_add(limit));
        self.host.cancel = self.control.begin(&self.engine.inner.watchdog, deadline);
        self.busy = true;
        Ok(pages)
    }

    /// After it has run: what that has come to, and what it cost.
    fn close_books(&mut self, pages: Option<u64>, result: Result<Progress>) -> Result<Progress> {
        self.busy = false;
        let stopped = self.control.end();
        self.stats = *self.machine.stats();
        if let Some(before) = pages {
            let now = self.machine.resident_pages()?;
            self.stats.pages_touched = now.map(|now| now.saturating_sub(before));
        }
        let result = match (result, stopped) {
            // What ends a call on request may reach the host as something else.
            (Err(error), Some(reason)) if !matches!(error, Error::Guest(_)) => {
                Err(self.host.stop_error(reason))
            }
            (Ok(Progress::Done(outcome)), _) => self.host.completed(outcome).map(Progress::Done),
            (result, _) => result,
        };
        self.is_waiting |= matches!(result, Ok(Progress::Waiting));
        self.settled(result)
    }

    /// Notes an error after which there is no going on.
    fn settled<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.is_final()
            && self.ended.is_none()
        {
            tracing::debug!(%error, "the sandbox has ended");
            self.ended = Some(error.to_string());
        }
        result
    }

    /// An answer that no guest gives to what it was asked.
    fn unexpected(&mut self, outcome: Outcome) -> Error {
        let error = exports::unexpected(outcome);
        if error.is_final() {
            self.ended = Some(error.to_string());
        }
        error
    }

    fn end(&mut self, reason: &str) -> Error {
        let error = Error::Guest(reason.to_owned());
        self.ended = Some(error.to_string());
        error
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.teach();
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("instances", &self.exports.instances.len())
            .field("limits", &self.limits)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
