//! vCPU threads: a bounded number of threads that run the guests of asynchronous calls.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::machine::{Machine, Progress, Step};
use crate::stop::Control;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use tokio::sync::oneshot;

/// What a thread needs to run a guest for a while. The sandbox has it back when the guest is done or waits.
pub(crate) struct Guest {
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) host: Host,
}

/// A guest that comes back, and how far it has come. The outer error is a panic in the host's code.
pub(crate) type Returned = (Guest, thread::Result<Result<Progress>>);

/// A guest that is to run.
pub(crate) struct Job {
    pub(crate) guest: Guest,
    pub(crate) step: Step,
    /// What the guest is stopped by, also if its sandbox is gone.
    pub(crate) control: Arc<Control>,
    pub(crate) span: tracing::Span,
    pub(crate) back: oneshot::Sender<Returned>,
}

impl Job {
    fn run(self) {
        let Self { mut guest, step, control, span, back } = self;
        // Nobody waits for it any more.
        if back.is_closed() {
            return;
        }
        let Guest { machine, host } = &mut guest;
        let run = || step.run(&mut **machine, host);
        // A sandbox that was left by a panic is not used again.
        let result = catch_unwind(AssertUnwindSafe(|| span.in_scope(run)));
        drop(control);
        // Where nobody waits any more, the guest is dropped here.
        let _ = back.send((guest, result));
    }
}

/// An engine's vCPU threads, which are started as they are needed.
pub(crate) struct Vcpus {
    shared: Arc<Shared>,
}

struct Shared {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Guests that wait for a thread, by numbers in the order in which they came.
    queue: BTreeMap<u64, Job>,
    next: u64,
    threads: usize,
    /// Those that wait for a guest.
    idle: usize,
    closed: bool,
}

impl Vcpus {
    /// At most so many threads; none yet.
    pub(crate) fn new(most: usize) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { most, state, changed }) }
    }

    /// Has a guest run as soon as a thread is free. The number by which it can be taken back until then.
    ///
    /// # Errors
    /// [`Error::Host`] if no thread can be started, with the guest.
    pub(crate) fn run(&self, job: Job) -> Result<u64, Box<(Error, Guest)>> {
        let mut state = self.shared.state();
        if state.queue.len() >= state.idle && state.threads < self.shared.most {
            let shared = Arc::clone(&self.shared);
            // It waits for the lock before it looks for a guest.
            let spawned =
                thread::Builder::new().name("sandgrain-vcpu".into()).spawn(move || shared.work());
            match spawned {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    let error = format!("no thread for vCPUs can be started: {error}");
                    return Err(Box::new((Error::Host(error), job.guest)));
                }
                Err(error) => tracing::warn!(%error, "another thread for vCPUs cannot be started"),
            }
        }
        let number = state.next;
        state.next += 1;
        state.queue.insert(number, job);
        self.shared.changed.notify_one();
        Ok(number)
    }

    /// Takes a guest back that no thread has begun to run.
    pub(crate) fn take_back(&self, number: u64) -> Option<Guest> {
        let job = self.shared.state().queue.remove(&number);
        job.map(|job| job.guest)
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        // Not awaited: the engine may be dropped by one of them, with a guest's host functions.
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every value behind this lock is valid at all times.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some((_, job)) = state.queue.pop_first() {
                drop(state);
                // A host function that panics where it is dropped has been reported by the panic hook.
                let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
                state = self.state();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}
