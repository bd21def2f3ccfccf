//! The second part of the runtime's heap: given on the runtime's request, up to the limit.

use crate::error::Result;
use crate::machine::address_space::{Access, AddressSpace, LARGE_PAGE, Tables};
use crate::machine::plan::{FIRST_HEAP, Plan};
use sandgrain_abi::layout;
use sandgrain_abi::message::HostReply;
use std::ops::Range;

/// How far the heap has grown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heap {
    /// Bytes of the second part that are mapped.
    more: u64,
}

impl Heap {
    /// One that has grown by so many bytes, if guests of this plan can have such a one.
    pub(crate) fn of(plan: &Plan, more: u64) -> Option<Self> {
        let most = plan.more_heap.end - plan.more_heap.start;
        (more <= most && more.is_multiple_of(LARGE_PAGE)).then_some(Self { more })
    }

    /// Bytes of the second part.
    pub(crate) fn more(&self) -> u64 {
        self.more
    }

    /// Where the second part is in guest-physical memory.
    pub(crate) fn range(&self, plan: &Plan) -> Range<u64> {
        plan.more_heap.start..plan.more_heap.start + self.more
    }

    /// Gives the second part `size` bytes or more, if there is so much room. The number is the guest's and can be
    /// anything; how many bytes it has is the answer in any case. It doubles the heap at least, so that the
    /// hypervisor has few ranges of it to keep, however a guest asks.
    pub(crate) fn grow(
        &mut self,
        tables: &mut impl Tables,
        space: &mut AddressSpace,
        plan: &Plan,
        size: u64,
    ) -> Result<HostReply> {
        let Range { start, end } = plan.more_heap;
        if self.more < size && size <= end - start {
            let doubled = FIRST_HEAP + 2 * self.more;
            let more = size.max(doubled).next_multiple_of(LARGE_PAGE).min(end - start);
            let (virt, phys) = (layout::MORE_HEAP + self.more, start + self.more);
            space.map(tables, virt, phys, more - self.more, Access::ReadWrite)?;
            self.more = more;
        }
        Ok(HostReply::Heap { size: self.more })
    }

    /// Guest-physical bytes that are mapped now and were not in `before`.
    pub(crate) fn grown_since(&self, before: &Self, plan: &Plan) -> Range<u64> {
        before.range(plan).end..self.range(plan).end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::address_space::walk::{Pages, Sparse, pages};
    use proptest::prelude::*;
    use sandgrain_abi::layout::PAGE_SIZE;

    const START: u64 = 1 << 30;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_requests_leave_a_heap_within_its_room_and_all_of_it_mapped(
            room in 0..40_u64,
            sizes in prop::collection::vec(
                prop_oneof![3 => 0..42 * LARGE_PAGE, 1 => any::<u64>(), 1 => Just(u64::MAX)],
                1..30,
            ),
        ) {
            let room = room * LARGE_PAGE;
            let plan = Plan { more_heap: START..START + room, ..Plan::default() };
            let mut tables = Sparse::default();
            let mut space = AddressSpace::new(0, START);
            let (mut heap, mut steps) = (Heap::default(), 0);
            for size in sizes {
                let before = heap.clone();
                let reply = heap.grow(&mut tables, &mut space, &plan, size).unwrap();
                prop_assert_eq!(reply, HostReply::Heap { size: heap.more() });
                prop_assert!(before.more() <= heap.more() && heap.more() <= room);
                prop_assert!(size > room || size <= heap.more(), "{} of {}", size, room);
                if size > room {
                    prop_assert_eq!(&heap, &before);
                }
                steps += u64::from(heap != before);
                prop_assert_eq!(heap.grown_since(&before, &plan).end, heap.range(&plan).end);
                prop_assert_eq!(Heap::of(&plan, heap.more()), Some(heap.clone()));
            }
            prop_assert!(steps <= 6, "{}", steps);
            let mut expected = Pages::new();
            for at in (0..heap.more()).step_by(PAGE_SIZE as usize) {
                expected.insert(layout::MORE_HEAP + at, (START + at, Access::ReadWrite));
            }
            prop_assert!(pages(&tables, &space) == expected);
        }
    }
}
