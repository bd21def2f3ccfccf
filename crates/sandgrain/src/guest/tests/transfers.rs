//! Ways to another place: far jumps, calls and returns, `iretq`, and the old ways into ring 0.

use super::segments::{look, selectors};
use super::*;
use vector::{GENERAL_PROTECTION as GP, INVALID_OPCODE as UD, PAGE_FAULT as PF, STACK as SS};

/// #NP: a segment that is not there.
const NOT_PRESENT: u64 = 11;
/// Another address of the page of code, within 32 bits: where a far jump of this size can get to.
const LOW_CODE: u64 = 0x1800_0000;
/// Where in that page what is jumped to lies.
const TARGET: usize = 0x800;

/// An attacker with its page of code at [`LOW_CODE`] too.
fn attacker() -> Attacker {
    let mut attacker = Attacker::new();
    let Guest { vm, space, plan, .. } = &mut attacker.guest;
    let mapped = space.map(vm.memory_mut(), LOW_CODE, plan.code.start, PAGE_SIZE, Access::Code);
    mapped.expect("a page for code");
    attacker
}

/// Code, and what it may get to: a read of what ring 3 may not read.
fn with_target(code: &[u8], target: &[u8]) -> Vec<u8> {
    let mut page = code.to_vec();
    assert!(page.len() <= TARGET);
    page.resize(TARGET, 0xcc);
    [&page, target, &look(&[], layout::GATE_DATA)].concat()
}

/// `mov rax, value; push rax`.
fn push(value: u64) -> Vec<u8> {
    [&[0x48, 0xb8][..], &value.to_le_bytes(), &[0x50]].concat()
}

/// What `iretq` pops.
#[derive(Clone, Copy, Debug)]
struct Frame {
    rip: u64,
    code: u64,
    flags: u64,
    rsp: u64,
    stack: u64,
}

/// A frame that is in order.
const HONEST: Frame = Frame {
    rip: LOW_CODE + TARGET as u64,
    code: layout::USER_CODE as u64,
    flags: 2,
    rsp: STACK,
    stack: layout::USER_DATA as u64,
};

fn interrupt_return(frame: Frame) -> Vec<u8> {
    let Frame { rip, code, flags, rsp, stack } = frame;
    let pushed = [stack, rsp, flags, code, rip].map(push).concat();
    [&pushed[..], &[0x48, 0xcf]].concat()
}

#[track_caller]
fn gets_nowhere(attacker: &mut Attacker, name: &str, code: &[u8]) {
    match attacker.run(code) {
        Ending::Fault { vector: GP | PF | SS | UD | NOT_PRESENT, .. } => {}
        ending => panic!("{name}: {ending:?}"),
    }
}

#[test]
fn iretq_with_any_selector_stays_in_ring_3() {
    let mut attacker = attacker();
    for selector in selectors() {
        for frame in [
            Frame { code: selector.into(), ..HONEST },
            Frame { stack: selector.into(), ..HONEST },
            Frame { code: selector.into(), stack: selector.into(), ..HONEST },
        ] {
            let code = with_target(&interrupt_return(frame), &[]);
            gets_nowhere(&mut attacker, &format!("{frame:x?}"), &code);
        }
    }
    next_sandbox_works();
}

#[test]
fn frames_of_nonsense_are_faults() {
    /// Debug traps and alignment faults, which flags can ask for.
    const ASKED_FOR: [u64; 2] = [vector::DEBUG, 17];
    let mut attacker = attacker();
    let addresses = [0, 1, 1 << 47, (1 << 47) - 1, 0xffff_7fff_ffff_ffff, 1 << 63, u64::MAX];
    let places = addresses.into_iter().chain([layout::GATE_DATA, layout::GATE_STACK_TOP]);
    let frames = places
        .flat_map(|place| [Frame { rip: place, ..HONEST }, Frame { rsp: place, ..HONEST }])
        .chain((0..64).map(|bit| Frame { flags: 1 << bit, ..HONEST }))
        .chain([
            Frame { flags: u64::MAX, ..HONEST },
            Frame { code: u64::MAX, stack: u64::MAX, ..HONEST },
            Frame { rip: u64::MAX, code: 0, flags: 0, rsp: u64::MAX, stack: 0 },
        ]);
    for frame in frames {
        for width in [&[0x48, 0xcf][..], &[0xcf], &[0x66, 0xcf]] {
            let code = interrupt_return(frame);
            let code = with_target(&[&code[..code.len() - 2], width].concat(), &[]);
            match attacker.run(&code) {
                Ending::Fault { vector: GP | PF | SS | UD | NOT_PRESENT, .. } => {}
                Ending::Fault { vector, .. } if ASKED_FOR.contains(&vector) => {}
                // QEMU has virtual-8086 mode in 64-bit mode too, where CS looks like one of ring 0.
                Ending::Fatal { reason: record::fatal::RING0, .. } if is_emulated() => {
                    attacker = self::attacker();
                }
                ending => panic!("{frame:x?}, {width:x?}: {ending:?}"),
            }
        }
    }
    // A frame where there is no memory, or none of ring 3's.
    for stack in addresses.into_iter().chain([layout::GATE_STACK_TOP - 40, layout::GATE_DATA]) {
        for width in [&[0x48, 0xcf][..], &[0x48, 0xcb], &[0x48, 0xca, 8, 0], &[0xc3]] {
            let code = [&[0x48, 0xbc][..], &stack.to_le_bytes(), width].concat();
            gets_nowhere(&mut attacker, &format!("{width:x?} at {stack:#x}"), &code);
        }
    }
    next_sandbox_works();
}

