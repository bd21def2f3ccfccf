//! Stopping calls: on request from any thread, and at deadlines.

use sandgrain_hypervisor::Interrupter;
use sandgrain_wasi::Cancel;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// Why a call was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Interrupted,
    Deadline,
}

/// What has to be told when a call is to stop, besides its host functions.
pub(crate) trait Target: Send + Sync {
    /// Stops the guest, now or as soon as it runs.
    fn stop(&self);
    /// Forgets an earlier stop.
    fn clear(&self);
}

impl Target for Interrupter {
    fn stop(&self) {
        self.interrupt();
    }

    fn clear(&self) {
        Interrupter::clear(self);
    }
}

/// The stopping side of one sandbox.
pub(crate) struct Control {
    target: Box<dyn Target>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The call under way.
    call: Option<Call>,
    /// Whether the watchdog has this sandbox on its list.
    watched: Option<Instant>,
}

struct Call {
    cancel: Cancel,
    deadline: Option<Instant>,
    reason: Option<Reason>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value behind these locks is valid at all times.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    pub(crate) fn new(target: impl Target + 'static) -> Arc<Self> {
        Arc::new(Self { target: Box::new(target), state: Mutex::default() })
    }

    /// Begins a call, which may be stopped from now on. The token is for its host functions.
    pub(crate) fn begin(
        self: &Arc<Self>,
        watchdog: &Watchdog,
        deadline: Option<Instant>,
    ) -> Cancel {
        let cancel = Cancel::new();
        let mut state = lock(&self.state);
        // A stop that came too late for the last call must not hit this one.
        self.target.clear();
        state.call = Some(Call { cancel: cancel.clone(), deadline, reason: None });
        if let Some(deadline) = deadline
            && state.watched.is_none_or(|watched| watched > deadline)
        {
            state.watched = Some(deadline);
            drop(state);
            watchdog.watch(deadline, Arc::downgrade(self));
        }
        match deadline {
            Some(deadline) => cancel.with_deadline(deadline),
            None => cancel,
        }
    }

    /// Ends a call; says why it was stopped, if it was.
    pub(crate) fn end(&self) -> Option<Reason> {
        lock(&self.state).call.take().and_then(|call| call.reason)
    }

    /// Why the call under way was stopped, if it was.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let state = lock(&self.state);
        let call = state.call.as_ref()?;
        let late = || call.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        call.reason.or_else(|| late().then_some(Reason::Deadline))
    }

    fn stop(&self, state: &mut State, reason: Reason) {
        if let Some(call) = &mut state.call {
            call.reason.get_or_insert(reason);
            call.cancel.cancel();
            self.target.stop();
        }
    }

    /// The watchdog's look at this sandbox: when to look again, if ever.
    fn check(&self, now: Instant) -> Option<Instant> {
        let mut state = lock(&self.state);
        let deadline = state.call.as_ref().and_then(|call| call.deadline);
        let again = match deadline {
            Some(deadline) if deadline <= now => {
                self.stop(&mut state, Reason::Deadline);
                None
            }
            later => later,
        };
        state.watched = again;
        again
    }
}

/// Stops the call under way in a sandbox, from any thread. Cheap to clone; outlives its sandbox
/// without harm.
#[derive(Clone)]
pub struct InterruptHandle(pub(crate) Weak<Control>);

impl InterruptHandle {
    /// Stops the call under way, which then fails with [`Error::Interrupted`](crate::Error), also if it
    /// waits in a WASI call. Does nothing if no call is under way.
    pub fn interrupt(&self) {
        if let Some(control) = self.0.upgrade() {
            let mut state = lock(&control.state);
            control.stop(&mut state, Reason::Interrupted);
        }
    }
}

impl fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptHandle").finish_non_exhaustive()
    }
}

/// The thread that watches the deadlines of an engine's sandboxes. It has each sandbox on its list at
/// most about once: a call that begins before the last one's deadline is found when that one passes.
pub(crate) struct Watchdog {
    list: Arc<List>,
}

#[derive(Default)]
struct List {
    entries: Mutex<Entries>,
    changed: Condvar,
}

#[derive(Default)]
struct Entries {
    heap: BinaryHeap<Reverse<Entry>>,
    started: bool,
    closed: bool,
}

struct Entry(Instant, Weak<Control>);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        Self { list: Arc::default() }
    }

    fn watch(&self, deadline: Instant, control: Weak<Control>) {
        let mut entries = lock(&self.list.entries);
        let first = entries.heap.peek().is_none_or(|Reverse(entry)| entry.0 > deadline);
        entries.heap.push(Reverse(Entry(deadline, control)));
        if !entries.started {
            entries.started = true;
            let list = Arc::clone(&self.list);
            let spawned = std::thread::Builder::new()
                .name("sandgrain-watchdog".into())
                .spawn(move || list.run());
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

impl Drop for Watchdog {
    fn drop(&mut self) {
        lock(&self.list.entries).closed = true;
        self.list.changed.notify_one();
    }
}

impl List {
    fn run(&self) {
        let mut entries = lock(&self.entries);
        while !entries.closed {
            let now = Instant::now();
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
                Some(deadline) => {
                    let waited = self.changed.wait_timeout(entries, deadline - now);
                    entries = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    let waited = self.changed.wait(entries);
                    entries = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[derive(Clone, Default)]
    struct Counter(Arc<AtomicU32>);

    impl Target for Counter {
        fn stop(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn clear(&self) {
            self.0.store(0, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_request_stops_the_call_under_way_and_no_other() {
        let (counter, watchdog) = (Counter::default(), Watchdog::new());
        let control = Control::new(counter.clone());
        let handle = InterruptHandle(Arc::downgrade(&control));
        handle.interrupt();
        let cancel = control.begin(&watchdog, None);
        assert!(!cancel.is_cancelled(), "the request came before the call");
        handle.interrupt();
        assert!(cancel.is_cancelled());
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        assert_eq!(control.end(), Some(Reason::Interrupted));
        handle.interrupt();
        let cancel = control.begin(&watchdog, None);
        assert!(!cancel.is_cancelled());
        assert_eq!(control.end(), None);
    }

    #[test]
    fn each_call_has_its_own_deadline() {
        let watchdog = Watchdog::new();
        let control = Control::new(Counter::default());
        let soon = Instant::now() + Duration::from_millis(20);
        control.begin(&watchdog, Some(soon));
        assert_eq!(control.end(), None);
        // The watchdog finds this call when the first one's deadline passes.
        let cancel = control.begin(&watchdog, Some(soon + Duration::from_millis(20)));
        while control.reason().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(control.reason(), Some(Reason::Deadline));
        while !cancel.is_cancelled() {
            std::thread::yield_now();
        }
        let late = control.begin(&watchdog, None);
        std::thread::sleep(Duration::from_millis(50));
        assert!(!late.is_cancelled(), "an earlier deadline stopped a call without one");
    }

    #[test]
    fn a_shorter_deadline_is_not_hidden_by_a_longer_one() {
        let watchdog = Watchdog::new();
        let control = Control::new(Counter::default());
        control.begin(&watchdog, Some(Instant::now() + Duration::from_secs(3600)));
        control.end();
        control.begin(&watchdog, Some(Instant::now() + Duration::from_millis(5)));
        while lock(&control.state).call.as_ref().unwrap().reason.is_none() {
            std::thread::yield_now();
        }
    }
}
