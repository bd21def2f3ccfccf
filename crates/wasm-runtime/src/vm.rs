//! What the executor needs of the VM around it.

use crate::memory;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::arch::asm;
use core::ptr::NonNull;
use sandgrain_abi::component::{Attachment, Payload};
use sandgrain_abi::message::{MemoryRange, Outcome, PageRange, Queued};
use sandgrain_abi::{HostReply, Request, Value, layout};
use sandgrain_executor::{Embedder, State};
use sandgrain_guest::channel;
use wasmtime::component::Component;
use wasmtime::{Caller, Engine, Error, Memory, Module, Result, StoreContextMut};

/// The VM.
pub struct Vm;

/// Compiled code that the host has put into its address range.
fn code(address: u64, len: u64) -> Result<NonNull<[u8]>> {
    let end = address.checked_add(len);
    if address < layout::CODE || end.is_none_or(|end| end > layout::CODE + layout::CODE_MAX) {
        return Err(Error::msg("code outside its address range"));
    }
    let code = core::ptr::slice_from_raw_parts_mut(address as *mut u8, usize::try_from(len)?);
    NonNull::new(code).ok_or_else(|| Error::msg("code at address 0"))
}

/// Where a run of bytes is among the host's linear memories.
fn range(run: *const u8, len: usize) -> Option<MemoryRange> {
    let address = run as u64;
    let memory = memory::number(address)?;
    let start =
        layout::MEMORIES + u64::from(memory) * layout::MEMORY_STRIDE + layout::MEMORY_OFFSET;
    Some(MemoryRange { memory, address: address.checked_sub(start)?, len: len as u64 })
}

/// Has the host move a run of bytes.
fn moved(request: &Request) -> Result<(), String> {
    match channel::ask(request) {
        Ok(HostReply::Moved) => Ok(()),
        Ok(HostReply::Refused(limit)) => Err(format!("limit: {limit}")),
        other => Err(format!("unexpected reply for a run of bytes: {other:?}")),
    }
}

impl Embedder for Vm {
    fn module(&mut self, engine: &Engine, address: u64, len: u64) -> Result<Module> {
        // SAFETY: the host has put the artifact there, checked its digest and never changes it; the
        // engine checks that it was made by the same engine with the same settings.
        unsafe { Module::deserialize_raw(engine, code(address, len)?) }
    }

    fn component(&mut self, engine: &Engine, address: u64, len: u64) -> Result<Component> {
        // SAFETY: as for a module.
        unsafe { Component::deserialize_raw(engine, code(address, len)?) }
    }

    fn touch(&mut self, ranges: &[PageRange]) {
        for range in ranges {
            for page in 0..u64::from(range.pages) {
                let address = range.address + page * layout::PAGE_SIZE;
                // SAFETY: the host names pages that it has mapped for ring 3, writable where it says so. A byte is
                // read, and at most written back as it was, with nothing running in between: whatever it
                // belongs to does not change.
                unsafe {
                    if range.write {
                        asm!("mov {byte}, [{at}]", "mov [{at}], {byte}", at = in(reg) address,
                            byte = out(reg_byte) _, options(nostack, preserves_flags));
                    } else {
                        asm!("mov {byte}, [{at}]", at = in(reg) address, byte = out(reg_byte) _,
                            options(nostack, preserves_flags, readonly));
                    }
                }
            }
        }
    }

    fn memory_number(store: &mut StoreContextMut<'_, State<Self>>, memory: &Memory) -> Option<u32> {
        memory::number(memory.data_ptr(&*store) as u64)
    }

    fn call_host(
        caller: &mut Caller<'_, State<Self>>,
        function: u32,
        memory: Option<Memory>,
        args: Vec<Value>,
    ) -> Result<HostReply, String> {
        let memory = memory.and_then(|memory| memory::number(memory.data_ptr(caller) as u64));
        channel::ask(&Request::HostCall { function, memory, args }).map_err(|e| e.to_string())
    }

    fn call_component(
        _: &mut StoreContextMut<'_, State<Self>>,
        function: u32,
        args: Payload,
        queued: Vec<Queued>,
    ) -> Result<HostReply, String> {
        channel::ask(&Request::ComponentCall { function, args, queued }).map_err(|e| e.to_string())
    }

    fn done(outcome: Outcome) -> Result<HostReply, String> {
        channel::ask(&Request::Done(outcome)).map_err(|e| e.to_string())
    }

    fn locate(run: &[u8]) -> Option<Attachment> {
        range(run.as_ptr(), run.len()).map(Attachment::Memory)
    }

    fn send(run: &[u8]) -> Result<bool, String> {
        match range(run.as_ptr(), run.len()) {
            Some(range) => moved(&Request::Send(range)).map(|()| true),
            None => Ok(false),
        }
    }

    fn ticks() -> Option<u64> {
        // SAFETY: every CPU that there are VMs on has the instruction, which has no effect, and ring 3 may use it.
        Some(unsafe { core::arch::x86_64::_rdtsc() })
    }

    fn receive(attachment: u32, place: &mut [u8]) -> Result<(), String> {
        let place = range(place.as_ptr(), place.len()).unwrap_or(MemoryRange {
            memory: MemoryRange::HEAP,
            address: place.as_ptr() as u64,
            len: place.len() as u64,
        });
        moved(&Request::Receive { attachment, place })
    }
}