#[test]
fn far_jumps_calls_and_returns_with_any_selector_stay_in_ring_3() {
    let mut attacker = attacker();
    let target = LOW_CODE + TARGET as u64;
    for selector in selectors().map(u64::from) {
        // The pointer on the stack is 32 bits of address and a selector, or 64 bits on some CPUs.
        let short = push(selector << 32 | target);
        let long = [push(selector), push(target)].concat();
        for (name, pointer, instruction) in [
            ("jmp far", &short, &[0xff, 0x2c, 0x24][..]),
            ("call far", &short, &[0xff, 0x1c, 0x24]),
            ("retf", &short, &[0xcb]),
            ("jmp far, wide", &long, &[0x48, 0xff, 0x2c, 0x24]),
            ("call far, wide", &long, &[0x48, 0xff, 0x1c, 0x24]),
            ("retfq", &long, &[0x48, 0xcb]),
            ("retfq 8", &long, &[0x48, 0xca, 8, 0]),
        ] {
            let code = with_target(&[pointer, instruction].concat(), &[]);
            gets_nowhere(&mut attacker, &format!("{name} to {selector:#x}"), &code);
        }
    }
    next_sandbox_works();
}

#[test]
fn the_old_ways_into_ring_0_lead_nowhere_from_any_code_segment() {
    // 32-bit segments too, if the machine has one that ring 3 can get into.
    let mut attacker = attacker();
    for selector in selectors() {
        let code = interrupt_return(Frame { code: selector.into(), ..HONEST });
        for (name, entry) in [
            ("int 0x80", &[0xcd, 0x80][..]),
            ("int 0x2e", &[0xcd, 0x2e]),
            ("sysenter", &[0x0f, 0x34]),
            ("syscall", &[0x0f, 0x05]),
            ("sysexit", &[0x0f, 0x35]),
            ("sysret", &[0x0f, 0x07]),
            ("into", &[0xce]),
        ] {
            match attacker.run(&with_target(&code, entry)) {
                Ending::Fault { .. } => {}
                Ending::Fatal { reason: record::fatal::SYSCALL, .. } => attacker = self::attacker(),
                ending => panic!("{name} in {selector:#x}: {ending:?}"),
            }
        }
    }
    next_sandbox_works();
}

#[test]
fn addresses_that_are_none_cannot_be_gone_to() {
    let mut attacker = attacker();
    for target in [1 << 47, 0xffff_7fff_ffff_ffff, 1 << 63, 0x8000_0000_0000_1000] {
        for (name, instruction) in [
            ("jmp", &[0xff, 0xe0][..]),
            ("call", &[0xff, 0xd0]),
            ("ret", &[0xc3]),
            ("ret 8", &[0xc2, 8, 0]),
            ("jmp through memory", &[0xff, 0x24, 0x24]),
            ("call through memory", &[0xff, 0x14, 0x24]),
        ] {
            let code = [&push(target)[..], instruction].concat();
            gets_nowhere(&mut attacker, &format!("{name} to {target:#x}"), &code);
        }
    }
    // The last address that is one: what follows it is none.
    let last = (1_u64 << 47) - 1;
    gets_nowhere(&mut attacker, "the last byte", &[&push(last)[..], &[0xc3]].concat());
    next_sandbox_works();
}
