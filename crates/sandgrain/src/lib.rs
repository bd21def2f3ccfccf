//! Run untrusted WebAssembly in a micro-VM without an operating system.
//!
//! A [`Module`] is compiled ahead of time. A [`Sandbox`] is a virtual machine of its own, with one
//! vCPU and one block of memory, in which the module is instantiated: hardware virtualization is the
//! outer wall, WebAssembly the inner one. The guest has what it is granted: host functions, WASI, and
//! as much time, memory and output as the [`Limits`] allow.
//!
//! ```
//! use sandgrain::{Engine, Module, Sandbox};
//!
//! # fn main() -> sandgrain::Result<()> {
//! let engine = Engine::new()?;
//! let module = Module::new(&engine, br#"
//!     (module
//!       (import "host" "double" (func $double (param i32) (result i32)))
//!       (func (export "quadruple") (param i32) (result i32)
//!         (call $double (call $double (local.get 0)))))
//! "#)?;
//! let mut sandbox =
//!     Sandbox::builder(&module).function("host", "double", |n: u32| n * 2).build()?;
//! let n: u32 = sandbox.call("quadruple", 10u32)?;
//! assert_eq!(n, 40);
//! # Ok(())
//! # }
//! ```
//!
//! Making a VM takes longer than a small call in it. A [`Snapshot`] is a sandbox as it was at one moment, to make
//! others from that share its memory until they write; a [`Pool`] makes them ahead of the calls, so that each
//! call finds a VM that nobody has used before and has nothing to wait for:
//!
//! ```
//! use sandgrain::{Engine, Module, Pool, Sandbox};
//!
//! # fn main() -> sandgrain::Result<()> {
//! let engine = Engine::new()?;
//! let module = Module::new(&engine, br#"
//!     (module
//!       (global $n (mut i32) (i32.const 0))
//!       (func (export "prepare") (global.set $n (i32.const 40)))
//!       (func (export "add") (param i32) (result i32)
//!         (global.set $n (i32.add (global.get $n) (local.get 0)))
//!         (global.get $n)))
//! "#)?;
//! let mut first = Sandbox::new(&module)?;
//! first.call::<(), ()>("prepare", ())?;
//! let pool = Pool::builder(&first.snapshot()?).build()?;
//! for _ in 0..3 {
//!     let mut sandbox = pool.take("a tenant")?;
//!     assert_eq!(sandbox.call::<_, u32>("add", 2u32)?, 42);
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod caller;
pub mod component;
mod engine;
mod error;
mod exports;
mod guest;
mod host;
mod host_functions;
mod learned;
mod limits;
mod linear_memory;
mod machine;
mod module;
mod pool;
mod reference;
mod sandbox;
mod snapshot;
mod stats;
mod stop;
mod store;
mod typed;
mod vcpus;
pub mod wave;
mod workers;

pub use caller::Caller;
pub use engine::{Engine, EngineBuilder};
pub use error::{BoxError, Error, ImportError, Result, Trap};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use guest::fuzzing;
pub use host_functions::{HostResult, IntoAsyncFunction, IntoHostFunction, WithCaller};
pub use limits::Limits;
pub use module::Module;
pub use pool::{Policy, Pool, PoolBuilder, PoolFailure, PoolStats, Pooled};
pub use sandbox::{ComponentParams, Instance, Sandbox, SandboxBuilder};
pub use snapshot::Snapshot;
pub use stats::Stats;
pub use stop::InterruptHandle;
pub use store::SnapshotStore;
pub use typed::{WasmValue, WasmValues};
pub use workers::{Workers, be_worker_if_asked};

pub use sandgrain_abi::message::{Frame, TrapCode};
pub use sandgrain_abi::types;
pub use sandgrain_abi::value::Value;
pub use sandgrain_compile as compile;
pub use sandgrain_hypervisor as hypervisor;
pub use sandgrain_wasi as wasi;

/// Bytes of the runtime's code and, within it, of the gate's instructions: all that runs in ring 0.
///
/// # Errors
/// [`Error::Host`] if the library was built with a runtime that it cannot read.
pub fn runtime_sizes() -> Result<(u64, u64)> {
    machine::program::sizes()
}
