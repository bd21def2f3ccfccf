//! WebAssembly to ahead-of-time compiled artifacts for Sandgrain.
//!
//! A [`Compiler`] turns a module or a component, in binary or text format, into an [`Artifact`]: machine
//! code that the guest's engine loads in place, and what the host needs to know of it. A [`Cache`] keeps
//! artifacts on disk. The code generator lives in this crate and nowhere else.
//!
//! ```
//! use sandgrain_compile::{Compiler, Settings};
//!
//! let compiler = Compiler::new(&Settings::default())?;
//! let artifact = compiler.compile(br#"(module (func (export "run")))"#)?;
//! assert!(artifact.module_info()?.export("run").is_some());
//! let loaded = compiler.load(artifact.to_bytes())?;
//! assert_eq!(loaded.code(), artifact.code());
//! # Ok::<(), sandgrain_compile::Error>(())
//! ```
//!
//! # The engine's settings
//!
//! The engine in the guest loads only code that was compiled with its own settings. [`engine_config`]
//! is the one place where they are made, and says why each is as it is. Nothing of the machine that
//! compiles enters the code: the CPU features are those that [`Settings`] names.
//!
//! # Components
//!
//! Of a component the host needs the types of its functions, and how many linear memories an instance of it
//! has: it lays out the VM before anything runs. What the guest's engine or the host has not got is refused
//! with an error that names it: async functions, streams and futures; imports of modules, components and
//! values. What it exports of these is left out, since only another component could use it.
//!
//! A small component can describe very much, with types in types and instances in instances. Beyond the
//! validator's limits, which bound each type, there are three: components and instances are nested at most
//! 100 levels deep, an instance has at most 100,000 items of all kinds, and the description of what is imported
//! and exported takes at most 16 MiB. Over a few components the engine's validator panics; the panic's message
//! is printed, and the component refused.
//!
//! # The artifact's format
//!
//! A file (`.sgm`) in little-endian byte order; strings and lists as in [`sandgrain_abi::codec`]:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `SGM\0\r\n\x1a\n` |
//! | 8..12 | version of the format: [`FORMAT_VERSION`] |
//! | 12..16 | length of the header, in bytes |
//! | 16..24 | length of the whole file, in bytes |
//! | 24.. | header: engine version (string), settings fingerprint (32 bytes), CPU features (list of strings), BLAKE3 of the binary format of what was compiled (32 bytes), [`Info`](sandgrain_abi::Info), length of the code (8 bytes) |
//! | | zeros up to a multiple of 4096 |
//! | | code: the engine's ELF file |
//! | last 32 | BLAKE3 of everything before |
//!
//! The first two fields stay as they are in all versions. An artifact is checked in this order, and
//! refused with the first [`Refusal`] that applies: magic, format version, length, digest, engine
//! version, settings, CPU features, structure. So what is reported of the header is what was written,
//! never damage. The digest is no signature: whoever can write an artifact can make one that passes,
//! which is why a [`Cache`] uses only files that nobody else can write to.
#![deny(unsafe_code)]

mod artifact;
mod cache;
mod compiler;
mod component;
mod config;
mod elf;
mod error;
mod format;
mod identify;
mod info;
mod isa;
pub mod private_files;

pub use artifact::Artifact;
pub use cache::{Cache, CacheOutcome};
pub use compiler::{Compiler, Settings};
pub use config::{
    ENGINE_VERSION, GC, MEMORY_GUARD, MEMORY_RESERVATION, TARGET, engine_config, wasm_features,
};
pub use error::{Error, Refusal};
pub use format::FORMAT_VERSION;
pub use identify::{Kind, identify};
