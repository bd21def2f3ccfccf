//! A compiled module.

use crate::format::Parsed;
use sandgrain_abi::types::ModuleInfo;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A compiled module: its code, and what the host needs to know of it. Cheap to clone.
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

    /// What the module imports, exports and defines.
    #[must_use]
    pub fn info(&self) -> &ModuleInfo {
        &self.inner.parsed.header.info
    }

    /// The compiled code: the engine's ELF file, to be put at the start of a page in the guest.
    #[must_use]
    pub fn code(&self) -> &[u8] {
        // The range was checked against the bytes when the artifact was made.
        &self.inner.bytes[self.inner.parsed.code.clone()]
    }

    /// Which bytes of [`code`](Self::code) are executable. Whole pages of 4096 bytes, shared with
    /// nothing else: map these R-X and all others R--. Empty for a module without functions.
    #[must_use]
    pub fn text(&self) -> Range<usize> {
        self.inner.parsed.text.clone()
    }

    /// The BLAKE3 digest of the module in binary format. The same module in text format, or with
    /// other debug information, is another module.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.inner.parsed.header.wasm_digest
    }

    /// The CPU features that the code may use, by the hypervisor's names.
    #[must_use]
    pub fn cpu_features(&self) -> &[String] {
        &self.inner.parsed.header.cpu_features
    }

    /// How long it took to validate and compile the module; `None` if it was loaded.
    #[must_use]
    pub fn compile_time(&self) -> Option<Duration> {
        self.inner.compile_time
    }

    /// The bytes of its file (`.sgm`). The same module and settings always give the same bytes.
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
            .field("name", &self.info().name)
            .field("code", &self.code().len())
            .field("text", &self.text())
            .field("cpu_features", &self.cpu_features())
            .field("compile_time", &self.compile_time())
            .finish_non_exhaustive()
    }
}
