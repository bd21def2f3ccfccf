//! Plans for any limits and modules.

use super::*;
use crate::machine::address_space::walk::Sparse;
use crate::machine::address_space::{Access, AddressSpace};
use crate::machine::heap::Heap;
use crate::machine::memories::Memories;
use proptest::prelude::*;
use sandgrain_abi::message::HostReply;
use std::sync::LazyLock;

static BASE: LazyLock<Base> = LazyLock::new(|| Base::new().unwrap());

/// Numbers of bytes: small ones, large ones, and those around a power of two.
fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0..64_u64 << 20,
        3 => (0..=44_u32, 0..3_u64).prop_map(|(power, more)| (1 << power) + more - 1),
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    // Most of them are all right by themselves, so that what they lead to together is seen.
    let stack = prop_oneof![4 => (16 << 10)..64_u64 << 20, 1 => bytes()];
    let heap = prop_oneof![4 => (1 << 20)..1_u64 << 32, 1 => bytes()];
    let memory = prop_oneof![4 => 0..=layout::MEMORY_RESERVATION, 1 => bytes()];
    let extra_code = prop_oneof![4 => 0..1_u64 << 30, 1 => bytes()];
    let extra_memories = prop_oneof![4 => 0..4_u32, 2 => 0..1100_u32, 1 => any::<u32>()];
    (stack, heap, memory, extra_code, extra_memories).prop_map(
        |(stack, heap, memory, extra_code, extra_memories)| {
            let limits = Limits::default().stack(stack).heap(heap).memory(memory);
            limits.extra_code(extra_code).extra_memories(extra_memories)
        },
    )
}

fn memory_type() -> impl Strategy<Value = MemoryType> {
    let pages = prop_oneof![4 => 0..70_000_u64, 1 => any::<u64>()];
    let page_size = prop::sample::select(vec![1, 1 << 16]);
    (prop::option::of(pages), page_size).prop_map(|(maximum, page_size)| MemoryType {
        minimum: 0,
        maximum,
        memory64: false,
        shared: false,
        page_size,
    })
}

/// Modules: their memories, and the size of their code, which is in this process's memory.
fn modules() -> impl Strategy<Value = Vec<(ModuleInfo, u64)>> {
    let memories = prop::collection::vec(memory_type(), 0..3);
    let code = prop_oneof![4 => 0..16_u64 << 20, 1 => bytes().prop_map(|bytes| bytes >> 8)];
    let module = (memories, code)
        .prop_map(|(memories, code)| (ModuleInfo { memories, ..ModuleInfo::default() }, code));
    prop::collection::vec(module, 0..4)
}

fn plan(limits: &Limits, modules: &[(ModuleInfo, u64)]) -> Result<Plan> {
    let modules: Vec<_> = modules.iter().map(|(info, code)| (info, *code)).collect();
    Plan::new(&BASE, limits)?.with_modules(limits, &modules)
}

fn len(range: &Range<u64>) -> u64 {
    range.end - range.start
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_plan_has_its_parts_one_after_the_other_or_is_refused(
        limits in limits(),
        modules in modules(),
    ) {
        let plan = match plan(&limits, &modules) {
            Ok(plan) => plan,
            Err(error) => {
                prop_assert!(matches!(error, Error::BadCall(_) | Error::Limit { .. }), "{}", error);
                return Ok(());
            }
        };
        let own = [&plan.tables, &plan.stack, &plan.heap];
        let more = [&plan.more_code, &plan.more_heap];
        let parts =
            [&own[..], &[&plan.module_tables, &plan.code, &plan.memories], &more].concat();
        prop_assert_eq!(plan.tables.start, BASE.space.next());
        prop_assert!(parts.iter().all(|part| part.start <= part.end), "{:?}", plan);
        prop_assert!(parts.windows(2).all(|two| two[0].end <= two[1].start), "{:?}", plan);
        prop_assert!(parts.iter().all(|part| part.start.is_multiple_of(PAGE_SIZE)), "{:?}", plan);
        let large = [&plan.heap, &plan.code, &plan.memories, &plan.more_code, &plan.more_heap];
        prop_assert!(large.iter().all(|part| part.start.is_multiple_of(LARGE_PAGE)), "{:?}", plan);
        prop_assert_eq!(plan.len(), plan.more_heap.end);
        // What a guest has from the start is one range: only what cannot be avoided lies in between.
        prop_assert!(len(&plan.heap) <= FIRST_HEAP);
        prop_assert_eq!(plan.code.end, plan.memories.start);

        prop_assert!(len(&plan.stack) >= limits.stack + RUNTIME_STACK);
        prop_assert!(len(&plan.stack) <= layout::STACK_MAX);
        let heap = len(&plan.heap) + len(&plan.more_heap);
        prop_assert!((limits.heap..=layout::HEAP_MAX).contains(&heap));
        let code: u64 = modules.iter().map(|(_, code)| code).sum();
        prop_assert!(len(&plan.code) >= code && len(&plan.more_code) >= limits.extra_code);
        prop_assert!(len(&plan.code) + len(&plan.more_code) <= layout::CODE_MAX);
        let types = || modules.iter().flat_map(|(info, _)| &info.memories);
        let capacities: u64 = types().map(|ty| capacity(ty, limits.memory)).sum();
        let extra = u64::from(limits.extra_memories) * limits.memory;
        prop_assert!((capacities + extra..=1 << 40).contains(&len(&plan.memories)));
        prop_assert!(plan.max_memories >= types().count() as u64 + u64::from(limits.extra_memories));
        prop_assert!(plan.max_memories <= layout::MEMORIES_MAX);
    }
}

