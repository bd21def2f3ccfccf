//! Stopping a call from another thread.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::Error;

/// A token that stops calls, also while they wait.
///
/// Clones share one flag: cancelling any of them cancels all, for good. A deadline belongs to the
/// clone that carries it.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
    deadline: Option<Instant>,
}

#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    waiters: Mutex<Waiters>,
}

/// Who is woken when the token is cancelled.
#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Cancel {
    /// A token that has not been cancelled and has no deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same token, which also counts as cancelled from `deadline` on.
    ///
    /// The earlier one holds if it has a deadline already.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
        self
    }

    /// Stops all calls that hold this token, and those to come.
    pub fn cancel(&self) {
        // The flag goes first: a waiter that registers after the wake-ups still sees it.
        self.shared.cancelled.store(true, Ordering::SeqCst);
        // Wakers may be anybody's, and do anything: none is called, nor dropped, under the lock.
        let wakers: Vec<Waker> = lock(&self.shared.waiters).wakers.values().cloned().collect();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether the token was cancelled or its deadline has passed.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The deadline of this token, if it has one.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Fails if the token is cancelled.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Sleeps until `end`, or for ever if there is none.
    pub(crate) fn sleep_until(&self, end: Option<Instant>) -> Result<(), Error> {
        let signal = Arc::new(Signal::default());
        let _waiter = self.register(Waker::from(Arc::clone(&signal)));
        loop {
            self.check()?;
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(());
            }
            signal.wait(earliest(end, self.deadline));
        }
    }

    /// Runs a future on this thread until it is done or the token is cancelled.
    ///
    /// This does not enter a tokio runtime, so the caller may be in one.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] if the token was cancelled first.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let mut future = pin!(future);
        // Nearly all calls are done at once and need no waiter.
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Ok(value);
        }
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(Arc::clone(&signal));
        let _waiter = self.register(waker.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            self.check()?;
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return Ok(value);
            }
            signal.wait(self.deadline);
        }
    }

    /// Awaits a future, on any executor, until it is done or the token is cancelled.
    ///
    /// A deadline has nothing here to wake it: somebody has to cancel the token when it passes.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] if the token was cancelled first.
    pub async fn wait_for<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let mut future = pin!(future);
        let mut waiter: Option<Waiter<'_>> = None;
        poll_fn(|context| {
            // Registered before the look at the token: no cancelling is missed.
            if !waiter.as_ref().is_some_and(|waiter| waiter.waker.will_wake(context.waker())) {
                waiter = Some(self.register(context.waker().clone()));
            }
            match self.check() {
                Ok(()) => future.as_mut().poll(context).map(Ok),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    fn register(&self, waker: Waker) -> Waiter<'_> {
        let mut waiters = lock(&self.shared.waiters);
        let number = waiters.next;
        waiters.next += 1;
        waiters.wakers.insert(number, waker.clone());
        Waiter { cancel: self, number, waker }
    }
}

/// A place among the waiters.
struct Waiter<'a> {
    cancel: &'a Cancel,
    number: u64,
    waker: Waker,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let waker = lock(&self.cancel.shared.waiters).wakers.remove(&self.number);
        // Not under the lock, which the statement before has given up.
        drop(waker);
    }
}

/// A flag to sleep on. `Thread::unpark` would do, but its token belongs to the whole thread and
/// the embedder may use it.
#[derive(Debug, Default)]
struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn raise(&self) {
        *lock(&self.raised) = true;
        self.changed.notify_one();
    }

    /// Sleeps until the flag is raised or `end` has passed, and lowers it.
    fn wait(&self, end: Option<Instant>) {
        let mut raised = lock(&self.raised);
        while !*raised {
            raised = match end {
                None => self.changed.wait(raised).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.changed.wait_timeout(raised, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *raised = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Locks, also after a panic elsewhere: every value behind these locks is valid at all times.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
