//! Instructions by the thousand: whatever ring 3 executes, the machine stands.

use super::*;
use vector::{GENERAL_PROTECTION as GP, INVALID_OPCODE as UD, PAGE_FAULT as PF};

/// Runs code in this attacker, or in a new one if the gate has ended it. What counts is that ring 3 went
/// on, or was stopped by an exception, and did not leave the VM in another way.
fn survives(attacker: &mut Attacker, code: &[u8]) {
    match attacker.run(code) {
        Ending::Finished | Ending::Fault { .. } => {}
        // The one port that it may use, read instead of written: the host ends such a guest.
        Ending::Left(VmExit::PortIn { port: layout::PORT_HYPERCALL, size: 1 }) => {}
        Ending::Fatal { reason: record::fatal::SYSCALL | record::fatal::NESTED, .. } => {
            *attacker = Attacker::new();
        }
        ending => panic!("{code:x?}: {ending:?}"),
    }
}

/// Runs every opcode behind each of these prefixes.
fn every_opcode(prefixes: &[&[u8]]) {
    // ModRM bytes: each of the eight instructions of a group, on memory at RSP and on RAX. What would be
    // a displacement or an immediate jumps forward only.
    let operands: Vec<[u8; 2]> =
        (0..8).flat_map(|reg| [[reg << 3 | 4, 0x24], [0xc0 | reg << 3, 0x24]]).collect();
    // QEMU 7.2 itself crashes on `0f 38 0c` without a VEX prefix: these two maps are for real CPUs.
    let emulated = is_emulated();
    #[allow(clippy::print_stdout, reason = "what is left out is said")]
    if emulated {
        println!("left out in QEMU, which they crash: opcodes that begin with 0f 38 and 0f 3a");
    }
    let attacker = &mut Attacker::new();
    for prefix in prefixes {
        for opcode in 0..=255 {
            let opcodes = [prefix, &[opcode][..]].concat();
            if emulated
                && opcodes
                    .windows(2)
                    .any(|pair| [[0x0f, 0x38], [0x0f, 0x3a]].contains(&[pair[0], pair[1]]))
            {
                continue;
            }
            for operand in &operands {
                survives(attacker, &[&opcodes[..], operand, &[0x04, 0x04, 0, 0]].concat());
            }
        }
    }
}

#[test]
fn no_opcode_shuts_the_machine_down() {
    every_opcode(&[
        &[],
        &[0x48],
        &[0x0f],
        &[0x66, 0x0f],
        &[0xf2, 0x0f],
        &[0xf3, 0x0f],
        &[0x0f, 0x38],
        &[0x0f, 0x3a],
    ]);
    next_sandbox_works();
}

#[test]
fn no_locked_opcode_shuts_the_machine_down() {
    #[allow(clippy::print_stdout, reason = "what is left out is said")]
    if is_emulated() {
        println!("left out in QEMU, which some of them crash: opcodes with a lock prefix");
        return;
    }
    every_opcode(&[
        &[0xf0],
        &[0xf0, 0x48],
        &[0xf0, 0x0f],
        &[0xf0, 0x66, 0x0f],
        &[0xf0, 0xf3, 0x0f],
    ]);
    next_sandbox_works();
}

#[test]
fn the_instructions_of_virtualization_and_power_do_nothing() {
    // 0f 01 and 0f ae with every register operand: vmcall, vmrun, clgi, monitorx, xend, and so on.
    let attacker = &mut Attacker::new();
    for opcode in [0x01, 0xae, 0xc7, 0x00] {
        for prefix in [&[][..], &[0x66], &[0xf2], &[0xf3]] {
            for operand in 0xc0..=0xff {
                survives(attacker, &[prefix, &[0x0f, opcode, operand]].concat());
            }
        }
    }
    for (name, code) in [
        ("vmclear", &[0x66, 0x0f, 0xc7, 0x34, 0x24][..]),
        ("vmptrld", &[0x0f, 0xc7, 0x34, 0x24]),
        ("vmptrst", &[0x0f, 0xc7, 0x3c, 0x24]),
        ("vmlaunch", &[0x0f, 0x01, 0xc2]),
        ("vmresume", &[0x0f, 0x01, 0xc3]),
        ("vmxoff", &[0x0f, 0x01, 0xc4]),
        ("vmread", &[0x0f, 0x78, 0xc0]),
        ("vmwrite", &[0x0f, 0x79, 0xc0]),
        ("invept", &[0x66, 0x0f, 0x38, 0x80, 0x04, 0x24]),
        ("invvpid", &[0x66, 0x0f, 0x38, 0x81, 0x04, 0x24]),
        ("invpcid", &[0x66, 0x0f, 0x38, 0x82, 0x04, 0x24]),
        ("vmload", &[0x0f, 0x01, 0xda]),
        ("vmsave", &[0x0f, 0x01, 0xdb]),
        ("stgi", &[0x0f, 0x01, 0xdc]),
        ("clgi", &[0x0f, 0x01, 0xdd]),
        ("skinit", &[0x0f, 0x01, 0xde]),
        ("invlpga", &[0x0f, 0x01, 0xdf]),
        ("getsec", &[0x0f, 0x37]),
        ("stac", &[0x0f, 0x01, 0xcb]),
        ("clac", &[0x0f, 0x01, 0xca]),
        ("wbnoinvd", &[0xf3, 0x0f, 0x09]),
    ] {
        let ending = attack(code);
        assert!(matches!(ending, Ending::Fault { vector: UD | GP | PF, .. }), "{name}: {ending:?}");
    }
    // Ring 3's own where the host has protection keys and the hypervisor leaves them on: it can only shut itself out.
    let ending = attack(&[0x0f, 0x01, 0xef]);
    assert!(
        matches!(ending, Ending::Fault { vector: UD | GP | PF, .. } | Ending::Finished),
        "wrpkru: {ending:?}"
    );
    next_sandbox_works();
}

