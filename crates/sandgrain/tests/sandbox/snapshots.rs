//! Snapshots: sandboxes that go on where another one was.

use crate::support::{COUNTER, limited, module, name_of, reference, sandbox, trap_of, vm};
use sandgrain::wasi::{Access, Output, WasiConfig};
use sandgrain::{Error, Limits, Sandbox, Snapshot, TrapCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[track_caller]
fn build(snapshot: &Snapshot) -> Sandbox {
    snapshot.sandbox().build().expect("a sandbox")
}

#[test]
fn sandboxes_go_on_where_the_snapshot_was_taken() {
    let mut first = sandbox(vm(), COUNTER);
    first.call::<_, u32>("add", 5u32).expect("a call");
    first.call::<_, u32>("grow", 2u32).expect("a call");
    first.call::<_, ()>("poke", (150_000u32, 77u32)).expect("a call");
    let snapshot = first.snapshot().expect("a snapshot");
    first.call::<_, u32>("add", 100u32).expect("a call");
    drop(first);
    let (mut a, mut b) = (build(&snapshot), build(&snapshot));
    assert_eq!(a.call::<_, u32>("add", 1u32).expect("a call"), 6);
    assert_eq!(b.call::<_, u32>("add", 2u32).expect("a call"), 7, "they share nothing");
    for sandbox in [&mut a, &mut b] {
        assert_eq!(sandbox.call::<_, u32>("peek", 150_000u32).expect("a call"), 77);
        let end = 3 * 65536u32;
        let result = sandbox.call::<_, u32>("peek", end);
        assert_eq!(trap_of(result), TrapCode::MemoryOutOfBounds);
        assert_eq!(sandbox.call::<_, u32>("grow", 1u32).expect("a call"), 3);
        assert_eq!(sandbox.call::<_, u32>("peek", end).expect("a call"), 0);
    }
    let main = a.main();
    assert_eq!(a.read_memory(main, "memory", 150_000..150_001).expect("memory"), [77]);
}

#[test]
fn a_snapshot_of_a_snapshots_sandbox() {
    let mut snapshot = sandbox(vm(), COUNTER).snapshot().expect("a snapshot");
    for n in 1..=5u32 {
        let mut next = build(&snapshot);
        assert_eq!(next.call::<_, u32>("add", 1u32).expect("a call"), n);
        snapshot = next.snapshot().expect("a snapshot");
    }
    assert_eq!(build(&snapshot).call::<_, u32>("add", 0u32).expect("a call"), 5);
}

#[test]
fn a_snapshot_after_a_trap() {
    let mut first = sandbox(vm(), COUNTER);
    first.call::<_, u32>("add", 5u32).expect("a call");
    assert_eq!(trap_of(first.call::<_, ()>("trap", ())), TrapCode::Unreachable);
    let mut next = build(&first.snapshot().expect("a snapshot"));
    assert_eq!(next.call::<_, u32>("add", 1u32).expect("a call"), 6);
    assert_eq!(trap_of(next.call::<_, ()>("trap", ())), TrapCode::Unreachable);
}

#[test]
fn functions_share_all_but_their_own_layer() {
    let snapshots: Vec<Snapshot> = (0..3)
        .map(|n| {
            let wat = format!(r#"(module (func (export "f") (result i32) (i32.const {n})))"#);
            sandbox(vm(), &wat).snapshot().expect("a snapshot")
        })
        .collect();
    for (n, snapshot) in snapshots.iter().enumerate() {
        assert_eq!(build(snapshot).call::<_, u32>("f", ()).expect("a call"), n as u32);
        let (own, all) = (snapshot.own_bytes().expect("a size"), snapshot.content_bytes());
        assert!(own < all / 2, "{own} of {all}");
    }
}

#[test]
fn host_functions_are_found_by_name_whatever_their_order() {
    let wat = r#"(module
        (import "host" "a" (func $a (result i32)))
        (import "host" "b" (func $b (param i32) (result i32)))
        (func (export "run") (result i32) (call $b (call $a))))"#;
    let first = Sandbox::builder(&module(vm(), wat))
        .function("host", "unused", || {})
        .function("host", "a", || 1u32)
        .function("host", "b", |n: u32| n + 10)
        .build()
        .expect("a sandbox");
    let snapshot = first.snapshot().expect("a snapshot");
    let state = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&state);
    let mut next = snapshot
        .sandbox()
        .function("host", "b", move |n: u32| {
            counter.fetch_add(1, Ordering::Relaxed);
            n + 100
        })
        .function("host", "more", || {})
        .function("host", "a", || 2u32)
        .build()
        .expect("a sandbox");
    assert_eq!(next.call::<_, u32>("run", ()).expect("a call"), 102);
    assert_eq!(state.load(Ordering::Relaxed), 1);

    let missing = snapshot.sandbox().function("host", "a", || 1u64).build();
    let Err(Error::Imports(errors)) = missing else { panic!("{missing:?}") };
    let names: Vec<_> = errors.iter().filter_map(|e| e.import.clone()).map(|(_, n)| n).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(errors[0].problem.contains("i64"), "{}", errors[0].problem);
}

