//! Faults without end.

use super::*;
use std::time::Duration;
use vector::{GENERAL_PROTECTION as GP, INVALID_OPCODE as UD, PAGE_FAULT as PF};

#[test]
fn ten_thousand_faults_leave_the_machine_as_it_was() {
    let mut attacker = Attacker::new();
    let before = attacker.guest.vm.memory().resident_pages().expect("a count");
    let load = attacks::load(0);
    let kinds = [(&[0x0f, 0x0b][..], UD), (&[0xf4], GP), (&load, PF)];
    let mut after_the_first = None;
    for round in 0..10_000 {
        let (code, expected) = kinds[round % kinds.len()];
        match attacker.run(code) {
            Ending::Fault { vector, .. } if vector == expected => {}
            ending => panic!("fault {round}: {ending:?}"),
        }
        if round == 10 {
            let pages = attacker.guest.vm.memory().resident_pages().expect("a count");
            after_the_first = Some(pages);
        }
    }
    let pages = attacker.guest.vm.memory().resident_pages().expect("a count");
    assert_eq!(Some(pages), after_the_first, "{before} pages before");
    assert_eq!(attacker.run(&[]), Ending::Finished);
    next_sandbox_works();
}

/// Makes the trap entry ring 3's own code at an offset of the page.
fn own_trap_entry(attacker: &mut Attacker, offset: u64) {
    let entry = RECORD + record::TRAP_ENTRY;
    attacker.guest.vm.memory_mut().write_u64(entry, CODE + offset).expect("the trap record");
}

/// Runs until stopped from another thread: the exit.
fn run_for_a_while(attacker: &mut Attacker) -> VmExit {
    let stop = attacker.guest.interrupter();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stop.interrupt();
    });
    let exit = attacker.guest.vm.run().expect("a run");
    thread.join().expect("no panic");
    exit
}

#[test]
fn a_storm_of_faults_can_be_stopped() {
    // mov rsp, STACK; inc rbx; and a fault, whose handler is this again.
    let reset = [&[0x48, 0xbc][..], &STACK.to_le_bytes(), &[0x48, 0xff, 0xc3]].concat();
    let page_fault = [&[0x31, 0xc0][..], &[0x8a, 0x08]].concat(); // xor eax, eax; mov cl, [rax]
    for fault in [&[0x0f, 0x0b][..], &[0xf4], &[0xe6, 0x80], &page_fault, &[0xcd, 0x80]] {
        let mut attacker = Attacker::new();
        own_trap_entry(&mut attacker, 0);
        attacker.load(&[&reset, fault].concat());
        assert_eq!(run_for_a_while(&mut attacker), VmExit::Interrupted, "{fault:x?}");
        let rounds = attacker.guest.vm.registers().expect("registers").rbx;
        assert!(rounds > 10, "{fault:x?}: {rounds} faults");
    }
    next_sandbox_works();
}

#[test]
fn a_fault_of_any_kind_in_the_trap_entry_ends_the_guest() {
    // The trap entry is ours, on the stack that the gate gave it.
    let load = attacks::load(0);
    let push =
        [&[0x48, 0xbc][..], &(layout::TRAP_STACK_TOP - layout::TRAP_STACK_SIZE).to_le_bytes()];
    let overflow = [&push.concat()[..], &[0x50]].concat(); // mov rsp, bottom; push rax
    for (name, code, vector) in [
        ("ud2", &[0x0f, 0x0b][..], UD),
        ("hlt", &[0xf4], GP),
        ("page fault", &load, PF),
        ("stack overflow", &overflow, PF),
        ("a port", &[0xe6, 0x80], GP),
    ] {
        let mut attacker = Attacker::new();
        own_trap_entry(&mut attacker, 2);
        let ending = attacker.run(&[&[0x0f, 0x0b][..], code].concat());
        assert_eq!(ending, Ending::Fatal { reason: record::fatal::NESTED, vector }, "{name}");
    }
    next_sandbox_works();
}

#[test]
fn a_trap_entry_that_cannot_be_run_ends_or_spins_but_does_not_shut_down() {
    // The runtime cannot change where the trap entry is; were it wrong, this is what would come.
    for entry in [0, layout::GATE_DATA, layout::HEAP, 1 << 47, u64::MAX] {
        let mut attacker = Attacker::new();
        let at = RECORD + record::TRAP_ENTRY;
        attacker.guest.vm.memory_mut().write_u64(at, entry).expect("the trap record");
        match attacker.run(&[0x0f, 0x0b]) {
            Ending::Fatal { reason: record::fatal::NESTED | record::fatal::RING0, .. } => {}
            // An address that `iretq` cannot return to: software KVMs give up on it.
            Ending::Left(VmExit::Unexpected { .. } | VmExit::Shutdown) if entry >> 47 != 0 => {}
            ending => panic!("{entry:#x}: {ending:?}"),
        }
    }
    next_sandbox_works();
}

#[test]
fn no_stack_pointer_and_fault_shut_the_machine_down() {
    let stacks = [
        0,
        layout::GATE_STACK_TOP,
        layout::GATE_STACK_TOP - 8,
        layout::TSS + 4,
        layout::GATE_RECORD,
        layout::TRAP_STACK_TOP + 8,
        1 << 47,
        0xffff_7fff_ffff_ffff,
        u64::MAX,
    ];
    let (load, mut attacker) = (attacks::load(0), Attacker::new());
    for stack in stacks {
        // push, call, ret, enter, int3, int1, int 8, and faults that do not touch the stack.
        for code in [
            &[0x50][..],
            &[0xe8, 0, 0, 0, 0],
            &[0xc3],
            &[0xc8, 0xff, 0xff, 31],
            &[0xcc],
            &[0xf1],
            &[0xcd, 8],
            &[0x0f, 0x0b],
            &load,
        ] {
            let code = [&[0x48, 0xbc][..], &stack.to_le_bytes(), code].concat();
            let ending = attacker.run(&code);
            assert!(matches!(ending, Ending::Fault { .. }), "{stack:#x}, {code:x?}: {ending:?}");
        }
    }
    next_sandbox_works();
}