#[test]
#[allow(clippy::print_stdout, reason = "what this machine cannot show")]
fn rights_of_protection_keys_end_with_the_guest() {
    // mov eax, -4 (no access by any key but the first); wrpkru
    let attacker = &mut Attacker::new();
    let ending =
        attacker.run(&[0xb8, 0xfc, 0xff, 0xff, 0xff, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xef]);
    if !matches!(ending, Ending::Finished) {
        println!("no protection keys in ring 3 here: {ending:?}");
    }
    // rdpkru, whose result is in eax.
    let other = &mut Attacker::new();
    if matches!(other.run(&[0x31, 0xc9, 0x0f, 0x01, 0xee]), Ending::Finished) {
        let rax = other.guest.vm.registers().expect("registers").rax;
        assert_eq!(rax, 0, "the next guest has the rights of the one before");
    }
    next_sandbox_works();
}

#[test]
fn no_number_makes_the_hypervisor_take_a_call_from_ring_3() {
    let mut attacker = Attacker::new();
    let numbers = (0..64).chain([0x1708_8200, 0x4000_0000, 0x4b4d_564b, 0x8000_0000, u32::MAX]);
    for number in numbers {
        for code in [[0x0f, 0x01, 0xc1], [0x0f, 0x01, 0xd9]] {
            // mov eax, number; mov ebx, MAILBOX; mov ecx, MAILBOX; vmcall or vmmcall
            let mailbox = (layout::MAILBOX as u32).to_le_bytes();
            let load =
                [&[0xb8][..], &number.to_le_bytes(), &[0xbb], &mailbox, &[0xb9], &mailbox, &code];
            match attacker.run(&load.concat()) {
                Ending::Fault { vector: UD | GP, .. } => {}
                // KVM would write the CPU's own instruction there, and has no more right to than ring 3.
                Ending::Fault { vector: PF, error, address } => {
                    let refused = attacks::PRESENT | attacks::USER | attacks::WRITE;
                    assert_eq!((error, address), (refused, CODE + 15), "{number:#x}");
                }
                Ending::Finished => {
                    let rax = attacker.guest.vm.registers().expect("registers").rax;
                    assert!(rax.cast_signed() < 0, "{number:#x} did something: {rax:#x}");
                }
                ending => panic!("{number:#x}: {ending:?}"),
            }
        }
    }
    next_sandbox_works();
}

#[test]
fn no_byte_of_the_gate_can_be_jumped_to() {
    let gate = platform().base.program.gate.clone();
    let mut attacker = Attacker::new();
    for address in gate {
        let code = [&[0x48, 0xb8][..], &address.to_le_bytes(), &[0xff, 0xe0]].concat();
        match attacker.run(&code) {
            Ending::Fault { vector: PF, address: at, .. } => assert_eq!(at, address),
            ending => panic!("{address:#x}: {ending:?}"),
        }
    }
    next_sandbox_works();
}

#[test]
fn instructions_across_the_end_of_what_is_mapped_are_faults() {
    // The last bytes of the page of code: an instruction that goes on into nothing.
    for tail in [&[0x48, 0xb8][..], &[0x0f], &[0xe6], &[0xf3, 0x48], &[0x66; 14]] {
        let mut attacker = Attacker::new();
        attacker.load(&[]);
        let start = PAGE_SIZE - tail.len() as u64;
        let phys = attacker.guest.plan.code.start + start;
        attacker.guest.vm.memory_mut().write(phys, tail).expect("code");
        let registers = Registers { rip: CODE + start, rsp: STACK, ..Default::default() };
        attacker.guest.vm.set_registers(&registers).expect("registers");
        let error = attacker.guest.run(&mut Host::default()).expect_err("an end");
        let text = error.to_string();
        assert!(
            text.contains("exception 14") || text.contains("exception 13"),
            "{tail:x?}: {text}"
        );
    }
    next_sandbox_works();
}

#[test]
fn random_bytes_as_code_do_not_break_the_machine() {
    let mut random = 0x5a6e_d9a1_0000_0003_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..64).flat_map(|_| next().to_le_bytes()).collect();
        let mut attacker = Attacker::new();
        attacker.load(&bytes);
        let stop = attacker.guest.interrupter();
        // Random code may be an endless loop: that is ended from outside.
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(std::time::Duration::from_millis(500)).is_err() {
                stop.interrupt();
            }
        });
        match attacker.guest.vm.run().expect("a run") {
            VmExit::PortOut { port: layout::PORT_HYPERCALL | layout::PORT_FATAL, .. }
            | VmExit::PortIn { port: layout::PORT_HYPERCALL, .. }
            | VmExit::Interrupted => {}
            exit => panic!("{bytes:x?}: {exit:?}"),
        }
        // The thread may have ended already.
        let _ = done.send(());
        thread.join().expect("no panic");
    }
    next_sandbox_works();
}
