//! The dispatcher that the build script generates, and what it is made of.

use std::future::{Future, Ready, ready};
use std::pin::Pin;

use sandgrain_abi::DecodeError;
use sandgrain_abi::component::{Lift, Lower, Reader, Type, Writer};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::cli::WasiCliView as _;
use wasmtime_wasi::clocks::WasiClocksView as _;
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::sockets::WasiSocketsView as _;
use wasmtime_wasi_http::WasiHttpView as _;

use super::functions::{Entry, Shape};
use super::overrides;
use super::state::State;
use crate::denied::named_paths;

/// What a call comes to: its result for the guest, or why there is none.
pub(super) type Outcome = wasmtime::Result<Writer>;

/// A call that is being answered.
pub(super) type Answering<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A call whose arguments have been read.
pub(super) type Prepared = Box<dyn for<'a> FnOnce(&'a mut State) -> Answering<'a> + Send>;

fn prepared(
    answer: impl for<'a> FnOnce(&'a mut State) -> Answering<'a> + Send + 'static,
) -> Prepared {
    Box::new(answer)
}

/// What a method of the bindings has returned: a result, or a future of one. Both are waited for in the same
/// way, so that nobody has to know which methods are async.
struct Called<T>(T);

impl<T, E> Called<Result<T, E>> {
    fn settle(self) -> Ready<Result<T, E>> {
        ready(self.0)
    }
}

trait Settle {
    type Future;

    fn settle(self) -> Self::Future;
}

impl<F: Future> Settle for Called<F> {
    type Future = F;

    fn settle(self) -> F {
        self.0
    }
}

/// Reads a list of what is no number.
fn lift_list<'a, T>(
    from: &mut Reader<'a>,
    mut lift: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = from.count(size_of::<T>())?;
    (0..count).map(|_| lift(from)).collect()
}

/// Fails unless there is a resource under this handle, and of its type.
fn check<T: 'static>(table: &ResourceTable, handle: &Resource<T>) -> wasmtime::Result<()> {
    table.get(handle)?;
    Ok(())
}

include!(concat!(env!("OUT_DIR"), "/component.rs"));
