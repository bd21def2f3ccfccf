//! `sync.rs` for the model checker, which has no time: here it passes when a model says so.

pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use loom::thread::Builder;

use loom::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, PoisonError};
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

loom::lazy_static! {
    static ref SECONDS: AtomicU64 = AtomicU64::new(0);
}

/// The moment some seconds after a model's beginning.
pub(crate) fn at(seconds: u64) -> Instant {
    *START + Duration::from_secs(seconds)
}

pub(crate) fn now() -> Instant {
    at(SECONDS.load(Ordering::SeqCst))
}

/// Lets time pass. Who waits for it has to be woken, and must not be between a look at the time and
/// waiting: hold its lock.
pub(crate) fn set_now(seconds: u64) {
    SECONDS.store(seconds, Ordering::SeqCst);
}

/// Waits for a change; that `end` has passed is one.
pub(crate) fn wait_until<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    _end: Instant,
) -> MutexGuard<'a, T> {
    changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
