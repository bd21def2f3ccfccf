//! The engine: a hypervisor, a compiler, and what all sandboxes share.

use crate::error::{Error, Result};
use crate::guest::{Booted, Guest, GuestImage};
use crate::learned::PageSet;
use crate::limits::Limits;
use crate::machine::base::Base;
#[cfg(any(test, fuzzing))]
use crate::machine::plan::Plan;
use crate::stop::Watchdog;
use crate::vcpus::Vcpus;
use crate::workers::Device;
use sandgrain_abi::types::ModuleInfo;
use sandgrain_compile::{Cache, Compiler, Settings};
use sandgrain_hypervisor::Hypervisor;
use sandgrain_hypervisor::kvm::{DEVICE, Kvm, KvmOptions};
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;

/// Compiles modules and makes sandboxes. Make one for the life of a program; clones share it.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) platform: Platform,
    pub(crate) compiler: Compiler,
    pub(crate) cache: Option<Cache>,
    pub(crate) watchdog: Watchdog,
    pub(crate) vcpus: Vcpus,
}

/// What guests run on.
pub(crate) enum Platform {
    /// Virtual machines.
    Vm(Box<Virtual>),
    /// This process, without a wall.
    Process { engine: wasmtime::Engine },
}

/// What virtual machines are made with.
pub(crate) struct Virtual {
    pub(crate) hypervisor: Box<dyn Hypervisor>,
    pub(crate) base: Base,
    /// What a worker process opens to have the same.
    pub(crate) device: Device,
    booted: Booted,
    /// The names by which the engine in the guest asks for CPU features.
    features: Vec<String>,
}

impl Virtual {
    pub(crate) fn new(hypervisor: Box<dyn Hypervisor>, device: Device) -> Result<Self> {
        // The compiler has other names for some of them.
        let features = hypervisor.cpu_features().names().into_iter().map(|name| match name {
            "sse41" => "sse4.1".to_owned(),
            "sse42" => "sse4.2".to_owned(),
            other => other.to_owned(),
        });
        let features = features.collect();
        Ok(Self { hypervisor, base: Base::new()?, device, booted: Booted::default(), features })
    }

    /// A guest with the runtime in it that has not run yet, with room for these modules.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn unstarted(
        &self,
        limits: &Limits,
        modules: &[(&ModuleInfo, u64)],
    ) -> Result<Guest> {
        let plan = Plan::new(&self.base, limits)?.with_modules(limits, modules)?;
        Guest::boot(&*self.hypervisor, &self.base, limits, plan, self.features.clone())
    }

    /// A guest that waits for its first command, without any room for modules.
    fn started(&self, limits: &Limits) -> Result<GuestImage> {
        self.booted.get(&*self.hypervisor, &self.base, limits, self.features.clone())
    }

    /// A guest that waits for its first command, with room for modules with code of these sizes.
    pub(crate) fn guest(&self, limits: &Limits, modules: &[(&ModuleInfo, u64)]) -> Result<Guest> {
        let image = self.started(limits)?.with_modules(limits, modules)?;
        Guest::from_image(&*self.hypervisor, &image, &PageSet::default())
    }
}

impl Engine {
    /// An engine with the hypervisor of this machine and the user's cache of compiled modules.
    ///
    /// # Errors
    /// [`Error::NoHypervisor`] if there is none that can be used; there is no silent way without.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// An engine with other settings.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The CPU features that compiled code may use.
    #[must_use]
    pub fn cpu_features(&self) -> &[String] {
        self.inner.compiler.cpu_features()
    }

    /// A guest without modules, as all with these limits begin.
    pub(crate) fn started(&self, limits: &Limits) -> Result<GuestImage> {
        self.virtual_machines()?.started(limits)
    }

    /// What virtual machines are made with.
    pub(crate) fn virtual_machines(&self) -> Result<&Virtual> {
        match &self.inner.platform {
            Platform::Vm(platform) => Ok(platform),
            Platform::Process { .. } => {
                Err(Error::BadCall("this engine runs guests without VMs".to_owned()))
            }
        }
    }

    /// Whether guests run without a VM, which was asked for by name.
    #[must_use]
    pub fn is_without_vm(&self) -> bool {
        matches!(self.inner.platform, Platform::Process { .. })
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("without_vm", &self.is_without_vm())
            .field("cpu_features", &self.cpu_features())
            .field("cache", &self.inner.cache)
            .finish_non_exhaustive()
    }
}