#[test]
fn modules_can_be_added_to_a_snapshots_sandbox() {
    let snapshot = sandbox(vm(), COUNTER).snapshot().expect("a snapshot");
    let user = module(
        vm(),
        r#"(module (import "counter" "add" (func $add (param i32) (result i32)))
            (import "host" "n" (func $n (result i32)))
            (func (export "run") (result i32) (call $add (call $n))))"#,
    );
    let mut next = snapshot.sandbox().function("host", "n", || 7u32).build().expect("a sandbox");
    let main = next.main();
    next.register("counter", main);
    let added = next.instantiate(&user).expect("an instance");
    assert_eq!(next.call_values(added, "run", &[]).expect("a call"), [sandgrain::Value::I32(7)]);
}

/// Asks for random bytes, reads the clock, prints.
const WASI: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get"
        (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get"
        (func $prestat (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "f")
    (data (i32.const 32) "hello")
    (data (i32.const 40) "\20\00\00\00\05\00\00\00")
    (func (export "random") (result i64)
        (drop (call $random (i32.const 64) (i32.const 8))) (i64.load (i32.const 64)))
    (func (export "clock") (result i64)
        (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 64))) (i64.load (i32.const 64)))
    (func (export "print") (drop (call $write
        (i32.const 1) (i32.const 40) (i32.const 1) (i32.const 64))))
    (func (export "prestat") (result i32) (call $prestat (i32.const 3) (i32.const 64)))
    (func (export "open") (result i32) (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0)
        (i32.const 1) (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 64)))
        (i32.load (i32.const 64)))
    (func (export "close") (param i32) (result i32) (call $close (local.get 0))))"#;

#[test]
fn no_two_lives_share_randomness_or_clocks_of_the_host() {
    let first = Sandbox::builder(&module(vm(), WASI)).wasi(WasiConfig::new()).build();
    let snapshot = first.expect("a sandbox").snapshot().expect("a snapshot");
    let mut seen = std::collections::BTreeSet::new();
    let mut last = 0;
    for _ in 0..4 {
        let mut next = snapshot.sandbox().wasi(WasiConfig::new()).build().expect("a sandbox");
        assert!(seen.insert(next.call::<_, u64>("random", ()).expect("a call")));
        let now = next.call::<_, u64>("clock", ()).expect("a call");
        assert!(now < u64::MAX / 2 && seen.insert(now), "{now} after {last}");
        last = now;
    }
}

#[test]
fn a_guest_with_random_bytes_is_not_copied_unless_that_is_said() {
    let mut first =
        Sandbox::builder(&module(vm(), WASI)).wasi(WasiConfig::new()).build().expect("a sandbox");
    first.call::<_, u64>("clock", ()).expect("a call");
    first.snapshot().expect("clocks are read anew");
    first.call::<_, u64>("random", ()).expect("a call");
    let (name, text) = name_of(first.snapshot());
    assert_eq!(name, "snapshot");
    assert!(text.contains("random bytes"), "{text}");
    let snapshot = first.snapshot_with_randomness().expect("a snapshot");
    assert!(snapshot.shares_randomness());
    // So is a copy of the copy.
    let next = snapshot.sandbox().wasi(WasiConfig::new()).build().expect("a sandbox");
    assert_eq!(name_of(next.snapshot()).0, "snapshot");
    assert!(next.snapshot_with_randomness().expect("a snapshot").shares_randomness());
}

