//! Executes a host's commands on a wasmtime store.
//!
//! The runtime inside a VM does this, and so does the reference engine that runs without one: whatever
//! differs between the two, the WebAssembly semantics, the values and the errors do not. What the two
//! provide in their own ways is an [`Embedder`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod instances;
mod report;
mod values;

pub use instances::{Instances, Sizes};

use alloc::string::String;
use alloc::vec::Vec;
use sandgrain_abi::message::PageRange;
use sandgrain_abi::{HostReply, Value};
use wasmtime::{Caller, Engine, Memory, Module, Result, Store, StoreLimits};

/// What the store holds.
pub struct State<E> {
    /// Limits that the engine asks about.
    limits: StoreLimits,
    /// Functions that the host has seen.
    functions: values::Functions,
    /// The embedder's own.
    pub embedder: E,
}

/// What differs between the places where commands are executed.
pub trait Embedder: Sized + 'static {
    /// The compiled module that a command names by address and length.
    ///
    /// # Errors
    /// When there is none, or the engine refuses it.
    fn module(&mut self, engine: &Engine, address: u64, len: u64) -> Result<Module>;

    /// Touches pages of the guest's address space; nothing where there is none.
    fn touch(&mut self, ranges: &[PageRange]);

    /// The host's number for a linear memory.
    fn memory_number(store: &mut Store<State<Self>>, memory: &Memory) -> Option<u32>;

    /// Calls a function of the host; `memory` is what the caller exports under this name.
    ///
    /// # Errors
    /// A sentence about what went wrong on the way.
    fn call_host(
        caller: &mut Caller<'_, State<Self>>,
        function: u32,
        memory: Option<Memory>,
        args: Vec<Value>,
    ) -> Result<HostReply, String>;
}
