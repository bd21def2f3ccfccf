//! Machine code of ours in ring 3, which must not get anywhere.

use super::*;
use crate::machine::plan::FIRST_HEAP;
use sandgrain_abi::layout::MEMORIES;

/// `mov rax, address`.
fn address(address: u64) -> Vec<u8> {
    [&[0x48, 0xb8][..], &address.to_le_bytes()].concat()
}

/// Reads a byte.
pub(super) fn load(from: u64) -> Vec<u8> {
    [address(from), vec![0x8a, 0x08]].concat() // mov cl, [rax]
}

/// Writes a byte.
pub(super) fn store(to: u64) -> Vec<u8> {
    [address(to), vec![0x88, 0x08]].concat() // mov [rax], cl
}

/// Jumps somewhere.
fn jump(to: u64) -> Vec<u8> {
    [address(to), vec![0xff, 0xe0]].concat() // jmp rax
}

/// Bits of a page fault's error code.
pub(super) const PRESENT: u64 = 1;
pub(super) const WRITE: u64 = 2;
pub(super) const USER: u64 = 4;
const FETCH: u64 = 16;

#[track_caller]
fn page_fault(name: &str, code: &[u8], error: u64, address: u64) {
    let expected = Ending::Fault { vector: vector::PAGE_FAULT, error, address };
    assert_eq!(attack(code), expected, "{name} {address:#x}");
}

#[test]
fn code_cannot_be_written() {
    let program = &platform().base.program;
    for address in [CODE, program.entry, program.trap_entry, program.gate.start] {
        page_fault("write", &store(address), PRESENT | USER | WRITE, address);
    }
    next_sandbox_works();
}

#[test]
fn the_gates_data_can_be_neither_read_nor_written() {
    for address in [
        layout::GDT,
        layout::IDT,
        layout::TSS,
        layout::GATE_STACK_TOP - 8,
        layout::GATE_RECORD,
        layout::GATE_RECORD + record::TRAP_ENTRY,
    ] {
        page_fault("read", &load(address), PRESENT | USER, address);
        page_fault("write", &store(address), PRESENT | USER | WRITE, address);
    }
    next_sandbox_works();
}

#[test]
fn the_gate_can_be_neither_read_nor_entered() {
    let gate = platform().base.program.gate.clone();
    for address in [gate.start, gate.start + layout::VECTOR_STRIDE, gate.end - 1] {
        page_fault("read", &load(address), PRESENT | USER, address);
        page_fault("jump", &jump(address), PRESENT | USER | FETCH, address);
    }
    next_sandbox_works();
}

#[test]
fn the_runtimes_view_of_the_trap_record_cannot_be_written() {
    for address in [layout::TRAP_RECORD, layout::TRAP_RECORD + record::TRAP_ENTRY] {
        page_fault("write", &store(address), PRESENT | USER | WRITE, address);
    }
    next_sandbox_works();
}

#[test]
fn data_cannot_be_executed() {
    for address in [
        layout::MAILBOX,
        layout::TRAP_RECORD,
        STACK,
        layout::TRAP_STACK_TOP - 64,
        layout::HEAP,
        MEMORIES + layout::MEMORY_OFFSET,
        layout::GATE_DATA,
    ] {
        page_fault("jump", &jump(address), PRESENT | USER | FETCH, address);
    }
    next_sandbox_works();
}

#[test]
fn there_is_nothing_around_what_is_mapped() {
    let stack = Limits::default().stack + (256 << 10);
    let memory = MEMORIES + layout::MEMORY_OFFSET;
    for address in [
        0,
        layout::GATE_DATA - 1,
        layout::GATE_DATA + layout::GATE_DATA_PAGES * PAGE_SIZE,
        layout::MAILBOX - 1,
        layout::MAILBOX + layout::MAILBOX_SIZE,
        layout::TRAP_RECORD + PAGE_SIZE,
        layout::STACK_TOP - stack - 1,
        layout::STACK_TOP,
        layout::TRAP_STACK_TOP - layout::TRAP_STACK_SIZE - 1,
        layout::TRAP_STACK_TOP,
        layout::HEAP - 1,
        layout::HEAP + FIRST_HEAP,
        layout::MORE_HEAP - 1,
        layout::MORE_HEAP,
        CODE - 1,
        CODE + PAGE_SIZE,
        memory - 1,
        memory + 0x1_0000,
        memory + layout::MEMORY_RESERVATION,
        memory + layout::MEMORY_RESERVATION + layout::MEMORY_GUARD - 1,
        0x7fff_ffff_ffff,
    ] {
        page_fault("read", &load(address), USER, address);
        page_fault("write", &store(address), USER | WRITE, address);
    }
    next_sandbox_works();
}

