//! What a sandbox is made of, and making it.

use super::{LastCall, Sandbox, check};
use crate::component::{
    self, AsyncComponentFunction, ComponentFunction, ComponentFunctions, Reader, ResourceType, Val,
    Writer,
};
use crate::engine::{Engine, Platform};
use crate::error::BoxError;
use crate::error::{Error, Result};
use crate::exports::Exports;
use crate::guest::Guest;
use crate::host::{Host, WASI};
use crate::host_functions::{Body, HostFunctions, IntoAsyncFunction, IntoHostFunction};
use crate::limits::Limits;
use crate::machine::Machine;
use crate::module::Module;
use crate::reference::{Epoch, Reference};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::stop::Control;
use crate::workers::Workers;
use sandgrain_abi::types::{ExternType, FuncType, ModuleInfo};
use sandgrain_wasi::{Wasi, WasiConfig};
use std::sync::Arc;

/// What a sandbox is to be made of.
#[derive(Debug)]
pub struct SandboxBuilder {
    source: Source,
    preloads: Vec<(String, Module)>,
    limits: Limits,
    wasi: Option<WasiConfig>,
    functions: HostFunctions,
    components: ComponentFunctions,
    count_pages: bool,
    /// Whether it is made ahead of its first call, which nobody waits for.
    is_parked: bool,
    workers: Option<Workers>,
}

/// What a sandbox is made from.
#[derive(Clone, Debug)]
enum Source {
    Module(Module),
    Snapshot(Snapshot),
}

impl SandboxBuilder {
    pub(super) fn of_module(module: &Module) -> Self {
        Self::new(Source::Module(module.clone()), Limits::default())
    }

    pub(crate) fn of_snapshot(snapshot: &Snapshot) -> Self {
        Self::new(Source::Snapshot(snapshot.clone()), snapshot.state().limits.clone())
    }

    fn new(source: Source, limits: Limits) -> Self {
        Self {
            source,
            preloads: Vec::new(),
            limits,
            wasi: None,
            functions: HostFunctions::default(),
            components: ComponentFunctions::default(),
            count_pages: false,
            is_parked: false,
            workers: None,
        }
    }

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
    /// whose type is checked against the module's import when the sandbox is made. With a
    /// [`Caller`](crate::Caller) before the arguments it sees the guest's memory, and can call the guest.
    #[must_use]
    pub fn function<M>(
        mut self,
        module: &str,
        name: &str,
        function: impl IntoHostFunction<M>,
    ) -> Self {
        let (ty, call) = (ty_of(&function), function.into_call());
        self.functions.add(module, name, ty, Body::Now(call));
        self
    }

    /// Defines a host function that takes its time: a closure over integers and floats that returns a future.
    /// In [`Sandbox::call_async`] no thread waits for that: the future is polled where the call is. In
    /// [`Sandbox::call`], and without a VM, it is polled by the thread that runs the guest, which waits for it.
    /// A call that is stopped drops it.
    #[must_use]
    pub fn async_function<M, F: IntoAsyncFunction<M>>(
        mut self,
        module: &str,
        name: &str,
        function: F,
    ) -> Self {
        self.functions.add(module, name, F::func_type(), Body::Later(function.into_call()));
        self
    }

    /// Defines a host function for components, under an instance such as `example:greeter/host@1.0.0` and its name in
    /// that; under a name alone if the instance is empty. A closure over values that components pass: numbers, `bool`,
    /// `char`, strings, lists, options, results, tuples, and what [`record!`](crate::record) and
    /// [`variant!`](crate::variant) make; before them a [`Caller`](crate::Caller), if it calls the guest. Its type is checked against the component's import when the sandbox is made.
    #[must_use]
    pub fn component_function<M, F: ComponentFunction<M>>(
        mut self,
        instance: &str,
        name: &str,
        function: F,
    ) -> Self {
        let (check, rust) = F::check();
        let body = component::Body::Now(check, rust, function.into_call());
        self.components.add(instance, name, body);
        self
    }

    /// Defines a host function for components that takes its time, as
    /// [`async_function`](Self::async_function) does for modules.
    #[must_use]
    pub fn component_async_function<M, F: AsyncComponentFunction<M>>(
        mut self,
        instance: &str,
        name: &str,
        function: F,
    ) -> Self {
        let (check, rust) = F::check();
        let body = component::Body::Later(check, rust, function.into_call());
        self.components.add(instance, name, body);
        self
    }

