//! The page tables of a guest, read as the CPU reads them.

use super::*;
use crate::machine::address_space::LARGE_PAGE;
use sandgrain_abi::message::HostReply;
use std::collections::BTreeSet;
use std::ops::Range;

/// A page, or a large one, as all the entries on the way to it allow it.
#[derive(Clone, Debug)]
struct Leaf {
    virt: Range<u64>,
    phys: Range<u64>,
    user: bool,
    write: bool,
    execute: bool,
}

struct Walk {
    leaves: Vec<Leaf>,
    /// Guest-physical addresses of the tables themselves.
    tables: BTreeSet<u64>,
}

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

fn walk(guest: &Guest) -> Walk {
    let mut walk = Walk { leaves: Vec::new(), tables: BTreeSet::new() };
    let all = Leaf { virt: 0..0, phys: 0..0, user: true, write: true, execute: true };
    descend(guest, guest.space.root(), 3, &all, &mut walk);
    assert!(walk.leaves.len() > 100, "a machine has more pages than that");
    walk
}

fn descend(guest: &Guest, table: u64, level: u32, above: &Leaf, walk: &mut Walk) {
    walk.tables.insert(table);
    let size = PAGE_SIZE << (9 * level);
    for index in 0..512 {
        let entry = guest.vm.memory().read_u64(table + index * 8).expect("a table in memory");
        if entry & 1 == 0 {
            continue;
        }
        let mut start = above.virt.start + index * size;
        if level == 3 && index >= 256 {
            start |= 0xffff_0000_0000_0000;
        }
        let phys = entry & ADDRESS;
        let leaf = Leaf {
            virt: start..start.wrapping_add(size),
            phys: phys..phys + size,
            user: above.user && entry & 4 != 0,
            write: above.write && entry & 2 != 0,
            execute: above.execute && entry >> 63 == 0,
        };
        // Set ahead, a CPU never writes to the tables by itself.
        assert_ne!(entry & 0x20, 0, "not marked as accessed: {leaf:x?}");
        assert!(level < 3 || entry & 0x80 == 0, "no page is that large");
        if level == 0 || entry & 0x80 != 0 {
            assert_ne!(entry & 0x40, 0, "not marked as dirty: {leaf:x?}");
            assert!(leaf.phys.start.is_multiple_of(size), "{leaf:x?}");
            walk.leaves.push(leaf);
        } else {
            descend(guest, phys, level - 1, &leaf, walk);
        }
    }
}