/// Limits and modules that are small enough to map all of it.
fn small() -> impl Strategy<Value = (Limits, Vec<(ModuleInfo, u64)>)> {
    let numbers = (16_u64 << 10..64 << 20, 1_u64 << 20..3 << 30, 0_u64..64 << 20, 0_u64..1 << 30);
    let modules = modules().prop_map(|mut modules| {
        for (_, code) in &mut modules {
            *code %= 16 << 20;
        }
        modules
    });
    (numbers, 0..3_u32, modules).prop_map(|((stack, heap, memory, code), memories, modules)| {
        let limits = Limits::default().stack(stack).heap(heap).memory(memory);
        (limits.extra_code(code).extra_memories(memories), modules)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn code_goes_into_one_of_its_ranges_behind_what_was_there(
        known in 0..4_u64,
        more in 0..4_u64,
        next in 0..10 * LARGE_PAGE,
        len in prop_oneof![3 => 1..4 * LARGE_PAGE, 1 => any::<u64>()],
    ) {
        let code = 1 << 30..(1 << 30) + known * LARGE_PAGE;
        let more_code = 1 << 34..(1 << 34) + more * LARGE_PAGE;
        let plan = Plan { code, more_code, ..Plan::default() };
        let Some((start, phys)) = plan.place_code(next, len) else {
            prop_assert!(next + len.min(1 << 40) > known * LARGE_PAGE, "it fits into the first");
            let free = more * LARGE_PAGE - (next.saturating_sub(known * LARGE_PAGE)).min(more * LARGE_PAGE);
            prop_assert!(len > free, "it fits into the second");
            return Ok(());
        };
        prop_assert!(next <= start && plan.has_code(start + len));
        let wanted = plan.wanted_code(start + len);
        let parts = [plan.code.clone(), wanted];
        prop_assert!(parts.iter().any(|part| part.start <= phys && phys + len <= part.end));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_tables_of_a_plan_suffice_for_all_of_it((limits, modules) in small()) {
        let plan = plan(&limits, &modules).unwrap();
        let mut tables = Sparse::default();
        // Without those that the base image brings.
        let mut space = AddressSpace::new(plan.tables.start - PAGE_SIZE, plan.tables.end);
        let mut map = |virt, part: &Range<u64>, access| {
            space.map(&mut tables, virt, part.start, len(part), access)
        };
        map(layout::STACK_TOP - len(&plan.stack), &plan.stack, Access::ReadWrite).unwrap();
        map(layout::HEAP, &plan.heap, Access::ReadWrite).unwrap();
        space.go_on_at(plan.module_tables.start, plan.module_tables.end);
        let mut map = |virt, part: &Range<u64>, access| {
            space.map(&mut tables, virt, part.start, len(part), access)
        };
        // Code of which no two large pages share a table.
        for at in (0..len(&plan.code) + len(&plan.more_code)).step_by(LARGE_PAGE as usize) {
            let (start, phys) = plan.place_code(at, PAGE_SIZE).unwrap();
            prop_assert_eq!(start, at);
            map(layout::CODE + at, &(phys..phys + PAGE_SIZE), Access::Code).unwrap();
        }
        let mut heap = Heap::default();
        let more = len(&plan.more_heap);
        let reply = heap.grow(&mut tables, &mut space, &plan, more).unwrap();
        prop_assert_eq!(reply, HostReply::Heap { size: more });
        // Memories that grow page by page where large pages would not be of use.
        let mut memories = Memories::new(&plan, limits.memory);
        let types = modules.iter().flat_map(|(info, _)| &info.memories);
        let own = types.map(|ty| capacity(ty, limits.memory));
        let extra = (0..=limits.extra_memories).map(|_| limits.memory);
        for capacity in own.chain(extra) {
            let reply = memories.create(&mut tables, &mut space, 0, Some(capacity)).unwrap();
            let HostReply::Memory { memory, capacity: given, .. } = reply else {
                panic!("{capacity} bytes: {reply:?}");
            };
            prop_assert_eq!(given, capacity);
            for size in (0..capacity).step_by(PAGE_SIZE as usize).chain([capacity]) {
                let reply = memories.grow(&mut tables, &mut space, memory, size).unwrap();
                prop_assert_eq!(reply, HostReply::Grown);
            }
        }
    }
}
