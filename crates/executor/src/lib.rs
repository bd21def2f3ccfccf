//! Executes a host's commands on a wasmtime store.
//!
//! The runtime inside a VM does this, and so does the reference engine that runs without one: whatever
//! differs between the two, the WebAssembly semantics, the values and the errors do not. What the two
//! provide in their own ways is an [`Embedder`].
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

mod canonical;
mod components;
mod instances;
mod promises;
mod report;
mod values;

pub use instances::{Instances, Sizes, execute};

use alloc::string::String;
use alloc::vec::Vec;
use sandgrain_abi::component::{Attachment, Payload};
use sandgrain_abi::message::{Outcome, PageRange, Queued};
use sandgrain_abi::{HostReply, Value};
use wasmtime::component::Component;
use wasmtime::{Caller, Engine, Memory, Module, Result, StoreContextMut, StoreLimits};

/// What the store holds.
pub struct State<E> {
    /// Limits that the engine asks about.
    limits: StoreLimits,
    instances: Vec<instances::Made>,
    /// Functions that the host has seen.
    functions: values::Functions,
    components: components::Components,
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

    /// The compiled component that a command names by address and length.
    ///
    /// # Errors
    /// When there is none, or the engine refuses it.
    fn component(&mut self, engine: &Engine, address: u64, len: u64) -> Result<Component>;

    /// Touches pages of the guest's address space; nothing where there is none.
    fn touch(&mut self, ranges: &[PageRange]);

    /// The host's number for a linear memory.
    fn memory_number(store: &mut StoreContextMut<'_, State<Self>>, memory: &Memory) -> Option<u32>;

    /// Calls a function of the host; `memory` is what the caller exports under this name. Where the answer is
    /// [`HostReply::Execute`], the executor does that, and [tells](Self::done) the host.
    ///
    /// # Errors
    /// A sentence about what went wrong on the way.
    fn call_host(
        caller: &mut Caller<'_, State<Self>>,
        function: u32,
        memory: Option<Memory>,
        args: Vec<Value>,
    ) -> Result<HostReply, String>;

    /// Calls a function of the host for a component, after those that have been queued.
    ///
    /// # Errors
    /// A sentence about what went wrong on the way.
    fn call_component(
        store: &mut StoreContextMut<'_, State<Self>>,
        function: u32,
        args: Payload,
        queued: Vec<Queued>,
    ) -> Result<HostReply, String>;

    /// Tells the host what its command in the middle of a call has led to, and gets its next answer to that call.
    ///
    /// # Errors
    /// A sentence about what went wrong on the way.
    fn done(outcome: Outcome) -> Result<HostReply, String>;

    /// Where the host finds a run of bytes of a linear memory, while it answers a call; `None` if it cannot
    /// look there.
    fn locate(run: &[u8]) -> Option<Attachment>;

    /// Gives the host a run of bytes of a linear memory, which it is told of later. `false`: it takes it in the
    /// message only.
    ///
    /// # Errors
    /// A sentence about what went wrong on the way.
    fn send(run: &[u8]) -> Result<bool, String>;

    /// The CPU's counter of time, of whose ticks the host says how long they take; `None` where there is none.
    fn ticks() -> Option<u64>;

    /// Fills `place`, which is memory of the guest's, with the attachment of this number of the message from the host
    /// that was last received.
    ///
    /// # Errors
    /// A sentence about what went wrong on the way.
    fn receive(number: u32, place: &mut [u8]) -> Result<(), String>;
}