/// Settings of an engine.
#[derive(Clone, Debug, Default)]
pub struct EngineBuilder {
    device: Option<PathBuf>,
    cache: CacheChoice,
    without_vm: bool,
    available_tss: bool,
    vcpu_threads: Option<usize>,
}

#[derive(Clone, Debug, Default)]
enum CacheChoice {
    #[default]
    User,
    At(PathBuf),
    None,
}

impl EngineBuilder {
    /// Uses this KVM device instead of `/dev/kvm`.
    #[must_use]
    pub fn kvm_device(mut self, path: impl Into<PathBuf>) -> Self {
        self.device = Some(path.into());
        self
    }

    /// Keeps compiled modules in this directory instead of the user's cache directory.
    #[must_use]
    pub fn cache_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.cache = CacheChoice::At(path.into());
        self
    }

    /// Keeps no compiled modules.
    #[must_use]
    pub fn without_cache(mut self) -> Self {
        self.cache = CacheChoice::None;
        self
    }

    /// Runs guests in this process, without the VM around them: for development on machines without a
    /// hypervisor, and to compare with. WebAssembly alone then keeps the guest in, and a warning is
    /// logged for every engine. Never for code that is not your own.
    #[must_use]
    pub fn dangerously_without_vm(mut self) -> Self {
        self.without_vm = true;
        self
    }

    /// How many threads run the guests of [asynchronous calls](crate::Sandbox::call_async); one at the least.
    /// Default: as many as run in parallel on this machine. They are started when such calls need them, and end
    /// with the engine.
    #[must_use]
    pub fn vcpu_threads(mut self, most: usize) -> Self {
        self.vcpu_threads = Some(most.max(1));
        self
    }

    /// For tests in an emulated machine only: marks the task state segment as available instead of
    /// busy, which QEMU's emulation of AMD's virtualization needs for port I/O from ring 3.
    #[doc(hidden)]
    #[must_use]
    pub fn available_tss(mut self, available: bool) -> Self {
        self.available_tss = available;
        self
    }

    /// The engine.
    ///
    /// # Errors
    /// [`Error::NoHypervisor`] if there is none that can be used; [`Error::Host`] if the engine cannot
    /// be set up.
    pub fn build(self) -> Result<Engine> {
        let (platform, features) = if self.without_vm {
            // With a target of its own, so that a program that says it itself can leave this out.
            tracing::warn!(
                target: "sandgrain::without_vm",
                "guests run without a VM: nothing but WebAssembly holds them"
            );
            let mut config = sandgrain_compile::engine_config(&[]);
            // There is no vCPU to kick: compiled code looks at a counter to see that it is to stop.
            config.epoch_interruption(true);
            let engine = wasmtime::Engine::new(&config)
                .map_err(|error| Error::Host(format!("the reference engine: {error:#}")))?;
            (Platform::Process { engine }, Vec::new())
        } else {
            // The counter is watched from here on, to know how fast it is once a guest has a clock.
            let _ = sandgrain_hypervisor::tick_rate();
            let hypervisor = self.open().map_err(|error| Error::NoHypervisor(error.to_string()))?;
            let names = hypervisor.cpu_features().names();
            let features = names.into_iter().map(str::to_owned).collect();
            (Platform::Vm(Box::new(Virtual::new(hypervisor, self.device())?)), features)
        };
        let compiler = Compiler::new(&Settings { cpu_features: features })?;
        let cache = match self.cache {
            CacheChoice::User => Cache::user_default()
                .inspect_err(|error| tracing::warn!(%error, "no cache of compiled modules"))
                .ok(),
            CacheChoice::At(path) => Some(Cache::at(path)),
            CacheChoice::None => None,
        };
        let watchdog = Watchdog::new();
        let in_parallel = || available_parallelism().map_or(1, NonZero::get);
        let vcpus = Vcpus::new(self.vcpu_threads.unwrap_or_else(in_parallel));
        Ok(Engine { inner: Arc::new(Inner { platform, compiler, cache, watchdog, vcpus }) })
    }

    fn device(&self) -> Device {
        let path = self.device.clone().unwrap_or_else(|| PathBuf::from(DEVICE));
        Device { path, available_tss: self.available_tss }
    }

    fn open(&self) -> Result<Box<dyn Hypervisor>, sandgrain_hypervisor::Error> {
        let Device { path, available_tss } = self.device();
        Ok(Box::new(Kvm::open_with(&path, KvmOptions { available_tss })?))
    }
}