/// All states in which tables are looked at: before the first instruction, with a module, and after
/// its memories have grown across large pages and the heap has grown.
fn states() -> Vec<(&'static str, Guest)> {
    let mut grown = started();
    for pages in [1, 31, 64, 200] {
        assert_ne!(call(&mut grown, "grow", vec![Value::I32(pages)]), [Value::I32(-1)]);
    }
    grown.grow_heap(1).expect("a reply");
    vec![("fresh", fresh()), ("started", started()), ("grown", grown)]
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

#[test]
fn no_page_is_writable_and_executable() {
    for (state, guest) in states() {
        for leaf in walk(&guest).leaves {
            assert!(!(leaf.write && leaf.execute), "{state}: {leaf:x?}");
        }
    }
}

#[test]
fn no_memory_is_writable_here_and_executable_there() {
    for (state, guest) in states() {
        let leaves = walk(&guest).leaves;
        for code in leaves.iter().filter(|leaf| leaf.execute) {
            let alias = leaves.iter().find(|leaf| leaf.write && overlap(&leaf.phys, &code.phys));
            assert!(alias.is_none(), "{state}: {code:x?} is {alias:x?} as well");
        }
    }
}

#[test]
fn page_tables_are_not_mapped_at_all() {
    for (state, guest) in states() {
        let Walk { leaves, tables } = walk(&guest);
        let reserved = guest.plan.tables.clone();
        for leaf in &leaves {
            let hit =
                tables.iter().find(|table| overlap(&leaf.phys, &(**table..**table + PAGE_SIZE)));
            assert!(hit.is_none(), "{state}: {leaf:x?} maps the table at {hit:x?}");
            assert!(!overlap(&leaf.phys, &reserved), "{state}: {leaf:x?} maps room for tables");
        }
    }
}

#[test]
fn the_gate_and_its_data_are_out_of_ring_3s_reach() {
    let gate = platform().base.program.gate.clone();
    let data = 0..layout::GATE_DATA_PAGES * PAGE_SIZE;
    let record = RECORD..RECORD + PAGE_SIZE;
    for (state, guest) in states() {
        let leaves = walk(&guest).leaves;
        let code: Vec<_> = leaves.iter().filter(|leaf| overlap(&leaf.virt, &gate)).collect();
        assert_eq!(code.len() as u64, (gate.end - gate.start) / PAGE_SIZE, "{state}");
        for leaf in code {
            assert!(!leaf.user && !leaf.write, "{state}: {leaf:x?}");
            let aliases = leaves.iter().filter(|other| overlap(&other.phys, &leaf.phys)).count();
            assert_eq!(aliases, 1, "{state}: the gate's code is mapped twice: {leaf:x?}");
        }
        for leaf in leaves.iter().filter(|leaf| overlap(&leaf.phys, &data)) {
            assert!(!leaf.execute, "{state}: {leaf:x?}");
            if leaf.user {
                assert!(!leaf.write && overlap(&leaf.phys, &record), "{state}: {leaf:x?}");
            }
        }
        let inner = leaves.iter().filter(|leaf| !leaf.user && leaf.execute).count() as u64;
        assert_eq!(
            inner,
            (gate.end - gate.start) / PAGE_SIZE,
            "{state}: ring 0 runs the gate only"
        );
    }
}

/// What ring 3 can reach: ranges, and whether it can write and execute them.
type Reach = Vec<(Range<u64>, bool, bool)>;

fn user_ranges(guest: &Guest) -> Reach {
    let mut leaves = walk(guest).leaves;
    leaves.retain(|leaf| leaf.user);
    leaves.sort_by_key(|leaf| leaf.virt.start);
    let mut ranges = Reach::new();
    for leaf in leaves {
        match ranges.last_mut() {
            Some((range, write, execute))
                if range.end == leaf.virt.start
                    && (*write, *execute) == (leaf.write, leaf.execute) =>
            {
                range.end = leaf.virt.end;
            }
            _ => ranges.push((leaf.virt, leaf.write, leaf.execute)),
        }
    }
    ranges
}

/// What ring 3 should be able to reach, with these bytes in its linear memories.
fn expected(guest: &Guest, loaded: bool, memories: &[u64]) -> Reach {
    let mut reach: Reach = Vec::new();
    let mut add = |start: u64, len: u64, write, execute| {
        if len > 0 {
            reach.push((start..start + len, write, execute));
        }
    };
    add(layout::MAILBOX, layout::MAILBOX_SIZE, true, false);
    add(layout::TRAP_RECORD, PAGE_SIZE, false, false);
    let program = &platform().base.program;
    for segment in &program.segments {
        let (write, execute) =
            (segment.access == Access::ReadWrite, segment.access == Access::Code);
        let (start, end) = (segment.pages.start, segment.pages.end);
        if (start..end).contains(&program.gate.start) {
            add(start, program.gate.start - start, write, execute);
            add(program.gate.end, end - program.gate.end, write, execute);
        } else {
            add(start, end - start, write, execute);
        }
    }
    let stack = Limits::default().stack + (256 << 10);
    add(layout::STACK_TOP - stack, stack, true, false);
    let trap_stack = layout::TRAP_STACK_SIZE;
    add(layout::TRAP_STACK_TOP - trap_stack, trap_stack, true, false);
    add(layout::HEAP, guest.plan.heap.end - guest.plan.heap.start, true, false);
    add(layout::MORE_HEAP, guest.heap.more(), true, false);
    if loaded {
        let artifact = module().artifact().expect("compiled for the VM");
        let text = artifact.text();
        let (start, end) = (text.start as u64, (text.end as u64).next_multiple_of(PAGE_SIZE));
        add(layout::CODE, start, false, false);
        add(layout::CODE + start, end - start, false, true);
        let len = (artifact.code().len() as u64).next_multiple_of(PAGE_SIZE);
        add(layout::CODE + end, len.saturating_sub(end), false, false);
    }
    for (number, size) in memories.iter().enumerate() {
        let stride = layout::MEMORIES + number as u64 * layout::MEMORY_STRIDE;
        add(stride + layout::MEMORY_OFFSET, *size, true, false);
    }
    reach.sort_by_key(|(range, ..)| range.start);
    // Segments that follow each other without a gap are one range, as above.
    let mut merged = Reach::new();
    for (range, write, execute) in reach {
        match merged.last_mut() {
            Some((last, w, x)) if last.end == range.start && (*w, *x) == (write, execute) => {
                last.end = range.end;
            }
            _ => merged.push((range, write, execute)),
        }
    }
    merged
}

#[test]
fn ring_3_reaches_what_it_should_and_nothing_else() {
    let guest = fresh();
    assert_eq!(user_ranges(&guest), expected(&guest, false, &[]));
    let guest = started();
    assert_eq!(user_ranges(&guest), expected(&guest, true, &[1 << 16, 3 << 16]));
}

#[test]
fn growth_adds_to_ring_3s_reach_just_what_was_asked_for() {
    let mut guest = started();
    let mut pages = 1;
    // Within a large page, up to its end, across it, and over several.
    for more in [1, 30, 1, 100, 300] {
        assert_eq!(call(&mut guest, "grow", vec![Value::I32(more)]), [Value::I32(pages)]);
        pages += more;
        let size = u64::from(pages.cast_unsigned()) << 16;
        assert_eq!(user_ranges(&guest), expected(&guest, true, &[size, 3 << 16]));
    }
    assert!(u64::from(pages.cast_unsigned()) << 16 > 8 * LARGE_PAGE);
}

#[test]
fn a_heap_that_grows_adds_to_ring_3s_reach_just_what_was_given() {
    let mut guest = started();
    let memories = [1 << 16, 3 << 16];
    for size in [1, 3 << 20, 3 << 20, (20 << 20) + 1, 1 << 40] {
        let HostReply::Heap { size: given } = guest.grow_heap(size).expect("a reply") else {
            panic!("no answer to a request for heap");
        };
        assert_eq!(given, guest.heap.more());
        assert_eq!(user_ranges(&guest), expected(&guest, true, &memories));
    }
    assert!(guest.heap.more() > 20 << 20);
}

#[test]
fn no_two_addresses_share_memory_but_the_trap_record() {
    for (state, guest) in states() {
        let mut leaves = walk(&guest).leaves;
        leaves.sort_by_key(|leaf| leaf.phys.start);
        for pair in leaves.windows(2) {
            if overlap(&pair[0].phys, &pair[1].phys) {
                assert_eq!(pair[0].phys.start, RECORD, "{state}: {pair:x?}");
            }
        }
        let end = guest.vm.memory().len() as u64;
        assert!(leaves.iter().all(|leaf| leaf.phys.end <= end), "{state}: beyond the memory");
    }
}
