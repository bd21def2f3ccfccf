//! `sync.rs` for the model checker.

pub(super) use loom::sync::{Mutex, MutexGuard};

/// Lets other threads go on.
pub(super) fn pause() {
    loom::thread::yield_now();
}
