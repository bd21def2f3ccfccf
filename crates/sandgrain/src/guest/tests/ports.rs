//! Ports: every one but the hypercall's is closed to ring 3.

use super::*;

/// `mov rsp, STACK`.
fn reset_stack() -> Vec<u8> {
    [&[0x48, 0xbc][..], &STACK.to_le_bytes()].concat()
}

/// Runs one I/O instruction, which takes its port from DX, with every port there is. The ports for
/// which there was no #GP.
fn open_ports(instruction: &[u8]) -> Vec<u64> {
    // EBX counts the ports. The trap entry is ours: it goes on with the next port after a #GP.
    let mut code = vec![0x31, 0xdb]; // xor ebx, ebx
    let again = code.len();
    code.extend([0x89, 0xda]); // mov edx, ebx
    code.extend(instruction);
    code.extend([0x41, 0xbc, 1, 0, 0, 0]); // mov r12d, 1: there was no fault
    code.extend(OUT);
    code.extend([0x45, 0x31, 0xe4]); // xor r12d, r12d
    let jump = code.len();
    code.extend([0xeb, 0]); // jmp next, filled in below
    let handler = code.len() as u64;
    code.extend(reset_stack());
    // cmp byte ptr [TRAP_RECORD + VECTOR], GENERAL_PROTECTION
    code.extend([0x80, 0x3c, 0x25]);
    code.extend(((layout::TRAP_RECORD + record::VECTOR) as u32).to_le_bytes());
    code.push(vector::GENERAL_PROTECTION as u8);
    code.extend([0x74, 8]); // je next
    code.extend([0x41, 0xbc, 2, 0, 0, 0]); // mov r12d, 2: another fault
    code.extend(OUT);
    let next = code.len();
    code[jump + 1] = (next - jump - 2) as u8;
    code.extend([0xff, 0xc3]); // inc ebx
    code.extend([0x81, 0xfb, 0, 0, 1, 0]); // cmp ebx, 0x10000
    let back = again as i64 - (code.len() as i64 + 2);
    code.extend([0x72, back as i8 as u8]); // jb again
    code.extend([0x41, 0xbc, 3, 0, 0, 0]); // mov r12d, 3: done
    code.extend(OUT);

    let mut attacker = Attacker::new();
    let entry = RECORD + record::TRAP_ENTRY;
    attacker.guest.vm.memory_mut().write_u64(entry, CODE + handler).expect("the trap record");
    attacker.load(&code);
    let mut open = Vec::new();
    loop {
        let exit = attacker.guest.vm.run().expect("a run");
        let registers = attacker.guest.vm.registers().expect("registers");
        match registers.r12 {
            1 => open.push(registers.rbx),
            3 => return open,
            // The instruction itself left the VM; what follows it says so too.
            0 if matches!(exit, VmExit::PortOut { .. } | VmExit::PortIn { .. }) => {}
            _ => panic!(
                "port {:#x}: {exit:?}, vector {}",
                registers.rbx,
                attacker.record(record::VECTOR)
            ),
        }
    }
}

#[test]
fn one_port_of_65536_takes_a_byte() {
    assert_eq!(open_ports(&[0xee]), [u64::from(layout::PORT_HYPERCALL)], "out dx, al");
    next_sandbox_works();
}

#[test]
fn one_port_of_65536_gives_a_byte() {
    assert_eq!(open_ports(&[0xec]), [u64::from(layout::PORT_HYPERCALL)], "in al, dx");
    next_sandbox_works();
}

#[test]
fn no_port_takes_or_gives_more_than_a_byte() {
    // Two and four bytes reach into the ports after the hypercall's, which are closed.
    for (name, instruction) in [
        ("out dx, ax", &[0x66, 0xef][..]),
        ("out dx, eax", &[0xef]),
        ("in ax, dx", &[0x66, 0xed]),
        ("in eax, dx", &[0xed]),
    ] {
        assert_eq!(open_ports(instruction), [0; 0], "{name}");
    }
    next_sandbox_works();
}

#[test]
fn no_port_but_the_hypercalls_can_be_used_by_string_instructions() {
    let scratch = (layout::MAILBOX as u32 + 0x4000).to_le_bytes();
    // mov esi, scratch; mov edi, scratch; mov ecx, 1
    let operands = [&[0xbe][..], &scratch, &[0xbf], &scratch, &[0xb9, 1, 0, 0, 0]].concat();
    for (name, instruction) in [("rep outsb", [0xf3, 0x6e]), ("rep insb", [0xf3, 0x6c])] {
        let open = open_ports(&[&operands[..], &instruction].concat());
        assert_eq!(open, [u64::from(layout::PORT_HYPERCALL)], "{name}");
    }
    next_sandbox_works();
}

#[test]
fn a_read_from_the_hypercalls_port_ends_the_guest() {
    let mut attacker = Attacker::new();
    attacker.load(&[0xe4, layout::PORT_HYPERCALL as u8]); // in al, PORT_HYPERCALL
    let error = attacker.guest.run(&mut Host::default()).expect_err("an end");
    assert!(matches!(error, Error::Guest(_)), "{error}");
    next_sandbox_works();
}

#[test]
fn string_io_on_the_hypercalls_port_ends_the_guest() {
    for instruction in [&[0xf3, 0x6e][..], &[0x6e], &[0xf3, 0x6c], &[0x6c]] {
        let mut attacker = Attacker::new();
        let mut code = vec![0xba, layout::PORT_HYPERCALL as u8, 0, 0, 0]; // mov edx, PORT
        code.extend([0xb9, 16, 0, 0, 0]); // mov ecx, 16
        code.extend([&[0x48, 0xbe][..], &layout::HEAP.to_le_bytes()].concat()); // mov rsi, HEAP
        code.extend([&[0x48, 0xbf][..], &layout::HEAP.to_le_bytes()].concat()); // mov rdi, HEAP
        code.extend(instruction);
        attacker.load(&code);
        let error = attacker.guest.run(&mut Host::default()).expect_err("an end");
        assert!(matches!(error, Error::Guest(_)), "{instruction:x?}: {error}");
    }
    next_sandbox_works();
}
