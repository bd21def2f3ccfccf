//! Deadlines, and the thread that watches them.

use crate::control::{Control, Target, lock};
use crate::sync::{self, Builder, Condvar, Mutex};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;

/// The thread that watches the deadlines of an engine's sandboxes. It has each sandbox on its list at
/// most about once: a call that begins before the last one's deadline is found when that one passes.
pub struct Watchdog<T: Target> {
    pub(crate) list: Arc<List<T>>,
}

pub(crate) struct List<T: Target> {
    pub(crate) entries: Mutex<Entries<T>>,
    pub(crate) changed: Condvar,
}

pub(crate) struct Entries<T: Target> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    started: bool,
    closed: bool,
}

struct Entry<T: Target>(Instant, Weak<Control<T>>);

impl<T: Target> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Target> Eq for Entry<T> {}

impl<T: Target> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Target> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T: Target> Watchdog<T> {
    /// One with nothing to watch, whose thread starts when there is.
    #[must_use]
    pub fn new() -> Self {
        let entries = Entries { heap: BinaryHeap::new(), started: false, closed: false };
        Self { list: Arc::new(List { entries: Mutex::new(entries), changed: Condvar::new() }) }
    }

    pub(crate) fn watch(&self, deadline: Instant, control: Weak<Control<T>>) {
        let mut entries = lock(&self.list.entries);
        let first = entries.heap.peek().is_none_or(|Reverse(entry)| entry.0 > deadline);
        entries.heap.push(Reverse(Entry(deadline, control)));
        if !entries.started {
            entries.started = true;
            let list = Arc::clone(&self.list);
            let spawned =
                Builder::new().name("sandgrain-watchdog".into()).spawn(move || list.run());
            if let Err(error) = spawned {
                // Without the thread deadlines hold only where the guest comes to the host.
                tracing::error!(%error, "cannot start the thread that watches deadlines");
                entries.started = false;
            }
        } else if first {
            self.list.changed.notify_one();
        }
    }
}

impl<T: Target> Default for Watchdog<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Target> Drop for Watchdog<T> {
    fn drop(&mut self) {
        lock(&self.list.entries).closed = true;
        self.list.changed.notify_one();
    }
}

impl<T: Target> fmt::Debug for Watchdog<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").finish_non_exhaustive()
    }
}

impl<T: Target> List<T> {
    fn run(&self) {
        let mut entries = lock(&self.entries);
        while !entries.closed {
            let now = sync::now();
            let next = entries.heap.peek().map(|Reverse(entry)| entry.0);
            match next {
                Some(deadline) if deadline <= now => {
                    let Some(Reverse(Entry(_, control))) = entries.heap.pop() else { continue };
                    // A sandbox's own lock is never taken while the list's is held.
                    drop(entries);
                    let again = control.upgrade().and_then(|control| control.check(now));
                    entries = lock(&self.entries);
                    if let Some(again) = again {
                        entries.heap.push(Reverse(Entry(again, control)));
                    }
                }
                Some(deadline) => entries = sync::wait_until(&self.changed, entries, deadline),
                None => {
                    let waited = self.changed.wait(entries);
                    entries = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}
