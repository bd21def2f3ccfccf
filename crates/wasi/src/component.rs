//! WASI 0.2 for components: what `wasi:cli`, `wasi:io`, `wasi:clocks`, `wasi:random`, `wasi:filesystem`,
//! `wasi:sockets` and `wasi:http` have.
//!
//! A component's import of one of these becomes a hypercall that carries a [`Function`] and its arguments, in
//! the format of [`wire`](sandgrain_abi::component::wire). [`Wasi::call_component`](crate::Wasi::call_component)
//! answers it with wasmtime-wasi's own implementation, without a wasmtime `Store`. What reads the arguments and
//! writes the result is generated from the WIT that the implementation comes with.
//!
//! ```
//! use sandgrain_abi::component::{Reader, Writer, Lift, Lower};
//! use sandgrain_wasi::component::{Function, Reply};
//! use sandgrain_wasi::{Cancel, Wasi, WasiConfig};
//!
//! let mut wasi = Wasi::new(WasiConfig::new().args(["program", "--help"]));
//! let function = Function::lookup("wasi:cli/environment@0.2.3", "get-arguments").expect("it is known");
//! let reply = wasi.call_component(function, Reader::new(&[], &[], &[], 1024), &Cancel::new())?;
//!
//! let Reply::Value(result) = reply else { panic!("this does not exit") };
//! let (result, _) = result.finish();
//! let arguments = Vec::<String>::lift(&mut Reader::new(&result.body, &[], &[], 1024)).expect("a list");
//! assert_eq!(arguments, ["program", "--help"]);
//! # Ok::<(), sandgrain_wasi::Error>(())
//! ```

mod body;
mod call;
mod functions;
#[doc(hidden)]
pub mod fuzzing;
#[allow(clippy::all, reason = "code that is generated is as plain as its generator")]
mod generated;
mod http;
mod incoming;
mod overrides;
mod state;
mod streams;

use sandgrain_abi::component::Writer;

pub(crate) use call::Slot;
pub(crate) use state::State;

pub use body::{Body, BodyEnd, BodyError};
pub use call::{Answer, Pending};
pub use functions::{Function, interfaces, is_resource, resources};
pub use incoming::{Incoming, NoResponse, Response};

/// How a call went.
#[derive(Debug)]
pub enum Reply {
    /// The call returns this to the guest; nothing, if the function has no result.
    Value(Writer),
    /// The guest asked to exit with this code. Nothing is returned to it.
    Exit(i32),
}
