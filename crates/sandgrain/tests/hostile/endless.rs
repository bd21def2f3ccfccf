//! Programs without an end: the deadline ends them, wherever they are.

use crate::support::{
    bound, deadline, ends_at_the_deadline, is_emulated, module, print, soon, works,
};
use sandgrain::wasi::{Input, Output, WasiConfig};
use sandgrain::{Error, Limits, Module, Sandbox};
use std::time::{Duration, Instant};

/// A module with all that the programs below use.
fn program(body: &str) -> String {
    format!(
        r#"(module
            (import "host" "short" (func $short))
            (import "host" "read" (func $host_read (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read"
                (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get"
                (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get"
                (func $clock (param i32 i64 i32) (result i32)))
            (memory (export "memory") 1024)
            (table $t 10 1000000 funcref)
            (elem (i32.const 0) func $ping $pong)
            (type $nothing (func))
            ;; A subscription at 0: the monotonic clock, an hour. One at 48: the wall clock, an hour.
            (data (i32.const 16) "\01\00\00\00")
            (data (i32.const 24) "\00\a0\b8\30\46\03\00\00")
            (data (i32.const 72) "\00\a0\b8\30\46\03\00\00")
            ;; A buffer at 256: 100 bytes at 300.
            (data (i32.const 256) "\2c\01\00\00\64\00\00\00")
            (func $ping (return_call_indirect (type $nothing) (i32.const 1)))
            (func $pong (return_call_indirect (type $nothing) (i32.const 0)))
            (func (export "run") (local $i i32) (local $f f64) {body}))"#
    )
}

/// What runs in the guest, or asks the host for something short again and again.
const ENDLESS: &[(&str, &str)] = &[
    ("spin", "(loop (br 0))"),
    ("tail calls", "(call $ping)"),
    ("divisions", "(loop (local.set $f (f64.div (local.get $f) (f64.const 3))) (br 0))"),
    (
        "memory.fill of 64 MiB",
        "(loop (memory.fill (i32.const 0) (local.get $i) (i32.const 0x4000000))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br 0))",
    ),
    (
        "memory.copy of 63 MiB",
        "(loop (memory.copy (i32.const 0) (i32.const 0x100000)
        (i32.const 0x3f00000)) (br 0))",
    ),
    ("memory.grow that fails", "(loop (drop (memory.grow (i32.const 60000))) (br 0))"),
    (
        "table.grow and table.fill",
        "(loop (drop (table.grow $t (ref.null func) (i32.const 1000)))
        (table.fill $t (i32.const 0) (ref.func $ping) (table.size $t)) (br 0))",
    ),
    ("host calls", "(loop (call $short) (br 0))"),
    (
        "host calls with 64 MiB",
        "(loop (drop (call $host_read (i32.const 0) (i32.const 0x4000000)))
        (br 0))",
    ),
    ("sched_yield", "(loop (drop (call $yield)) (br 0))"),
    (
        "clock_time_get",
        "(loop (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 512)))
        (br 0))",
    ),
    (
        "random_get of 64 MiB",
        "(loop (drop (call $random (i32.const 0) (i32.const 0x4000000)))
        (br 0))",
    ),
];

/// What waits in the host.
const WAITING: &[(&str, &str)] = &[
    ("sleep", "(drop (call $poll (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 128)))"),
    (
        "sleep on two clocks",
        "(drop (call $poll (i32.const 0) (i32.const 1024) (i32.const 2)
        (i32.const 128)))",
    ),
    (
        "sleep for ever",
        "(loop (drop (call $poll (i32.const 0) (i32.const 1024) (i32.const 1)
        (i32.const 128))) (br 0))",
    ),
    (
        "read what never comes",
        "(loop (drop (call $read (i32.const 0) (i32.const 256) (i32.const 1)
        (i32.const 128))) (br 0))",
    ),
];

#[track_caller]
fn build(body: &str) -> (Sandbox, std::io::PipeWriter) {
    // Kept open and silent: a read from it waits.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let sandbox = Sandbox::builder(&module(&program(body)))
        .function("host", "short", || {})
        .function("host", "read", |caller: &mut sandgrain::Caller<'_>, at: u32, len: u32| {
            caller
                .bytes(at, len)
                .map(|bytes| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>())
        })
        .wasi(WasiConfig::new().stdin(Input::pipe(reader)).stdout(Output::Capture))
        .limits(soon())
        .build()
        .expect("a sandbox");
    (sandbox, writer)
}

#[test]
fn a_program_that_never_ends_is_ended() {
    for (name, body) in ENDLESS {
        let (mut sandbox, _writer) = build(body);
        ends_at_the_deadline(name, &mut sandbox);
    }
}

