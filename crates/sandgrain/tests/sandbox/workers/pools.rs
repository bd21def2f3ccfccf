//! Pools whose sandboxes are in workers.

use super::{counter, kill, workers};
use crate::support::{name_of, wait_for};
use sandgrain::{Policy, Pool, PoolStats};
use std::time::{Duration, Instant};

#[test]
fn parked_sandboxes_are_spread_over_workers() {
    let workers = workers().sandboxes_each(4);
    let builder = Pool::builder(&counter()).workers(&workers).parked(10..=10).at_most(2000);
    let pool = builder.build().expect("a pool");
    wait_for(&pool, "ten parked", |stats| stats.parked == 10);
    let counts: Vec<usize> = workers.processes().into_iter().map(|(_, count)| count).collect();
    assert_eq!((counts.len(), counts.iter().sum()), (3, 10), "{counts:?}");
    for n in 0..20u32 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("add", n).expect("a call"), n);
    }
    wait_for(&pool, "ten parked again", |stats| stats.parked == 10 && stats.retired == 20);
}

#[test]
fn a_reset_sandbox_is_as_it_was_and_a_kept_one_is_not() {
    let workers = workers();
    for (policy, expected) in [(Policy::Reset, 5), (Policy::Keep, 25), (Policy::Fresh, 5)] {
        let builder = Pool::builder(&counter()).workers(&workers).policy(policy).parked(0..=2);
        let pool = builder.build().expect("a pool");
        let mut last = 0;
        for _ in 0..5 {
            let mut sandbox = pool.take("a").expect("a sandbox");
            last = sandbox.call::<_, u32>("add", 5u32).expect("a call");
            sandbox.call::<_, u32>("grow", 1u32).expect("a call");
        }
        assert_eq!(last, expected, "{policy:?}");
        let fresh = pool.take("another tenant").expect("a sandbox").call::<_, u32>("add", 1u32);
        assert_eq!(fresh.expect("a call"), 1, "{policy:?}");
    }
}

#[test]
fn with_its_last_call_a_sandbox_is_made_what_it_was() {
    let (in_workers, here) = (workers(), None);
    for workers in [Some(&in_workers), here] {
        let builder = Pool::builder(&counter()).policy(Policy::Reset).parked(0..=1);
        let builder = workers.iter().fold(builder, |builder, workers| builder.workers(workers));
        let pool = builder.build().expect("a pool");
        for _ in 0..10 {
            let mut sandbox = pool.take("a").expect("a sandbox");
            // Any number of calls before it.
            assert_eq!(sandbox.call::<_, u32>("add", 3u32).expect("a call"), 3);
            sandbox.call::<_, u32>("grow", 1u32).expect("a call");
            let sum = sandbox.last_call().call::<_, u32>("add", 4u32);
            assert_eq!(sum.expect("a call"), 7);
            let (name, text) = name_of(sandbox.call::<_, u32>("add", 1u32));
            assert_eq!(name, "bad-call");
            assert!(text.contains("was to be its last"), "{text}");
        }
        for _ in 0..10 {
            let mut sandbox = pool.take("a").expect("a sandbox");
            let result = sandbox.last_call().call::<_, ()>("trap", ());
            assert_eq!(name_of(result).0, "trap");
        }
        let stats = pool.stats();
        assert_eq!((stats.kept, stats.retired, stats.replaced), (1, 0, 0), "{stats:?}");
    }
}

