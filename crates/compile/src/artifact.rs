//! A compiled module or component.

use crate::error::Error;
use crate::format::Parsed;
use sandgrain_abi::Info;
use sandgrain_abi::component::ComponentInfo;
use sandgrain_abi::types::ModuleInfo;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A compiled module or component: its code, and what the host needs to know of it. Cheap to clone.
#[derive(Clone)]
pub struct Artifact {
    inner: Arc<Inner>,
}

struct Inner {
    /// The whole file. Everything else refers into it, so that nothing large exists twice.
    bytes: Vec<u8>,
    parsed: Parsed,
    compile_time: Option<Duration>,
}

impl Artifact {
    pub(crate) fn new(bytes: Vec<u8>, parsed: Parsed, compile_time: Option<Duration>) -> Self {
        Self { inner: Arc::new(Inner { bytes, parsed, compile_time }) }
    }

    /// Whether it is a module or a component, and what that imports, exports and defines.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.inner.parsed.header.info
    }

    /// What the module imports, exports and defines.
    ///
    /// # Errors
    /// [`Error::IsComponent`] if it is none.
    pub fn module_info(&self) -> Result<&ModuleInfo, Error> {
        self.info().module().ok_or(Error::IsComponent)
    }

    /// What the component imports, exports and defines.
    ///
    /// # Errors
    /// [`Error::IsModule`] if it is none.
    pub fn component_info(&self) -> Result<&ComponentInfo, Error> {
        self.info().component().ok_or(Error::IsModule)
    }

    /// The compiled code: the engine's ELF file, to be put at the start of a page in the guest.
    #[must_use]
    pub fn code(&self) -> &[u8] {
        // The range was checked against the bytes when the artifact was made.
        &self.inner.bytes[self.inner.parsed.code.clone()]
    }

    /// Which bytes of [`code`](Self::code) are executable. Whole pages of 4096 bytes, shared with
    /// nothing else: map these R-X and all others R--. Empty if there is no code.
    #[must_use]
    pub fn text(&self) -> Range<usize> {
        self.inner.parsed.text.clone()
    }

    /// The BLAKE3 digest of the module or component in binary format. The same one with other debug
    /// information is another one.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.inner.parsed.header.wasm_digest
    }

    /// The CPU features that the code may use, by the hypervisor's names.
    #[must_use]
    pub fn cpu_features(&self) -> &[String] {
        &self.inner.parsed.header.cpu_features
    }

    /// How long it took to validate and compile it; `None` if it was loaded.
    #[must_use]
    pub fn compile_time(&self) -> Option<Duration> {
        self.inner.compile_time
    }

    /// The bytes of its file (`.sgm`). The same input and settings always give the same bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.inner.bytes
    }

    /// A copy of [`as_bytes`](Self::as_bytes).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.inner.bytes.clone()
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact")
            .field("digest", &blake3::Hash::from(self.digest()).to_hex().as_str())
            .field("name", &self.info().module().and_then(|module| module.name.as_ref()))
            .field("component", &self.info().component().is_some())
            .field("code", &self.code().len())
            .field("text", &self.text())
            .field("cpu_features", &self.cpu_features())
            .field("compile_time", &self.compile_time())
            .finish_non_exhaustive()
    }
}
