//! From WebAssembly to an artifact.

use crate::artifact::Artifact;
use crate::cache::{Cache, CacheOutcome};
use crate::config::{self, ENGINE_VERSION};
use crate::error::Error;
use crate::format::{self, FORMAT_VERSION, Header};
use crate::identify::{self, Kind, identify};
use crate::{component, info, isa};
use sandgrain_abi::Info;
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use wasmtime::Engine;

/// What a compiler is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// CPU features that compiled code may use, by the hypervisor's names: `sse3`, `ssse3`,
    /// `sse41`, `sse42`, `popcnt`, `cmpxchg16b`, `lzcnt`, `bmi1`, `bmi2`, `fma`, `avx`, `avx2`,
    /// `avxvnni`, `avx512f`, `avx512dq`, `avx512vl`, `avx512bitalg`, `avx512vbmi`, `avx512vnni`.
    /// Others are ignored; order does not matter. Without any, code runs on every x86-64 CPU.
    pub cpu_features: Vec<String>,
}

/// Compiles modules and components for the guest's engine. Cheap to clone, and can be shared between threads.
#[derive(Clone)]
pub struct Compiler {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    cpu_features: Vec<String>,
    /// Identifies the engine's settings apart from the CPU features.
    settings: [u8; 32],
}

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let features = &self.inner.cpu_features;
        f.debug_struct("Compiler").field("cpu_features", features).finish_non_exhaustive()
    }
}

impl Compiler {
    /// Sets up the engine. Keep the compiler: clones share it.
    ///
    /// The engine installs its handlers for the signals of memory and arithmetic faults in this
    /// process (they pass on what is not theirs).
    ///
    /// # Errors
    /// [`Error::Engine`] if the engine does not accept its settings.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let cpu_features = isa::usable(&settings.cpu_features);
        let engine = new_engine(&cpu_features)?;
        let settings = settings_fingerprint()?;
        Ok(Self { inner: Arc::new(Inner { engine, cpu_features, settings }) })
    }

    /// The CPU features that compiled code may use: those of the settings that it can use.
    #[must_use]
    pub fn cpu_features(&self) -> &[String] {
        &self.inner.cpu_features
    }

    /// The engine, with [`engine_config`](crate::engine_config)'s settings.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Validates a module or component in binary or text format and describes it, without compiling it.
    ///
    /// # Errors
    /// As [`compile`](Self::compile), except that what only the compiler rejects passes.
    pub fn check(&self, wasm_or_wat: &[u8]) -> Result<Info, Error> {
        validate(&to_wasm(wasm_or_wat)?)
    }

    /// The binary format of a module or component in either format, not yet validated. Which of the two it is
    /// [`identify`](crate::identify) tells.
    ///
    /// # Errors
    /// As [`compile`](Self::compile), for bytes that cannot be either.
    pub fn to_wasm<'a>(&self, wasm_or_wat: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
        to_wasm(wasm_or_wat)
    }

    /// Validates and compiles a module or component in binary or text format.
    ///
    /// # Errors
    /// [`Error::Wat`], [`Error::NotWasm`], [`Error::Invalid`], [`Error::UnsupportedVersion`] or
    /// [`Error::IsArtifact`] if the bytes are no valid module or component, [`Error::Unsupported`] for a
    /// component that asks for what there is not, [`Error::Compile`] if the compiler rejects it.
    pub fn compile(&self, wasm_or_wat: &[u8]) -> Result<Artifact, Error> {
        let wasm = to_wasm(wasm_or_wat)?;
        self.compile_wasm(&wasm, *blake3::hash(&wasm).as_bytes())
    }

    /// As [`compile`](Self::compile), but takes the artifact from `cache` if it is there, and
    /// otherwise puts it there. A cache that does not work costs time, never the result: the
    /// outcome says what happened.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn compile_cached(
        &self,
        wasm_or_wat: &[u8],
        cache: &Cache,
    ) -> Result<(Artifact, CacheOutcome), Error> {
        let wasm = to_wasm(wasm_or_wat)?;
        let digest = *blake3::hash(&wasm).as_bytes();
        let key = self.cache_key(&digest);
        let accept = |bytes| {
            // More than `load` asks for: the key promises this input for exactly this CPU.
            let artifact = self.load(bytes)?;
            let same =
                artifact.digest() == digest && artifact.cpu_features() == self.cpu_features();
            if same { Ok(artifact) } else { Err(crate::Refusal::Damaged.into()) }
        };
        cache.get_or_store(&key, accept, || self.compile_wasm(&wasm, digest))
    }

    /// Reads an artifact and checks that this compiler could have made it.
    ///
    /// The digest inside shows damage, not forgery: load only what you or this library wrote. What a
    /// forged artifact could do is run machine code in the VM without WebAssembly's checks.
    ///
    /// # Errors
    /// [`Error::Refused`] with the check that it failed.
    pub fn load(&self, artifact: Vec<u8>) -> Result<Artifact, Error> {
        let parsed = format::read(&artifact, &self.inner.settings, &self.inner.cpu_features)?;
        Ok(Artifact::new(artifact, parsed, None))
    }

    fn compile_wasm(&self, wasm: &[u8], wasm_digest: [u8; 32]) -> Result<Artifact, Error> {
        let start = Instant::now();
        let info = validate(wasm)?;
        let validated = start.elapsed();
        let engine = &self.inner.engine;
        let compiled = match &info {
            Info::Module(_) => engine.precompile_module(wasm),
            Info::Component(_) => component::unless_it_panics("the compiler", || {
                Ok(engine.precompile_component(wasm))
            })?,
        };
        let code = compiled.map_err(|error| {
            // The input is valid, so what is left are limits of the compiler. The chain of causes
            // goes into one line.
            let causes: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
            let message = causes.join(": ").lines().map(str::trim).collect::<Vec<_>>().join("; ");
            Error::Compile { message }
        })?;
        let header = Header {
            engine: ENGINE_VERSION.to_owned(),
            settings: self.inner.settings,
            cpu_features: self.inner.cpu_features.clone(),
            wasm_digest,
            info,
            code_len: 0,
        };
        let (bytes, parsed) =
            format::write(header, &code).map_err(|message| Error::Compile { message })?;
        let taken = start.elapsed();
        tracing::debug!(wasm = wasm.len(), code = code.len(), ?validated, ?taken, "compiled");
        Ok(Artifact::new(bytes, parsed, Some(taken)))
    }

    /// The name of an artifact in a cache: whatever changes the artifact changes it.
    fn cache_key(&self, wasm_digest: &[u8; 32]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_derive_key("sandgrain-compile cache key v1");
        hasher.update(wasm_digest);
        hasher.update(&self.inner.settings);
        hasher.update(&FORMAT_VERSION.to_le_bytes());
        // Each with its length, so that no two lists run into the same bytes.
        for text in std::iter::once(ENGINE_VERSION)
            .chain(self.inner.cpu_features.iter().map(String::as_str))
        {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.finalize()
    }
}

