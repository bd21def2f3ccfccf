//! Sandboxes: a module, what it was granted, and the machine that it runs on.

use crate::engine::{Engine, Platform};
use crate::error::{Error, ImportError, Result, Trap, printable};
use crate::guest::Guest;
use crate::host::Host;
use crate::host_functions::IntoHostFunction;
use crate::limits::Limits;
use crate::machine::Machine;
use crate::machine::plan;
use crate::module::Module;
use crate::reference::{Epoch, Reference};
use crate::stats::Stats;
use crate::stop::{Control, InterruptHandle};
use crate::typed::WasmValues;
use bytes::Bytes;
use sandgrain_abi::Value;
use sandgrain_abi::message::{Command, Fault, ImportSource, Outcome};
use sandgrain_abi::types::{ExternType, FuncType, ModuleInfo};
use sandgrain_wasi::{Wasi, WasiConfig};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What a sandbox is to be made of.
#[derive(Debug)]
pub struct SandboxBuilder {
    module: Module,
    preloads: Vec<(String, Module)>,
    limits: Limits,
    wasi: Option<WasiConfig>,
    functions: crate::host_functions::HostFunctions,
    count_pages: bool,
}

impl SandboxBuilder {
    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Grants WASI preview 1, with what the configuration grants. Nothing of it is set up before the
    /// guest's first WASI call.
    #[must_use]
    pub fn wasi(mut self, config: WasiConfig) -> Self {
        self.wasi = Some(config);
        self
    }

    /// Defines a host function under a module name and a name: a closure over integers and floats,
    /// whose type is checked against the module's import when the sandbox is made.
    #[must_use]
    pub fn function<M>(
        mut self,
        module: &str,
        name: &str,
        function: impl IntoHostFunction<M>,
    ) -> Self {
        let (ty, call) = (ty_of(&function), function.into_call());
        self.functions.add(module, name, ty, call);
        self
    }

    /// Instantiates another module first, whose exports satisfy imports from this module name.
    #[must_use]
    pub fn preload(mut self, name: impl Into<String>, module: &Module) -> Self {
        self.preloads.push((name.into(), module.clone()));
        self
    }

    /// Whether calls count the pages that they touch, which takes some microseconds each.
    #[must_use]
    pub fn count_pages(mut self, count: bool) -> Self {
        self.count_pages = count;
        self
    }

    /// Makes the sandbox: a new machine, with the modules instantiated in it.
    ///
    /// # Errors
    /// [`Error::Imports`] with every import that nothing satisfies, [`Error::Limit`] if the modules
    /// need more than the limits allow, [`Error::Grant`], and whatever their start functions lead to.
    pub fn build(self) -> Result<Sandbox> {
        let span = tracing::debug_span!("create");
        let _entered = span.enter();
        if let Some(config) = &self.wasi {
            config.check().map_err(Error::Grant)?;
        }
        let engine = self.module.engine().clone();
        let modules = || {
            let preloads = self.preloads.iter().map(|(_, module)| module);
            preloads.chain(std::iter::once(&self.module))
        };
        for module in modules() {
            check_module(&engine, module, &self.limits)?;
        }
        let infos: Vec<&ModuleInfo> = modules().map(Module::info).collect();
        let (machine, control): (Box<dyn Machine>, _) = match &engine.inner.platform {
            Platform::Vm { hypervisor, base } => {
                let code = |module: &Module| module.artifact().map_or(0, |a| a.code().len() as u64);
                let sized: Vec<_> = modules().map(|module| (module.info(), code(module))).collect();
                let features = detectable(engine.cpu_features());
                let guest = Guest::new(&**hypervisor, base, &self.limits, &sized, features)?;
                let control = Control::new(guest.interrupter());
                (Box::new(guest), control)
            }
            Platform::Process { engine } => {
                let control = Control::new(Epoch(engine.clone()));
                (Box::new(Reference::new(engine, &self.limits, &infos)), control)
            }
        };
        let wasi = self
            .wasi
            .map(|config| Wasi::new(config.output_limits(self.limits.stdout, self.limits.stderr)));
        let host = Host {
            functions: self.functions,
            wasi,
            control: Arc::downgrade(&control),
            ..Host::default()
        };
        let mut sandbox = Sandbox {
            machine,
            host,
            control,
            engine,
            limits: self.limits,
            instances: Vec::new(),
            names: HashMap::new(),
            main: Instance(0),
            ended: None,
            stats: Stats::default(),
            count_pages: self.count_pages,
        };
        for (name, module) in &self.preloads {
            let instance = sandbox.instantiate(module)?;
            sandbox.register(name, instance);
        }
        sandbox.main = sandbox.instantiate(&self.module)?;
        let initialize = self.module.export("_initialize");
        if matches!(initialize, Some(ExternType::Func(ty)) if *ty == FuncType::default()) {
            sandbox.call::<(), ()>("_initialize", ())?;
        }
        Ok(sandbox)
    }
}

