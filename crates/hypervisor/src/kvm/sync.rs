//! What threads share and wait with. `sync_loom.rs` has the same for the model checker.

use std::{thread, time::Duration};

pub(super) use std::sync::{Mutex, MutexGuard};

/// Waits a little for something that cannot be waited for.
pub(super) fn pause() {
    thread::sleep(Duration::from_millis(1));
}
