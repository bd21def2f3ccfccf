//! How a run ends.

use sandgrain_hypervisor::{Error, GuestMemory, SystemRegisters, VmExit};

use crate::machine::*;

#[test]
fn out_of_each_size() {
    for ring in [Ring::Kernel, Ring::User] {
        // out e0, al; out e0, ax; out e0, eax
        let mut vm = start(ring, &[0xe6, 0xe0, 0x66, 0xe7, 0xe0, 0xe7, 0xe0]);
        let mut registers = vm.registers().unwrap();
        registers.rax = 0x1122_3344_5566_7788;
        vm.set_registers(&registers).unwrap();
        for (size, data) in [(1, 0x88), (2, 0x7788), (4, 0x5566_7788)] {
            assert_eq!(vm.run().unwrap(), VmExit::PortOut { port: PORT, size, data });
        }
    }
}

#[test]
fn registers_after_out_are_those_after_the_instruction() {
    for ring in [Ring::Kernel, Ring::User] {
        let mut vm = start(ring, &[OUT, OUT].concat());
        let before = vm.registers().unwrap().rip;
        run_to_port(&mut *vm);
        assert_eq!(vm.registers().unwrap().rip, before + 2);
        assert_eq!(vm.registers().unwrap().rip, before + 2);
        run_to_port(&mut *vm);
        assert_eq!(vm.registers().unwrap().rip, before + 4);
    }
}

#[test]
fn in_of_each_size_reads_zero() {
    for ring in [Ring::Kernel, Ring::User] {
        for (size, instruction) in
            [(1, &[0xe4, 0xe0][..]), (2, &[0x66, 0xe5, 0xe0]), (4, &[0xe5, 0xe0])]
        {
            let mut vm = start(ring, &[instruction, &OUT].concat());
            let mut registers = vm.registers().unwrap();
            registers.rax = u64::MAX;
            vm.set_registers(&registers).unwrap();
            assert_eq!(vm.run().unwrap(), VmExit::PortIn { port: PORT, size });
            let after = vm.registers().unwrap();
            assert_eq!(after.rip, registers.rip + instruction.len() as u64);
            let expected = match size {
                1 => u64::MAX << 8,
                2 => u64::MAX << 16,
                _ => 0,
            };
            assert_eq!(after.rax, expected);
            assert_eq!(run_to_port(&mut *vm), 0);
        }
    }
}

#[test]
fn setting_registers_after_out_wins_over_finishing_it() {
    let mut vm = start(Ring::User, &[&OUT[..], &[0xb0, 7], &OUT].concat());
    run_to_port(&mut *vm);
    vm.set_registers(&registers(Ring::User)).unwrap();
    assert_eq!(run_to_port(&mut *vm), 0);
    assert_eq!(run_to_port(&mut *vm), 7);
}

#[test]
fn string_output_is_unexpected_and_final() {
    // mov ecx, 3; mov dx, PORT; mov esi, DATA; rep outsb
    let code = [0xb9, 3, 0, 0, 0, 0x66, 0xba, 0xe0, 0, 0xbe, 0, 0, 3, 0, 0xf3, 0x6e];
    let mut vm = start(Ring::User, &code);
    let exit = vm.run().unwrap();
    // Some hypervisors hand it over an item at a time.
    match exit {
        VmExit::Unexpected { .. } => {
            assert!(matches!(vm.run(), Err(Error::Finished { .. })));
        }
        VmExit::PortOut { port: PORT, size: 1, .. } => {}
        exit => panic!("{exit:?}"),
    }
}

#[test]
fn halt_in_ring_0_goes_on_after_it() {
    let mut vm = start(Ring::Kernel, &[0xf4, 0xb0, 9, 0xe6, 0xe0]);
    assert_eq!(vm.run().unwrap(), VmExit::Halt);
    assert_eq!(run_to_port(&mut *vm), 9);
}

#[test]
fn a_triple_fault_is_a_final_shutdown() {
    let mut vm = start(Ring::User, &[0x0f, 0x0b]);
    let mut system = system_registers(Ring::User);
    system.idt.limit = 0;
    vm.set_system_registers(&system).unwrap();
    assert_eq!(vm.run().unwrap(), VmExit::Shutdown);
    assert!(matches!(vm.run(), Err(Error::Finished { .. })));
    assert!(matches!(vm.save(), Err(Error::Finished { .. })));
    assert!(vm.registers().is_ok() && vm.memory().read_u64(0).is_ok());
}

#[test]
fn access_beyond_memory_is_final() {
    for (code, write) in [(load(DANGLING + 0x10), false), (store(DANGLING + 0x10), true)] {
        let mut vm = start(Ring::User, &code);
        assert_eq!(vm.run().unwrap(), VmExit::Mmio { addr: BEYOND + 0x10, write, len: 4 });
        // A write may have been handed over already.
        let after = if write { USER_CODE + code.len() as u64 } else { USER_CODE };
        assert!([USER_CODE, after].contains(&vm.registers().unwrap().rip));
        assert!(matches!(vm.run(), Err(Error::Finished { .. })));
    }
}

#[test]
fn exceptions_reach_the_guests_own_handler() {
    let divide = [0x31, 0xc9, 0xf7, 0xf1]; // xor ecx, ecx; div ecx
    for (code, vector) in [(&divide[..], 0), (&[0x0f, 0x0b], 6)] {
        let mut vm = start(Ring::User, code);
        assert_eq!(run_to_exception(&mut *vm).0, vector);
    }
}

#[test]
fn a_shape_that_no_cpu_has_is_rejected() {
    let mut vm = hypervisor().create_vm(GuestMemory::new(MEMORY).unwrap()).unwrap();
    // Paging without protection.
    let system = SystemRegisters { cr0: 1 << 31, ..system_registers(Ring::User) };
    assert!(matches!(vm.set_system_registers(&system), Err(Error::Rejected { .. })));
}