    /// Defines a host function for components that reads its arguments and writes its result itself: bytes and texts,
    /// as `&[u8]` and `&str`, where they are in the guest's memory, which stands still meanwhile. What it reads has to be
    /// of the types that the component's import has; an error ends the guest's call.
    ///
    /// ```
    /// use sandgrain::component::{Lift, Lower, Writer};
    /// # fn build(builder: sandgrain::SandboxBuilder) -> sandgrain::SandboxBuilder {
    /// builder.component_function_in_place("example:host/bytes", "sum", |args| {
    ///     let bytes: &[u8] = Lift::lift(args)?;
    ///     let mut out = Writer::new();
    ///     bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>().lower(&mut out);
    ///     Ok(out)
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn component_function_in_place(
        mut self,
        instance: &str,
        name: &str,
        function: impl FnMut(&mut Reader<'_>) -> Result<Writer, BoxError> + Send + 'static,
    ) -> Self {
        self.components.add(instance, name, component::Body::InPlace(Box::new(function)));
        self
    }

    /// Defines a host function for components that takes values of whatever types the component's import has, and
    /// must return one of its type. An error ends the guest's call.
    #[must_use]
    pub fn component_function_values(
        mut self,
        instance: &str,
        name: &str,
        function: impl FnMut(&[Val]) -> Result<Option<Val>, BoxError> + Send + 'static,
    ) -> Self {
        self.components.add(instance, name, component::Body::Dynamic(Box::new(function)));
        self
    }

    /// Defines a resource type that components import: host functions give out its resources as
    /// [`HostResource`](Val::HostResource)s, by numbers of their own, and `dropped` is told the number of each that
    /// the guest has dropped.
    #[must_use]
    pub fn component_resource(
        mut self,
        instance: &str,
        name: &str,
        dropped: impl FnMut(u32) + Send + 'static,
    ) -> Self {
        self.components.add_resource(instance, name, ResourceType { drop: Box::new(dropped) });
        self
    }

    /// Instantiates another module first, whose exports satisfy imports from this module name.
    #[must_use]
    pub fn preload(mut self, name: impl Into<String>, module: &Module) -> Self {
        self.preloads.push((name.into(), module.clone()));
        self
    }

    /// Makes the sandbox in a worker process, where only its VM is: host functions and WASI are called here all the
    /// same. For sandboxes of a snapshot.
    #[must_use]
    pub fn workers(mut self, workers: &Workers) -> Self {
        self.workers = Some(workers.clone());
        self
    }

    /// Whether calls count the pages that they touch, which takes some microseconds each.
    #[must_use]
    pub fn count_pages(mut self, count: bool) -> Self {
        self.count_pages = count;
        self
    }

    /// As [`build`](Self::build), for a sandbox that waits for its first call and is to be small meanwhile.
    pub(crate) fn build_parked(self) -> Result<Sandbox> {
        Self { is_parked: true, ..self }.build()
    }

    /// Makes the sandbox: a new machine, with the modules instantiated in it.
    ///
    /// # Errors
    /// [`Error::Imports`] with every import that nothing satisfies, [`Error::Limit`] if the modules
    /// need more than the limits allow, [`Error::Grant`], [`Error::Snapshot`] if the snapshot's guest cannot go
    /// on with what it is given, and whatever their start functions lead to.
    pub fn build(self) -> Result<Sandbox> {
        let span = tracing::debug_span!("create");
        let _entered = span.enter();
        if let Some(config) = &self.wasi {
            config.check().map_err(Error::Grant)?;
        }
        match self.source.clone() {
            Source::Module(module) => self.build_of_module(&module),
            Source::Snapshot(snapshot) => self.build_of_snapshot(&snapshot),
        }
    }

    fn build_of_module(mut self, main: &Module) -> Result<Sandbox> {
        if self.workers.is_some() {
            return Err(Error::BadCall(
                "sandboxes of a module are made in this process, where it is compiled; try: a snapshot of one, and \
                 sandboxes of that in worker processes"
                    .to_owned(),
            ));
        }
        let engine = main.engine().clone();
        let preloads = std::mem::take(&mut self.preloads);
        let modules = || preloads.iter().map(|(_, module)| module).chain(std::iter::once(main));
        for module in modules() {
            check::module(&engine, module, &self.limits)?;
        }
        let (machine, control): (Box<dyn Machine>, _) = match &engine.inner.platform {
            Platform::Vm(platform) => {
                let code = |module: &Module| module.artifact().map_or(0, |a| a.code().len() as u64);
                let sized: Vec<_> = modules().map(|module| (module.info(), code(module))).collect();
                let guest = platform.guest(&self.limits, &sized)?;
                let control = Control::new(guest.interrupter());
                (Box::new(guest), control)
            }
            Platform::Process { engine } => {
                let control = Control::new(Epoch(engine.clone()));
                let infos: Vec<&ModuleInfo> = modules().map(Module::info).collect();
                (Box::new(Reference::new(engine, &self.limits, &infos)), control)
            }
        };
        let mut sandbox = self.assemble(engine, machine, control);
        let mut total = Stats::default();
        for (name, module) in &preloads {
            let instance = sandbox.instantiate(module)?;
            sandbox.register(name, instance);
            total += sandbox.stats;
        }
        let instance = sandbox.instantiate(main)?;
        sandbox.change_exports(|exports| exports.main = instance);
        total += sandbox.stats;
        let initialize = main.export("_initialize");
        if matches!(initialize, Some(ExternType::Func(ty)) if *ty == FuncType::default()) {
            sandbox.call::<(), ()>("_initialize", ())?;
            total += sandbox.stats;
        }
        sandbox.stats = total;
        Ok(sandbox)
    }

    fn build_of_snapshot(mut self, snapshot: &Snapshot) -> Result<Sandbox> {
        if !self.preloads.is_empty() {
            return Err(Error::BadCall(
                "a snapshot's modules are linked already; preload them before it is taken"
                    .to_owned(),
            ));
        }
        let state = snapshot.state();
        state.check_limits(&self.limits)?;
        state.check_wasi(self.wasi.as_ref())?;
        let own = state.imports.range(..WASI);
        let wanted = own.map(|(number, import)| (*number, import.clone())).collect();
        self.functions = self.functions.numbered(&wanted).map_err(Error::Imports)?;
        let components = std::mem::take(&mut self.components);
        self.components = state.renumber(components).map_err(Error::Imports)?;
        // For a sandbox that is to wait, these pages would be memory that it takes; it touches them instead. One that is
        // looked at has no copies but of what its calls write: others would be taken for that, and then be copied
        // for each VM that waits, and back by each reset.
        let is_bare = self.is_parked || state.learned.is_curious();
        let pages = if is_bare { Default::default() } else { state.learned.set().0 };
        let (machine, control): (Box<dyn Machine>, _) = match &self.workers {
            Some(workers) => {
                let guest = workers.make(snapshot, &pages)?;
                let control = Control::new(guest.target());
                (Box::new(guest), control)
            }
            None => {
                let hypervisor = &*state.engine.virtual_machines()?.hypervisor;
                let guest = Guest::from_image(hypervisor, &state.guest, &pages)?;
                let control = Control::new(guest.interrupter());
                (Box::new(guest), control)
            }
        };
        let mut sandbox = self.assemble(state.engine.clone(), machine, control);
        sandbox.names.clone_from(&state.names);
        sandbox.change_exports(|exports| {
            *exports = Exports { instances: state.instances.clone(), main: state.main };
        });
        sandbox.imports.clone_from(&state.imports);
        sandbox.component_imports.clone_from(&state.component_imports);
        sandbox.is_waiting = state.guest.is_waiting();
        sandbox.origin = Some(snapshot.clone());
        Ok(sandbox)
    }

    /// A sandbox without instances.
    fn assemble(self, engine: Engine, machine: Box<dyn Machine>, control: Arc<Control>) -> Sandbox {
        let granted =
            self.wasi.map(|config| config.output_limits(self.limits.stdout, self.limits.stderr));
        let host = Host {
            functions: self.functions,
            components: self.components,
            call_bytes: self.limits.call_bytes,
            max_depth: self.limits.nested_calls,
            wasi: granted.clone().map(Wasi::new),
            control: Arc::downgrade(&control),
            ..Host::default()
        };
        Sandbox {
            machine,
            host,
            control,
            engine,
            limits: self.limits,
            exports: Arc::default(),
            names: Arc::default(),
            imports: Arc::default(),
            component_imports: Arc::default(),
            granted,
            origin: None,
            ended: None,
            busy: false,
            is_waiting: false,
            has_called: false,
            stats: Stats::default(),
            count_pages: self.count_pages,
            on_wait: None,
            last: LastCall::default(),
        }
    }
}

fn ty_of<M, F: IntoHostFunction<M>>(_: &F) -> FuncType {
    F::func_type()
}
