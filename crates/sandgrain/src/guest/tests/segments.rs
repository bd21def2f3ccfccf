//! Segment registers, their bases, and flags.

use super::*;
use vector::{GENERAL_PROTECTION as GP, INVALID_OPCODE as UD, PAGE_FAULT as PF, STACK as SS};

/// #NP: a segment that is not there.
const NOT_PRESENT: u64 = 11;
/// #AC.
const ALIGNMENT: u64 = 17;

/// `mov cl, [address]`, in 64-bit code as in 32-bit code.
pub(super) fn look(prefix: &[u8], address: u64) -> Vec<u8> {
    [prefix, &[0x8a, 0x0c, 0x25], &(address as u32).to_le_bytes()].concat()
}

/// Every selector of the first 64 descriptors, global and local, with every privilege level, and some
/// beyond.
pub(super) fn selectors() -> impl Iterator<Item = u16> {
    (0..0x200).chain([0x0fff, 0x7ff8, 0x8003, 0xfff8, 0xfffc, 0xffff])
}

#[test]
fn no_segment_reaches_what_ring_3_may_not() {
    let mut attacker = Attacker::new();
    for (name, load, prefix) in [
        ("es", 0xc0, &[0x26][..]),
        ("ss", 0xd0, &[0x36]),
        ("ds", 0xd8, &[0x3e]),
        ("fs", 0xe0, &[0x64]),
        ("gs", 0xe8, &[0x65]),
    ] {
        for selector in selectors() {
            let s = selector.to_le_bytes();
            // mov eax, selector; mov segment, eax; mov cl, segment:[GATE_DATA]
            let code =
                [&[0xb8, s[0], s[1], 0, 0, 0x8e, load][..], &look(prefix, layout::GATE_DATA)];
            match attacker.run(&code.concat()) {
                Ending::Fault { vector: GP | PF | SS | NOT_PRESENT | UD, .. } => {}
                ending => panic!("{name} = {selector:#x}: {ending:?}"),
            }
        }
    }
    next_sandbox_works();
}

#[test]
fn no_code_segment_reaches_what_ring_3_may_not() {
    // Software KVMs may have code segments of their own for ring 3: what counts is what they can reach.
    let mut attacker = Attacker::new();
    for selector in selectors() {
        let s = selector.to_le_bytes();
        // push selector; lea rax, [rip + 3]; push rax; retfq; and there: mov cl, [GATE_DATA]
        let push = [0x68, s[0], s[1], 0, 0, 0x48, 0x8d, 0x05, 3, 0, 0, 0, 0x50, 0x48, 0xcb];
        let code = [&push[..], &look(&[], layout::GATE_DATA)].concat();
        match attacker.run(&code) {
            Ending::Fault { vector: GP | PF | NOT_PRESENT | UD, .. } => {}
            ending => panic!("{selector:#x}: {ending:?}"),
        }
    }
    next_sandbox_works();
}

/// `mov rax, base; wrfsbase rax` or `wrgsbase rax`.
fn set_base(base: u64, which: u8) -> Vec<u8> {
    [&[0x48, 0xb8][..], &base.to_le_bytes(), &[0xf3, 0x48, 0x0f, 0xae, 0xc0 | which << 3]].concat()
}

#[test]
fn segment_bases_reach_what_ring_3_may_reach_and_no_more() {
    // #UD: ring 3 cannot set them. Software KVMs may let it, since their ring 3 is the host's.
    for (which, prefix) in [(2, 0x64), (3, 0x65)] {
        let no_addresses = [1 << 47, 0xffff_7fff_ffff_ffff, 1 << 63];
        let places = [0, layout::GATE_DATA, layout::IDT, 0xffff_8000_0000_0000, u64::MAX];
        for base in places.into_iter().chain(no_addresses) {
            let code = [set_base(base, which), look(&[prefix], layout::GATE_DATA)].concat();
            match attack(&code) {
                Ending::Fault { vector: GP | PF | UD | SS, .. } => {}
                ending => panic!("{base:#x}: {ending:?}"),
            }
        }
        for base in no_addresses {
            let ending = attack(&set_base(base, which));
            assert!(
                matches!(ending, Ending::Fault { vector: GP | UD, .. }),
                "{base:#x}: {ending:?}"
            );
        }
        // A base of nonsense at the moment of a fault, and of a hypercall, is nobody's trouble.
        let code = [set_base(0x7fff_dead_b000, which), vec![0x0f, 0x0b]].concat();
        assert!(matches!(attack(&code), Ending::Fault { vector: UD, .. }));
        match attack(&set_base(0x7fff_dead_b000, which)) {
            Ending::Finished | Ending::Fault { vector: UD, .. } => {}
            ending => panic!("{ending:?}"),
        }
    }
    next_sandbox_works();
}

