//! What a sandbox is made of, and making it.

use super::{Instance, Sandbox, check};
use crate::engine::Platform;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::host::Host;
use crate::host_functions::{HostFunctions, IntoHostFunction};
use crate::limits::Limits;
use crate::machine::Machine;
use crate::module::Module;
use crate::reference::{Epoch, Reference};
use crate::stats::Stats;
use crate::stop::Control;
use sandgrain_abi::types::{ExternType, FuncType, ModuleInfo};
use sandgrain_wasi::{Wasi, WasiConfig};
use std::collections::HashMap;
use std::sync::Arc;

/// What a sandbox is to be made of.
#[derive(Debug)]
pub struct SandboxBuilder {
    module: Module,
    preloads: Vec<(String, Module)>,
    limits: Limits,
    wasi: Option<WasiConfig>,
    functions: HostFunctions,
    count_pages: bool,
}

impl SandboxBuilder {
    pub(super) fn new(module: &Module) -> Self {
        Self {
            module: module.clone(),
            preloads: Vec::new(),
            limits: Limits::default(),
            wasi: None,
            functions: HostFunctions::default(),
            count_pages: false,
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
            check::module(&engine, module, &self.limits)?;
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
            busy: false,
            stats: Stats::default(),
            count_pages: self.count_pages,
        };
        let mut total = Stats::default();
        for (name, module) in &self.preloads {
            let instance = sandbox.instantiate(module)?;
            sandbox.register(name, instance);
            total += sandbox.stats;
        }
        sandbox.main = sandbox.instantiate(&self.module)?;
        total += sandbox.stats;
        let initialize = self.module.export("_initialize");
        if matches!(initialize, Some(ExternType::Func(ty)) if *ty == FuncType::default()) {
            sandbox.call::<(), ()>("_initialize", ())?;
            total += sandbox.stats;
        }
        sandbox.stats = total;
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
