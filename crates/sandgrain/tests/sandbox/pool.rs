//! Pools: who gets which sandbox, and in which state.

use crate::support::{module, name_of, sandbox, vm, wait_for};
use sandgrain::wasi::{Access, Output, WasiConfig};
use sandgrain::{Error, Policy, Pool, PoolBuilder, Sandbox, Snapshot};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const COUNTER: &str = r#"(module (memory (export "memory") 1)
    (global $n (mut i32) (i32.const 0))
    (func (export "add") (param i32) (result i32)
        (global.set $n (i32.add (global.get $n) (local.get 0)))
        (i32.store (i32.const 40000) (global.get $n))
        (i32.load (i32.const 40000)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "touch") (param i32) (result i32)
        (i32.store (local.get 0) (i32.add (i32.load (local.get 0)) (i32.const 1)))
        (i32.load (local.get 0)))
    (func (export "spin") (loop (br 0)))
    (func (export "trap") unreachable))"#;

fn snapshot() -> Snapshot {
    sandbox(vm(), COUNTER).snapshot().expect("a snapshot")
}

fn pool(builder: PoolBuilder) -> Pool {
    builder.build().expect("a pool")
}

fn add(sandbox: &mut Sandbox, n: u32) -> u32 {
    sandbox.call("add", n).expect("a call")
}

#[test]
fn every_caller_gets_a_sandbox_that_nobody_has_used() {
    let pool = pool(Pool::builder(&snapshot()).parked(2..=4));
    for n in 1..=50 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        assert_eq!(add(&mut sandbox, n), n);
        if n % 10 == 0 {
            sandbox.call::<_, ()>("trap", ()).expect_err("a trap");
        }
    }
    let stats = pool.stats();
    assert_eq!((stats.hits + stats.misses, stats.retired, stats.kept), (50, 50, 0), "{stats:?}");
}

#[test]
fn one_is_ready_before_it_is_asked_for() {
    let pool = pool(Pool::builder(&snapshot()).parked(3..=3));
    wait_for(&pool, "three parked", |stats| stats.parked == 3);
    let sandboxes: Vec<_> = (0..3).map(|_| pool.take("a").expect("a sandbox")).collect();
    assert_eq!((pool.stats().hits, pool.stats().misses), (3, 0));
    drop(sandboxes);
    wait_for(&pool, "three parked again", |stats| stats.parked == 3);
}

#[test]
fn a_parked_call_maps_no_page() {
    let pool = pool(
        Pool::builder(&snapshot()).parked(1..=1).configure(|builder| builder.count_pages(true)),
    );
    // The first ones show the pool which pages calls touch.
    for _ in 0..8 {
        wait_for(&pool, "one parked", |stats| stats.parked == 1);
        add(&mut pool.take("a").expect("a sandbox"), 1);
        std::thread::sleep(Duration::from_millis(30));
    }
    wait_for(&pool, "one parked", |stats| stats.parked == 1);
    let mut sandbox = pool.take("a").expect("a sandbox");
    add(&mut sandbox, 1);
    assert_eq!((sandbox.stats().exits, sandbox.stats().pages_touched), (1, Some(0)));
}

#[test]
fn a_pool_that_is_empty_still_gives() {
    let pool = pool(Pool::builder(&snapshot()).parked(0..=0).at_most(5));
    let mut sandboxes: Vec<_> = (0..5).map(|_| pool.take("a").expect("a sandbox")).collect();
    for (n, sandbox) in sandboxes.iter_mut().enumerate() {
        assert_eq!(add(sandbox, n as u32), n as u32);
    }
    let (name, text) = name_of(pool.take("a"));
    assert_eq!(name, "limit");
    assert!(text.contains("limited to 5"), "{text}");
    sandboxes.pop();
    pool.take("a").expect("one has been given back");
    assert_eq!((pool.stats().misses, pool.stats().refused), (6, 1));
}

#[test]
fn a_reset_sandbox_is_as_new() {
    let pool = pool(Pool::builder(&snapshot()).policy(Policy::Reset).parked(1..=2));
    for n in 1..=50 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        assert_eq!(add(&mut sandbox, n), n);
        // Memory that was not there, within the same page tables, and back.
        assert_eq!(sandbox.call::<_, u32>("grow", 2u32).expect("a call"), 1);
        assert_eq!(sandbox.call::<_, u32>("touch", 100_000u32).expect("a call"), 1);
    }
    let stats = pool.stats();
    assert_eq!((stats.replaced, stats.kept), (0, 1), "{stats:?}");
}

