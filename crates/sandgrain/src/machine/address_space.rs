//! Four-level page tables, written into guest-physical memory.

use crate::error::{Error, Result};
use sandgrain_abi::layout::PAGE_SIZE;
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder};
use std::ops::Range;

/// Bytes that one entry of the second level can map by itself.
pub(crate) const LARGE_PAGE: u64 = 2 << 20;
/// Bytes that eight entries of the last level map.
const GROUP: u64 = 8 * PAGE_SIZE;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Set from the start, so that no CPU ever writes to the page tables by itself.
const ACCESSED_DIRTY: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bytes of the lower half of the address space, in which everything lies.
const ADDRESSES: u64 = 1 << 47;

/// Who may do what with a page. There is no access that both writes and executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Access {
    /// Ring 0 executes.
    Gate = 0,
    /// Ring 0 reads and writes.
    GateData = 1,
    /// Ring 3 executes and reads.
    Code = 2,
    /// Ring 3 reads.
    ReadOnly = 3,
    /// Ring 3 reads and writes.
    ReadWrite = 4,
}

impl Access {
    /// All of them, by their numbers.
    pub(crate) const ALL: [Self; 5] =
        [Self::Gate, Self::GateData, Self::Code, Self::ReadOnly, Self::ReadWrite];

    fn bits(self) -> u64 {
        PRESENT
            | ACCESSED_DIRTY
            | match self {
                Self::Gate => 0,
                Self::GateData => WRITABLE | NO_EXECUTE,
                Self::Code => USER,
                Self::ReadOnly => USER | NO_EXECUTE,
                Self::ReadWrite => USER | WRITABLE | NO_EXECUTE,
            }
    }
}

/// Guest-physical memory, as far as page tables need it.
pub(crate) trait Tables {
    /// Reads an entry.
    fn entry(&self, address: u64) -> Result<u64>;
    /// Writes an entry.
    fn set_entry(&mut self, address: u64, entry: u64) -> Result<()>;
}

impl Tables for Vec<u8> {
    fn entry(&self, address: u64) -> Result<u64> {
        let bytes = usize::try_from(address).ok().and_then(|at| self.get(at..)?.first_chunk());
        bytes.map(|bytes| u64::from_le_bytes(*bytes)).ok_or_else(out_of_memory)
    }

    fn set_entry(&mut self, address: u64, entry: u64) -> Result<()> {
        let at = usize::try_from(address).map_err(|_| out_of_memory())?;
        let bytes = self.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut());
        *bytes.ok_or_else(out_of_memory)? = entry.to_le_bytes();
        Ok(())
    }
}

impl Tables for sandgrain_hypervisor::GuestMemory {
    fn entry(&self, address: u64) -> Result<u64> {
        self.read_u64(address).map_err(|error| Error::hypervisor(&error))
    }

    fn set_entry(&mut self, address: u64, entry: u64) -> Result<()> {
        self.write_u64(address, entry).map_err(|error| Error::hypervisor(&error))
    }
}

fn out_of_memory() -> Error {
    Error::Host("a page table outside of its memory".to_owned())
}

/// A set of page tables and the pages that it may still use for more of them.
#[derive(Clone, Debug)]
pub(crate) struct AddressSpace {
    root: u64,
    next: u64,
    end: u64,
    /// What has been mapped, in the order in which it was.
    regions: Vec<Region>,
}

/// Guest-physical bytes that ring 3 can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) phys: Range<u64>,
    /// The address of the first one.
    pub(crate) virt: u64,
    /// Whether ring 3 may write there.
    pub(crate) writable: bool,
}

/// A range of addresses that is mapped.
#[derive(Clone, Debug)]
struct Region {
    virt: u64,
    phys: u64,
    len: u64,
    access: Access,
}

impl Region {
    fn is_read_only(&self) -> bool {
        matches!(self.access, Access::Code | Access::ReadOnly)
    }

    /// Those of some guest-physical bytes, which may be any, that are mapped here.
    fn part(&self, phys: &Range<u64>) -> Option<Range<u64>> {
        let part = phys.start.max(self.phys)..phys.end.min(self.phys + self.len);
        (!part.is_empty()).then_some(part)
    }

    /// The address of a guest-physical byte that is mapped here, or of the end.
    fn virt_of(&self, phys: u64) -> u64 {
        self.virt + (phys - self.phys)
    }
}

impl AddressSpace {
    /// An empty one, whose tables take the zeroed pages from `start` to `end`.
    pub(crate) fn new(start: u64, end: u64) -> Self {
        Self { root: start, next: start + PAGE_SIZE, end, regions: Vec::new() }
    }

