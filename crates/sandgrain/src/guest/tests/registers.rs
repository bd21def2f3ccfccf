//! Registers that are ring 0's: control, debug and model-specific ones, and those of descriptor tables;
//! and counters, which ring 3 may read or not, as the CPU has it.

use super::*;
use vector::{GENERAL_PROTECTION as GP, INVALID_OPCODE as UD, PAGE_FAULT as PF};

/// Runs code that ring 3 must not.
#[track_caller]
fn faults(attacker: &mut Attacker, name: &str, code: &[u8]) {
    match attacker.run(code) {
        Ending::Fault { vector: GP | UD, .. } => {}
        ending => panic!("{name}: {ending:?}"),
    }
}

/// `mov register, value`, of EAX, ECX and so on by their numbers.
fn put(register: u8, value: u32) -> Vec<u8> {
    [&[0xb8 | register][..], &value.to_le_bytes()].concat()
}

#[test]
fn no_control_or_debug_register_can_be_read_or_written() {
    let mut attacker = Attacker::new();
    // With a lock prefix, CR0 is CR8 on some CPUs.
    for lock in [&[][..], &[0xf0]] {
        for (name, opcode) in
            [("from cr", 0x20), ("from dr", 0x21), ("to cr", 0x22), ("to dr", 0x23)]
        {
            for number in 0..16_u8 {
                let register = [0x48 | (number >> 3) << 2, 0x0f, opcode, 0xc0 | (number & 7) << 3];
                let code = [&put(0, u32::MAX)[..], lock, &register].concat();
                faults(&mut attacker, &format!("{name}{number}, lock {lock:x?}"), &code);
            }
        }
    }
    next_sandbox_works();
}

#[test]
fn no_model_specific_register_can_be_read_or_written() {
    let mut attacker = Attacker::new();
    let numbers = (0..0x400)
        .chain(0x480..0x4a0)
        .chain(0x800..0x840)
        .chain(0xc000_0080..0xc000_0088)
        .chain(0xc000_0100..0xc000_0108)
        .chain(0xc001_0000..0xc001_0150)
        // Those of hypervisors: Hyper-V's, KVM's.
        .chain(0x4000_0000..0x4000_0010)
        .chain(0x4b56_4d00..0x4b56_4d10)
        .chain(0x4b56_4df0..0x4b56_4e00)
        .chain([0x7fff_ffff, 0x8000_0000, u32::MAX]);
    for number in numbers {
        for (name, opcode) in [("rdmsr", 0x32), ("wrmsr", 0x30)] {
            let code = [&put(1, number)[..], &put(0, 1), &put(2, 0), &[0x0f, opcode]].concat();
            faults(&mut attacker, &format!("{name} {number:#x}"), &code);
        }
    }
    next_sandbox_works();
}

#[test]
fn no_descriptor_table_or_task_can_be_loaded() {
    let mut attacker = Attacker::new();
    // What lgdt and lidt would load: a table of 64 KiB in the heap.
    let heap = [&[0x48, 0xb8][..], &layout::HEAP.to_le_bytes(), &[0x50]].concat(); // mov rax; push rax
    let table = [&heap[..], &[0x66, 0x6a, 0xff]].concat(); // push word -1
    for (name, reg) in [("lgdt [rsp]", 2), ("lidt [rsp]", 3)] {
        let code = [&table[..], &[0x0f, 0x01, reg << 3 | 4, 0x24]].concat();
        faults(&mut attacker, name, &code);
    }
    for selector in segments::selectors() {
        for (name, reg) in [("lldt", 2), ("ltr", 3)] {
            let code = [&put(0, selector.into())[..], &[0x0f, 0x00, 0xc0 | reg << 3]].concat();
            faults(&mut attacker, &format!("{name} {selector:#x}"), &code);
        }
    }
    // Into real mode, out of it, and with emulation of a coprocessor.
    for word in [0, 1, 6, 0xf, 0xffff] {
        let code = [&put(0, word)[..], &[0x0f, 0x01, 0xf0]].concat();
        faults(&mut attacker, &format!("lmsw {word:#x}"), &code);
    }
    next_sandbox_works();
}

/// Stores of what ring 3 must not load, each to the memory at RAX.
const STORES: &[(&str, &[u8])] = &[
    ("sgdt", &[0x0f, 0x01, 0x00]),
    ("sidt", &[0x0f, 0x01, 0x08]),
    ("sldt", &[0x0f, 0x00, 0x00]),
    ("str", &[0x0f, 0x00, 0x08]),
    ("smsw", &[0x0f, 0x01, 0x20]),
];

#[test]
fn where_descriptor_tables_are_is_of_no_use() {
    // A CPU with UMIP does not even show it; others do, and their answers change nothing.
    let umip = platform().hypervisor.cpu_features().umip();
    let mut attacker = Attacker::new();
    for (name, store) in STORES {
        match attacker.run(&[&put(0, layout::MAILBOX as u32 + 0x4000), *store].concat()) {
            Ending::Fault { vector: GP | UD, .. } => {}
            Ending::Finished if !umip => {}
            // Where KVM stands in for a CPU without UMIP it has no means to catch this one, which shows bits of CR0.
            Ending::Finished if *name == "smsw" => {}
            ending => panic!("{name}: {ending:?}"),
        }
        // The gate's data cannot be overwritten by one, whoever carries it out.
        for target in [layout::GATE_RECORD + record::TRAP_ENTRY, layout::GDT + 8, layout::IDT] {
            let before = attacker.guest.vm.memory().read_u64(target - layout::GATE_DATA);
            match attacker.run(&[&put(0, target as u32), *store].concat()) {
                Ending::Fault { vector: GP | UD | PF, .. } => {}
                ending => panic!("{name} to {target:#x}: {ending:?}"),
            }
            let after = attacker.guest.vm.memory().read_u64(target - layout::GATE_DATA);
            assert_eq!(before.expect("memory"), after.expect("memory"), "{name} to {target:#x}");
        }
    }
    next_sandbox_works();
}

#[test]
fn counters_and_extended_control_registers_can_be_read_at_most() {
    let mut attacker = Attacker::new();
    let numbers = (0..16).chain([0x4000_0000, 0x4000_0001, 0x8000_0000, u32::MAX]);
    for number in numbers {
        for (name, instruction) in [
            ("rdpmc", &[0x0f, 0x33][..]),
            ("xgetbv", &[0x0f, 0x01, 0xd0]),
            ("rdtsc", &[0x0f, 0x31]),
            ("rdtscp", &[0x0f, 0x01, 0xf9]),
            ("rdpid", &[0xf3, 0x0f, 0xc7, 0xf8]),
            ("rdpru", &[0x0f, 0x01, 0xfd]),
            ("rdpkru", &[0x0f, 0x01, 0xee]),
        ] {
            match attacker.run(&[&put(1, number), instruction].concat()) {
                Ending::Finished | Ending::Fault { vector: GP | UD, .. } => {}
                ending => panic!("{name} {number:#x}: {ending:?}"),
            }
        }
        // All of it on, nothing of it on.
        for value in [u32::MAX, 0, 1] {
            let code = [&put(1, number)[..], &put(0, value), &put(2, 0), &[0x0f, 0x01, 0xd1]];
            faults(&mut attacker, &format!("xsetbv {number:#x}"), &code.concat());
        }
    }
    next_sandbox_works();
}
