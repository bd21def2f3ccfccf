//! Taking a thread out of KVM_RUN.
//!
//! KVM_RUN returns when a signal is pending for its thread, and at once when `immediate_exit` is set. A
//! kick is both: the flag covers the moment before the thread is inside, the signal the time after.

use std::{
    io,
    ptr::NonNull,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    requests::{Enter, Requests, Then},
    signal,
    vcpu::Vcpu,
};
use crate::interrupt::Target;

/// Stops the runs of one vCPU.
pub(super) struct Kicker {
    signal: libc::c_int,
    requests: Mutex<Requests<Runner>>,
}

/// A run under way.
#[derive(Clone, Copy)]
struct Runner {
    thread: libc::pthread_t,
    immediate_exit: NonNull<AtomicU8>,
}

// SAFETY: the pointer is used only while the thread is between `enter` and `leave`, under the lock that
// both take; the flag lives longer than that (see `run`), and is atomic.
unsafe impl Send for Runner {}

impl Kicker {
    /// For a vCPU that does not run yet.
    pub(super) fn new(signal: libc::c_int) -> Self {
        Kicker { signal, requests: Mutex::new(Requests::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Requests<Runner>> {
        // Nothing under the lock can panic half-way through a change.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the vCPU until that ends for a reason that concerns the caller: `Some` of KVM_RUN's
    /// result, or `None` when a request was honoured.
    pub(super) fn run(&self, vcpu: &Vcpu) -> Option<io::Result<()>> {
        signal::unblock(self.signal);
        // SAFETY: it has no requirements.
        let thread = unsafe { libc::pthread_self() };
        let immediate_exit = vcpu.immediate_exit();
        let runner = Runner { thread, immediate_exit: NonNull::from(immediate_exit) };
        loop {
            // Between `enter` and `leave` there is nothing that can panic: `interrupt` relies on it.
            let entry = {
                let mut requests = self.lock();
                immediate_exit.store(0, Ordering::Relaxed);
                requests.enter(runner)
            };
            if entry == Enter::Interrupted {
                return None;
            }
            let result = vcpu.enter();
            let was_interrupted =
                matches!(&result, Err(e) if e.raw_os_error() == Some(libc::EINTR));
            let leave = self.lock().leave(was_interrupted);
            if leave.kicked {
                // The signal is pending if it has not arrived. Any system call takes it in, so that it
                // cannot disturb one of the caller's.
                // SAFETY: it has no requirements.
                unsafe { libc::sched_yield() };
            }
            match leave.then {
                Then::Exit => return Some(result),
                Then::Interrupted => return None,
                Then::Again => {}
            }
        }
    }
}

impl Target for Kicker {
    fn interrupt(&self) {
        let mut requests = self.lock();
        requests.request();
        while let Some(runner) = requests.to_kick() {
            // SAFETY: the thread is between `enter` and `leave`, which waits for the lock we hold, so
            // it is still in `run`, which borrows the flag.
            unsafe { runner.immediate_exit.as_ref() }.store(1, Ordering::Relaxed);
            // SAFETY: as above: the thread is alive.
            let result = unsafe { libc::pthread_kill(runner.thread, self.signal) };
            if result != libc::EAGAIN {
                requests.kicked();
                return;
            }
            // The system's queue of signals is full. The request stands; the thread may not know yet.
            drop(requests);
            thread::sleep(Duration::from_millis(1));
            requests = self.lock();
        }
    }

    fn clear(&self) {
        self.lock().clear();
    }
}
