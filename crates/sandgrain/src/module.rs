//! Modules: WebAssembly, validated and compiled.

use crate::engine::{Engine, Platform};
use crate::error::{Error, Result};
use sandgrain_abi::types::{ExternType, ModuleInfo};
use sandgrain_compile::{Artifact, CacheOutcome, Kind, identify};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A module that is ready to run. Cheap to clone; any number of sandboxes can be made of it.
#[derive(Clone)]
pub struct Module {
    engine: Engine,
    inner: Arc<Inner>,
}

struct Inner {
    code: Code,
    compile_time: Option<Duration>,
    cached: bool,
    interface: Arc<Interface>,
}

enum Code {
    /// For the VM.
    Artifact(Artifact),
    /// For this process.
    Process(wasmtime::Module),
}

/// What a module imports and exports: all that calling an instance of it takes.
#[derive(Debug)]
pub(crate) struct Interface {
    info: ModuleInfo,
    /// Where each export is in the list of them.
    exports: HashMap<String, usize>,
}

impl Interface {
    pub(crate) fn new(info: ModuleInfo) -> Self {
        let names = info.exports.iter().enumerate();
        let exports = names.map(|(at, export)| (export.name.clone(), at)).collect();
        Self { info, exports }
    }

    pub(crate) fn info(&self) -> &ModuleInfo {
        &self.info
    }

    /// The type of an export.
    pub(crate) fn export(&self, name: &str) -> Option<&ExternType> {
        let at = *self.exports.get(name)?;
        self.info.exports.get(at).map(|export| &export.ty)
    }
}

impl Module {
    /// Compiles a module in the binary or the text format, or takes it from the engine's cache.
    ///
    /// # Errors
    /// [`Error::Module`] if it is not a valid module.
    pub fn new(engine: &Engine, wasm_or_wat: &[u8]) -> Result<Self> {
        let span = tracing::debug_span!("compile", bytes = wasm_or_wat.len());
        let _entered = span.enter();
        let started = Instant::now();
        let compiler = &engine.inner.compiler;
        let wasm = compiler.to_wasm(wasm_or_wat)?;
        if identify(&wasm) == Kind::Component {
            return Err(sandgrain_compile::Error::IsComponent.into());
        }
        let (code, info, cached) = match &engine.inner.platform {
            Platform::Process { engine } => {
                let info = compiler.check(&wasm)?;
                let info = info.module().ok_or(sandgrain_compile::Error::IsComponent)?.clone();
                let module = wasmtime::Module::new(engine, &wasm).map_err(|error| {
                    Error::Module(sandgrain_compile::Error::Compile {
                        message: format!("{error:#}"),
                    })
                })?;
                (Code::Process(module), info, false)
            }
            Platform::Vm(_) => {
                let (artifact, cached) = match &engine.inner.cache {
                    Some(cache) => {
                        let (artifact, outcome) = compiler.compile_cached(&wasm, cache)?;
                        (artifact, outcome == CacheOutcome::Hit)
                    }
                    None => (compiler.compile(&wasm)?, false),
                };
                let info = artifact.module_info()?.clone();
                (Code::Artifact(artifact), info, cached)
            }
        };
        let compile_time = (!cached).then(|| started.elapsed());
        Ok(Self::with_code(engine, code, info, compile_time, cached))
    }

    /// Takes a module that was compiled ahead of time, by [`Module::artifact_bytes`] or
    /// `sandgrain compile`. Its digest shows damage, not forgery: load only what you compiled.
    ///
    /// # Errors
    /// [`Error::Module`] with the precise reason if it does not fit this engine.
    pub fn from_artifact(engine: &Engine, artifact: Vec<u8>) -> Result<Self> {
        if engine.is_without_vm() {
            return Err(Error::BadCall(
                "a compiled module is machine code, which only a VM may run; \
                 without one, give the WebAssembly that it was compiled from"
                    .to_owned(),
            ));
        }
        let artifact = engine.inner.compiler.load(artifact)?;
        let info = artifact.module_info()?.clone();
        Ok(Self::with_code(engine, Code::Artifact(artifact), info, None, false))
    }

    /// Reads a file: WebAssembly in the binary or the text format, or a module compiled ahead of time.
    ///
    /// # Errors
    /// [`Error::Host`] if it cannot be read; otherwise as for the other two.
    pub fn open(engine: &Engine, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path)
            .map_err(|error| Error::Host(format!("cannot read {}: {error}", path.display())))?;
        match identify(&bytes) {
            Kind::Artifact => Self::from_artifact(engine, bytes),
            _ => Self::new(engine, &bytes),
        }
    }

    fn with_code(
        engine: &Engine,
        code: Code,
        info: ModuleInfo,
        compile_time: Option<Duration>,
        cached: bool,
    ) -> Self {
        let interface = Arc::new(Interface::new(info));
        let inner = Arc::new(Inner { code, compile_time, cached, interface });
        Self { engine: engine.clone(), inner }
    }

    /// What it imports, exports and defines.
    #[must_use]
    pub fn info(&self) -> &ModuleInfo {
        self.inner.interface.info()
    }

    pub(crate) fn interface(&self) -> &Arc<Interface> {
        &self.inner.interface
    }

    /// How long it took to compile, if it was compiled just now.
    #[must_use]
    pub fn compile_time(&self) -> Option<Duration> {
        self.inner.compile_time
    }

    /// Whether it came from the engine's cache.
    #[must_use]
    pub fn is_from_cache(&self) -> bool {
        self.inner.cached
    }

    /// The module as a file that [`Module::from_artifact`] takes on an engine of this version on a CPU
    /// with these features. `None` without a VM.
    #[must_use]
    pub fn artifact_bytes(&self) -> Option<&[u8]> {
        self.artifact().map(Artifact::as_bytes)
    }

    pub(crate) fn artifact(&self) -> Option<&Artifact> {
        match &self.inner.code {
            Code::Artifact(artifact) => Some(artifact),
            Code::Process(_) => None,
        }
    }

    /// The type of an export.
    #[must_use]
    pub fn export(&self, name: &str) -> Option<&ExternType> {
        self.inner.interface.export(name)
    }

    pub(crate) fn process_module(&self) -> Option<&wasmtime::Module> {
        match &self.inner.code {
            Code::Process(module) => Some(module),
            Code::Artifact(_) => None,
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("info", self.info()).finish_non_exhaustive()
    }
}