#[test]
fn the_upper_half_is_empty() {
    for address in [0xffff_8000_0000_0000, 0xffff_ffff_8000_0000, u64::MAX] {
        for code in [load(address), store(address), jump(address)] {
            // Software KVMs have things of their own there, so the error code may say more.
            match attack(&code) {
                Ending::Fault { vector: vector::PAGE_FAULT, address: at, .. } => {
                    assert_eq!(at, address);
                }
                ending => panic!("{address:#x}: {ending:?}"),
            }
        }
    }
    next_sandbox_works();
}

#[test]
fn page_tables_are_not_where_they_are_in_guest_physical_memory() {
    let guest = fresh();
    for address in [guest.space.root(), guest.plan.tables.start, guest.plan.tables.end - 8] {
        let mut attacker = Attacker::new();
        let entry = |attacker: &Attacker| attacker.guest.vm.memory().read_u64(address);
        let before = entry(&attacker).expect("memory");
        // The number may be the address of something else, which ring 3 may or may not write.
        let ending = attacker.run(&[&[0xb1, 0xff][..], &store(address)].concat());
        assert_eq!(entry(&attacker).expect("memory"), before, "{ending:?}");
    }
    next_sandbox_works();
}

#[test]
fn an_address_that_is_none_is_a_general_protection_fault() {
    for code in [load(1 << 47), store(0x8000_0000_0000_0000), jump(1 << 63)] {
        let ending = attack(&code);
        assert!(
            matches!(ending, Ending::Fault { vector: vector::GENERAL_PROTECTION, .. }),
            "{ending:?}"
        );
    }
    next_sandbox_works();
}

use vector::{GENERAL_PROTECTION as GP, INVALID_OPCODE as UD};

/// What ring 3 must not do, and the exceptions of which one is the answer.
const PRIVILEGED: &[(&str, &[u8], &[u64])] = &[
    ("mov cr0, rax", &[0x0f, 0x22, 0xc0], &[GP]),
    ("mov rax, cr0", &[0x0f, 0x20, 0xc0], &[GP]),
    ("mov cr2, rax", &[0x0f, 0x22, 0xd0], &[GP]),
    ("mov cr3, rax", &[0x0f, 0x22, 0xd8], &[GP]),
    ("mov rax, cr3", &[0x0f, 0x20, 0xd8], &[GP]),
    ("mov cr4, rax", &[0x0f, 0x22, 0xe0], &[GP]),
    ("mov cr8, rax", &[0x44, 0x0f, 0x22, 0xc0], &[GP]),
    ("mov dr0, rax", &[0x0f, 0x23, 0xc0], &[GP]),
    ("mov dr7, rax", &[0x0f, 0x23, 0xf8], &[GP]),
    ("mov rax, dr7", &[0x0f, 0x21, 0xf8], &[GP]),
    ("lmsw ax", &[0x0f, 0x01, 0xf0], &[GP]),
    ("clts", &[0x0f, 0x06], &[GP]),
    ("rdmsr", &[0x0f, 0x32], &[GP]),
    ("wrmsr", &[0x0f, 0x30], &[GP]),
    ("rdpmc", &[0x0f, 0x33], &[GP, UD]),
    ("xsetbv", &[0x0f, 0x01, 0xd1], &[GP, UD]),
    ("hlt", &[0xf4], &[GP]),
    ("cli", &[0xfa], &[GP]),
    ("sti", &[0xfb], &[GP]),
    ("lgdt [rsp]", &[0x0f, 0x01, 0x14, 0x24], &[GP]),
    ("lidt [rsp]", &[0x0f, 0x01, 0x1c, 0x24], &[GP]),
    ("lldt ax", &[0x0f, 0x00, 0xd0], &[GP]),
    ("ltr ax", &[0x0f, 0x00, 0xd8], &[GP]),
    ("invlpg [rsp]", &[0x0f, 0x01, 0x3c, 0x24], &[GP]),
    ("invd", &[0x0f, 0x08], &[GP]),
    ("wbinvd", &[0x0f, 0x09], &[GP]),
    ("swapgs", &[0x0f, 0x01, 0xf8], &[GP]),
    ("sysret", &[0x48, 0x0f, 0x07], &[GP, UD]),
    ("sysret to 32-bit code", &[0x0f, 0x07], &[GP, UD]),
    ("sysexit", &[0x48, 0x0f, 0x35], &[GP, UD]),
    ("sysexit to 32-bit code", &[0x0f, 0x35], &[GP, UD]),
    ("sysenter", &[0x0f, 0x34], &[GP, UD]),
    ("monitor", &[0x0f, 0x01, 0xc8], &[GP, UD]),
    ("mwait", &[0x0f, 0x01, 0xc9], &[GP, UD]),
    ("vmrun", &[0x0f, 0x01, 0xd8], &[GP, UD]),
    ("vmxon [rsp]", &[0xf3, 0x0f, 0xc7, 0x34, 0x24], &[GP, UD]),
    ("rsm", &[0x0f, 0xaa], &[UD, GP]),
    ("ud2", &[0x0f, 0x0b], &[UD]),
];

