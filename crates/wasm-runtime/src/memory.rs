//! Linear memories, which the host maps: each has an address range of its own with nothing around it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use sandgrain_abi::{HostReply, Request, layout};
use sandgrain_guest::channel;
use wasmtime::{Error, LinearMemory, MemoryCreator, MemoryType, Result};

/// Makes linear memories.
pub struct Memories;

/// One linear memory.
struct Mapped {
    number: u32,
    address: u64,
    size: usize,
    capacity: usize,
}

// SAFETY: the host gives every memory a stride of its own, with `MEMORY_RESERVATION` and
// `MEMORY_GUARD` of it unmapped but for the memory's bytes, which are zero at first.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if reserved.is_some_and(|bytes| bytes as u64 > layout::MEMORY_RESERVATION)
            || guard as u64 > layout::MEMORY_GUARD
        {
            return Err("more address space than a linear memory has".to_string());
        }
        let request =
            Request::CreateMemory { size: minimum as u64, maximum: maximum.map(|max| max as u64) };
        match channel::ask(&request) {
            Ok(HostReply::Memory { memory, address, capacity }) => Ok(Box::new(Mapped {
                number: memory,
                address,
                size: minimum,
                capacity: capacity as usize,
            })),
            Ok(HostReply::Refused(limit)) => Err(limit),
            other => Err(format!("unexpected reply for a linear memory: {other:?}")),
        }
    }
}

// SAFETY: the bytes from the address on are mapped up to `size`, stay where they are, and what lies
// beyond faults.
unsafe impl LinearMemory for Mapped {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.capacity
    }

    fn grow_to(&mut self, size: usize) -> Result<()> {
        if size > self.capacity {
            return Err(Error::msg("beyond the memory's capacity"));
        }
        let request = Request::GrowMemory { memory: self.number, size: size as u64 };
        match channel::ask(&request) {
            Ok(HostReply::Grown) => {
                self.size = size;
                Ok(())
            }
            Ok(HostReply::Refused(limit)) => Err(Error::msg(limit)),
            other => Err(Error::msg(format!("unexpected reply for growth: {other:?}"))),
        }
    }

    fn as_ptr(&self) -> *mut u8 {
        self.address as *mut u8
    }
}

/// The number of the linear memory whose first byte is at `address`.
pub fn number(address: u64) -> Option<u32> {
    let stride = address.checked_sub(layout::MEMORIES)? / layout::MEMORY_STRIDE;
    u32::try_from(stride).ok()
}