    /// The guest-physical address of the first table, for CR3.
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    /// The first page that no table has taken.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Lets more tables take the zeroed pages from `start` to `end`, and no others.
    pub(crate) fn go_on_at(&mut self, start: u64, end: u64) {
        (self.next, self.end) = (start, end);
    }

    /// Whether it has the same page tables: not merely as many, since none ever goes away.
    pub(crate) fn has_tables_of(&self, earlier: &Self) -> bool {
        (self.next, self.end) == (earlier.next, earlier.end)
    }

    /// Those of some guest-physical bytes that ring 3 can reach.
    pub(crate) fn reach(&self, phys: Range<u64>) -> impl Iterator<Item = Reach> {
        self.regions.iter().filter_map(move |region| {
            let writable = match region.access {
                Access::Gate | Access::GateData => return None,
                Access::Code | Access::ReadOnly => false,
                Access::ReadWrite => true,
            };
            let phys = region.part(&phys)?;
            Some(Reach { virt: region.virt_of(phys.start), phys, writable })
        })
    }

    /// Guest-physical bytes that ring 3 can only read or execute.
    pub(crate) fn read_only(&self) -> Vec<Range<u64>> {
        let regions = self.regions.iter().filter(|region| region.is_read_only());
        regions.map(|region| region.phys..region.phys + region.len).collect()
    }

    /// The whole large pages among some guest-physical bytes that ring 3 can only read or execute, and that are mapped
    /// as such.
    pub(crate) fn large(&self, phys: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        self.regions.iter().filter_map(move |region| {
            let is_aligned = region.virt % LARGE_PAGE == region.phys % LARGE_PAGE;
            let part = region.part(&phys).filter(|_| region.is_read_only() && is_aligned)?;
            let start = part.start.next_multiple_of(LARGE_PAGE);
            let end = part.end / LARGE_PAGE * LARGE_PAGE;
            (start < end).then_some(start..end)
        })
    }

    /// The groups of pages that some guest-physical bytes lie in, as far as they are mapped: hypervisors map pages that are
    /// there together with those of the same eight entries of a page table.
    pub(crate) fn groups(&self, phys: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        self.regions.iter().filter_map(move |region| {
            let part = region.part(&phys)?;
            let first = (region.virt_of(part.start) / GROUP * GROUP).max(region.virt);
            let last =
                region.virt_of(part.end).next_multiple_of(GROUP).min(region.virt + region.len);
            Some(region.phys + (first - region.virt)..region.phys + (last - region.virt))
        })
    }

    /// Maps `len` bytes from `virt` on to those from `phys` on, all multiples of a page. What is mapped
    /// already must not be mapped again: present entries are never changed.
    pub(crate) fn map(
        &mut self,
        memory: &mut impl Tables,
        virt: u64,
        phys: u64,
        len: u64,
        access: Access,
    ) -> Result<()> {
        debug_assert!(virt.is_multiple_of(PAGE_SIZE) && phys.is_multiple_of(PAGE_SIZE));
        let mut done = 0;
        while done < len {
            let (virt, phys, left) = (virt + done, phys + done, len - done);
            let whole = left >= LARGE_PAGE
                && virt.is_multiple_of(LARGE_PAGE)
                && phys.is_multiple_of(LARGE_PAGE);
            let mut table = self.root;
            for level in [3, 2] {
                table = self.descend(memory, table, index(virt, level))?;
            }
            let (slot, size, entry) = if whole {
                (table + index(virt, 1) * 8, LARGE_PAGE, phys | access.bits() | LARGE)
            } else {
                let table = self.descend(memory, table, index(virt, 1))?;
                (table + index(virt, 0) * 8, PAGE_SIZE, phys | access.bits())
            };
            if memory.entry(slot)? & PRESENT != 0 {
                return Err(Error::Host(format!("address {virt:#x} is mapped already")));
            }
            memory.set_entry(slot, entry)?;
            done += size;
        }
        match self.regions.last_mut() {
            // A linear memory that grows, or a segment that is mapped page by page.
            Some(last)
                if (last.virt + last.len, last.phys + last.len, last.access)
                    == (virt, phys, access) =>
            {
                last.len += len;
            }
            _ => self.regions.push(Region { virt, phys, len, access }),
        }
        Ok(())
    }

