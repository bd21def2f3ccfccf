//! The entrance to KVM_RUN: who goes in, and how another thread gets it out. The order of things,
//! without the system calls, so that a model checker can try it (`entrance_models.rs`).

use std::{io, sync::PoisonError};

use super::{
    requests::{Enter, Requests, Then},
    sync::{self, Mutex, MutexGuard},
};

/// How to reach a run under way.
pub(super) trait Runner: Copy {
    /// Whether KVM_RUN returns at once.
    ///
    /// # Safety
    /// The run is under way: [`Entrance::run`] has not returned.
    unsafe fn set_immediate_exit(self, value: bool);

    /// Sends the thread a signal, which ends KVM_RUN. Returns false if it cannot be sent at the moment.
    ///
    /// # Safety
    /// The run is under way: [`Entrance::run`] has not returned.
    unsafe fn signal(self) -> bool;
}

/// The entrance of one vCPU.
pub(super) struct Entrance<R> {
    requests: Mutex<Requests<R>>,
}

impl<R: Runner> Entrance<R> {
    /// That of a vCPU that does not run yet.
    pub(super) fn new() -> Self {
        Entrance { requests: Mutex::new(Requests::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Requests<R>> {
        // Nothing under the lock can panic half-way through a change.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until that ends for a reason that concerns the caller: `Some` of KVM_RUN's result, or `None`
    /// when a request was honoured. `take_signal` lets a signal that is pending arrive.
    ///
    /// Neither closure may panic: whoever kicks the run relies on it.
    pub(super) fn run(
        &self,
        runner: R,
        kvm_run: impl Fn() -> io::Result<()>,
        take_signal: impl Fn(),
    ) -> Option<io::Result<()>> {
        loop {
            let entry = {
                let mut requests = self.lock();
                // SAFETY: this is the run.
                unsafe { runner.set_immediate_exit(false) };
                requests.enter(runner)
            };
            if entry == Enter::Interrupted {
                return None;
            }
            let result = kvm_run();
            let was_interrupted =
                matches!(&result, Err(e) if e.raw_os_error() == Some(libc::EINTR));
            let leave = self.lock().leave(was_interrupted);
            if leave.kicked {
                // The signal is pending if it has not arrived. It must not disturb the caller.
                take_signal();
            }
            match leave.then {
                Then::Exit => return Some(result),
                Then::Interrupted => return None,
                Then::Again => {}
            }
        }
    }

    /// Stops the run under way, or else the next one.
    pub(super) fn interrupt(&self) {
        let mut requests = self.lock();
        requests.request();
        while let Some(runner) = requests.to_kick() {
            // The flag first: a signal that arrives before KVM_RUN has no effect there.
            // SAFETY: the run is between `enter` and `leave`, which waits for the lock we hold.
            unsafe { runner.set_immediate_exit(true) };
            // SAFETY: as above.
            if unsafe { runner.signal() } {
                requests.kicked();
                return;
            }
            // The request stands; the thread may not know yet.
            drop(requests);
            sync::pause();
            requests = self.lock();
        }
    }

    /// Withdraws the request.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

#[cfg(all(test, loom))]
#[path = "entrance_models.rs"]
mod models;
