//! The canonical ABI: a component's values between linear memory and the wire.
//!
//! wasmtime's own dynamic values take some forty bytes for each byte of a list. Here values go straight from
//! linear memory to the wire's bytes and back, by the types that the component itself has; what the engine calls
//! for that are the traits by which its derived types do the same for types known at compile time. They are
//! hidden from its documentation, so this module holds for the very release that the workspace pins.

mod erased;
mod lift;
mod lower;

pub(crate) use erased::{Arguments, HostArguments, HostResult, Returned};

use crate::Embedder;
use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::slice;
use sandgrain_abi::component::{Attachment, Payload};
use wasmtime::component::__internal::InterfaceType;
use wasmtime::component::ResourceAny;
use wasmtime::{Error, Result, ValRaw};

/// The most values that are passed to a function as WebAssembly's parameters; more lie in linear memory.
pub(crate) const MAX_FLAT_PARAMS: usize = 16;
/// The same of what it returns.
pub(crate) const MAX_FLAT_RESULTS: usize = 1;

/// What lies in linear memory as it travels: numbers.
fn is_number(ty: InterfaceType) -> bool {
    use InterfaceType as I;
    matches!(
        ty,
        I::S8
            | I::U8
            | I::S16
            | I::U16
            | I::S32
            | I::U32
            | I::S64
            | I::U64
            | I::Float32
            | I::Float64
    )
}

/// How a large run of bytes gets to the host beside the message.
trait Attach {
    /// Bytes from which on that costs less than to put them into the message.
    const LARGE_RUN: usize;

    /// Attaches a run; `None` if it has to be in the message.
    fn attach(run: &[u8]) -> Result<Option<Attachment>, String>;
}

/// In a call of the host: memory stays as it is until that is answered, so the host finds it there.
struct InCall<E>(PhantomData<E>);

impl<E: Embedder> Attach for InCall<E> {
    const LARGE_RUN: usize = 4 << 10;

    fn attach(run: &[u8]) -> Result<Option<Attachment>, String> {
        Ok(E::locate(run))
    }
}

/// In a result: the function is about to clean up, so the host gets it before.
struct AtReturn<E>(PhantomData<E>);

impl<E: Embedder> Attach for AtReturn<E> {
    const LARGE_RUN: usize = 64 << 10;

    fn attach(run: &[u8]) -> Result<Option<Attachment>, String> {
        let is_sent = E::send(run)?;
        Ok(is_sent.then_some(Attachment::Sent { len: run.len() as u64 }))
    }
}

fn unsupported<T>(ty: InterfaceType) -> Result<T> {
    Err(Error::msg(alloc::format!("values of the type {ty:?} do not leave the guest")))
}

/// Values on their way to the host.
#[derive(Default)]
pub(crate) struct Lifted {
    pub(crate) body: Vec<u8>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) resources: Vec<ResourceAny>,
}

impl Lifted {
    /// Appends bytes, if the heap has room for them.
    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        if self.body.try_reserve(bytes.len()).is_err() {
            return Err(Error::msg("limit: the heap has no room for what is passed to the host"));
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn u32(&mut self, value: u32) -> Result<()> {
        self.raw(&value.to_le_bytes())
    }
}

/// Values on their way from the host.
pub(crate) struct Lowered {
    pub(crate) payload: Payload,
    pub(crate) resources: Vec<ResourceAny>,
}

/// Where a value is read from: WebAssembly's own values, or linear memory at an offset.
enum Source<'p, 's> {
    Flat(&'p mut slice::Iter<'s, ValRaw>),
    Memory(usize),
}

/// Where a value is written to.
enum Target<'p, 's> {
    Flat(&'p mut slice::IterMut<'s, ValRaw>),
    Memory(usize),
}