#[test]
fn who_must_not_wait_gives_back_at_once() {
    let workers = workers();
    let builder = Pool::builder(&counter()).workers(&workers).policy(Policy::Reset).parked(0..=1);
    let pool = builder.build().expect("a pool");
    // Those that the snapshot learns from, and one more, are reset by a message of its own: that would be a wait.
    for n in 1..=5 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("add", 5u32).expect("a call"), 5);
        sandbox.give_back_at_once().expect("room");
        let replaced = |stats: &PoolStats| (stats.in_use, stats.kept, stats.replaced) == (0, 0, n);
        wait_for(&pool, "it is replaced", replaced);
    }
    let last_call = || {
        let mut sandbox = pool.take("a").expect("a sandbox");
        let sum = sandbox.last_call().call::<_, u32>("add", 5u32);
        assert_eq!(sum.expect("a call"), 5);
        sandbox.give_back_at_once().expect("room");
        let stats = pool.stats();
        (stats.kept, stats.replaced)
    };
    // The snapshot has learned enough when a thread has dropped some of those.
    let started = Instant::now();
    let replaced = loop {
        match last_call() {
            (1, replaced) => break replaced,
            (_, replaced) => assert!(started.elapsed() < Duration::from_secs(60), "{replaced}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    for _ in 0..5 {
        assert_eq!(last_call(), (1, replaced));
    }
}

#[test]
fn what_cannot_be_dropped_at_once_comes_back_to_be_dropped() {
    let workers = workers();
    let builder = Pool::builder(&counter()).workers(&workers).parked(0..=1);
    let pool = builder.build().expect("a pool");
    let taken: Vec<_> = (0..30).map(|_| pool.take("a").expect("a sandbox")).collect();
    let left: Vec<_> =
        taken.into_iter().filter_map(|sandbox| sandbox.give_back_at_once().err()).collect();
    assert!(!left.is_empty(), "a thread that drops thirty VMs is behind");
    // They are the pool's no more, and go with whoever has them.
    assert_eq!((pool.stats().in_use, pool.stats().retired), (0, 30));
    drop(left);
    assert_eq!((pool.stats().in_use, pool.stats().retired), (0, 30));
    assert_eq!(pool.take("a").expect("a sandbox").call::<_, u32>("add", 1u32).expect("a call"), 1);
}

#[test]
fn a_last_call_that_is_stopped_leaves_nothing_behind() {
    let workers = workers();
    let builder = Pool::builder(&counter()).workers(&workers).policy(Policy::Reset).parked(0..=1);
    let pool = builder.build().expect("a pool");
    for round in 0..8 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        if round % 2 == 0 {
            let sum = sandbox.last_call().call::<_, u32>("add", 5u32);
            assert_eq!(sum.expect("a call"), 5, "{round}");
            continue;
        }
        let handle = sandbox.interrupt_handle();
        let spinning = std::thread::spawn(move || {
            let result = sandbox.last_call().call::<_, ()>("spin", ());
            (sandbox, name_of(result).0)
        });
        while !spinning.is_finished() {
            handle.interrupt();
            std::thread::sleep(Duration::from_millis(1));
        }
        let (sandbox, name) = spinning.join().expect("no panic");
        assert_eq!(name, "interrupted");
        drop(sandbox);
    }
}

#[test]
fn a_pool_gets_over_the_loss_of_a_worker() {
    let workers = workers().sandboxes_each(3);
    let builder = Pool::builder(&counter()).workers(&workers).parked(6..=6);
    let pool = builder.build().expect("a pool");
    wait_for(&pool, "six parked", |stats| stats.parked == 6);
    let lost = workers.processes()[0].0;
    kill(lost);
    let (mut good, mut failed) = (0, 0);
    for _ in 0..12 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        match sandbox.call::<_, u32>("add", 1u32) {
            Ok(n) => good += n,
            Err(error) => {
                let (name, text) = name_of::<()>(Err(error));
                assert!(
                    name == "host" && text.contains(&format!("process {lost} is lost")),
                    "{text}"
                );
                failed += 1;
            }
        }
    }
    assert!(failed <= 1, "{failed} calls failed, and by the first all are known to be lost");
    assert_eq!(good + failed, 12);
    wait_for(&pool, "six parked again", |stats| stats.parked == 6);
}

#[test]
fn more_than_one_process_can_have_needs_workers() {
    let (name, text) = name_of(Pool::builder(&counter()).at_most(1001).build());
    assert_eq!(name, "bad-call");
    assert!(text.contains("worker processes"), "{text}");
    let workers = workers();
    drop(Pool::builder(&counter()).workers(&workers).at_most(5000).build().expect("a pool"));
    let (name, _) = name_of(Pool::builder(&counter()).workers(&workers).at_most(1_000_001).build());
    assert_eq!(name, "bad-call");
}