#[test]
fn memory_that_was_grown_is_out_of_bounds_after_a_reset() {
    let pool = pool(Pool::builder(&snapshot()).policy(Policy::Reset).parked(1..=1).at_most(1));
    for grow in [1u32, 3, 20, 100, 0, 1] {
        // Only read, only written, or not touched at all before the reset.
        for touch in [None, Some("touch"), Some("read")] {
            let mut sandbox = pool.take("a").expect("a sandbox");
            let end = 65536u32;
            for at in [end, end + 65535, end * 2, end * 50] {
                sandbox.call::<_, u32>("touch", at).expect_err("beyond the memory");
            }
            assert_eq!(sandbox.call::<_, u32>("grow", grow).expect("a call"), 1);
            for at in (end..end * (1 + grow)).step_by(4096 * 5) {
                match touch {
                    Some("touch") => {
                        assert_eq!(sandbox.call::<_, u32>("touch", at).expect("a call"), 1);
                    }
                    Some(_) => {
                        let main = sandbox.main();
                        let at = u64::from(at);
                        let byte = sandbox.read_memory(main, "memory", at..at + 1);
                        assert_eq!(byte.expect("memory"), [0]);
                    }
                    None => {}
                }
            }
        }
    }
    // Beyond the first large page there are page tables that a reset does not take away.
    assert!(pool.stats().replaced > 0, "{:?}", pool.stats());
}

#[test]
fn sandboxes_that_are_kept_keep_their_state_and_their_tenant() {
    let pool = pool(Pool::builder(&snapshot()).policy(Policy::Keep).parked(1..=3));
    for round in 1..=5 {
        for (tenant, step) in [("a", 1), ("b", 100)] {
            let mut sandbox = pool.take(tenant).expect("a sandbox");
            assert_eq!(add(&mut sandbox, step), step * round, "tenant {tenant}");
        }
    }
    // One tenant's second sandbox is a new one, though another tenant's waits.
    let _first = pool.take("a").expect("a sandbox");
    let mut second = pool.take("a").expect("a sandbox");
    assert_eq!(add(&mut second, 1), 1);
}

#[test]
fn a_reset_sandbox_never_serves_another_tenant() {
    let pool = pool(Pool::builder(&snapshot()).policy(Policy::Reset).parked(0..=4));
    drop(pool.take("a").expect("a sandbox"));
    assert_eq!(pool.stats().kept, 1);
    let _others = pool.take("b").expect("a sandbox");
    assert_eq!(pool.stats().misses + pool.stats().hits, 2);
    assert_eq!(pool.stats().kept, 1, "the first tenant's still waits for it");
    let _own = pool.take("a").expect("a sandbox");
    assert_eq!(pool.stats().kept, 0);
}

#[test]
fn a_sandbox_that_failed_is_replaced() {
    for policy in [Policy::Fresh, Policy::Reset, Policy::Keep] {
        let builder = Pool::builder(&snapshot()).policy(policy).parked(1..=2);
        let pool = pool(builder.configure(|builder| builder.limits(crate::support::soon())));
        for _ in 0..3 {
            let mut sandbox = pool.take("a").expect("a sandbox");
            assert_eq!(add(&mut sandbox, 1), 1, "{policy:?}");
            let result = sandbox.call::<_, ()>("spin", ());
            assert!(matches!(result, Err(Error::Deadline(_))), "{result:?}");
        }
        let stats = pool.stats();
        assert_eq!((stats.kept, stats.replaced + stats.retired), (0, 3), "{stats:?}");
    }
}

#[test]
fn host_functions_and_wasi_are_given_by_the_recipe() {
    let wat = r#"(module
        (import "host" "next" (func $next (result i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 32) "hello")
        (data (i32.const 40) "\20\00\00\00\05\00\00\00")
        (func (export "run") (result i32)
            (drop (call $write (i32.const 1) (i32.const 40) (i32.const 1) (i32.const 64)))
            (call $next)))"#;
    let first = Sandbox::builder(&module(vm(), wat))
        .function("host", "next", || 0u32)
        .wasi(WasiConfig::new())
        .build()
        .expect("a sandbox");
    let counter = Arc::new(AtomicU32::new(0));
    let calls = Arc::clone(&counter);
    let builder = Pool::builder(&first.snapshot().expect("a snapshot")).policy(Policy::Reset);
    let pool = pool(builder.configure(move |builder| {
        let calls = Arc::clone(&calls);
        builder
            .function("host", "next", move || calls.fetch_add(1, Ordering::Relaxed))
            .wasi(WasiConfig::new().stdout(Output::Capture))
    }));
    for n in 0..5 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("run", ()).expect("a call"), n);
        assert_eq!(&sandbox.take_stdout()[..], b"hello", "only its own");
    }
}

