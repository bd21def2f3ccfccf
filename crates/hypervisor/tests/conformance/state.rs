//! Registers, and a vCPU's whole state.

use sandgrain_hypervisor::{MemoryImage, Registers, VmExit};

use crate::machine::*;

#[test]
fn registers_go_in_and_come_out() {
    // inc of every general register but RSP, then out
    let mut code = Vec::new();
    for register in (0..8).filter(|register| *register != 4) {
        code.extend([0x48, 0xff, 0xc0 | register]);
    }
    for register in 0..8 {
        code.extend([0x49, 0xff, 0xc0 | register]);
    }
    let length = code.len() as u64 + 2;
    for ring in [Ring::Kernel, Ring::User] {
        let mut vm = start(ring, &[&code[..], &OUT].concat());
        let start = registers(ring);
        let values = |add: u64| Registers {
            rax: 0x100 + add,
            rbx: 0x200 + add,
            rcx: 0x300 + add,
            rdx: 0x400 + add,
            rsi: 0x500 + add,
            rdi: 0x600 + add,
            rbp: 0x700 + add,
            r8: u64::MAX.wrapping_add(add),
            r9: 0x900 + add,
            r10: 0xa00 + add,
            r11: 0xb00 + add,
            r12: 0xc00 + add,
            r13: 0xd00 + add,
            r14: 0xe00 + add,
            r15: 0xf00 + add,
            ..start
        };
        vm.set_registers(&values(0)).unwrap();
        assert_eq!(vm.registers().unwrap(), values(0));
        run_to_port(&mut *vm);
        let after = vm.registers().unwrap();
        let expected = Registers { rip: start.rip + length, rflags: after.rflags, ..values(1) };
        assert_eq!(after, expected);
    }
}

/// The bytes at `DATA` when the run ends at its next `out`.
fn run_on(vm: &mut dyn sandgrain_hypervisor::Vm) -> Vec<u8> {
    run_to_port(vm);
    vm.memory().slice(DATA..DATA + 64).unwrap().to_vec()
}

/// A program that fills floating-point registers from memory, leaves, changes them, and leaves; and one
/// that stores them, for the other half.
fn floating_point() -> Vec<u8> {
    [
        &[0x0f, 0x10, 0x04, 0x25, 0, 0x10, 3, 0][..], // movups xmm0, [READ_ONLY]
        &[0x44, 0x0f, 0x10, 0x3c, 0x25, 16, 0x10, 3, 0], // movups xmm15, [READ_ONLY + 16]
        &[0x0f, 0xae, 0x14, 0x25, 32, 0x10, 3, 0],    // ldmxcsr [READ_ONLY + 32]
        &[0xd9, 0x2c, 0x25, 36, 0x10, 3, 0],          // fldcw [READ_ONLY + 36]
        &[0xd9, 0xeb],                                // fldpi
        &OUT,
        &[0x0f, 0x11, 0x04, 0x25, 0, 0, 3, 0], // movups [DATA], xmm0
        &[0x44, 0x0f, 0x11, 0x3c, 0x25, 16, 0, 3, 0], // movups [DATA + 16], xmm15
        &[0x0f, 0xae, 0x1c, 0x25, 32, 0, 3, 0], // stmxcsr [DATA + 32]
        &[0xd9, 0x3c, 0x25, 36, 0, 3, 0],      // fnstcw [DATA + 36]
        &[0xdd, 0x1c, 0x25, 40, 0, 3, 0],      // fstp qword [DATA + 40]
        &OUT,
        &[0x0f, 0x57, 0xc0],       // xorps xmm0, xmm0
        &[0x45, 0x0f, 0x57, 0xff], // xorps xmm15, xmm15
        &[0xdb, 0xe3],             // fninit
        &OUT,
    ]
    .concat()
}

#[test]
fn floating_point_state_is_saved_and_restored() {
    let mut bytes = content(&floating_point());
    let values: Vec<u8> = (1..=32).collect();
    bytes[READ_ONLY as usize..][..32].copy_from_slice(&values);
    // Not the values that a CPU starts with: round up; round down.
    bytes[READ_ONLY as usize + 32..][..4].copy_from_slice(&0x5f80u32.to_le_bytes());
    bytes[READ_ONLY as usize + 36..][..2].copy_from_slice(&0x077fu16.to_le_bytes());
    let image = MemoryImage::new(&bytes).unwrap();
    let mut first = start_image(Ring::User, &image);
    run_to_port(&mut *first);
    let state = first.save().unwrap();
    let expected = run_on(&mut *first);
    assert_eq!(expected[..32], values);
    assert_eq!(expected[32..38], [0x80, 0x5f, 0, 0, 0x7f, 0x07]);
    assert_eq!(expected[40..48], std::f64::consts::PI.to_le_bytes());
    run_to_port(&mut *first);

    // In another VM, which has never run.
    let mut second = start_image(Ring::User, &image);
    second.restore(&state).unwrap();
    assert_eq!(run_on(&mut *second), expected);

    // In the same VM, whose registers have changed since.
    first.reset_memory(&image).unwrap();
    first.restore(&state).unwrap();
    assert_eq!(run_on(&mut *first), expected);
}

