//! WASI preview 1 for Sandgrain, answered on the host, and WASI 0.2 for [components](component).
//!
//! A guest's import of `wasi_snapshot_preview1` becomes a hypercall that carries a function and
//! its raw arguments. [`Wasi::call`] answers it with wasmtime-wasi's own implementation, on a
//! slice of guest memory and without a wasmtime `Store`.
//!
//! Nothing is granted unless [`WasiConfig`] says so: no files, no environment, no arguments, no
//! standard streams, and no network, which preview 1 never gets. Clocks and randomness are the host's, at the time of the
//! call.
//!
//! Every call stops when its [`Cancel`] does, also while it waits for a timer or a stream.
//! Operations on regular files and directories run on the calling thread, so they are bounded by
//! the file system and not by the token, unless [`WasiConfig::cancellable_files`] asks for the
//! slower way.
//!
//! A call is answered on the thread that makes it, which waits where the call does. Only the usual sleep,
//! `poll_oneoff` with one relative timer, can be waited for without a thread ([`Wasi::sleeps_for`]); and all calls
//! of components ([`Wasi::begin_component_call`]).
//!
//! ```
//! use sandgrain_wasi::{Cancel, Output, Reply, Wasi, WasiConfig};
//!
//! let mut wasi = Wasi::new(WasiConfig::new().stdout(Output::Capture));
//! let mut memory = vec![0; 64];
//! memory[0..8].copy_from_slice(&[8, 0, 0, 0, 5, 0, 0, 0]); // one buffer: 5 bytes at 8
//! memory[8..13].copy_from_slice(b"hello");
//!
//! let fd_write = Wasi::lookup("fd_write").expect("a preview 1 function");
//! let reply = wasi.call(fd_write, &[1, 0, 1, 32], &mut memory, &Cancel::new())?;
//! assert_eq!(reply, Reply::Value(0));
//! assert_eq!(&wasi.stdout()[..], b"hello");
//! # Ok::<(), sandgrain_wasi::Error>(())
//! ```
#![forbid(unsafe_code)]

mod cancel;
pub mod component;
mod config;
mod context;
mod denied;
mod error;
mod functions;
mod input;
mod network;
mod open;
mod output;
mod reach;
mod runtime;
mod sleep;
mod trace;
mod trust;

pub use cancel::Cancel;
pub use config::{
    Access, DEFAULT_MAX_CALL_BYTES, DEFAULT_MAX_HANDLES, DEFAULT_MAX_OPEN_FILES,
    DEFAULT_MAX_POLL_LIST, DEFAULT_MAX_SOCKETS, DEFAULT_OUTPUT_LIMIT, HttpLimits, Preopen,
    WasiConfig,
};
pub use context::{Reply, Wasi};
pub use denied::{Capability, Denied};
pub use error::{Error, Stream};
pub use functions::{Function, ValueType};
pub use input::{Input, PipeReader};
pub use network::{Destination, InvalidDestination};
pub use output::{Output, PipeWriter, Streams};
pub use reach::{ListSizes, Reach};
pub use sleep::sleep;
pub use trace::Trace;

/// The module name under which a guest imports these functions.
pub const MODULE: &str = "wasi_snapshot_preview1";
