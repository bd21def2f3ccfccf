//! Stopping a run.

use std::{
    ptr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use sandgrain_hypervisor::VmExit;

use crate::machine::*;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_spinning_guest_is_stopped_from_another_thread() {
    for ring in [Ring::Kernel, Ring::User] {
        let mut vm = start(ring, &SPIN);
        let interrupter = vm.interrupter();
        let stopper = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            interrupter.interrupt();
            Instant::now()
        });
        assert_eq!(vm.run().unwrap(), VmExit::Interrupted);
        assert!(stopper.join().unwrap().elapsed() < SOON);
    }
}

#[test]
fn a_stopped_guest_goes_on_where_it_was() {
    // mov ecx, 400,000,000; dec ecx; jnz back; mov al, 3; out
    let code = [0xb9, 0, 0x84, 0xd7, 0x17, 0xff, 0xc9, 0x75, 0xfc, 0xb0, 3, 0xe6, 0xe0];
    let mut vm = start(Ring::User, &code);
    let interrupter = vm.interrupter();
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        interrupter.interrupt();
    });
    assert_eq!(vm.run().unwrap(), VmExit::Interrupted);
    let left = vm.registers().unwrap().rcx;
    assert!(left > 0 && left < 400_000_000, "{left}");
    stopper.join().unwrap();
    assert_eq!(run_to_port(&mut *vm), 3);
}

#[test]
fn a_request_before_the_run_stops_it_at_once() {
    let mut vm = start(Ring::User, &[&[0xb0, 3][..], &OUT].concat());
    vm.interrupter().interrupt();
    vm.interrupter().interrupt();
    assert_eq!(vm.run().unwrap(), VmExit::Interrupted);
    assert_eq!(vm.registers().unwrap().rip, USER_CODE);
    assert_eq!(run_to_port(&mut *vm), 3);
}

#[test]
fn a_request_after_the_run_is_for_the_next_one_unless_withdrawn() {
    let mut vm = start(Ring::User, &[OUT, OUT, OUT].concat());
    let interrupter = vm.interrupter();
    run_to_port(&mut *vm);
    interrupter.interrupt();
    interrupter.clear();
    run_to_port(&mut *vm);
    interrupter.interrupt();
    assert_eq!(vm.run().unwrap(), VmExit::Interrupted);
    // The port access before has nevertheless happened, once.
    assert_eq!(vm.registers().unwrap().rip, USER_CODE + 4);
    let state = vm.save().unwrap();
    run_to_port(&mut *vm);
    assert_eq!(vm.registers().unwrap().rip, USER_CODE + 6);
    vm.restore(&state).unwrap();
    run_to_port(&mut *vm);
    assert_eq!(vm.registers().unwrap().rip, USER_CODE + 6);
}

#[test]
fn a_request_for_a_vm_that_is_gone_does_nothing() {
    let mut vm = start(Ring::User, &OUT);
    run_to_port(&mut *vm);
    let interrupter = vm.interrupter();
    thread::spawn(move || drop(vm)).join().unwrap();
    interrupter.interrupt();
    interrupter.clear();
}

#[test]
fn a_vm_can_be_stopped_on_whichever_thread_it_runs() {
    let mut vm = start(Ring::User, &SPIN);
    for _ in 0..8 {
        let interrupter = vm.interrupter();
        let runner = thread::spawn(move || (vm.run().unwrap(), vm));
        thread::sleep(Duration::from_millis(2));
        interrupter.interrupt();
        let (exit, back) = runner.join().unwrap();
        assert_eq!(exit, VmExit::Interrupted);
        vm = back;
    }
}

#[test]
fn a_thread_that_blocks_all_signals_can_be_stopped() {
    let mut vm = start(Ring::User, &SPIN);
    let interrupter = vm.interrupter();
    let runner = thread::spawn(move || {
        // SAFETY: `sigfillset` initialises the set; the mask is the calling thread's own.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, ptr::null_mut());
        }
        vm.run().unwrap()
    });
    thread::sleep(Duration::from_millis(20));
    interrupter.interrupt();
    assert_eq!(runner.join().unwrap(), VmExit::Interrupted);
}

/// Whether a signal ends a wait of a moment.
fn is_disturbed() -> bool {
    // SAFETY: no descriptors, so nothing of ours is read or written.
    unsafe { libc::poll(ptr::null_mut(), 0, 0) == -1 }
}

#[test]
fn a_storm_of_kicks_loses_none_and_leaves_none() {
    const ROUNDS: u32 = 3000;
    // In turns: every kick stops the one run that waits for it.
    let mut vm = start(Ring::User, &SPIN);
    let interrupter = vm.interrupter();
    let (next, wait) = mpsc::channel();
    let stopper = thread::spawn(move || {
        for () in wait {
            interrupter.interrupt();
        }
    });
    for _ in 0..ROUNDS {
        next.send(()).unwrap();
        assert_eq!(vm.run().unwrap(), VmExit::Interrupted);
        assert!(!is_disturbed());
    }
    drop(next);
    stopper.join().unwrap();
}

#[test]
fn kicks_at_random_moments_disturb_nothing() {
    // A guest that leaves all the time: out; jmp back
    let mut vm = start(Ring::User, &[0xe6, 0xe0, 0xeb, 0xfc]);
    let interrupter = vm.interrupter();
    let (stop, stopped) = mpsc::channel::<()>();
    let storm = thread::spawn(move || {
        let mut kicks = 0u32;
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            interrupter.interrupt();
            kicks += 1;
        }
        interrupter.clear();
        kicks
    });
    let (mut exits, mut interruptions) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        match vm.run().unwrap() {
            VmExit::PortOut { port: PORT, .. } => exits += 1,
            VmExit::Interrupted => interruptions += 1,
            exit => panic!("{exit:?}"),
        }
        assert!(!is_disturbed());
    }
    drop(stop);
    let kicks = storm.join().unwrap();
    assert!(interruptions > 0 && interruptions <= kicks, "{interruptions} {kicks} {exits}");
    for _ in 0..100 {
        run_to_port(&mut *vm);
    }
}
