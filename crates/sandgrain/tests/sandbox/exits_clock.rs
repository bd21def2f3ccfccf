//! Clocks and random numbers of components, which are the host's although it is not asked each time.

use crate::support::{is_emulated, module, on_both, vm};
use sandgrain::wasi::WasiConfig;
use sandgrain::{Engine, Sandbox};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const PROGRAM: &str = r#"(component
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
    (import "wasi:random/random@0.2.0" (instance $random
        (export "get-random-u64" (func (result u64)))
        (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
    (core module $memory
        (memory (export "memory") 2)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
    (core instance $memory (instantiate $memory))
    (core func $now (canon lower (func $clock "now")))
    (core func $number (canon lower (func $random "get-random-u64")))
    (core func $bytes (canon lower (func $random "get-random-bytes")
        (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core module $code
        (import "memory" "memory" (memory 2))
        (import "wasi" "now" (func $now (result i64)))
        (import "wasi" "number" (func $number (result i64)))
        (import "wasi" "bytes" (func $bytes (param i64 i32)))
        ;; Looks at the clock until so much time has passed. How much it was; traps when the clock goes back.
        (func (export "wait") (param $time i64) (result i64)
            (local $first i64) (local $last i64) (local $now i64)
            (local.set $first (call $now))
            (local.set $last (local.get $first))
            (loop $more
                (local.set $now (call $now))
                (if (i64.lt_u (local.get $now) (local.get $last)) (then unreachable))
                (local.set $last (local.get $now))
                (br_if $more (i64.lt_u (i64.sub (local.get $now) (local.get $first)) (local.get $time))))
            (i64.sub (local.get $last) (local.get $first)))
        (func (export "now") (result i64) (call $now))
        (func (export "number") (result i64) (call $number))
        ;; Eight bytes after so many others.
        (func (export "bytes") (param $skipped i64) (result i64)
            (call $bytes (local.get $skipped) (i32.const 16))
            (call $bytes (i64.const 8) (i32.const 16))
            (if (i32.ne (i32.load (i32.const 20)) (i32.const 8)) (then unreachable))
            (i64.load (i32.load (i32.const 16)))))
    (core instance $code (instantiate $code (with "memory" (instance $memory)) (with "wasi" (instance
        (export "now" (func $now)) (export "number" (func $number)) (export "bytes" (func $bytes))))))
    (func (export "wait") (param "time" u64) (result u64) (canon lift (core func $code "wait")))
    (func (export "now") (result u64) (canon lift (core func $code "now")))
    (func (export "number") (result u64) (canon lift (core func $code "number")))
    (func (export "bytes") (param "skipped" u64) (result u64) (canon lift (core func $code "bytes"))))"#;

fn program(engine: &Engine) -> Sandbox {
    let builder = Sandbox::builder(&module(engine, PROGRAM)).wasi(WasiConfig::new());
    builder.build().expect("a sandbox")
}

#[test]
fn a_clock_keeps_the_hosts_time() {
    on_both(|engine| {
        let mut sandbox = program(engine);
        // What of the counter is needed to know how fast it is.
        std::thread::sleep(Duration::from_millis(60));
        for time in [1, 5, 40] {
            let time = Duration::from_millis(time);
            let started = Instant::now();
            let nanos = (time.as_nanos() as u64,);
            let passed: u64 = sandbox.call_component("wait", nanos).expect("a call");
            let elapsed = started.elapsed();
            // One and the same clock, but for what is lost on the way.
            let passed = Duration::from_nanos(passed);
            assert!(passed >= time && passed <= elapsed + elapsed / 100, "{passed:?} {elapsed:?}");
        }
    });
}

#[test]
fn a_clock_goes_on_between_calls() {
    on_both(|engine| {
        let mut sandbox = program(engine);
        let mut last = sandbox.call_component::<_, u64>("now", ()).expect("a call");
        for _ in 0..20 {
            let pause = Duration::from_millis(2);
            std::thread::sleep(pause);
            let before: u64 = sandbox.call_component("now", ()).expect("a call");
            assert!(before - last >= pause.as_nanos() as u64, "{last} {before}");
            sandbox.call_component::<_, u64>("wait", (1000_u64,)).expect("a call");
            last = sandbox.call_component("now", ()).expect("a call");
            assert!(last > before, "{before} {last}");
        }
    });
}

#[test]
#[allow(clippy::print_stdout, reason = "what is left out is said")]
fn a_clock_that_is_looked_at_often_is_seldom_asked_for() {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(source).unwrap_or_default();
    if source.trim() != "tsc" || is_emulated() {
        println!("skipped: the clock of this machine is {source:?}, not the CPU's counter");
        return;
    }
    let mut sandbox = program(vm());
    std::thread::sleep(Duration::from_millis(60));
    let started = Instant::now();
    let time = Duration::from_millis(40);
    sandbox.call_component::<_, u64>("wait", (time.as_nanos() as u64,)).expect("a call");
    let most = 2 + started.elapsed().as_millis() as u64 / 10;
    let asked = sandbox.stats().host_calls;
    assert!((1..=most).contains(&asked), "{asked}");
}

#[test]
fn no_random_number_is_given_twice() {
    on_both(|engine| {
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for _ in 0..4 {
            let mut sandbox = program(engine);
            for skipped in [0_u64, 8, 100, 1016, 1017, 2000] {
                for _ in 0..3 {
                    seen.insert(sandbox.call_component::<_, u64>("number", ()).expect("a call"));
                    let bytes = sandbox.call_component("bytes", (skipped,));
                    seen.insert(bytes.unwrap_or_else(|error| panic!("{skipped}: {error}")));
                    count += 2;
                }
            }
        }
        assert_eq!(seen.len(), count);
    });
}

#[test]
fn what_was_sent_ahead_of_random_numbers_is_in_no_snapshot() {
    let mut first = program(vm());
    assert!(first.snapshot().is_ok(), "none was given");
    first.call_component::<_, u64>("number", ()).expect("a call");
    assert!(first.snapshot().is_err(), "some was given");
    let snapshot = first.snapshot_with_randomness().expect("a snapshot");
    let mut seen = BTreeSet::new();
    for _ in 0..8 {
        let builder = snapshot.sandbox().wasi(WasiConfig::new());
        let mut sandbox = builder.build().expect("a sandbox of it");
        for _ in 0..4 {
            seen.insert(sandbox.call_component::<_, u64>("number", ()).expect("a call"));
            seen.insert(sandbox.call_component::<_, u64>("bytes", (8_u64,)).expect("a call"));
        }
    }
    assert_eq!(seen.len(), 64);
}

#[test]
fn clocks_of_a_snapshots_sandboxes_are_the_hosts() {
    let mut first = program(vm());
    first.call_component::<_, u64>("wait", (1_000_000_u64,)).expect("a call");
    let snapshot = first.snapshot().expect("a snapshot");
    let builder = snapshot.sandbox().wasi(WasiConfig::new());
    let mut second = builder.build().expect("a sandbox of it");
    let started = Instant::now();
    let before: u64 = second.call_component("now", ()).expect("a call");
    std::thread::sleep(Duration::from_millis(5));
    let after: u64 = second.call_component("now", ()).expect("a call");
    let passed = Duration::from_nanos(after - before);
    assert!(passed >= Duration::from_millis(5) && passed <= started.elapsed(), "{passed:?}");
}