/// The upper halves of vector registers, whether the guest is offered AVX or merely has it.
#[test]
fn no_vector_register_survives_a_restore() {
    // vpcmpeqd ymm3, ymm3, ymm3 in AVX2; out; vextractf128 [DATA], ymm3, 1; out
    let code = [
        &[0xc5, 0xe5, 0x76, 0xdb][..],
        &OUT,
        &[0xc4, 0xe3, 0x7d, 0x19, 0x1c, 0x25, 0, 0, 3, 0, 1],
        &OUT,
    ]
    .concat();
    let image = MemoryImage::new(&content(&code)).unwrap();
    let mut vm = start_image(Ring::User, &image);
    let clean = vm.save().unwrap();
    match vm.run().unwrap() {
        VmExit::PortOut { port: PORT, .. } => {}
        // No AVX at all: nothing to survive.
        VmExit::PortOut { port: VECTOR_PORT, data: 6, .. } => {
            assert!(!hypervisor().cpu_features().avx2());
            return;
        }
        exit => panic!("{exit:?}"),
    }
    let after_first_half = vm.registers().unwrap().rip;
    let dirty = vm.save().unwrap();
    run_to_port(&mut *vm);
    assert_eq!(vm.memory().slice(DATA..DATA + 16).unwrap(), [0xff; 16]);

    vm.restore(&dirty).unwrap();
    vm.restore(&clean).unwrap();
    vm.set_registers(&Registers { rip: after_first_half, ..registers(Ring::User) }).unwrap();
    run_to_port(&mut *vm);
    assert_eq!(vm.memory().slice(DATA..DATA + 16).unwrap(), [0; 16]);
}

#[test]
fn debug_registers_are_saved_and_restored() {
    // mov dr0, rax; out; mov rbx, dr0; xor eax, eax; mov dr0, rax; out
    let code =
        [&[0x0f, 0x23, 0xc0][..], &OUT, &[0x0f, 0x21, 0xc3, 0x31, 0xc0, 0x0f, 0x23, 0xc0], &OUT]
            .concat();
    let image = MemoryImage::new(&content(&code)).unwrap();
    let mut first = start_image(Ring::Kernel, &image);
    let start = registers(Ring::Kernel);
    first.set_registers(&Registers { rax: 0x1234_5000, ..start }).unwrap();
    run_to_port(&mut *first);
    let state = first.save().unwrap();
    let mut second = start_image(Ring::Kernel, &image);
    second.restore(&state).unwrap();
    for vm in [&mut first, &mut second] {
        run_to_port(&mut **vm);
        assert_eq!(vm.registers().unwrap().rbx, 0x1234_5000);
    }
    first.restore(&state).unwrap();
    run_to_port(&mut *first);
    assert_eq!(first.registers().unwrap().rbx, 0x1234_5000);
}

#[test]
fn a_restored_vm_repeats_what_the_first_one_did() {
    // Counts in RBX and DATA: inc rbx; mov eax, [DATA]; add eax, ebx; mov [DATA], eax; out; back
    let body = [&[0x48, 0xff, 0xc3][..], &load(DATA), &[0x01, 0xd8], &store(DATA), &OUT].concat();
    let code = [&body[..], &[0xeb, (-(body.len() as i8) - 2) as u8]].concat();
    let image = MemoryImage::new(&content(&code)).unwrap();
    let mut first = start_image(Ring::User, &image);
    for _ in 0..5 {
        run_to_port(&mut *first);
    }
    let state = first.save().unwrap();
    let memory = first.memory().slice(0..MEMORY as u64).unwrap().to_vec();
    let expected: Vec<u32> = (0..5).map(|_| run_to_port(&mut *first)).collect();
    assert_eq!(expected, [21, 28, 36, 45, 55]);

    let snapshot = MemoryImage::new(&memory).unwrap();
    let mut second = hypervisor()
        .create_vm(sandgrain_hypervisor::GuestMemory::with_image(&snapshot, MEMORY).unwrap())
        .unwrap();
    second.restore(&state).unwrap();
    assert_eq!((0..5).map(|_| run_to_port(&mut *second)).collect::<Vec<_>>(), expected);
}

#[test]
fn ring_3_still_has_its_port_after_a_restore() {
    let mut vm = start(Ring::User, &[&OUT[..], &OUT, &[0xe6, 0x80]].concat());
    run_to_port(&mut *vm);
    let state = vm.save().unwrap();
    vm.restore(&state).unwrap();
    run_to_port(&mut *vm);
    assert_eq!(run_to_exception(&mut *vm), (13, 0));
}

#[test]
fn a_state_restored_again_and_again_is_the_same_each_time() {
    // Counts in RAX, in memory and in the base of FS where ring 3 may set it; out; and back to the start.
    let code = [&[0x48, 0xff, 0xc0][..], &store(DATA), &OUT].concat();
    let code = [&code[..], &[0xeb, (-(code.len() as i8) - 2) as u8]].concat();
    let image = MemoryImage::new(&content(&code)).unwrap();
    let mut vm = start_image(Ring::User, &image);
    run_to_port(&mut *vm);
    let state = vm.save().unwrap();
    let saved = vm.registers().unwrap();
    for round in 0..20 {
        for _ in 0..round % 3 {
            run_to_port(&mut *vm);
        }
        vm.restore(&state).unwrap();
        // Seen at once, by whoever looks before the guest runs.
        if round % 2 == 0 {
            assert_eq!(vm.registers().unwrap(), saved, "round {round}");
        }
        if round % 4 == 0 {
            vm.set_registers(&Registers { rax: 100, ..saved }).unwrap();
            assert_eq!(run_to_port(&mut *vm), 101, "round {round}");
        } else {
            assert_eq!(run_to_port(&mut *vm), 2, "round {round}");
        }
        // A state that is taken right after one was put back is that one.
        vm.restore(&state).unwrap();
        if round % 5 == 0 {
            assert_eq!(vm.save().unwrap().to_bytes(), state.to_bytes(), "round {round}");
        }
    }
}