#[test]
fn privileged_instructions_fault() {
    for (name, code, expected) in PRIVILEGED {
        match attack(code) {
            Ending::Fault { vector, .. } if expected.contains(&vector) => {}
            ending => panic!("{name}: {ending:?}"),
        }
    }
    next_sandbox_works();
}

#[test]
fn the_hypervisor_takes_no_calls_from_ring_3() {
    for (name, code) in [("vmcall", [0x0f, 0x01, 0xc1]), ("vmmcall", [0x0f, 0x01, 0xd9])] {
        // A fault; or, as KVM has it, an error in RAX, which is not what it was.
        let attacker = &mut Attacker::new();
        match attacker.run(&[&[0x31, 0xc0][..], &code].concat()) {
            Ending::Fault { vector: UD | GP, .. } => {}
            // KVM puts the CPU's own instruction in the place of the other maker's: a write of ring 3's.
            Ending::Fault { vector: vector::PAGE_FAULT, error, address } => {
                assert_eq!((error, address), (PRESENT | USER | WRITE, CODE + 2), "{name}");
            }
            Ending::Finished => {
                let rax = attacker.guest.vm.registers().expect("registers").rax;
                assert!(rax.cast_signed() < 0, "{name} did something: {rax:#x}");
            }
            ending => panic!("{name}: {ending:?}"),
        }
    }
    next_sandbox_works();
}

#[test]
fn syscall_gets_nowhere() {
    match attack(&[0x0f, 0x05]) {
        // It is switched off; or it ends at the gate's stub; or, as some software KVMs have it, it
        // jumps there and stays in ring 3, which may not execute it.
        Ending::Fault { vector: UD, .. } => {}
        Ending::Fatal { reason: record::fatal::SYSCALL, .. } => {}
        Ending::Fault { vector: vector::PAGE_FAULT, error, address } => {
            let stub = platform().base.program.gate.start + layout::VECTORS * layout::VECTOR_STRIDE;
            assert_eq!((error, address), (PRESENT | USER | FETCH, stub));
        }
        ending => panic!("{ending:?}"),
    }
    next_sandbox_works();
}

#[test]
fn ring_3_cannot_raise_an_exception_of_its_choice() {
    let mut attacker = Attacker::new();
    for number in 0..=255_u8 {
        match attacker.run(&[0xcd, number]) {
            Ending::Fault { vector: GP | UD, .. } => {}
            // Software KVMs deliver these whatever their entries permit.
            Ending::Fault {
                vector: vector @ (vector::DEBUG | vector::BREAKPOINT | vector::OVERFLOW),
                ..
            } if vector == u64::from(number) => {}
            // One of them has a number of its own that is `cpuid`, which ring 3 may execute anyway.
            Ending::Finished => {
                let after = |attacker: &Attacker| attacker.guest.vm.registers().expect("registers");
                let got = after(&attacker);
                assert_eq!(attacker.run(&[0x0f, 0xa2]), Ending::Finished, "cpuid");
                assert_eq!(got, after(&attacker), "int {number:#x} does something");
            }
            ending => panic!("int {number:#x}: {ending:?}"),
        }
    }
    for (code, own) in [(0xcc, vector::BREAKPOINT), (0xf1, vector::DEBUG)] {
        match attacker.run(&[code]) {
            Ending::Fault { vector, .. } if [own, GP, UD].contains(&vector) => {}
            ending => panic!("{code:#x}: {ending:?}"),
        }
    }
    next_sandbox_works();
}

/// `pushfq; or dword ptr [rsp], bits; popfq; nop`.
fn set_flags(bits: u32) -> Vec<u8> {
    [&[0x9c, 0x81, 0x0c, 0x24][..], &bits.to_le_bytes(), &[0x9d, 0x90]].concat()
}

#[test]
fn a_single_step_is_a_fault_like_any_other() {
    let ending = attack(&set_flags(1 << 8));
    assert!(matches!(ending, Ending::Fault { vector: vector::DEBUG, .. }), "{ending:?}");
    next_sandbox_works();
}

