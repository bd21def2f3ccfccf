//! WASI's streams, clocks and randomness.

use crate::support::{module, name_of, on_both};
use sandgrain::wasi::{Input, Output, WasiConfig};
use sandgrain::{Engine, Error, Limits, Sandbox};
use std::io::Read;

/// Copies its input to its output; writes, floods, exits.
const PROGRAM: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2)
    (data (i32.const 100) "hello\n")
    ;; At 0 a buffer: its address and length; at 8 the count.
    (func $buffer (param i32 i32)
        (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)))
    (func (export "hello") (param $fd i32) (result i32)
        (call $buffer (i32.const 100) (i32.const 6))
        (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
    (func (export "copy")
        (loop
            (call $buffer (i32.const 1024) (i32.const 1000))
            (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
                (then unreachable))
            (if (i32.load (i32.const 8)) (then
                (call $buffer (i32.const 1024) (i32.load (i32.const 8)))
                (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
                    (then unreachable))
                (br 1)))))
    (func (export "flood") (param $fd i32)
        (call $buffer (i32.const 1024) (i32.const 60000))
        (loop
            (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br 0)))
    (func (export "random") (result i64)
        (drop (call $random (i32.const 0) (i32.const 8))) (i64.load (i32.const 0)))
    (func (export "clock") (param i32) (result i64)
        (drop (call $clock (local.get 0) (i64.const 0) (i32.const 0))) (i64.load (i32.const 0)))
    (func (export "exit") (param i32) (call $exit (local.get 0)))
    (func (export "_start") (call $exit (i32.const 7)))
    (func (export "fine") (result i32) (i32.const 42)))"#;

fn program(engine: &Engine, config: WasiConfig, limits: Limits) -> Sandbox {
    Sandbox::builder(&module(engine, PROGRAM)).wasi(config).limits(limits).build().expect("one")
}

#[test]
fn captured_output_is_taken_once() {
    on_both(|engine| {
        let config = WasiConfig::new().stdout(Output::Capture).stderr(Output::Capture);
        let mut sandbox = program(engine, config, Limits::default());
        assert_eq!(sandbox.call::<_, u32>("hello", 1).expect("a call"), 0);
        assert_eq!(sandbox.call::<_, u32>("hello", 1).expect("a call"), 0);
        assert_eq!(sandbox.call::<_, u32>("hello", 2).expect("a call"), 0);
        assert_eq!(sandbox.take_stdout(), "hello\nhello\n");
        assert_eq!(sandbox.take_stdout(), "");
        assert_eq!(sandbox.take_stderr(), "hello\n");
    });
}

#[test]
fn input_from_bytes_comes_out_again() {
    on_both(|engine| {
        let input: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let config =
            WasiConfig::new().stdin(Input::Bytes(input.clone().into())).stdout(Output::Capture);
        let mut sandbox = program(engine, config, Limits::default());
        sandbox.call::<_, ()>("copy", ()).expect("a call");
        assert_eq!(sandbox.take_stdout(), input);
    });
}

#[test]
fn piped_streams_carry_what_goes_through_them() {
    on_both(|engine| {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let input = std::io::Cursor::new(b"through two pipes".to_vec());
        let config = WasiConfig::new().stdin(Input::pipe(input)).stdout(Output::pipe(writer));
        let mut sandbox = program(engine, config, Limits::default());
        sandbox.call::<_, ()>("copy", ()).expect("a call");
        drop(sandbox);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("a pipe");
        assert_eq!(text, "through two pipes");
    });
}

#[test]
fn output_stops_at_its_limit() {
    on_both(|engine| {
        for fd in [1, 2] {
            let config = WasiConfig::new().stdout(Output::Capture).stderr(Output::Capture);
            let limits = Limits::default().stdout(1_000_000).stderr(1_000_000);
            let mut sandbox = program(engine, config, limits);
            let (name, text) = name_of(sandbox.call::<_, ()>("flood", fd));
            assert!(name == "limit" && text.contains("1000000 bytes"), "{text}");
            let output = if fd == 1 { sandbox.take_stdout() } else { sandbox.take_stderr() };
            assert_eq!(output.len(), 1_000_000, "all that is allowed is there");
            assert_eq!(sandbox.call::<_, u32>("fine", ()).expect("the sandbox goes on"), 42);
        }
    });
}

#[test]
fn output_that_goes_nowhere_has_the_limit_too() {
    on_both(|engine| {
        let mut sandbox = program(engine, WasiConfig::new(), Limits::default());
        assert_eq!(name_of(sandbox.call::<_, ()>("flood", 1)).0, "limit");
    });
}

#[test]
fn wasi_is_made_at_the_first_call_of_it() {
    on_both(|engine| {
        let mut sandbox = program(engine, WasiConfig::new(), Limits::default());
        sandbox.call::<_, u32>("fine", ()).expect("a call");
        assert!(!sandbox.has_used_wasi());
        sandbox.call::<_, u64>("random", ()).expect("a call");
        assert!(sandbox.has_used_wasi());
    });
}

#[test]
fn an_exit_code_is_passed_on() {
    on_both(|engine| {
        let mut sandbox = program(engine, WasiConfig::new(), Limits::default());
        for code in [0, 1, 42, 125] {
            let result = sandbox.call::<_, ()>("exit", code);
            assert!(matches!(result, Err(Error::Exit(got)) if got == code), "{result:?}");
        }
        assert_eq!(sandbox.run().expect("a run"), 7);
        assert_eq!(sandbox.call::<_, u32>("fine", ()).expect("the sandbox goes on"), 42);
    });
}

#[test]
fn no_two_sandboxes_have_the_same_random_numbers() {
    on_both(|engine| {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..8 {
            let mut sandbox = program(engine, WasiConfig::new(), Limits::default());
            for _ in 0..4 {
                seen.insert(sandbox.call::<_, u64>("random", ()).expect("a call"));
            }
        }
        assert_eq!(seen.len(), 32);
    });
}

#[test]
fn clocks_are_the_hosts_at_the_time_of_the_call() {
    on_both(|engine| {
        let mut sandbox = program(engine, WasiConfig::new(), Limits::default());
        let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let before = now().expect("after 1970").as_nanos();
        let wall = u128::from(sandbox.call::<_, u64>("clock", 0).expect("a call"));
        let after = now().expect("after 1970").as_nanos();
        assert!((before..=after).contains(&wall), "{before} {wall} {after}");
        let first: u64 = sandbox.call("clock", 1).expect("a call");
        let second: u64 = sandbox.call("clock", 1).expect("a call");
        assert!(second >= first);
    });
}
