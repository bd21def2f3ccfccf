//! Page tables as a CPU reads them, for tests.

use super::*;
use std::collections::{BTreeMap, HashMap};

/// What each page is mapped to, by its address.
pub(crate) type Pages = BTreeMap<u64, (u64, Access)>;

/// All pages that an address space maps. Panics on entries that none should have.
pub(crate) fn pages(memory: &impl Tables, space: &AddressSpace) -> Pages {
    let mut pages = Pages::new();
    walk(memory, space.root(), 3, 0, &mut pages);
    pages
}

fn walk(memory: &impl Tables, table: u64, level: u32, virt: u64, pages: &mut Pages) {
    for index in 0..512 {
        let entry = memory.entry(table + index * 8).unwrap();
        let virt = virt + (index << (12 + 9 * level));
        if entry & PRESENT == 0 {
            assert_eq!(entry, 0, "{virt:#x}: half an entry");
            continue;
        }
        if level > 0 && entry & LARGE == 0 {
            walk(memory, entry & ADDRESS, level - 1, virt, pages);
            continue;
        }
        assert!(level <= 1, "{virt:#x}: pages of 1 GiB, which not every CPU has");
        let (size, mark) = if level == 1 { (LARGE_PAGE, LARGE) } else { (PAGE_SIZE, 0) };
        let (phys, bits) = (entry & ADDRESS, entry & !ADDRESS & !mark);
        assert!(phys.is_multiple_of(size), "{virt:#x}: {entry:#x} is not aligned");
        assert!(bits & WRITABLE == 0 || bits & NO_EXECUTE != 0, "{virt:#x}: {entry:#x}");
        let access = Access::ALL.into_iter().find(|access| access.bits() == bits);
        let access = access.unwrap_or_else(|| panic!("{virt:#x}: {entry:#x} is no access"));
        for at in (0..size).step_by(PAGE_SIZE as usize) {
            pages.insert(virt + at, (phys + at, access));
        }
    }
}

/// Guest-physical memory of any size, of which only what is written takes room.
#[derive(Default)]
pub(crate) struct Sparse(HashMap<u64, u64>);

impl Tables for Sparse {
    fn entry(&self, address: u64) -> Result<u64> {
        Ok(self.0.get(&address).copied().unwrap_or(0))
    }

    fn set_entry(&mut self, address: u64, entry: u64) -> Result<()> {
        self.0.insert(address, entry);
        Ok(())
    }
}
