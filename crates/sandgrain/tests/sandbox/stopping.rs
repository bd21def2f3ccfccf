//! Calls that are stopped: on request, and at their deadline.

use crate::support::{deadline, limited, module, on_both, soon};
use sandgrain::wasi::{Input, WasiConfig};
use sandgrain::{Error, Limits, Sandbox};
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A module whose `run` tells the host that it has begun, and then does something without an end.
fn endless(body: &str) -> String {
    format!(
        r#"(module
            (import "host" "begun" (func $begun))
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read"
                (func $read (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            ;; A subscription at 0: the monotonic clock, an hour.
            (data (i32.const 16) "\01\00\00\00")
            (data (i32.const 24) "\00\a0\b8\30\46\03\00\00")
            ;; A buffer at 256: 100 bytes at 300.
            (data (i32.const 256) "\2c\01\00\00\64\00\00\00")
            (func $forever (call $forever_too))
            (func $forever_too (loop (br 0)))
            (func (export "run") (call $begun) {body})
            (func (export "fine") (result i32) (i32.const 42)))"#
    )
}

const SPIN: &str = "(loop (br 0))";
const SPIN_DEEPER: &str = "(call $forever)";
const SLEEP: &str =
    "(drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))";
const SLEEP_AGAIN: &str =
    "(loop (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))) (br 0))";
const READ: &str =
    "(drop (call $read (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 128)))";
const CALL_HOST: &str = "(loop (call $begun) (br 0))";

const ENDLESS: [(&str, &str); 6] = [
    ("spin", SPIN),
    ("spin in a function", SPIN_DEEPER),
    ("sleep", SLEEP),
    ("sleep again and again", SLEEP_AGAIN),
    ("read", READ),
    ("call the host", CALL_HOST),
];

#[test]
fn an_interrupt_from_another_thread_ends_the_call() {
    on_both(|engine| {
        for (name, body) in ENDLESS {
            for delay in [0, 30] {
                let (begun, wait) = mpsc::channel();
                // Kept open and silent: a read from it waits.
                let (reader, mut writer) = std::io::pipe().expect("a pipe");
                let mut sandbox = Sandbox::builder(&module(engine, &endless(body)))
                    .function("host", "begun", move || {
                        // The thread below listens once only.
                        let _ = begun.send(());
                    })
                    .wasi(WasiConfig::new().stdin(Input::pipe(reader)))
                    .limits(Limits::default().deadline(None))
                    .build()
                    .expect("a sandbox");
                let handle = sandbox.interrupt_handle();
                let thread = thread::spawn(move || {
                    wait.recv().expect("the call begins");
                    thread::sleep(Duration::from_millis(delay));
                    handle.interrupt();
                });
                let result = sandbox.call::<_, ()>("run", ());
                assert!(matches!(result, Err(Error::Interrupted)), "{name}: {result:?}");
                thread.join().expect("no panic");
                let again = sandbox.call::<_, u32>("fine", ());
                assert!(matches!(again, Err(Error::Ended(_))), "{name}: {again:?}");
                // Lets the thread that reads from the pipe end.
                writer.write_all(b"x").expect("a pipe");
            }
        }
    });
}

#[test]
fn a_deadline_ends_the_call() {
    on_both(|engine| {
        for (name, body) in ENDLESS {
            let (reader, mut writer) = std::io::pipe().expect("a pipe");
            let mut sandbox = Sandbox::builder(&module(engine, &endless(body)))
                .function("host", "begun", || {})
                .wasi(WasiConfig::new().stdin(Input::pipe(reader)))
                .limits(soon())
                .build()
                .expect("a sandbox");
            let result = sandbox.call::<_, ()>("run", ());
            match &result {
                Err(Error::Deadline(taken)) => assert!(*taken >= deadline()),
                _ => panic!("{name}: {result:?}"),
            }
            let again = sandbox.call::<_, u32>("fine", ());
            assert!(matches!(again, Err(Error::Ended(_))), "{name}: {again:?}");
            writer.write_all(b"x").expect("a pipe");
        }
    });
}

#[test]
fn a_deadline_that_passes_in_a_host_function_ends_the_call() {
    on_both(|engine| {
        let mut sandbox = Sandbox::builder(&module(engine, &endless("")))
            .function("host", "begun", || thread::sleep(deadline() + Duration::from_millis(50)))
            .wasi(WasiConfig::new())
            .limits(soon())
            .build()
            .expect("a sandbox");
        let result = sandbox.call::<_, ()>("run", ());
        assert!(matches!(result, Err(Error::Deadline(_))), "{result:?}");
    });
}

#[test]
fn an_interrupt_without_a_call_does_nothing() {
    on_both(|engine| {
        let wat = r#"(module (func (export "fine") (result i32) (i32.const 42)))"#;
        let mut sandbox = limited(engine, Limits::default(), wat).expect("a sandbox");
        let handle = sandbox.interrupt_handle();
        for _ in 0..20 {
            handle.interrupt();
            assert_eq!(sandbox.call::<_, u32>("fine", ()).expect("a call"), 42);
        }
        drop(sandbox);
        handle.interrupt();
    });
}

#[test]
fn a_deadline_is_for_each_call() {
    on_both(|engine| {
        let wat =
            r#"(module (import "host" "wait" (func $wait)) (func (export "f") (call $wait)))"#;
        let mut sandbox = Sandbox::builder(&module(engine, wat))
            .function("host", "wait", || thread::sleep(Duration::from_millis(5)))
            .limits(Limits::default().deadline(Some(Duration::from_secs(20))))
            .build()
            .expect("a sandbox");
        for _ in 0..40 {
            sandbox.call::<_, ()>("f", ()).expect("a call");
        }
    });
}

#[test]
fn interrupts_at_any_moment_end_one_call_or_none() {
    let engine = crate::support::vm();
    let module = module(engine, &endless(SPIN));
    for round in 0..20 {
        let mut sandbox = Sandbox::builder(&module)
            .function("host", "begun", || {})
            .wasi(WasiConfig::new())
            .build()
            .expect("a sandbox");
        let handle = sandbox.interrupt_handle();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                handle.interrupt();
                thread::yield_now();
            }
        });
        let result = sandbox.call::<_, ()>("run", ());
        assert!(matches!(result, Err(Error::Interrupted)), "round {round}: {result:?}");
        drop(stop);
        thread.join().expect("no panic");
    }
    crate::support::works(engine);
}
