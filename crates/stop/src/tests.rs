//! What a control and a watchdog do, on real threads and in real time.

use crate::{Control, Reason, Target, Watchdog};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Counts the stops of a call.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU32>);

impl Target for Counter {
    type Token = Arc<AtomicBool>;

    fn begin(&self, _deadline: Option<Instant>) -> Self::Token {
        self.0.store(0, Ordering::SeqCst);
        Arc::default()
    }

    fn stop(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn cancel(&self, token: &Self::Token) {
        token.store(true, Ordering::SeqCst);
    }
}

fn parts() -> (Counter, Arc<Control<Counter>>, Watchdog<Counter>) {
    let counter = Counter::default();
    (counter.clone(), Control::new(counter), Watchdog::new())
}

fn is_set(token: &AtomicBool) -> bool {
    token.load(Ordering::SeqCst)
}

fn wait_for(token: &AtomicBool) {
    while !is_set(token) {
        std::thread::yield_now();
    }
}

#[test]
fn a_request_stops_the_call_under_way_and_no_other() {
    let (counter, control, watchdog) = parts();
    control.interrupt();
    let token = control.begin(&watchdog, None);
    assert!(!is_set(&token), "the request came before the call");
    control.interrupt();
    assert!(is_set(&token));
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    assert_eq!(control.end(), Some(Reason::Interrupted));
    control.interrupt();
    let token = control.begin(&watchdog, None);
    assert!(!is_set(&token));
    assert_eq!(control.end(), None);
}

#[test]
fn each_call_has_its_own_deadline() {
    let (_, control, watchdog) = parts();
    let soon = Instant::now() + Duration::from_millis(20);
    control.begin(&watchdog, Some(soon));
    assert_eq!(control.end(), None);
    // The watchdog finds this call when the first one's deadline passes.
    let token = control.begin(&watchdog, Some(soon + Duration::from_millis(20)));
    while control.reason().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(control.reason(), Some(Reason::Deadline));
    wait_for(&token);
    let late = control.begin(&watchdog, None);
    std::thread::sleep(Duration::from_millis(50));
    assert!(!is_set(&late), "an earlier deadline stopped a call without one");
}

#[test]
fn a_shorter_deadline_is_not_hidden_by_a_longer_one() {
    let (_, control, watchdog) = parts();
    control.begin(&watchdog, Some(Instant::now() + Duration::from_secs(3600)));
    control.end();
    let token = control.begin(&watchdog, Some(Instant::now() + Duration::from_millis(5)));
    wait_for(&token);
    assert_eq!(control.end(), Some(Reason::Deadline));
}

#[test]
fn a_watchdog_keeps_no_sandbox() {
    let (_, control, watchdog) = parts();
    control.begin(&watchdog, Some(Instant::now() + Duration::from_secs(3600)));
    let kept = Arc::downgrade(&control);
    drop(control);
    assert!(kept.upgrade().is_none());
}