fn ty_of<M, F: IntoHostFunction<M>>(_: &F) -> FuncType {
    F::func_type()
}

/// The names by which the engine in the guest asks for CPU features.
pub(crate) fn detectable(features: &[String]) -> Vec<String> {
    let name = |feature: &String| match feature.as_str() {
        "sse41" => "sse4.1".to_owned(),
        "sse42" => "sse4.2".to_owned(),
        other => other.to_owned(),
    };
    features.iter().map(name).collect()
}

fn check_module(engine: &Engine, module: &Module, limits: &Limits) -> Result<()> {
    if !Arc::ptr_eq(&engine.inner, &module.engine().inner) {
        return Err(Error::BadCall(
            "the modules of a sandbox are of different engines; compile them with the same".into(),
        ));
    }
    for ty in &module.info().memories {
        let minimum = ty.minimum.saturating_mul(ty.page_size);
        if minimum > plan::capacity(ty, limits.memory) {
            return Err(Error::Limit {
                what: "a linear memory",
                limit: format!("{} bytes", limits.memory),
                detail: format!("the module asks for {minimum} bytes from the start"),
            });
        }
    }
    Ok(())
}

/// An instance in a sandbox. It means nothing in another sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instance(u32);

/// A module instantiated in a machine of its own. State persists from call to call.
pub struct Sandbox {
    machine: Box<dyn Machine>,
    host: Host,
    control: Arc<Control>,
    engine: Engine,
    limits: Limits,
    instances: Vec<Module>,
    names: HashMap<String, Instance>,
    main: Instance,
    /// Why no call is possible any more.
    ended: Option<String>,
    stats: Stats,
    count_pages: bool,
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
        SandboxBuilder {
            module: module.clone(),
            preloads: Vec::new(),
            limits: Limits::default(),
            wasi: None,
            functions: Default::default(),
            count_pages: false,
        }
    }

    /// Calls an exported function: `let sum: u32 = sandbox.call("add", (1u32, 2u32))?`.
    ///
    /// # Errors
    /// [`Error::BadCall`] if there is no such function of this type; otherwise what the call led to.
    /// The sandbox can be used again unless the error [is final](Error::is_final).
    pub fn call<P: WasmValues, R: WasmValues>(&mut self, name: &str, params: P) -> Result<R> {
        let results = self.call_values(self.main, name, &params.into_values())?;
        R::from_values(&results).ok_or_else(|| {
            let wanted = FuncType { params: P::types(), results: R::types() };
            Error::BadCall(format!("{name:?} returned {results:?}, the call expects {wanted}"))
        })
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
        let results = check_call(self.module(instance)?, name, args)?;
        let export = name.to_owned();
        let command = Command::Call { instance: instance.0, export, args: args.to_vec() };
        match self.execute(&command)? {
            Outcome::Returned(values)
                if values.len() == results.len()
                    && values.iter().zip(&results).all(|(value, ty)| fits(value, *ty)) =>
            {
                Ok(values)
            }
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Runs a WASI command: calls `_start`. Its exit code.
    ///
    /// # Errors
    /// As [`Sandbox::call`], but an exit is not an error.
    pub fn run(&mut self) -> Result<i32> {
        match self.call::<(), ()>("_start", ()) {
            Ok(()) => Ok(0),
            Err(Error::Exit(code)) => Ok(code),
            Err(error) => Err(error),
        }
    }

    /// Instantiates another module in the same machine, linked against what is registered.
    ///
    /// # Errors
    /// As [`SandboxBuilder::build`].
    pub fn instantiate(&mut self, module: &Module) -> Result<Instance> {
        check_module(&self.engine, module, &self.limits)?;
        let imports = self.link(module)?;
        self.check_alive()?;
        let (address, len) = self.machine.load(module)?;
        let command = Command::Instantiate { address, len, imports };
        match self.execute(&command)? {
            Outcome::Instantiated(number) if number as usize == self.instances.len() => {
                self.instances.push(module.clone());
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
        self.names.insert(name.into(), instance);
    }

    /// The instance of the module that the sandbox was made for.
    #[must_use]
    pub fn main(&self) -> Instance {
        self.main
    }

    /// The value of an exported global.
    ///
    /// # Errors
    /// [`Error::BadCall`] if there is none.
    pub fn global(&mut self, instance: Instance, name: &str) -> Result<Value> {
        self.global_type(instance, name)?;
        let command = Command::GetGlobal { instance: instance.0, export: name.to_owned() };
        match self.execute(&command)? {
            Outcome::Returned(values) if values.len() == 1 => Ok(values[0]),
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
        match self.execute(&Command::SetGlobal { instance: instance.0, export, value })? {
            Outcome::Returned(_) => Ok(()),
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
        self.memory_range(instance, name, range).map(|bytes| bytes.to_vec())
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
        let end = address.saturating_add(bytes.len() as u64);
        self.memory_range(instance, name, address..end)?.copy_from_slice(bytes);
        Ok(())
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

    fn module(&self, instance: Instance) -> Result<&Module> {
        self.instances
            .get(instance.0 as usize)
            .ok_or_else(|| Error::BadCall("an instance of another sandbox".to_owned()))
    }

    fn global_type(&self, instance: Instance, name: &str) -> Result<sandgrain_abi::GlobalType> {
        match self.module(instance)?.export(name) {
            Some(ExternType::Global(ty)) => Ok(*ty),
            other => Err(no_export(self.module(instance)?, name, other, "global")),
        }
    }

    fn memory_range(
        &mut self,
        instance: Instance,
        name: &str,
        range: Range<u64>,
    ) -> Result<&mut [u8]> {
        match self.module(instance)?.export(name) {
            Some(ExternType::Memory(_)) => {}
            other => return Err(no_export(self.module(instance)?, name, other, "memory")),
        }
        let command = Command::FindMemory { instance: instance.0, export: name.to_owned() };
        let number = match self.execute(&command)? {
            Outcome::Memory(number) => number,
            outcome => return Err(self.unexpected(outcome)),
        };
        let bytes = self.machine.memory(number)?;
        let size = bytes.len();
        let whole = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        whole.and_then(|(start, end)| bytes.get_mut(start..end)).ok_or_else(|| {
            Error::BadCall(format!("bytes {range:?} are not within a memory of {size} bytes"))
        })
    }

    /// Finds what satisfies each import; all that nothing satisfies are listed.
    fn link(&self, module: &Module) -> Result<Vec<ImportSource>> {
        let mut sources = Vec::new();
        let mut errors = Vec::new();
        for import in &module.info().imports {
            let found = match self.names.get(&import.module) {
                Some(instance) => {
                    let export = self.instances[instance.0 as usize].export(&import.name);
                    match export {
                        Some(ty) if ty.kind() == import.ty.kind() => Ok(ImportSource::Instance {
                            instance: instance.0,
                            export: import.name.clone(),
                        }),
                        Some(ty) => {
                            Err(format!("it is a {}, not a {}", ty.kind(), import.ty.kind()))
                        }
                        None => self.find_host(import),
                    }
                }
                None => self.find_host(import),
            };
            match found {
                Ok(source) => sources.push(source),
                Err(problem) => {
                    let import = Some((import.module.clone(), import.name.clone()));
                    errors.push(ImportError { import, problem });
                }
            }
        }
        if errors.is_empty() { Ok(sources) } else { Err(Error::Imports(errors)) }
    }

    fn find_host(&self, import: &sandgrain_abi::types::Import) -> Result<ImportSource, String> {
        let (number, offered) = self.host.find(&import.module, &import.name)?;
        match &import.ty {
            ExternType::Func(wanted) if *wanted == offered => Ok(ImportSource::Host(number)),
            ExternType::Func(wanted) => {
                Err(format!("the module wants the type {wanted}, the host function is {offered}"))
            }
            other => Err(format!("the module wants a {}, the host has a function", other.kind())),
        }
    }

    fn check_alive(&self) -> Result<()> {
        match &self.ended {
            Some(reason) => Err(Error::Ended(reason.clone())),
            None => Ok(()),
        }
    }

    /// Has the machine do something, within the deadline, and keeps the books.
    fn execute(&mut self, command: &Command) -> Result<Outcome> {
        self.check_alive()?;
        let pages = if self.count_pages { self.machine.resident_pages()? } else { None };
        *self.machine.stats() = Stats::default();
        let started = Instant::now();
        self.host.failure = None;
        self.host.started = Some(started);
        let deadline = self.limits.deadline.and_then(|limit| started.checked_add(limit));
        self.host.cancel = self.control.begin(&self.engine.inner.watchdog, deadline);
        let result = self.machine.execute(command, &mut self.host);
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
            (result, _) => result,
        };
        if let Err(error) = &result
            && error.is_final()
        {
            tracing::debug!(%error, "the sandbox has ended");
            self.ended = Some(error.to_string());
        }
        match result? {
            Outcome::Trapped(trap) => Err(match trap.fault {
                Fault::Wasm { code, message } => {
                    Error::Trap(Trap { code, message, frames: trap.frames })
                }
                Fault::Host => self.host.failure.take().unwrap_or_else(|| {
                    self.end("it reports a host function's error that there was not")
                }),
            }),
            Outcome::Limited(detail) => {
                let detail = printable(&detail);
                Err(Error::Limit { what: "the sandbox", limit: "its limits".to_owned(), detail })
            }
            Outcome::Refused(reason) => Ok(Outcome::Refused(printable(&reason))),
            outcome => Ok(outcome),
        }
    }

    /// An answer that no guest gives to what it was asked.
    fn unexpected(&mut self, outcome: Outcome) -> Error {
        match outcome {
            Outcome::Refused(reason) => Error::BadCall(reason),
            other => self.end(&format!("it answered with {other:?}")),
        }
    }

    fn end(&mut self, reason: &str) -> Error {
        let error = Error::Guest(reason.to_owned());
        self.ended = Some(error.to_string());
        error
    }
}

/// Checks a call against the module; the types of its results.
fn check_call(module: &Module, name: &str, args: &[Value]) -> Result<Vec<sandgrain_abi::ValType>> {
    let ty = match module.export(name) {
        Some(ExternType::Func(ty)) => ty,
        other => return Err(no_export(module, name, other, "function")),
    };
    if args.len() != ty.params.len() || !args.iter().zip(&ty.params).all(|(arg, ty)| arg.is_a(*ty))
    {
        return Err(Error::BadCall(format!(
            "{name:?} has the type {ty}; it was called with {args:?}"
        )));
    }
    Ok(ty.results.clone())
}

/// Whether the guest may return such a value. It is untrusted, so its word is checked too.
fn fits(value: &Value, ty: sandgrain_abi::ValType) -> bool {
    match (value, ty) {
        (Value::GcRef(of), sandgrain_abi::ValType::Ref { heap, .. }) => of.top() == heap.top(),
        _ => value.is_a(ty),
    }
}

fn no_export(module: &Module, name: &str, found: Option<&ExternType>, wanted: &str) -> Error {
    if let Some(found) = found {
        return Error::BadCall(format!(
            "the export {name:?} is a {}, not a {wanted}",
            found.kind()
        ));
    }
    let exports = &module.info().exports;
    let same: Vec<&str> = exports
        .iter()
        .filter(|export| export.ty.kind() == wanted)
        .map(|export| export.name.as_str())
        .collect();
    let listed = same.iter().take(20).map(|name| format!("{name:?}")).collect::<Vec<_>>();
    let more = if same.len() > listed.len() { ", ..." } else { "" };
    Error::BadCall(if same.is_empty() {
        format!("the module exports no {wanted} at all; {name:?} was asked for")
    } else {
        format!("the module exports no {wanted} {name:?}; it has {}{more}", listed.join(", "))
    })
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("instances", &self.instances.len())
            .field("limits", &self.limits)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
