//! What ring 3 cannot do.

use sandgrain_hypervisor::{CR4_SMEP, CR4_UMIP, VmExit};

use crate::machine::*;

/// Runs ring-3 code that must not get to its end.
fn exception(code: &[u8]) -> (u32, u32) {
    run_to_exception(&mut *start(Ring::User, &[code, &OUT].concat()))
}

/// `mov eax, address; jmp rax`.
fn jump(address: u64) -> Vec<u8> {
    [&[0xb8][..], &(address as u32).to_le_bytes(), &[0xff, 0xe0]].concat()
}

const BREAKPOINT: u32 = 3;
const INVALID_OPCODE: u32 = 6;
const GENERAL_PROTECTION: u32 = 13;
const PAGE_FAULT: u32 = 14;
/// Bits of a page fault's error code.
const PRESENT: u32 = 1;
const WRITE: u32 = 2;
const USER: u32 = 4;
const FETCH: u32 = 16;

#[test]
fn writable_data_can_be_written() {
    let mut vm = start(Ring::User, &[store(DATA), OUT.to_vec()].concat());
    run_to_port(&mut *vm);
}

#[test]
fn pages_are_what_their_entries_say() {
    let denied = PRESENT | USER;
    assert_eq!(exception(&store(READ_ONLY)), (PAGE_FAULT, denied | WRITE));
    assert_eq!(exception(&store(USER_CODE)), (PAGE_FAULT, denied | WRITE));
    assert_eq!(exception(&jump(DATA)), (PAGE_FAULT, denied | FETCH));
    assert_eq!(exception(&load(PAGE_TABLE)), (PAGE_FAULT, denied));
    assert_eq!(exception(&store(PAGE_TABLE)), (PAGE_FAULT, denied | WRITE));
    assert_eq!(exception(&jump(GATE)), (PAGE_FAULT, denied | FETCH));
    assert_eq!(exception(&load(UNMAPPED)), (PAGE_FAULT, USER));
    assert_eq!(exception(&store(UNMAPPED)), (PAGE_FAULT, USER | WRITE));
}

#[test]
fn ring_0_cannot_write_read_only_pages_either() {
    let mut vm = start(Ring::Kernel, &[store(READ_ONLY), OUT.to_vec()].concat());
    assert_eq!(run_to_exception(&mut *vm), (PAGE_FAULT, PRESENT | WRITE));
}

#[test]
fn only_the_permitted_port_leaves_the_vm() {
    for size in [&[][..], &[0x66]] {
        // out 0x80, al; in al, 0x60; out VECTOR_PORT, al; and the same with eax
        for code in [[0xe6, 0x80], [0xe4, 0x60], [0xe6, 0xe9], [0xe7, 0x80], [0xe5, 0x60]] {
            assert_eq!(exception(&[size, &code].concat()), (GENERAL_PROTECTION, 0), "{code:x?}");
        }
    }
    // Four bytes at PORT + 2 reach beyond what the map permits; so do ports beyond the map.
    assert_eq!(exception(&[0xe7, 0xe2]), (GENERAL_PROTECTION, 0));
    let far = [0x66, 0xba, 0xff, 0xff, 0xee]; // mov dx, 0xffff; out dx, al
    assert_eq!(exception(&far), (GENERAL_PROTECTION, 0));
}

#[test]
fn privileged_instructions_fault() {
    let instructions: [(&str, &[u8]); 9] = [
        ("mov cr0", &[0x0f, 0x22, 0xc0]),
        ("mov cr3", &[0x0f, 0x22, 0xd8]),
        ("hlt", &[0xf4]),
        ("cli", &[0xfa]),
        ("wrmsr", &[0x0f, 0x30]),
        ("rdmsr", &[0x0f, 0x32]),
        ("lidt", &[0x0f, 0x01, 0x1c, 0x25, 0, 0, 3, 0]),
        ("ltr", &[0x0f, 0x00, 0xd8]),
        ("invlpg", &[0x0f, 0x01, 0x3c, 0x25, 0, 0, 3, 0]),
    ];
    for (name, code) in instructions {
        assert_eq!(exception(code).0, GENERAL_PROTECTION, "{name}");
    }
}

#[test]
fn ring_3_cannot_raise_an_exception_of_its_choice() {
    // Numbers without an entry, and entries that ring 3 may not use. Software KVMs have #UD instead.
    for vector in [0x80, 0x20, 0, PAGE_FAULT as u8, GENERAL_PROTECTION as u8] {
        let (got, _) = exception(&[0xcd, vector]);
        assert!([INVALID_OPCODE, GENERAL_PROTECTION].contains(&got), "int {vector:#x}: {got}");
    }
    // `int3` has an entry like any other. Software KVMs deliver it whatever the entry permits.
    let (got, _) = exception(&[0xcc]);
    assert!([BREAKPOINT, GENERAL_PROTECTION].contains(&got), "{got}");
}

#[test]
fn sysenter_leads_nowhere() {
    let (got, _) = exception(&[0x0f, 0x34]);
    assert!([INVALID_OPCODE, GENERAL_PROTECTION].contains(&got), "{got}");
}

#[test]
fn syscall_never_runs_ring_0_code_but_its_entry() {
    let mut vm = start(Ring::User, &[&[0x0f, 0x05][..], &OUT].concat());
    match vm.run().unwrap() {
        // It is off; or on, and ends where it should.
        VmExit::PortOut { port: VECTOR_PORT, data: INVALID_OPCODE | SYSCALL_REPORT, .. } => {}
        // Some software KVMs jump there, and stay in ring 3, which cannot execute it.
        VmExit::PortOut { port: VECTOR_PORT, data: PAGE_FAULT, .. } => {
            let exit = vm.run().unwrap();
            let denied = PRESENT | USER | FETCH;
            assert_eq!(exit, VmExit::PortOut { port: ERROR_PORT, size: 4, data: denied });
            // The frame on the gate's stack: RIP and CS, above the error code.
            assert_eq!(vm.memory().read_u64(GATE_STACK - 40).unwrap(), SYSCALL);
            assert_eq!(vm.memory().read_u64(GATE_STACK - 32).unwrap() & 3, 3);
        }
        exit => panic!("{exit:?} at {:x?}", vm.registers()),
    }
}

#[test]
fn cr4_takes_what_cpu_features_offer() {
    let features = hypervisor().cpu_features();
    let mut vm = start(Ring::User, &OUT);
    let mut system = system_registers(Ring::User);
    system.cr4 |= if features.smep() { CR4_SMEP } else { 0 };
    system.cr4 |= if features.umip() { CR4_UMIP } else { 0 };
    vm.set_system_registers(&system).unwrap();
    run_to_port(&mut *vm);
}
