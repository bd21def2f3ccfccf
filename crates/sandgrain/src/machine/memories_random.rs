//! Linear memories made and grown by a guest that asks for anything.

use super::*;
use crate::machine::address_space::walk::{Pages, Sparse, pages};
use proptest::prelude::*;

const START: u64 = 1 << 30;

#[derive(Clone, Debug)]
enum Wish {
    Create { size: u64, maximum: Option<u64> },
    Grow { number: u32, size: u64 },
}

/// Numbers around those that matter, and any.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => 0..3 * PAGE_SIZE,
        3 => 0..6 * LARGE_PAGE,
        2 => (0..6_u64, 0..3_u64).prop_map(|(large, more)| (large * LARGE_PAGE + more).saturating_sub(1)),
        1 => prop::sample::select(vec![1 << 32, u64::MAX - PAGE_SIZE, u64::MAX - 1, u64::MAX]),
        1 => any::<u64>(),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let number = prop_oneof![8 => 0..6_u32, 1 => any::<u32>()];
    prop_oneof![
        (size(), prop::option::of(size()))
            .prop_map(|(size, maximum)| Wish::Create { size, maximum }),
        (number, size()).prop_map(|(number, size)| Wish::Grow { number, size }),
    ]
}

/// A memory as the guest was told of it.
struct Told {
    address: u64,
    capacity: u64,
    size: u64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn memories_never_overlap_and_keep_their_capacity(
        wishes in prop::collection::vec(wish(), 1..40),
        limit in size().prop_map(|size| size.min(layout::MEMORY_RESERVATION)),
        room in 0..12_u64,
        max_memories in 0..5_u64,
    ) {
        let room = START..START + room * LARGE_PAGE;
        let plan = Plan { memories: room.clone(), max_memories, ..Plan::default() };
        let mut memories = Memories::new(&plan, limit);
        let mut tables = Sparse::default();
        let mut space = AddressSpace::new(0, START);
        let mut told: Vec<Told> = Vec::new();
        for wish in wishes {
            match wish {
                Wish::Create { size, maximum } => {
                    match memories.create(&mut tables, &mut space, size, maximum).unwrap() {
                        HostReply::Memory { memory, address, capacity } => {
                            prop_assert_eq!(memory as usize, told.len());
                            prop_assert!(size <= capacity && capacity <= limit);
                            prop_assert!(maximum.is_none_or(|maximum| capacity <= maximum));
                            told.push(Told { address, capacity, size });
                        }
                        HostReply::Refused(_) => {}
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Wish::Grow { number, size } => {
                    let known = told.get_mut(number as usize);
                    let allowed = known.as_ref().is_some_and(|known| (known.size..=known.capacity).contains(&size));
                    let reply = memories.grow(&mut tables, &mut space, number, size).unwrap();
                    prop_assert_eq!(reply == HostReply::Grown, allowed, "{:?}", reply);
                    if let Some(known) = known && allowed {
                        known.size = size;
                    }
                }
            }
        }
        prop_assert!(told.len() as u64 <= max_memories);
        let mut expected = Pages::new();
        let mut end = room.start;
        for (number, known) in told.iter().enumerate() {
            let range = memories.range(number as u32).unwrap();
            prop_assert_eq!(range.end - range.start, known.size);
            // Each can grow to its capacity without meeting the next or leaving the room.
            prop_assert!(range.start >= end && range.start + known.capacity <= room.end);
            end = range.start + known.capacity;
            prop_assert!(known.address.is_multiple_of(PAGE_SIZE) && range.start.is_multiple_of(LARGE_PAGE));
            for at in (0..known.size).step_by(PAGE_SIZE as usize) {
                expected.insert(known.address + at, (range.start + at, Access::ReadWrite));
            }
        }
        prop_assert_eq!(memories.range(told.len() as u32), None);
        prop_assert!(pages(&tables, &space) == expected, "the tables map other pages than the memories have");
    }
}