    /// The table below an entry, which is made if there is none.
    fn descend(&mut self, memory: &mut impl Tables, table: u64, index: u64) -> Result<u64> {
        let slot = table + index * 8;
        let entry = memory.entry(slot)?;
        if entry & PRESENT != 0 {
            if entry & LARGE != 0 {
                return Err(Error::Host("a large page where a page table is needed".to_owned()));
            }
            return Ok(entry & ADDRESS);
        }
        if self.next >= self.end {
            return Err(Error::Host("no room for another page table".to_owned()));
        }
        let below = self.next;
        self.next += PAGE_SIZE;
        // The entry of a table allows everything; the entries of pages take away.
        memory.set_entry(slot, below | PRESENT | WRITABLE | USER | ACCESSED_DIRTY)?;
        Ok(below)
    }
}

impl AddressSpace {
    /// Whether its tables and what they map are whole pages within `len` bytes of guest-physical memory, and
    /// more tables go where a plan has room for them.
    pub(crate) fn is_within(&self, len: u64, room: &Range<u64>) -> bool {
        let whole = |address: u64| address.is_multiple_of(PAGE_SIZE);
        let within = |region: &Region| {
            let virt_end = region.virt.checked_add(region.len);
            let phys_end = region.phys.checked_add(region.len);
            whole(region.virt)
                && whole(region.phys)
                && whole(region.len)
                && virt_end.is_some_and(|end| end <= ADDRESSES)
                && phys_end.is_some_and(|end| end <= len)
        };
        [self.root, self.next, self.end].into_iter().all(whole)
            && self.root < room.start
            && room.start <= self.next
            && self.next <= self.end
            && self.end == room.end
            && room.end <= len
            && self.regions.iter().all(within)
    }
}

impl Encode for AddressSpace {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.root);
        out.u64(self.next);
        out.u64(self.end);
        out.list(&self.regions);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { root: from.u64()?, next: from.u64()?, end: from.u64()?, regions: from.list()? })
    }
}

impl Encode for Region {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.virt);
        out.u64(self.phys);
        out.u64(self.len);
        out.u8(self.access as u8);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (virt, phys, len) = (from.u64()?, from.u64()?, from.u64()?);
        let access = from.u8()?;
        let access = Access::ALL.get(usize::from(access)).ok_or_else(|| from.error("an access"))?;
        Ok(Self { virt, phys, len, access: *access })
    }
}

/// The index of an address in a table of a level; pages are level 0.
fn index(virt: u64, level: u32) -> u64 {
    virt >> (12 + 9 * level) & 511
}

