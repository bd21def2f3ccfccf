//! Thousands of calls in VMs that come and go: neither the process nor its workers must grow by them.
//!
//! A program of its own, so that no other test opens files or starts threads meanwhile.
//! `SANDGRAIN_SOAK=200000` makes it that many calls, which takes some minutes.

use sandgrain::wasi::{Output, WasiConfig};
use sandgrain::{Engine, Error, Module, Policy, Pool, Sandbox, Snapshot, Workers};
use std::time::Duration;

/// Prints, grows, traps, and ends a VM for good, by the number that it is given.
const MODULE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (import "host" "fail" (func $fail))
    (memory (export "memory") 1)
    (data (i32.const 32) "hello")
    (data (i32.const 40) "\20\00\00\00\05\00\00\00")
    (func (export "run") (param $n i32) (result i32)
        (if (i32.eq (local.get $n) (i32.const 1)) (then
            (drop (call $write (i32.const 1) (i32.const 40) (i32.const 1) (i32.const 64)))))
        (if (i32.eq (local.get $n) (i32.const 2)) (then
            (drop (memory.grow (i32.const 3))) (i32.store (i32.const 200000) (i32.const 1))))
        (if (i32.eq (local.get $n) (i32.const 3)) (then (drop (memory.grow (i32.const 300)))))
        (if (i32.eq (local.get $n) (i32.const 4)) (then unreachable))
        (if (i32.eq (local.get $n) (i32.const 5)) (then (call $fail)))
        (if (i32.eq (local.get $n) (i32.const 6)) (then (loop (br 0))))
        (local.get $n)))"#;

fn engine() -> Engine {
    let emulated = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
    Engine::builder().without_cache().available_tss(emulated).build().expect("an engine with KVM")
}

fn snapshot() -> Snapshot {
    let module = Module::new(&engine(), MODULE.as_bytes()).expect("a module");
    let builder = Sandbox::builder(&module).wasi(WasiConfig::new()).function("host", "fail", || {});
    builder.build().expect("a sandbox").snapshot().expect("a snapshot")
}

/// What processes have of the kernel, all together.
#[derive(Debug, Default)]
struct Held {
    processes: usize,
    descriptors: usize,
    mappings: usize,
    threads: usize,
    /// Memory, in bytes.
    resident: usize,
}

/// This process's, and those of its workers, as far as this user may see them.
fn held(workers: Option<&Workers>) -> Held {
    let mut held = Held::default();
    let workers = workers.map(Workers::processes).unwrap_or_default();
    let ids = workers.into_iter().map(|(id, _)| id.to_string());
    for id in std::iter::once("self".to_owned()).chain(ids) {
        let path = |name: &str| format!("/proc/{id}/{name}");
        let count = |name: &str| std::fs::read_dir(path(name)).map_or(0, Iterator::count);
        let status = std::fs::read_to_string(path("status")).expect("/proc");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes =
            resident.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        held.processes += 1;
        held.descriptors += count("fd");
        held.mappings +=
            std::fs::read_to_string(path("maps")).map_or(0, |maps| maps.lines().count());
        held.threads += count("task");
        held.resident += kilobytes.expect("VmRSS") << 10;
    }
    held
}

/// Calls, one after the other, in sandboxes of a pool.
fn call(pool: &Pool, calls: u32) {
    for n in 0..calls {
        let mut sandbox = pool.take(if n % 3 == 0 { "a" } else { "b" }).expect("a sandbox");
        // A spin costs its deadline, which a busy machine must not miss otherwise, so there are few.
        let what = if n % 9973 == 6 { 6 } else { n % 6 };
        let result = sandbox.call::<_, u32>("run", what);
        match (what, &result) {
            (0..=3, Ok(echo)) if *echo == what => {}
            (4, Err(Error::Trap(_))) | (5, Err(Error::HostFunction { .. })) => {}
            (6, Err(Error::Deadline(_))) => {}
            _ => panic!("call {n}: {result:?}"),
        }
        if what == 1 {
            assert_eq!(&sandbox.take_stdout()[..], b"hello");
        }
    }
}

/// Waits until what callers have given back is gone.
fn settle(pool: &Pool) {
    for _ in 0..2000 {
        let stats = pool.stats();
        if stats.parked == stats.target && stats.in_use == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
}

#[allow(clippy::print_stdout, reason = "measurements are printed")]
fn soak(policy: Policy, workers: Option<&Workers>, calls: u32) {
    let mut builder = Pool::builder(&snapshot());
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    let pool = builder
        .policy(policy)
        .parked(2..=4)
        .configure(|builder| {
            let limits = sandgrain::Limits::default().deadline(Some(Duration::from_secs(2)));
            builder.limits(limits).wasi(WasiConfig::new().stdout(Output::Capture)).function(
                "host",
                "fail",
                || Err::<(), _>("on purpose"),
            )
        })
        .build()
        .expect("a pool");
    call(&pool, calls / 4);
    settle(&pool);
    let before = held(workers);
    call(&pool, calls);
    settle(&pool);
    let after = held(workers);
    println!(
        "measured: {calls} calls with {policy:?}{}: {before:?}, then {after:?}; {:?}",
        workers.map_or("", |_| ", in workers"),
        pool.stats()
    );
    assert_eq!(after.processes, before.processes);
    // The pool's own size varies by a few VMs: two descriptors and some dozen mappings each. So do lines.
    assert!(after.descriptors <= before.descriptors + 8, "{before:?}, then {after:?}");
    assert!(after.mappings <= before.mappings + 200, "{before:?}, then {after:?}");
    assert!(after.threads <= before.threads + 1, "{before:?}, then {after:?}");
    assert!(after.resident <= before.resident + (16 << 20), "{before:?}, then {after:?}");
}

#[test]
fn calls_by_the_thousand_leave_nothing_behind() {
    let calls = std::env::var("SANDGRAIN_SOAK").map_or(4000, |n| n.parse().expect("a number"));
    let workers = Workers::of_program(env!("CARGO_BIN_EXE_sandgrain-worker"));
    for (policy, workers) in
        [(Policy::Fresh, None), (Policy::Reset, None), (Policy::Fresh, Some(&workers))]
    {
        soak(policy, workers, calls / 2);
    }
}
