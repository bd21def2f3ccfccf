//! Random sequences of mappings, beside a list of pages that says what they should lead to.

use super::walk::{Pages, pages};
use super::*;
use proptest::prelude::*;
use std::ops::Range;

const PAGES: u64 = 40;
/// In what is not the tables'.
const OTHER: u8 = 0xa5;

#[derive(Clone, Debug)]
struct Mapping {
    virt: u64,
    phys: u64,
    len: u64,
    access: Access,
}

impl Mapping {
    fn pages(&self) -> impl Iterator<Item = (u64, (u64, Access))> {
        let offsets = (0..self.len / PAGE_SIZE).map(|page| page * PAGE_SIZE);
        offsets.map(|at| (self.virt + at, (self.phys + at, self.access)))
    }
}

/// Mappings that meet each other, at the ends of tables of each level, small and large.
fn mapping() -> impl Strategy<Value = Mapping> {
    let place =
        prop::sample::select(vec![0, 1 << 30, 1 << 39, (1 << 40) + (1 << 30), 0x7fff_c000_0000]);
    let offset = prop_oneof![
        3 => 0..4_u64,
        3 => 0..3 * LARGE_PAGE / PAGE_SIZE,
        2 => (0..4_u64).prop_map(|large| large * (LARGE_PAGE / PAGE_SIZE)),
        1 => Just((1 << 18) - 2),
    ];
    let len = prop_oneof![4 => 0..4_u64, 2 => 500..1100_u64, 1 => Just(512), 1 => Just(1024)];
    let phys = prop_oneof![0..1024_u64, (0..4_u64).prop_map(|large| large * 512)];
    let access = prop::sample::select(Access::ALL.to_vec());
    (place, offset, len, phys, access).prop_map(|(place, offset, len, phys, access)| Mapping {
        virt: place + offset * PAGE_SIZE,
        phys: phys * PAGE_SIZE,
        len: len * PAGE_SIZE,
        access,
    })
}

fn bytes(pages: Range<u64>) -> Range<usize> {
    (pages.start * PAGE_SIZE) as usize..(pages.end * PAGE_SIZE) as usize
}

/// Nothing that is there changes: neither the entries that are present nor what is not the tables'.
fn assert_only_added(before: &[u8], after: &[u8], tables: &Range<usize>) {
    assert!(before[..tables.start] == after[..tables.start], "below the tables");
    assert!(before[tables.end..] == after[tables.end..], "above the tables");
    for (before, after) in before[tables.clone()].chunks(8).zip(after[tables.clone()].chunks(8)) {
        assert!(before == after || before[0] & 1 == 0, "{before:x?} became {after:x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn mappings_are_added_or_refused_and_never_changed(
        mappings in prop::collection::vec(mapping(), 1..16),
        first in 0..4_u64,
        count in 1..PAGES - 4,
    ) {
        let tables = bytes(first..first + count);
        let mut memory = vec![OTHER; bytes(0..PAGES).end];
        memory[tables.clone()].fill(0);
        let mut space = AddressSpace::new(tables.start as u64, tables.end as u64);
        let mut expected = Pages::new();
        for mapping in &mappings {
            let before = memory.clone();
            let Mapping { virt, phys, len, access } = *mapping;
            let result = space.map(&mut memory, virt, phys, len, access);
            assert_only_added(&before, &memory, &tables);
            prop_assert!(space.next() <= tables.end as u64);
            let found = pages(&memory, &space);
            let taken = mapping.pages().any(|(virt, _)| expected.contains_key(&virt));
            match result {
                Ok(()) => {
                    prop_assert!(!taken, "a page was mapped twice: {:?}", mapping);
                    expected.extend(mapping.pages());
                }
                Err(error) => {
                    let full = space.next() == tables.end as u64;
                    prop_assert!(taken || full, "{:?}: {}", mapping, error);
                    // What came before the obstacle stays.
                    let begun = mapping.pages().filter(|(virt, _)| !expected.contains_key(virt));
                    let begun: Vec<_> = begun.filter(|(virt, _)| found.contains_key(virt)).collect();
                    expected.extend(begun);
                }
            }
            prop_assert!(found == expected, "after {:?}", mapping);
        }
    }
}
