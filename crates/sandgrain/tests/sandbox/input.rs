//! Runs that are stopped at their input, and go on elsewhere.

use crate::support::{module, name_of, reference, soon, vm};
use sandgrain::wasi::{Input, Output, WasiConfig};
use sandgrain::{Error, Policy, Pool, Sandbox, Snapshot, SnapshotStore};

/// Prints `a`, reads up to 64 bytes, prints `b` and what it has read, and exits with how much that was, unless
/// it is nothing.
const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read"
        (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "ab")
    (global $runs (mut i32) (i32.const 0))
    (func $print (param $at i32) (param $len i32)
        (i32.store (i32.const 16) (local.get $at))
        (i32.store (i32.const 20) (local.get $len))
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
    (func (export "_start") (local $len i32)
        (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
        (call $print (i32.const 0) (i32.const 1))
        (i32.store (i32.const 16) (i32.const 100))
        (i32.store (i32.const 20) (i32.const 64))
        (drop (call $read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 24)))
        (local.set $len (i32.load (i32.const 24)))
        (call $print (i32.const 1) (i32.const 1))
        (call $print (i32.const 100) (local.get $len))
        (if (local.get $len) (then (call $exit (local.get $len)))))
    (func (export "runs") (result i32) (global.get $runs)))"#;

fn config(input: &str) -> WasiConfig {
    WasiConfig::new().stdin(Input::Bytes(input.to_owned().into())).stdout(Output::Capture)
}

fn echo(input: &str) -> Sandbox {
    Sandbox::builder(&module(vm(), ECHO)).wasi(config(input)).build().expect("a sandbox")
}

/// Of a run that has printed `a` and is about to read.
fn snapshot() -> Snapshot {
    let mut first = echo("not this");
    assert_eq!(first.run_to_input().expect("a run"), None);
    assert_eq!(&first.take_stdout()[..], b"a");
    first.snapshot().expect("a snapshot")
}

#[test]
fn a_run_goes_on_after_its_stop() {
    let mut sandbox = echo("hello");
    assert_eq!(sandbox.run_to_input().expect("a run"), None);
    assert!(sandbox.is_waiting_for_input());
    assert_eq!(sandbox.run().expect("a run"), 5);
    assert!(!sandbox.is_waiting_for_input());
    assert_eq!(&sandbox.take_stdout()[..], b"abhello");
    assert_eq!(sandbox.call::<_, u32>("runs", ()).expect("a call"), 1);
}

#[test]
fn each_life_reads_an_input_of_its_own() {
    let snapshot = snapshot();
    for input in ["one", "another", "", "one"] {
        let mut sandbox = snapshot.sandbox().wasi(config(input)).build().expect("a sandbox");
        assert!(sandbox.is_waiting_for_input());
        assert_eq!(sandbox.run().expect("a run"), input.len() as i32);
        assert_eq!(&sandbox.take_stdout()[..], format!("b{input}").as_bytes());
        // The run is over: another one begins from the start.
        assert_eq!(sandbox.run().expect("a run"), 0);
        assert_eq!(sandbox.call::<_, u32>("runs", ()).expect("a call"), 2);
    }
}

#[test]
fn an_input_can_be_given_at_the_last_moment() {
    let mut sandbox = snapshot().sandbox().wasi(config("early")).build().expect("a sandbox");
    sandbox.set_wasi(config("late")).expect("not used so far");
    sandbox.run().expect("a run");
    assert_eq!(&sandbox.take_stdout()[..], b"blate");
}

#[test]
fn a_snapshot_of_a_snapshot_in_the_middle() {
    let sandbox = snapshot().sandbox().wasi(config("x")).build().expect("a sandbox");
    let again = sandbox.snapshot().expect("a snapshot");
    let mut sandbox = again.sandbox().wasi(config("yz")).build().expect("a sandbox");
    assert_eq!(sandbox.run().expect("a run"), 2);
}

#[test]
fn a_run_in_the_middle_can_be_saved_and_loaded() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SnapshotStore::open(directory.path().join("store")).expect("a store");
    store.save("echo", &snapshot()).expect("saved");
    let loaded = store.load(vm(), "echo").expect("loaded");
    for input in ["one", "another"] {
        let mut sandbox = loaded.sandbox().wasi(config(input)).build().expect("a sandbox");
        assert!(sandbox.is_waiting_for_input());
        assert_eq!(sandbox.run().expect("a run"), input.len() as i32);
        assert_eq!(&sandbox.take_stdout()[..], format!("b{input}").as_bytes());
    }
}

#[test]
fn nothing_else_can_be_asked_for_in_the_middle() {
    let mut sandbox = snapshot().sandbox().wasi(config("x")).build().expect("a sandbox");
    let main = sandbox.main();
    let (name, text) = name_of(sandbox.call::<_, u32>("runs", ()));
    assert_eq!(name, "bad-call");
    assert!(text.contains("waiting for input"), "{text}");
    assert_eq!(name_of(sandbox.read_memory(main, "memory", 0..1)).0, "bad-call");
    assert_eq!(name_of(sandbox.run_to_input()).0, "bad-call");
    assert_eq!(sandbox.run().expect("a run"), 1, "no harm was done");
}

#[test]
fn a_program_that_reads_nothing_runs_to_its_end() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (func (export "_start") (call $exit (i32.const 7))))"#;
    let mut sandbox =
        Sandbox::builder(&module(vm(), wat)).wasi(WasiConfig::new()).build().expect("one");
    assert_eq!(sandbox.run_to_input().expect("a run"), Some(7));
    assert!(!sandbox.is_waiting_for_input());
}

#[test]
fn a_deadline_holds_for_each_part() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let waits = WasiConfig::new().stdin(Input::pipe(reader));
    let snapshot = snapshot();
    let mut sandbox = snapshot.sandbox().wasi(waits).limits(soon()).build().expect("a sandbox");
    let result = sandbox.run();
    assert!(matches!(result, Err(Error::Deadline(_))), "{result:?}");
    assert_eq!(name_of(sandbox.run()).0, "ended");
    // Lets the thread that reads from the pipe end.
    std::io::Write::write_all(&mut writer, b"x").expect("a pipe");
}

#[test]
fn a_pool_of_runs_in_the_middle() {
    for policy in [Policy::Fresh, Policy::Reset] {
        let pool = Pool::builder(&snapshot())
            .policy(policy)
            .configure(|builder| builder.wasi(config("")))
            .warm_up(|sandbox| {
                assert_eq!(sandbox.run()?, 0);
                Ok(())
            })
            .build()
            .expect("a pool");
        for input in ["a", "bc", "def", "", "ghijk"] {
            let mut sandbox = pool.take("tenant").expect("a sandbox");
            sandbox.set_wasi(config(input)).expect("not used so far");
            assert_eq!(sandbox.run().expect("a run"), input.len() as i32, "{policy:?}");
            assert_eq!(&sandbox.take_stdout()[..], format!("b{input}").as_bytes());
        }
        assert_eq!(pool.stats().replaced, 0, "{policy:?}");
    }
}

#[test]
fn there_is_no_stop_without_a_vm() {
    let mut sandbox =
        Sandbox::builder(&module(reference(), ECHO)).wasi(config("x")).build().expect("a sandbox");
    assert_eq!(name_of(sandbox.run_to_input()).0, "bad-call");
    assert_eq!(sandbox.run().expect("a run"), 1);
}
