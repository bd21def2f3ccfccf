//! The guest's linear memories: made and grown on the runtime's request, within limits.

use crate::error::Result;
use crate::machine::address_space::{Access, AddressSpace, LARGE_PAGE, Tables};
use crate::machine::plan::Plan;
use sandgrain_abi::layout::{self, PAGE_SIZE};
use sandgrain_abi::message::HostReply;
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder};
use std::ops::Range;

/// One linear memory.
#[derive(Clone, Debug)]
struct Memory {
    /// Its first byte in guest-physical memory.
    phys: u64,
    size: u64,
    /// Bytes of it that are mapped: its size in whole pages.
    mapped: u64,
    capacity: u64,
}

/// All linear memories of a guest.
#[derive(Clone, Debug)]
pub(crate) struct Memories {
    made: Vec<Memory>,
    /// What is left of the room for them.
    room: Range<u64>,
    max: u64,
    /// Bytes that each may have.
    limit: u64,
}

fn address(number: usize) -> u64 {
    layout::MEMORIES + number as u64 * layout::MEMORY_STRIDE + layout::MEMORY_OFFSET
}

fn refused(reason: String) -> HostReply {
    HostReply::Refused(reason)
}

impl Memories {
    pub(crate) fn new(plan: &Plan, limit: u64) -> Self {
        Self { made: Vec::new(), room: plan.memories.clone(), max: plan.max_memories, limit }
    }

    /// Makes a memory. The numbers are the guest's and can be anything.
    pub(crate) fn create(
        &mut self,
        tables: &mut impl Tables,
        space: &mut AddressSpace,
        size: u64,
        maximum: Option<u64>,
    ) -> Result<HostReply> {
        if self.made.len() as u64 >= self.max {
            return Ok(refused(format!("limit of {} linear memories", self.max)));
        }
        let left = self.room.end - self.room.start;
        let capacity = maximum.unwrap_or(u64::MAX).min(self.limit).min(left);
        if size > capacity {
            return Ok(refused(format!(
                "limit of {} bytes for linear memories",
                self.limit.min(left)
            )));
        }
        let phys = self.room.start;
        self.room.start += capacity.next_multiple_of(LARGE_PAGE).min(left);
        let number = self.made.len();
        self.made.push(Memory { phys, size: 0, mapped: 0, capacity });
        self.resize(tables, space, number, size)?;
        Ok(HostReply::Memory { memory: number as u32, address: address(number), capacity })
    }

    /// Grows a memory. The numbers are the guest's and can be anything.
    pub(crate) fn grow(
        &mut self,
        tables: &mut impl Tables,
        space: &mut AddressSpace,
        number: u32,
        size: u64,
    ) -> Result<HostReply> {
        let number = number as usize;
        match self.made.get(number) {
            Some(memory) if memory.size <= size && size <= memory.capacity => {
                self.resize(tables, space, number, size)?;
                Ok(HostReply::Grown)
            }
            Some(memory) => Ok(refused(format!("limit of {} bytes", memory.capacity))),
            None => Ok(refused(format!("no linear memory {number}"))),
        }
    }

    fn resize(
        &mut self,
        tables: &mut impl Tables,
        space: &mut AddressSpace,
        number: usize,
        size: u64,
    ) -> Result<()> {
        let memory = &mut self.made[number];
        let mapped = size.next_multiple_of(PAGE_SIZE);
        let (virt, phys) = (address(number) + memory.mapped, memory.phys + memory.mapped);
        space.map(tables, virt, phys, mapped - memory.mapped, Access::ReadWrite)?;
        memory.mapped = mapped;
        memory.size = size;
        Ok(())
    }

    /// Guest-physical bytes that are mapped now and were not in `before`. `None` if there are more memories
    /// than before.
    pub(crate) fn grown_since(&self, before: &Self) -> Option<Vec<Range<u64>>> {
        if self.made.len() != before.made.len() {
            return None;
        }
        let pairs = self.made.iter().zip(&before.made);
        let grown = pairs.filter(|(now, before)| now.mapped != before.mapped);
        Some(grown.map(|(now, before)| now.phys + before.mapped..now.phys + now.mapped).collect())
    }

