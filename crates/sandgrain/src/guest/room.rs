//! What the VM has of the guest's memory: a part from the start, and more as the guest comes to need it.
//! Hypervisors keep some bytes for each page that a VM has, touched or not.

use super::Guest;
use crate::error::{Error, Result};
use crate::machine::heap::Heap;
use crate::machine::memories::Memories;
use crate::machine::plan::Plan;
use sandgrain_abi::message::HostReply;
use std::ops::Range;

/// What a guest has needed so far of memory that it is given by and by, in guest-physical memory: the heap's
/// second part, code of modules that were added, each linear memory.
fn wanted(
    plan: &Plan,
    heap: &Heap,
    next_code: u64,
    memories: &Memories,
) -> impl Iterator<Item = Range<u64>> {
    [heap.range(plan), plan.wanted_code(next_code)].into_iter().chain(memories.wanted())
}

/// What a guest has at first: bytes from address 0 on, and where what it has of each range ends. The first linear
/// memory comes right after the code, so that one range serves for both.
pub(super) fn at_first(plan: &Plan, memories: &Memories) -> (u64, Vec<u64>) {
    let mut given = vec![plan.more_heap.start, plan.more_code.start];
    let first = memories.wanted().next().filter(|range| range.start == plan.code.end);
    given.extend(first.as_ref().map(|range| range.end));
    (first.map_or(plan.code.end, |range| range.end), given)
}

impl Guest {
    /// Gives the VM what the guest has come to need, and keeps what it has: a range that the guest has lost by
    /// a reset is still there when it asks again.
    pub(super) fn give(&mut self) -> Result<()> {
        let Self { plan, heap, memories, given, vm, .. } = self;
        for (number, wanted) in wanted(plan, heap, self.next_code, memories).enumerate() {
            if number == given.len() {
                given.push(wanted.start);
            }
            let given = &mut given[number];
            if *given < wanted.end {
                vm.extend(*given..wanted.end).map_err(|error| Error::hypervisor(&error))?;
                *given = wanted.end;
            }
        }
        Ok(())
    }

    /// Answers a request for more heap.
    pub(super) fn grow_heap(&mut self, size: u64) -> Result<HostReply> {
        let memory = self.vm.memory_mut();
        let reply = self.heap.grow(memory, &mut self.space, &self.plan, size)?;
        self.give()?;
        Ok(reply)
    }
}