#[cfg(test)]
#[path = "address_space_random.rs"]
mod random;
#[cfg(test)]
#[path = "address_space_walk.rs"]
pub(crate) mod walk;

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the tables as a CPU does: the entry that maps `virt`.
    fn walk(memory: &Vec<u8>, space: &AddressSpace, virt: u64) -> Option<u64> {
        let mut table = space.root();
        for level in [3, 2, 1, 0] {
            let entry = memory.entry(table + index(virt, level) * 8).ok()?;
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 0 || entry & LARGE != 0 {
                return Some(entry);
            }
            table = entry & ADDRESS;
        }
        None
    }

    fn space() -> (Vec<u8>, AddressSpace) {
        (vec![0; 64 << 12], AddressSpace::new(PAGE_SIZE, 64 << 12))
    }

    #[test]
    fn pages_are_mapped_with_their_access_and_nothing_around_them() {
        let (mut memory, mut space) = space();
        space.map(&mut memory, 0x40_0000, 0x7000, 0x2000, Access::Code).unwrap();
        assert_eq!(walk(&memory, &space, 0x3f_f000), None);
        assert_eq!(walk(&memory, &space, 0x40_0000), Some(0x7000 | Access::Code.bits()));
        assert_eq!(walk(&memory, &space, 0x40_1fff), Some(0x8000 | Access::Code.bits()));
        assert_eq!(walk(&memory, &space, 0x40_2000), None);
    }

    #[test]
    fn large_pages_serve_the_aligned_middle() {
        let (mut memory, mut space) = space();
        let start = (1 << 40) + LARGE_PAGE - PAGE_SIZE;
        let len = LARGE_PAGE + 2 * PAGE_SIZE;
        let phys = 4 * LARGE_PAGE - PAGE_SIZE;
        space.map(&mut memory, start, phys, len, Access::ReadWrite).unwrap();
        assert_eq!(walk(&memory, &space, start).unwrap() & LARGE, 0);
        assert_ne!(walk(&memory, &space, start + PAGE_SIZE).unwrap() & LARGE, 0);
        assert_eq!(walk(&memory, &space, start + len - 1).unwrap() & LARGE, 0);
        assert_eq!(walk(&memory, &space, start + len), None);
    }

    #[test]
    fn growth_adds_to_a_table_that_is_there() {
        let (mut memory, mut space) = space();
        space.map(&mut memory, 1 << 40, LARGE_PAGE, 0x1_0000, Access::ReadWrite).unwrap();
        let tables = space.next();
        let next = (1 << 40) + 0x1_0000;
        let len = 2 * LARGE_PAGE - 0x1_0000;
        space.map(&mut memory, next, LARGE_PAGE + 0x1_0000, len, Access::ReadWrite).unwrap();
        assert_eq!(space.next(), tables, "the rest of one table and a large page need no other");
    }

    #[test]
    fn ring_3_reaches_what_is_mapped_for_it() {
        let (mut memory, mut space) = space();
        space.map(&mut memory, 0x40_0000, 0x7000, 0x1000, Access::Code).unwrap();
        space.map(&mut memory, 0x40_1000, 0x8000, 0x1000, Access::Code).unwrap();
        space.map(&mut memory, 0x40_2000, 0x9000, 0x1000, Access::Gate).unwrap();
        space.map(&mut memory, 0x60_0000, 0xa000, 0x2000, Access::ReadWrite).unwrap();
        let reach = |range| space.reach(range).collect::<Vec<_>>();
        let part = |phys, virt, writable| Reach { phys, virt, writable };
        assert_eq!(reach(0x7800..0x8800), [part(0x7800..0x8800, 0x40_0800, false)]);
        assert_eq!(
            reach(0..0xb000),
            [part(0x7000..0x9000, 0x40_0000, false), part(0xa000..0xb000, 0x60_0000, true)]
        );
        assert_eq!(reach(0x9000..0xa000), []);
    }

    #[test]
    fn groups_of_pages_are_those_of_a_table_and_end_with_the_region() {
        let (mut memory, mut space) = space();
        // Seven pages of the first group, all of the second, one of the third.
        space.map(&mut memory, 0x40_1000, 0x7000, 0x1_0000, Access::ReadWrite).unwrap();
        let group = |range| {
            let mut groups = space.groups(range);
            (groups.next(), groups.count())
        };
        assert_eq!(group(0x7000..0x8000), (Some(0x7000..0xe000), 0));
        assert_eq!(group(0xd000..0xf000), (Some(0x7000..0x1_6000), 0));
        assert_eq!(group(0x1_6000..0x1_8000), (Some(0x1_6000..0x1_7000), 0));
        assert_eq!(group(0..0x7000), (None, 0));
    }

    #[test]
    fn what_is_only_read_is_large_where_it_is_aligned() {
        let (mut memory, mut space) = space();
        let large = LARGE_PAGE;
        space.map(&mut memory, 1 << 40, 0, large, Access::ReadWrite).unwrap();
        space.map(&mut memory, 2 << 40, 4 * large - 0x1000, 2 * large, Access::Code).unwrap();
        let virt = (3 << 40) - 0x1000;
        space.map(&mut memory, virt, 8 * large - 0x1000, 2 * large, Access::ReadOnly).unwrap();
        let found = |range| space.large(range).collect::<Vec<_>>();
        let only = 8 * large..9 * large;
        assert_eq!(found(0..u64::MAX), std::slice::from_ref(&only));
        assert_eq!(found(only.clone()), std::slice::from_ref(&only));
        for part in [only.start + 0x1000..only.end, only.start..only.end - 0x1000] {
            assert_eq!(found(part), []);
        }
        // As a worker may say it.
        assert_eq!(found(u64::MAX - 1..u64::MAX), []);
        assert_eq!(space.read_only().len(), 2);
    }

    #[test]
    fn a_present_entry_is_never_changed() {
        let (mut memory, mut space) = space();
        space.map(&mut memory, 0x1000, 0x1000, 0x1000, Access::ReadOnly).unwrap();
        let before = memory.clone();
        space.map(&mut memory, 0x1000, 0x2000, 0x1000, Access::ReadWrite).unwrap_err();
        assert_eq!(memory, before);
    }

    #[test]
    fn no_access_writes_and_executes() {
        for access in Access::ALL {
            let bits = access.bits();
            assert!(bits & WRITABLE == 0 || bits & NO_EXECUTE != 0, "{access:?}");
        }
    }

    #[test]
    fn tables_stop_at_their_end() {
        let mut memory = vec![0; 64 << 12];
        let mut space = AddressSpace::new(PAGE_SIZE, 3 * PAGE_SIZE);
        space.map(&mut memory, 0, 0, PAGE_SIZE, Access::ReadOnly).unwrap_err();
    }
}
