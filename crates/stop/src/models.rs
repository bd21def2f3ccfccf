//! Every order in which the steps of threads can come, tried by loom: a caller, somebody who stops it,
//! the watchdog, and time. What waits for ever in any of them fails the model.

use crate::control::lock;
use crate::sync::{Condvar, Mutex, at, set_now};
use crate::watchdog::List;
use crate::{Control, Reason, Target, Watchdog};
use loom::model;
use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::sync::Arc;
use std::time::Instant;

/// A guest that runs until it is stopped.
#[derive(Clone)]
struct Guest(Arc<(Mutex<bool>, Condvar)>);

impl Target for Guest {
    type Token = Arc<AtomicBool>;

    fn begin(&self, _deadline: Option<Instant>) -> Self::Token {
        *lock(&self.0.0) = false;
        Arc::new(AtomicBool::new(false))
    }

    fn stop(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    fn cancel(&self, token: &Self::Token) {
        token.store(true, Ordering::SeqCst);
    }
}

impl Guest {
    fn is_stopped(&self) -> bool {
        *lock(&self.0.0)
    }

    fn run(&self) {
        let mut stopped = lock(&self.0.0);
        while !*stopped {
            stopped = self.0.1.wait(stopped).unwrap();
        }
    }
}

fn parts() -> (Guest, Arc<Control<Guest>>, Watchdog<Guest>) {
    let guest = Guest(Arc::new((Mutex::new(false), Condvar::new())));
    (guest.clone(), Control::new(guest), Watchdog::new())
}

/// A call that does nothing: why it was stopped, after a look at what else says so.
fn call(
    guest: &Guest,
    control: &Arc<Control<Guest>>,
    watchdog: &Watchdog<Guest>,
    deadline: Option<u64>,
) -> Option<Reason> {
    let token = control.begin(watchdog, deadline.map(at));
    let reason = control.end();
    let stopped = reason.is_some();
    assert_eq!(guest.is_stopped(), stopped, "the guest, of a call that ended with {reason:?}");
    // It may not have been told yet.
    assert!(stopped || !token.load(Ordering::SeqCst), "the token, of one that was not stopped");
    reason
}

/// Lets time pass, second by second, until then.
fn pass_time(list: &Arc<List<Guest>>, seconds: u64) -> thread::JoinHandle<()> {
    let list = Arc::clone(list);
    thread::spawn(move || {
        for second in 1..=seconds {
            let entries = lock(&list.entries);
            set_now(second);
            drop(entries);
            list.changed.notify_all();
        }
    })
}

#[test]
fn a_stop_that_comes_late_does_not_hit_the_next_call() {
    model(|| {
        let (guest, control, watchdog) = parts();
        let stopping = {
            let control = Arc::clone(&control);
            thread::spawn(move || control.interrupt())
        };
        let reasons = [(); 2].map(|()| call(&guest, &control, &watchdog, None));
        let stopped = reasons.iter().flatten().count();
        assert!(stopped <= 1, "one request stopped two calls");
        stopping.join().unwrap();
        assert_eq!(call(&guest, &control, &watchdog, None), None);
    });
}

#[test]
fn each_of_two_requests_counts_for_the_call_under_way() {
    model(|| {
        let (guest, control, watchdog) = parts();
        let token = control.begin(&watchdog, None);
        let stopping = [(); 2].map(|()| {
            let control = Arc::clone(&control);
            thread::spawn(move || control.interrupt())
        });
        guest.run();
        assert_eq!(control.end(), Some(Reason::Interrupted));
        // The other one may be meant for this call, and hits it if so.
        call(&guest, &control, &watchdog, None);
        for thread in stopping {
            thread.join().unwrap();
        }
        assert!(token.load(Ordering::SeqCst));
    });
}

#[test]
fn a_deadline_is_kept_however_far_the_watchdog_is() {
    model(|| {
        let (guest, control, watchdog) = parts();
        // Its thread starts, and is anywhere on its way to sleep.
        assert_eq!(call(&guest, &control, &watchdog, Some(9)), None);
        control.begin(&watchdog, Some(at(0)));
        guest.run();
        assert_eq!(control.end(), Some(Reason::Deadline));
        assert_eq!(call(&guest, &control, &watchdog, None), None);
    });
}

#[test]
fn a_deadline_is_kept_while_another_sandbox_is_looked_at() {
    model(|| {
        let (_, other, watchdog) = parts();
        other.begin(&watchdog, Some(at(0)));
        let (guest, control, _) = parts();
        control.begin(&watchdog, Some(at(0)));
        guest.run();
        assert_eq!(control.end(), Some(Reason::Deadline));
    });
}

#[test]
fn a_call_is_found_at_an_earlier_ones_deadline() {
    // All orders take minutes; those in which threads are held up four times, a second.
    let mut few = Builder::new();
    few.preemption_bound = Some(4);
    few.check(|| {
        let (guest, control, watchdog) = parts();
        let time = pass_time(&watchdog.list, 2);
        // This one is over before its time, or is stopped if that comes first.
        call(&guest, &control, &watchdog, Some(1));
        control.begin(&watchdog, Some(at(2)));
        guest.run();
        assert_eq!(control.end(), Some(Reason::Deadline));
        // What has passed for another call does not end this one.
        assert_eq!(call(&guest, &control, &watchdog, None), None);
        time.join().unwrap();
    });
}

#[test]
fn a_call_is_not_stopped_before_its_own_deadline() {
    model(|| {
        let (guest, control, watchdog) = parts();
        let time = pass_time(&watchdog.list, 1);
        call(&guest, &control, &watchdog, Some(1));
        assert_eq!(call(&guest, &control, &watchdog, Some(9)), None);
        time.join().unwrap();
    });
}

#[test]
fn a_call_without_a_deadline_is_not_stopped_at_an_earlier_ones() {
    model(|| {
        let (guest, control, watchdog) = parts();
        call(&guest, &control, &watchdog, Some(0));
        assert_eq!(call(&guest, &control, &watchdog, None), None);
    });
}

#[test]
fn a_call_has_one_reason_when_two_come_together() {
    model(|| {
        let (guest, control, watchdog) = parts();
        let stopping = {
            let control = Arc::clone(&control);
            thread::spawn(move || control.interrupt())
        };
        control.begin(&watchdog, Some(at(0)));
        guest.run();
        let first = control.reason();
        stopping.join().unwrap();
        assert!(first.is_some());
        assert_eq!(control.end(), first);
    });
}

#[test]
fn a_watchdog_ends_its_thread_when_it_is_dropped() {
    model(|| {
        let (guest, control, watchdog) = parts();
        assert_eq!(call(&guest, &control, &watchdog, Some(9)), None);
        let other = thread::spawn(move || drop(control));
        drop(watchdog);
        other.join().unwrap();
    });
}
