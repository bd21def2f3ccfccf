//! What can go wrong, sorted by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why bytes could not be turned into an artifact, or an artifact not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text format does not parse: correct the text at that place.
    #[error("WebAssembly text, line {line}, column {column}: {message}")]
    Wat {
        /// Line, from 1; 0 if the parser did not say.
        line: u32,
        /// Column, from 1; 0 if the parser did not say.
        column: u32,
        /// What the parser did not like.
        message: String,
    },
    /// The bytes are nothing that this crate knows: pass a module or component instead.
    #[error(
        "not WebAssembly: found {found}; expected a module or component in binary (.wasm) or text (.wat) \
         format"
    )]
    NotWasm {
        /// What the bytes look like.
        found: String,
    },
    /// A module or component that is damaged, wrong, or uses a proposal that is switched off: build it anew.
    #[error("invalid WebAssembly at byte {offset}: {message}")]
    Invalid {
        /// Offset in the binary format (of text: in what it translates to), in bytes.
        offset: usize,
        /// What is wrong there; names the proposal if one is missing.
        message: String,
    },
    /// A version of the binary format that no engine runs: build for the version that there is.
    #[error(
        "version {version} of WebAssembly's binary format; known are only version 1 for modules and 13 for \
         components"
    )]
    UnsupportedVersion {
        /// The version that the header names.
        version: u16,
    },
    /// A component where a module is expected: use what runs components, or build a core module.
    #[error(
        "this is a component where a module is expected; try: running it as a component, or a core module \
         instead (for Rust: target wasm32-wasip1)"
    )]
    IsComponent,
    /// A module where a component is expected: use what runs modules, or build a component.
    #[error(
        "this is a core module where a component is expected; try: running it as a module, or a component \
         instead (for Rust: target wasm32-wasip2)"
    )]
    IsModule,
    /// A component that is valid and asks for what there is not: build it without.
    #[error("this component cannot be run here: {message}")]
    Unsupported {
        /// What it asks for, and where.
        message: String,
    },
    /// An artifact where source is expected: load it instead.
    #[error("this is already a compiled artifact; try: loading it instead of compiling it")]
    IsArtifact,
    /// The module or component is valid but does not compile: it goes beyond a limit of the compiler.
    #[error("cannot compile it: {message}")]
    Compile {
        /// What the compiler reported.
        message: String,
    },
    /// The engine's settings do not work together: a defect of this crate.
    #[error("cannot set up the compiler: {message}")]
    Engine {
        /// What the engine reported.
        message: String,
    },
    /// An artifact that this compiler did not make or that has changed since: compile anew.
    #[error("artifact refused: {reason}; try: compiling the WebAssembly again")]
    Refused {
        /// Which check it failed.
        reason: Refusal,
    },
    /// A cache that others can write to: correct its owner and permissions, or use another.
    #[error("cache not trusted: {path}: {reason}; try: chown and chmod 700, or another directory", path = path.display())]
    CacheUntrusted {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No place for the cache is known: set one of the variables or name a directory.
    #[error("no place for a cache: neither XDG_CACHE_HOME nor HOME is an absolute path")]
    NoCacheDir,
    /// The file system failed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

impl From<Refusal> for Error {
    fn from(reason: Refusal) -> Self {
        Self::Refused { reason }
    }
}

/// Why an artifact is not loaded. In each case the remedy is to compile anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes do not begin like an artifact.
    #[error("not a Sandgrain artifact")]
    NotAnArtifact,
    /// The end is missing.
    #[error("truncated: {actual} bytes of {expected}")]
    Truncated {
        /// Bytes that the artifact says it has (the least it can have if it ends before that).
        expected: u64,
        /// Bytes that there are.
        actual: u64,
    },
    /// Something follows the end.
    #[error("followed by other data: {actual} bytes where the artifact has {expected}")]
    TrailingBytes {
        /// Bytes that the artifact says it has.
        expected: u64,
        /// Bytes that there are.
        actual: u64,
    },
    /// Another layout of the file.
    #[error("format version {found}, this is version {expected}")]
    FormatVersion {
        /// The artifact's.
        found: u32,
        /// This crate's.
        expected: u32,
    },
    /// The content differs from what was written.
    #[error("damaged: its digest does not match its content")]
    Damaged,
    /// Intact by its digest, yet not made by this crate.
    #[error("malformed: {what}")]
    Malformed {
        /// What does not fit.
        what: String,
    },
    /// Made by another engine.
    #[error("made by {found}, this is {expected}")]
    EngineVersion {
        /// The artifact's.
        found: String,
        /// This crate's.
        expected: String,
    },
    /// Made with other settings of the same engine.
    #[error("made with other engine settings")]
    Settings,
    /// Made for a CPU that can do more.
    #[error("needs CPU features that are not available here: {}", missing.join(", "))]
    CpuFeatures {
        /// The features that are missing.
        missing: Vec<String>,
    },
}