#[test]
fn what_one_call_is_granted_the_next_one_does_not_have() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "args_sizes_get"
            (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get"
            (func $prestat (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "args") (result i32)
            (drop (call $args (i32.const 0) (i32.const 4))) (i32.load (i32.const 0)))
        (func (export "directory") (result i32) (call $prestat (i32.const 3) (i32.const 8))))"#;
    let directory = tempfile::tempdir().expect("a directory");
    let first = Sandbox::builder(&module(vm(), wat)).wasi(WasiConfig::new()).build();
    let snapshot = first.expect("a sandbox").snapshot().expect("a snapshot");
    let builder = Pool::builder(&snapshot).policy(Policy::Reset).parked(0..=1).at_most(1);
    let pool = pool(builder.configure(|builder| builder.wasi(WasiConfig::new().arg("recipe"))));
    for round in 0..3 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        let more = WasiConfig::new().args(["a", "b", "c"]).preopen(
            directory.path(),
            "/d",
            Access::ReadOnly,
        );
        sandbox.set_wasi(more).expect("not used so far");
        assert_eq!(sandbox.call::<_, u32>("args", ()).expect("a call"), 3, "round {round}");
        assert_eq!(sandbox.call::<_, u32>("directory", ()).expect("a call"), 0);
        drop(sandbox);
        let mut sandbox = pool.take("a").expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("args", ()).expect("a call"), 1, "round {round}");
        assert_eq!(sandbox.call::<_, u32>("directory", ()).expect("a call"), 8, "EBADF");
    }
    assert_eq!(pool.stats().misses, 1, "it was the same VM each time");
}

#[test]
fn what_is_wrong_with_the_sandboxes_the_caller_is_told() {
    let wat = r#"(module (import "host" "f" (func $f)) (func (export "run") (call $f)))"#;
    let first =
        Sandbox::builder(&module(vm(), wat)).function("host", "f", || {}).build().expect("one");
    let pool = pool(Pool::builder(&first.snapshot().expect("a snapshot")));
    wait_for(&pool, "attempts", |stats| stats.failed > 1);
    let failure = pool.failure().expect("none could be made");
    assert!(failure.count > 1 && failure.error.contains("host.f"), "{failure:?}");
    assert!(!failure.is_hosts, "what they are given is wrong: {failure:?}");
    assert_eq!(name_of(pool.take("a")).0, "imports");
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn a_warm_up_is_undone() {
    let warmed = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&warmed);
    let builder = Pool::builder(&snapshot()).parked(2..=2).warm_up(move |sandbox| {
        count.fetch_add(1, Ordering::Relaxed);
        sandbox.call::<_, u32>("add", 1000u32)?;
        // Too much to be undone: such a sandbox is made once more.
        sandbox.call::<_, u32>("grow", 200u32)?;
        sandbox.call::<_, u32>("touch", 9_000_000u32)?;
        Ok(())
    });
    let pool = pool(builder);
    wait_for(&pool, "two parked", |stats| stats.parked == 2);
    assert!(warmed.load(Ordering::Relaxed) >= 2);
    let mut sandbox = pool.take("a").expect("a sandbox");
    assert_eq!(add(&mut sandbox, 1), 1);
    sandbox.call::<_, u32>("touch", 9_000_000u32).expect_err("not grown");
}

#[test]
fn a_recipe_that_panics_is_a_failure_and_no_more() {
    let first = Arc::new(AtomicU32::new(0));
    let calls = Arc::clone(&first);
    let pool = pool(Pool::builder(&snapshot()).parked(1..=1).at_most(1).warm_up(move |_| {
        assert!(calls.fetch_add(1, Ordering::Relaxed) > 2, "on purpose");
        Ok(())
    }));
    assert_eq!(add(&mut pool.take("a").expect("a sandbox"), 1), 1);
    wait_for(&pool, "one parked after the failures", |stats| stats.parked == 1);
    assert!(pool.stats().failed > 0, "{:?}", pool.stats());
    assert!(pool.failure().is_none(), "the last one could be made: {:?}", pool.failure());
}

#[test]
fn bounds_that_contradict_each_other_are_refused() {
    let snapshot = snapshot();
    let builder = || Pool::builder(&snapshot);
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let backwards = 3..=1;
    for builder in [
        builder().parked(backwards),
        builder().parked(1..=9).at_most(8),
        builder().parked(0..=0).at_most(0),
        builder().parked(0..=usize::MAX),
        builder().parked(0..=1).at_most(usize::MAX),
    ] {
        assert_eq!(name_of(builder.build()).0, "bad-call");
    }
}

#[test]
fn memory_bounds_how_many_wait() {
    let pool = pool(Pool::builder(&snapshot()).parked(8..=8).memory(1 << 20));
    wait_for(&pool, "fewer than eight", |stats| stats.target < 8 && stats.parked <= stats.target);
    assert!(pool.stats().parked <= 4, "{:?}", pool.stats());
    pool.take("a").expect("callers get theirs all the same");
}

#[test]
fn many_threads_share_a_pool() {
    let pool = pool(Pool::builder(&snapshot()).policy(Policy::Reset).parked(1..=4));
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let pool = &pool;
            scope.spawn(move || {
                let tenant = format!("tenant {}", thread % 2);
                for n in 0..100 {
                    let mut sandbox = pool.take(&tenant).expect("a sandbox");
                    assert_eq!(add(&mut sandbox, n), n);
                }
            });
        }
    });
    assert_eq!(pool.stats().in_use, 0);
}