#[test]
fn a_program_that_waits_for_ever_is_ended() {
    for (name, body) in WAITING {
        let (mut sandbox, mut writer) = build(body);
        ends_at_the_deadline(name, &mut sandbox);
        // Lets the thread that reads from the pipe end.
        std::io::Write::write_all(&mut writer, b"x").expect("a pipe");
    }
}

#[test]
fn a_start_function_that_never_ends_is_ended() {
    let wat = "(module (func $spin (loop (br 0))) (start $spin))";
    let result = Sandbox::builder(&module(wat)).limits(soon()).build();
    assert!(matches!(result, Err(Error::Deadline(_))), "{result:?}");
    works();
}

#[test]
fn a_host_function_that_takes_too_long_is_the_last_thing_that_the_guest_does() {
    // Nothing can stop a host function from outside: the deadline is noticed when it returns, and the
    // guest does not get another turn.
    let wat = r#"(module (import "host" "long" (func $long)) (import "host" "after" (func $after))
        (func (export "run") (call $long) (call $after)))"#;
    let extra = Duration::from_millis(200);
    let spin = move || {
        let end = Instant::now() + deadline() + extra;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    };
    let sleep = move || std::thread::sleep(deadline() + extra);
    type HostFunction = Box<dyn Fn() + Send>;
    let long: [(&str, HostFunction); 2] = [("spins", Box::new(spin)), ("sleeps", Box::new(sleep))];
    for (name, long) in long {
        let after = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let noted = std::sync::Arc::clone(&after);
        let mut sandbox = Sandbox::builder(&module(wat))
            .function("host", "long", long)
            .function("host", "after", move || {
                noted.store(true, std::sync::atomic::Ordering::SeqCst);
            })
            .limits(soon())
            .build()
            .expect("a sandbox");
        ends_at_the_deadline(&format!("a host function that {name} 200 ms too long"), &mut sandbox);
        assert!(!after.load(std::sync::atomic::Ordering::SeqCst), "the guest went on");
    }
}

/// Where the guest is when the deadline comes.
const SITUATIONS: &[(&str, &str)] = &[
    ("a guest that spins", "(loop (br 0))"),
    ("a guest that spins in calls of a host function", "(loop (call $short) (br 0))"),
    (
        "a guest that waits in poll_oneoff",
        "(drop (call $poll (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 128)))",
    ),
];

/// Small, so that it is quickly made: the deadline holds for that as well.
fn small_program(body: &str) -> String {
    format!(
        r#"(module
            (import "host" "short" (func $short))
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            ;; A subscription at 0: the monotonic clock, an hour.
            (data (i32.const 16) "\01\00\00\00")
            (data (i32.const 24) "\00\a0\b8\30\46\03\00\00")
            (func (export "run") {body}))"#
    )
}

/// A sandbox with this deadline, or with a longer one if that is too short to make a sandbox.
fn build_quickly(module: &Module, deadline: &mut Duration) -> Sandbox {
    loop {
        let built = Sandbox::builder(module)
            .function("host", "short", || {})
            .wasi(WasiConfig::new())
            .limits(Limits::default().deadline(Some(*deadline)))
            .build();
        match built {
            Ok(sandbox) => return sandbox,
            Err(Error::Deadline(_)) => *deadline *= 2,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn the_slack_of_many_deadlines() {
    let (count, first) = if is_emulated() { (10, 500) } else { (100, 20) };
    if is_emulated() {
        print("fewer deadlines than elsewhere: this is QEMU's emulation");
    }
    for (situation, body) in SITUATIONS {
        let module = module(&small_program(body));
        let mut deadline = Duration::from_millis(first);
        let mut slacks: Vec<Duration> = (0..count)
            .map(|_| {
                let mut sandbox = build_quickly(&module, &mut deadline);
                let started = Instant::now();
                let result = sandbox.call::<_, ()>("run", ());
                let taken = started.elapsed();
                assert!(matches!(result, Err(Error::Deadline(_))), "{situation}: {result:?}");
                assert!(taken >= deadline, "{situation}: {taken:?}");
                taken - deadline
            })
            .collect();
        slacks.sort();
        let ms = |at: usize| slacks[at].as_secs_f64() * 1e3;
        print(&format!(
            "{count} deadlines of {} ms of {situation}: median {:.2} ms, p99 {:.2} ms, worst {:.2} ms \
             after them",
            deadline.as_millis(),
            ms(count / 2),
            ms((count * 99).div_ceil(100) - 1),
            ms(count - 1)
        ));
        assert!(slacks[count - 1] < bound(), "{situation}: {:?}", slacks[count - 1]);
    }
    works();
}
