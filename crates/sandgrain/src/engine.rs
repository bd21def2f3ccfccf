//! The engine: a hypervisor, a compiler, and what all sandboxes share.

use crate::error::{Error, Result};
use crate::machine::base::Base;
use crate::stop::Watchdog;
use sandgrain_compile::{Cache, Compiler, Settings};
use sandgrain_hypervisor::Hypervisor;
use sandgrain_hypervisor::kvm::{Kvm, KvmOptions};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

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
}

/// What guests run on.
pub(crate) enum Platform {
    /// Virtual machines.
    Vm { hypervisor: Box<dyn Hypervisor>, base: Box<Base> },
    /// This process, without a wall.
    Process { engine: wasmtime::Engine },
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
            let hypervisor = self.open().map_err(|error| Error::NoHypervisor(error.to_string()))?;
            let names = hypervisor.cpu_features().names();
            let features = names.into_iter().map(str::to_owned).collect();
            (Platform::Vm { hypervisor, base: Box::new(Base::new()?) }, features)
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
        Ok(Engine { inner: Arc::new(Inner { platform, compiler, cache, watchdog }) })
    }

    fn open(&self) -> Result<Box<dyn Hypervisor>, sandgrain_hypervisor::Error> {
        if self.device.is_none() && !self.available_tss {
            return sandgrain_hypervisor::open();
        }
        let path = self.device.clone().unwrap_or_else(|| PathBuf::from("/dev/kvm"));
        let options = KvmOptions { available_tss: self.available_tss };
        Ok(Box::new(Kvm::open_with(&path, options)?))
    }
}
