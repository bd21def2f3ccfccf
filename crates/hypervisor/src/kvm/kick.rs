//! Taking a thread out of KVM_RUN.
//!
//! KVM_RUN returns when a signal is pending for its thread, and at once when `immediate_exit` is set. A
//! kick is both: the flag covers the moment before the thread is inside, the signal the time after. When
//! to do what is in `entrance.rs`; here are the system calls.

use std::{
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU8, Ordering},
};

use super::{
    entrance::{Entrance, Runner},
    signal,
    vcpu::Vcpu,
};
use crate::interrupt::Target;

/// Stops the runs of one vCPU.
pub(super) struct Kicker {
    signal: libc::c_int,
    entrance: Entrance<Thread>,
}

/// A thread with a run under way.
#[derive(Clone, Copy)]
struct Thread {
    id: libc::pthread_t,
    signal: libc::c_int,
    immediate_exit: NonNull<AtomicU8>,
}

// SAFETY: the pointer is used only while the run that it came from is under way, which borrows the flag;
// that is atomic.
unsafe impl Send for Thread {}

impl Runner for Thread {
    unsafe fn set_immediate_exit(self, value: bool) {
        // SAFETY: the run borrows the flag, and is under way, as the caller promises.
        let flag = unsafe { self.immediate_exit.as_ref() };
        // The lock that it is set and cleared under, and the signal, order it.
        flag.store(value.into(), Ordering::Relaxed);
    }

    unsafe fn signal(self) -> bool {
        // SAFETY: the thread is alive, since it is in a run, as the caller promises.
        let result = unsafe { libc::pthread_kill(self.id, self.signal) };
        // So it is when the system's queue of signals is full.
        result != libc::EAGAIN
    }
}

impl Kicker {
    /// For a vCPU that does not run yet.
    pub(super) fn new(signal: libc::c_int) -> Self {
        Kicker { signal, entrance: Entrance::new() }
    }

    /// Runs the vCPU until that ends for a reason that concerns the caller: `Some` of KVM_RUN's
    /// result, or `None` when a request was honoured.
    pub(super) fn run(&self, vcpu: &Vcpu) -> Option<io::Result<()>> {
        signal::unblock(self.signal);
        // SAFETY: it has no requirements.
        let id = unsafe { libc::pthread_self() };
        let immediate_exit = NonNull::from(vcpu.immediate_exit());
        let thread = Thread { id, signal: self.signal, immediate_exit };
        self.entrance.run(thread, || vcpu.enter(), any_system_call)
    }
}

/// A pending signal arrives with it.
fn any_system_call() {
    // SAFETY: it has no requirements.
    unsafe { libc::sched_yield() };
}

impl Target for Kicker {
    fn interrupt(&self) {
        self.entrance.interrupt();
    }

    fn clear(&self) {
        self.entrance.clear();
    }
}
