//! Sleeps that whoever runs the guest waits for without a thread.

use std::future::{pending, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::support::*;
use sandgrain_wasi::{Cancel, Error, Function, Reply, Wasi, WasiConfig};

/// Where the subscription, the events and their number are.
const SUBSCRIPTION: usize = 1024;
const EVENTS: usize = 3000;
const COUNT: usize = 4000;

fn poll_oneoff() -> Function {
    Wasi::lookup("poll_oneoff").expect("a function")
}

fn arguments(count: u64) -> [u64; 4] {
    [SUBSCRIPTION as u64, EVENTS as u64, count, COUNT as u64]
}

fn sleeping(nanoseconds: u64) -> Guest {
    let mut guest = Guest::new(WasiConfig::new());
    guest.clock(SUBSCRIPTION, nanoseconds);
    guest
}

fn sleeps_for(guest: &mut Guest, function: Function, args: &[u64]) -> Option<Duration> {
    guest.wasi.sleeps_for(function, args, &mut guest.memory)
}

#[test]
fn one_relative_timer_is_a_sleep_and_tells_how_long() {
    for nanoseconds in [0, 1, 5_000_000_000, u64::MAX] {
        let mut guest = sleeping(nanoseconds);
        let time = sleeps_for(&mut guest, poll_oneoff(), &arguments(1));
        assert_eq!(time, Some(Duration::from_nanos(nanoseconds)));
    }
}

#[test]
fn whatever_else_waits_is_no_sleep() {
    let mut guest = sleeping(5);
    for count in [0, 2, u64::from(u32::MAX)] {
        assert_eq!(sleeps_for(&mut guest, poll_oneoff(), &arguments(count)), None, "{count}");
    }
    let yields = Wasi::lookup("sched_yield").expect("a function");
    assert_eq!(sleeps_for(&mut guest, yields, &arguments(1)), None, "another function");
    assert_eq!(sleeps_for(&mut guest, poll_oneoff(), &[]), None, "without arguments");
    let beyond = [u64::from(u32::MAX), 0, 1, 0];
    assert_eq!(sleeps_for(&mut guest, poll_oneoff(), &beyond), None, "outside of memory");
    // The flag that makes the time a moment.
    guest.put(SUBSCRIPTION + 40, &[1]);
    assert_eq!(sleeps_for(&mut guest, poll_oneoff(), &arguments(1)), None, "a moment");
    guest.clock(SUBSCRIPTION, 5);
    // A descriptor in place of the clock.
    guest.put(SUBSCRIPTION + 8, &[1]);
    assert_eq!(sleeps_for(&mut guest, poll_oneoff(), &arguments(1)), None, "a descriptor");
}

#[test]
fn a_guest_that_is_woken_finds_what_a_call_would_have_written() {
    let mut called = sleeping(1000);
    assert_eq!(called.call("poll_oneoff", &arguments(1)), SUCCESS);
    let mut woken = sleeping(1000);
    let reply = Wasi::wake(&arguments(1), &mut woken.memory).expect("a reply");
    assert_eq!(reply, Reply::Value(SUCCESS));
    assert_eq!(woken.u32(COUNT), 1);
    assert!(called.memory == woken.memory, "event or number differ");
}

#[test]
fn pointers_beyond_the_memory_are_a_trap_when_it_is_woken_too() {
    for (events, count) in [(u64::from(u32::MAX), COUNT as u64), (EVENTS as u64, 1 << 16)] {
        let mut guest = sleeping(1);
        let args = [SUBSCRIPTION as u64, events, 1, count];
        let woken = Wasi::wake(&args, &mut guest.memory);
        assert!(matches!(woken, Err(Error::Trap(_))), "{woken:?}");
    }
    let mut guest = sleeping(1);
    let other = Wasi::wake(&arguments(2), &mut guest.memory);
    assert!(matches!(other, Err(Error::Trap(_))), "it does not sleep: {other:?}");
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counted() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

#[test]
fn a_sleep_is_over_after_its_time() {
    let started = Instant::now();
    let time = Duration::from_millis(20);
    let sleep = sandgrain_wasi::sleep(time).expect("a timer");
    // On this thread there is no runtime.
    Cancel::new().block_on(sleep).expect("nobody cancels");
    assert!(started.elapsed() >= time);
}

#[test]
fn who_waits_is_told_when_the_call_is_cancelled() {
    let cancel = Cancel::new();
    let (count, waker) = counted();
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(cancel.wait_for(pending::<()>()));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(waiting.as_mut().poll(&mut context).is_pending(), "as often as one likes");
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    cancel.cancel();
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "woken once");
    let polled = waiting.as_mut().poll(&mut context);
    assert!(matches!(polled, Poll::Ready(Err(Error::Cancelled))), "{polled:?}");
}

#[test]
fn what_is_ready_is_given_unless_the_call_was_cancelled_before() {
    let cancel = Cancel::new();
    let mut context = Context::from_waker(Waker::noop());
    let polled = pin!(cancel.wait_for(ready(5))).as_mut().poll(&mut context);
    assert!(matches!(polled, Poll::Ready(Ok(5))), "{polled:?}");
    cancel.cancel();
    let polled = pin!(cancel.wait_for(ready(5))).as_mut().poll(&mut context);
    assert!(matches!(polled, Poll::Ready(Err(Error::Cancelled))), "{polled:?}");
}

#[test]
fn who_does_not_wait_any_more_is_not_woken() {
    let cancel = Cancel::new();
    let (count, waker) = counted();
    let mut context = Context::from_waker(&waker);
    {
        let mut waiting = pin!(cancel.wait_for(pending::<()>()));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
    }
    cancel.cancel();
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
}
