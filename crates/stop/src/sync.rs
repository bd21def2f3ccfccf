//! What threads share and wait with. `sync_loom.rs` has the same for the model checker.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::thread::Builder;

use std::sync::PoisonError;
use std::time::Instant;

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits for a change, at most until `end`.
pub(crate) fn wait_until<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    end: Instant,
) -> MutexGuard<'a, T> {
    let left = end.saturating_duration_since(now());
    changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
}