#[test]
fn each_life_has_its_own_output() {
    let first = Sandbox::builder(&module(vm(), WASI)).wasi(WasiConfig::new()).build();
    let snapshot = first.expect("a sandbox").snapshot().expect("a snapshot");
    let config = WasiConfig::new().stdout(Output::Capture);
    let mut next = snapshot.sandbox().wasi(config.clone()).build().expect("a sandbox");
    next.call::<_, ()>("print", ()).expect("a call");
    assert_eq!(&next.take_stdout()[..], b"hello");
    // Granted only when it is needed.
    let mut late = snapshot.sandbox().wasi(WasiConfig::new()).build().expect("a sandbox");
    late.set_wasi(config.clone()).expect("not used so far");
    late.call::<_, ()>("print", ()).expect("a call");
    assert_eq!(&late.take_stdout()[..], b"hello");
    assert_eq!(name_of(late.set_wasi(config)).0, "bad-call");
}

#[test]
fn what_the_guest_knows_of_wasi_has_to_be_there() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("f"), "x").expect("a file");
    let config = |name| WasiConfig::new().preopen(directory.path(), name, Access::ReadOnly);
    let build = |config| Sandbox::builder(&module(vm(), WASI)).wasi(config).build();
    let first = build(config("/a")).expect("a sandbox");
    let unaware = first.snapshot().expect("a snapshot");
    unaware.sandbox().wasi(config("/b")).build().expect("it has not asked for any directory");
    assert_eq!(name_of(unaware.sandbox().build()).0, "snapshot", "WASI is not granted");

    let mut first = build(config("/a")).expect("a sandbox");
    assert_eq!(first.call::<_, u32>("prestat", ()).expect("a call"), 0);
    let aware = first.snapshot().expect("a snapshot");
    aware.sandbox().wasi(config("/a")).build().expect("the same directories");
    let (name, text) = name_of(aware.sandbox().wasi(config("/b")).build());
    assert_eq!(name, "snapshot");
    assert!(text.contains("\"/a\"") && text.contains("\"/b\""), "{text}");

    let file = first.call::<_, u32>("open", ()).expect("a call");
    assert_eq!(name_of(first.snapshot()).0, "snapshot", "a file is open");
    assert_eq!(first.call::<_, u32>("close", file).expect("a call"), 0);
    first.snapshot().expect("none is open");
    assert_eq!(first.call::<_, u32>("close", 3u32).expect("a call"), 0);
    assert_eq!(name_of(first.snapshot()).0, "snapshot", "a directory is closed");
}

#[test]
fn only_limits_that_the_host_keeps_can_be_changed() {
    let first = limited(vm(), Limits::default().memory(1 << 20), COUNTER).expect("a sandbox");
    let snapshot = first.snapshot().expect("a snapshot");
    let own = Limits::default().memory(1 << 20);
    let changed = snapshot.sandbox().limits(own.clone().deadline(None).stdout(1)).build();
    changed.expect("the host's own limits");
    let (name, text) = name_of(snapshot.sandbox().limits(Limits::default()).build());
    assert_eq!(name, "snapshot");
    assert!(text.contains("1048576"), "{text}");
    let mut next = build(&snapshot);
    assert_eq!(next.call::<_, i32>("grow", 100u32).expect("a call"), -1, "the snapshot's limit");
}

#[test]
fn what_cannot_be_a_snapshot_says_why() {
    let (name, text) = name_of(sandbox(reference(), COUNTER).snapshot());
    assert_eq!(name, "snapshot");
    assert!(text.contains("VM"), "{text}");
    let mut ended =
        limited(vm(), crate::support::soon(), r#"(module (func (export "spin") (loop (br 0))))"#)
            .expect("a sandbox");
    ended.call::<_, ()>("spin", ()).expect_err("its deadline");
    assert_eq!(name_of(ended.snapshot()).0, "ended");
    let snapshot = sandbox(vm(), COUNTER).snapshot().expect("a snapshot");
    let preloaded = snapshot.sandbox().preload("m", &module(vm(), COUNTER)).build();
    assert_eq!(name_of(preloaded).0, "bad-call");
}