#[test]
fn ring_3_cannot_give_itself_the_right_to_all_ports() {
    let code = [&set_flags(3 << 12)[..], &[0xe6, 0x80]].concat(); // out 0x80, al
    let ending = attack(&code);
    assert!(matches!(ending, Ending::Fault { vector: GP, .. }), "{ending:?}");
    let code = [&set_flags(3 << 12)[..], &[0xfa]].concat(); // cli
    let ending = attack(&code);
    assert!(matches!(ending, Ending::Fault { vector: GP, .. }), "{ending:?}");
    next_sandbox_works();
}

#[test]
fn far_transfers_do_not_reach_ring_0() {
    let kernel = [layout::KERNEL_CODE, layout::KERNEL_CODE | 3, layout::TASK, 0, 0x38, 0xfff8];
    for selector in kernel {
        let s = selector.to_le_bytes();
        // push selector; lea rax, [rip]; push rax; retfq
        let push = [0x68, s[0], s[1], 0, 0];
        let far_return = [&push[..], &[0x48, 0x8d, 0x05, 0, 0, 0, 0], &[0x50, 0x48, 0xcb]].concat();
        // mov rax, selector:offset; push rax; jmp far [rsp]
        let pointer = u64::from(selector) << 32 | 0x1000;
        let far_jump = [address(pointer), vec![0x50, 0xff, 0x2c, 0x24]].concat();
        let far_call = [address(pointer), vec![0x50, 0xff, 0x1c, 0x24]].concat();
        // push data; push stack; pushfq; push selector; push rax; iretq
        let data = [0x6a, layout::USER_DATA as u8, 0x54, 0x9c];
        let interrupt_return = [&data[..], &push[..], &address(CODE), &[0x50, 0x48, 0xcf]].concat();
        for (name, code) in [
            ("retfq", far_return),
            ("jmp far", far_jump),
            ("call far", far_call),
            ("iretq", interrupt_return),
        ] {
            let ending = attack(&code);
            assert!(
                // Software KVMs do not emulate all of them.
                matches!(ending, Ending::Fault { vector: GP | UD, .. }),
                "{name} to {selector:#x}: {ending:?}"
            );
        }
    }
    next_sandbox_works();
}

#[test]
fn ring_0s_data_segments_cannot_be_loaded() {
    for (name, code) in [("ss", [0x8e, 0xd0]), ("ds", [0x8e, 0xd8]), ("gs", [0x8e, 0xe8])] {
        let code = [&[0xb8, layout::KERNEL_DATA as u8, 0, 0, 0][..], &code].concat();
        let ending = attack(&code);
        assert!(matches!(ending, Ending::Fault { vector: GP, .. }), "{name}: {ending:?}");
    }
    next_sandbox_works();
}

#[test]
fn a_fault_in_the_trap_entry_ends_the_guest() {
    // With its stack pointer in the trap entry's stack, ring 3 looks as if it were in the trap entry.
    let stack = layout::TRAP_STACK_TOP - 64;
    let code = [&[0x48, 0xbc][..], &stack.to_le_bytes(), &[0x0f, 0x0b]].concat();
    let expected = Ending::Fatal { reason: record::fatal::NESTED, vector: UD };
    assert_eq!(attack(&code), expected);
    next_sandbox_works();
}

#[test]
fn a_guest_that_the_gate_has_ended_stays_ended() {
    let mut attacker = Attacker::new();
    let stack = layout::TRAP_STACK_TOP - 64;
    attacker.load(&[&[0x48, 0xbc][..], &stack.to_le_bytes(), &[0x0f, 0x0b]].concat());
    for _ in 0..3 {
        let error = attacker.guest.run(&mut Host::default()).expect_err("an end");
        let text = error.to_string();
        assert!(matches!(error, Error::Guest(_)) && text.contains("in the trap entry"), "{text}");
    }
    next_sandbox_works();
}

#[test]
fn a_bad_stack_pointer_harms_ring_3_only() {
    for stack in [0, 1, layout::GATE_STACK_TOP, layout::GATE_RECORD + 64, 1 << 63, u64::MAX] {
        // mov rsp, stack; push rax
        let code = [&[0x48, 0xbc][..], &stack.to_le_bytes(), &[0x50]].concat();
        match attack(&code) {
            Ending::Fault { vector: vector::PAGE_FAULT | vector::STACK | GP, .. } => {}
            ending => panic!("{stack:#x}: {ending:?}"),
        }
        // mov rsp, stack; ud2: the gate takes no interest in ring 3's stack.
        let code = [&[0x48, 0xbc][..], &stack.to_le_bytes(), &[0x0f, 0x0b]].concat();
        let ending = attack(&code);
        assert!(matches!(ending, Ending::Fault { vector: UD, .. }), "{stack:#x}: {ending:?}");
    }
    next_sandbox_works();
}