fn new_engine(cpu_features: &[String]) -> Result<Engine, Error> {
    Engine::new(&config::engine_config(cpu_features))
        .map_err(|error| Error::Engine { message: format!("{error:#}") })
}

/// What identifies the engine's settings apart from the CPU features: everything that the engine
/// itself takes into account, for an engine without any features; and the version of the abi, in
/// which artifacts describe what they were compiled from.
fn settings_fingerprint() -> Result<[u8; 32], Error> {
    static FINGERPRINT: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(fingerprint) = FINGERPRINT.get() {
        return Ok(*fingerprint);
    }
    struct Blake3(blake3::Hasher);
    impl Hasher for Blake3 {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let engine = new_engine(&[])?;
    let mut hasher = blake3::Hasher::new_derive_key("sandgrain-compile engine settings v1");
    hasher.update(&sandgrain_abi::VERSION.to_le_bytes());
    let mut hasher = Blake3(hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Ok(*FINGERPRINT.get_or_init(|| *hasher.0.finalize().as_bytes()))
}

/// Validates and describes a module or component in binary format.
fn validate(wasm: &[u8]) -> Result<Info, Error> {
    match identify(wasm) {
        Kind::Component => component::validate(wasm).map(Info::Component),
        _ => info::validate(wasm).map(Info::Module),
    }
}

/// The binary format of a module or component in either format, so far unvalidated.
fn to_wasm(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let wasm = match identify(bytes) {
        Kind::Artifact => return Err(Error::IsArtifact),
        Kind::Unknown => return Err(Error::NotWasm { found: identify::describe(bytes) }),
        Kind::Wat => wat::parse_bytes(bytes).map_err(|error| wat_error(&error.to_string()))?,
        Kind::Module | Kind::Component => Cow::Borrowed(bytes),
    };
    match identify::header(&wasm) {
        Some((version, 0)) if version != 1 => Err(Error::UnsupportedVersion { version }),
        Some((version, 1)) if version != identify::COMPONENT_VERSION => {
            Err(Error::UnsupportedVersion { version })
        }
        // A header that is cut off or of an unknown layer: the validator says where it is wrong.
        _ => Ok(wasm),
    }
}

/// Takes the parser's report apart, which shows the line over several lines:
/// `message`, then `     --> <anon>:line:column`, then the line itself.
fn wat_error(report: &str) -> Error {
    let (message, place) = report.split_once("--> ").unwrap_or_else(|| {
        // Of very long lines it shows only the place.
        report.split_once(" at <anon>").unwrap_or((report, ""))
    });
    let mut numbers =
        place.lines().next().unwrap_or("").rsplit(':').map(|text| text.parse::<u32>());
    let column = numbers.next().and_then(Result::ok).unwrap_or(0);
    let line = numbers.next().and_then(Result::ok).unwrap_or(0);
    let message = message.trim().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    Error::Wat { line, column, message }
}