    /// For each memory, guest-physical bytes that its guest should have: those that are mapped and some that
    /// it may grow by, so that not each step is noticed by the hypervisor.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Range<u64>> {
        self.made.iter().map(|memory| {
            let most = memory.capacity.next_multiple_of(LARGE_PAGE);
            let len = memory.mapped.next_power_of_two().max(LARGE_PAGE).min(most);
            memory.phys..memory.phys + len.max(memory.mapped)
        })
    }

    /// Where a memory's bytes are in guest-physical memory.
    pub(crate) fn range(&self, number: u32) -> Option<Range<u64>> {
        let memory = self.made.get(number as usize)?;
        Some(memory.phys..memory.phys + memory.size)
    }

    /// Whether they are as this plan and limit could have them: each in a range of its own within the room
    /// for them, and no larger than its address range.
    pub(crate) fn is_of(&self, plan: &Plan, limit: u64) -> bool {
        let mut free = plan.memories.start;
        let in_order = self.made.iter().all(|memory| {
            let Memory { phys, size, mapped, capacity } = *memory;
            let whole = capacity.checked_next_multiple_of(PAGE_SIZE);
            let end = whole.and_then(|whole| phys.checked_add(whole));
            let after = free <= phys;
            free = end.unwrap_or(u64::MAX);
            after
                && phys.is_multiple_of(PAGE_SIZE)
                && size <= capacity
                && capacity <= limit
                && size.checked_next_multiple_of(PAGE_SIZE) == Some(mapped)
        });
        in_order
            && self.limit == limit
            && limit <= layout::MEMORY_RESERVATION
            && self.max == plan.max_memories
            && self.made.len() as u64 <= self.max
            && free <= self.room.start
            && self.room.start.is_multiple_of(PAGE_SIZE)
            && self.room.start <= self.room.end
            && self.room.end == plan.memories.end
    }
}

impl Encode for Memories {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.list(&self.made);
        self.room.encode(out);
        out.u64(self.max);
        out.u64(self.limit);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            made: from.list()?,
            room: Range::decode(from)?,
            max: from.u64()?,
            limit: from.u64()?,
        })
    }
}

impl Encode for Memory {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.phys);
        out.u64(self.size);
        out.u64(self.mapped);
        out.u64(self.capacity);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            phys: from.u64()?,
            size: from.u64()?,
            mapped: from.u64()?,
            capacity: from.u64()?,
        })
    }
}

#[cfg(test)]
#[path = "memories_random.rs"]
mod random;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan { memories: 1 << 30..(1 << 30) + 8 * LARGE_PAGE, max_memories: 3, ..Plan::default() }
    }

    fn parts() -> (Memories, Vec<u8>, AddressSpace) {
        let memories = Memories::new(&plan(), 4 * LARGE_PAGE);
        (memories, vec![0; 64 << 12], AddressSpace::new(0, 64 << 12))
    }

    #[test]
    fn memories_have_room_of_their_own() {
        let (mut memories, mut tables, mut space) = parts();
        for number in 0..2 {
            let reply = memories.create(&mut tables, &mut space, 0x1_0000, None).unwrap();
            let HostReply::Memory { memory, capacity, .. } = reply else { panic!("{reply:?}") };
            assert_eq!((memory, capacity), (number, 4 * LARGE_PAGE));
        }
        let (first, second) = (memories.range(0).unwrap(), memories.range(1).unwrap());
        assert_eq!(second.start - first.start, 4 * LARGE_PAGE);
        let reply = memories.create(&mut tables, &mut space, 1, None).unwrap();
        assert!(matches!(reply, HostReply::Refused(_)), "no room is left: {reply:?}");
    }

    #[test]
    fn growth_ends_at_the_capacity_and_never_shrinks() {
        let (mut memories, mut tables, mut space) = parts();
        memories.create(&mut tables, &mut space, 0x1_0000, Some(0x3_0000)).unwrap();
        for (size, grown) in [
            (0x2_0000, true),
            (0x1_0000, false),
            (0x3_0000, true),
            (0x4_0000, false),
            (u64::MAX, false),
        ] {
            let reply = memories.grow(&mut tables, &mut space, 0, size).unwrap();
            assert_eq!(reply == HostReply::Grown, grown, "{size:#x}: {reply:?}");
        }
        assert_eq!(memories.range(0), Some(1 << 30..(1 << 30) + 0x3_0000));
        let reply = memories.grow(&mut tables, &mut space, 9, 0).unwrap();
        assert!(matches!(reply, HostReply::Refused(_)));
    }
}