/// Everything that `popfq` could mean to change: `popfq` of all ones but the trap flag.
const ALL_FLAGS: u64 = !(1 << 8);
/// IOPL, VM, VIF, VIP.
const RING_0S_FLAGS: u64 = 3 << 12 | 1 << 17 | 1 << 19 | 1 << 20;

fn set_all_flags() -> Vec<u8> {
    // mov rax, flags; push rax; popfq
    [&[0x48, 0xb8][..], &ALL_FLAGS.to_le_bytes(), &[0x50, 0x9d]].concat()
}

#[test]
fn flags_of_ring_0_cannot_be_set() {
    let mut attacker = Attacker::new();
    match attacker.run(&set_all_flags()) {
        Ending::Finished => {}
        ending => panic!("{ending:?}"),
    }
    let flags = attacker.guest.vm.registers().expect("registers").rflags;
    assert_eq!(flags & RING_0S_FLAGS, 0, "{flags:#x}");
    // Ports are as closed as before.
    let out = [&set_all_flags()[..], &[0xe6, 0x80]].concat();
    assert!(matches!(attack(&out), Ending::Fault { vector: GP, .. }));
    next_sandbox_works();
}

#[test]
fn flags_do_not_confuse_the_gate_and_the_trap_entry() {
    // Direction, alignment, nested task, resume and the rest, at a fault of each kind.
    for (name, code, vector) in [
        ("ud2", vec![0x0f, 0x0b], UD),
        ("hlt", vec![0xf4], GP),
        ("page fault", look(&[], layout::GATE_DATA), PF),
    ] {
        let ending = attack(&[set_all_flags(), code].concat());
        assert!(
            matches!(ending, Ending::Fault { vector: v, .. } if v == vector),
            "{name}: {ending:?}"
        );
    }
    next_sandbox_works();
}

#[test]
fn a_nested_task_cannot_be_returned_from() {
    // iretq with the nested-task flag set would switch tasks, if there were such a thing.
    let nested = [0x9c, 0x81, 0x0c, 0x24, 0, 0x40, 0, 0, 0x9d]; // pushfq; or [rsp], NT; popfq
    // push data; push rsp; pushfq; push code; push CODE; iretq
    let target = [&[0x48, 0xb8][..], &CODE.to_le_bytes(), &[0x50, 0x48, 0xcf]].concat();
    let frame = [0x6a, layout::USER_DATA as u8, 0x54, 0x9c, 0x6a, 0];
    let ending = attack(&[&nested[..], &frame, &target].concat());
    assert!(matches!(ending, Ending::Fault { vector: GP | UD, .. }), "{ending:?}");
    next_sandbox_works();
}

#[test]
fn alignment_checks_cannot_be_turned_on_against_the_runtime() {
    // Software KVMs have the host's CR0, with alignment checks allowed: then it is ring 3's own fault.
    let odd = look(&[0x66], layout::MAILBOX + 0x4001); // with 0x66 it is mov cl still
    let read = [&[0x8b, 0x0c, 0x25][..], &((layout::MAILBOX + 0x4001) as u32).to_le_bytes()];
    match attack(&[set_all_flags(), odd, read.concat()].concat()) {
        Ending::Finished | Ending::Fault { vector: ALIGNMENT, .. } => {}
        ending => panic!("{ending:?}"),
    }
    next_sandbox_works();
}

#[test]
fn a_debug_trap_held_back_by_a_load_of_ss_gains_nothing() {
    // pushfq; or [rsp], TF; mov eax, data; popfq; mov ss, eax; then a way into ring 0. The trap may come
    // in the gate's first instruction, which ends the guest.
    let held = [
        &[0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0xb8, layout::USER_DATA as u8, 0, 0, 0][..],
        &[0x9d, 0x8e, 0xd0],
    ]
    .concat();
    for (name, entry) in
        [("int3", &[0xcc][..]), ("int1", &[0xf1]), ("ud2", &[0x0f, 0x0b]), ("syscall", &[0x0f, 5])]
    {
        match attack(&[&held, entry].concat()) {
            Ending::Fault { .. } => {}
            Ending::Fatal { reason: record::fatal::RING0 | record::fatal::SYSCALL, .. } => {}
            ending => panic!("{name}: {ending:?}"),
        }
    }
    next_sandbox_works();
}
