//! Host functions that call the guest that has called them.

use crate::support::{module, name_of, on_both, soon, trap_of, vm};
use sandgrain::component::{Abort, Val};
use sandgrain::wasi::WasiConfig;
use sandgrain::{
    BoxError, Caller, Error, Limits, Module, Result, Sandbox, SandboxBuilder, TrapCode, Value,
    Workers,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// `walk(n)` calls the host's `visit` with `n`, `n - 1` and so on; the other functions are there to be called back.
const WALK: &str = r#"(module
    (import "host" "visit" (func $visit (param i32) (result i32)))
    (import "host" "again" (func $again (param i32) (result i32)))
    (memory (export "memory") 1 4)
    (global $calls (mut i32) (i32.const 0))
    (func (export "walk") (param i32) (result i32) (local $sum i32)
        (loop $next
            (local.set $sum (i32.add (local.get $sum) (call $visit (local.get 0))))
            (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
            (br_if $next (local.get 0)))
        (local.get $sum))
    (func (export "square") (param i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.mul (local.get 0) (local.get 0)))
    (func (export "calls") (result i32) (global.get $calls))
    (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
    (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "grow") (result i32) (memory.grow (i32.const 1)))
    (func (export "visit_again") (param i32) (result i32) (call $visit (local.get 0)))
    (func (export "again") (param i32) (result i32) (call $again (local.get 0)))
    (func (export "trap") (unreachable))
    (func $deep (export "deep") (param i32) (result i32)
        (i32.add (i32.const 1) (call $deep (local.get 0))))
    (func (export "spin") (loop $on (br $on))))"#;

type Visit = fn(&mut Caller<'_>, u32) -> Result<u32, BoxError>;

fn with(builder: SandboxBuilder, visit: Visit, again: Visit) -> Sandbox {
    let builder = builder.function("host", "visit", visit).function("host", "again", again);
    builder.build().expect("a sandbox")
}

fn no(_: &mut Caller<'_>, _: u32) -> Result<u32, BoxError> {
    Err("nobody asked".into())
}

/// In a VM, in a VM in a worker process, and without one.
fn everywhere(visit: Visit, again: Visit, limits: &Limits, test: impl Fn(&mut Sandbox)) {
    on_both(|engine| {
        let module = module(engine, WALK);
        test(&mut with(Sandbox::builder(&module).limits(limits.clone()), visit, again));
    });
    let first = with(Sandbox::builder(&module(vm(), WALK)).limits(limits.clone()), visit, again);
    let snapshot = first.snapshot().expect("a snapshot");
    let workers = Workers::of_program(env!("CARGO_BIN_EXE_sandgrain-worker"));
    test(&mut with(snapshot.sandbox().workers(&workers), visit, again));
}

#[test]
fn a_host_function_calls_the_guest_that_called_it() {
    let visit: Visit = |caller, n| Ok(caller.call("square", n)?);
    everywhere(visit, no, &Limits::default(), |sandbox| {
        assert_eq!(sandbox.call::<_, u32>("walk", 4u32).expect("a call"), 16 + 9 + 4 + 1);
        let stats = sandbox.stats();
        assert_eq!(sandbox.call::<_, u32>("calls", ()).expect("a call"), 4);
        assert_eq!(stats.host_calls, 4);
    });
}

#[test]
fn memory_is_the_same_before_and_after_a_call_within() {
    let visit: Visit = |caller, n| {
        caller.bytes(8, 4)?.copy_from_slice(&n.to_le_bytes());
        let seen: u32 = caller.call("load", 8u32)?;
        assert_eq!(seen, n, "the guest sees what the host has written");
        caller.call::<_, ()>("store", (12u32, n + 1))?;
        let bytes = caller.bytes(12, 4)?;
        assert_eq!(bytes, (n + 1).to_le_bytes(), "the host sees what the guest has written");
        let before = caller.memory()?.len();
        let grown: i32 = caller.call("grow", ())?;
        let after = caller.memory()?.len();
        let by = if grown < 0 { 0 } else { 65536 };
        assert_eq!(after, before + by);
        caller.bytes(16, 4)?.copy_from_slice(&(n + 2).to_le_bytes());
        Ok(u32::try_from(after / 65536)?)
    };
    everywhere(visit, no, &Limits::default(), |sandbox| {
        assert_eq!(sandbox.call::<_, u32>("walk", 4u32).expect("a call"), 2 + 3 + 4 + 4);
        for (address, value) in [(8_u32, 1_u32), (12, 2), (16, 3)] {
            assert_eq!(sandbox.call::<_, u32>("load", address).expect("a call"), value);
        }
    });
}

#[test]
fn calls_within_calls_go_as_deep_as_the_limit() {
    // `visit` and `again` by turns: neither is called while it is being called.
    let visit: Visit = |caller, n| if n == 0 { Ok(7) } else { Ok(caller.call("again", n)?) };
    let again: Visit = |caller, n| Ok(caller.call("square", n)?);
    everywhere(visit, again, &Limits::default(), |sandbox| {
        assert_eq!(sandbox.call::<_, u32>("walk", 3u32).expect("a call"), 9 + 4 + 1);
    });
    everywhere(visit, again, &Limits::default().nested_calls(1), |sandbox| {
        let (name, text) = name_of(sandbox.call::<_, u32>("walk", 3u32));
        assert_eq!(name, "host-function");
        assert!(text.contains("within each other") && text.contains("limited to 1"), "{text}");
        // Nothing has happened to the sandbox.
        assert_eq!(sandbox.call::<_, u32>("visit_again", 0u32).expect("a call"), 7);
    });
}

#[test]
fn a_closure_is_not_called_while_it_is_being_called() {
    let visit: Visit = |caller, n| Ok(caller.call("visit_again", n)?);
    everywhere(visit, no, &Limits::default(), |sandbox| {
        for _ in 0..2 {
            let (name, text) = name_of(sandbox.call::<_, u32>("walk", 1u32));
            assert!(name == "host-function" && text.contains("in the middle of a call"), "{text}");
        }
    });
}

#[test]
fn a_trap_within_is_an_error_that_the_host_function_may_take() {
    let visit: Visit = |caller, n| {
        let error = caller.call::<_, ()>("trap", ()).expect_err("a trap");
        assert_eq!(error.name(), "trap");
        let error = caller.call::<_, u32>("deep", n).expect_err("an overflow of the stack");
        assert!(matches!(&error, Error::Trap(trap) if trap.code == TrapCode::StackOverflow));
        Ok(caller.call::<_, u32>("square", n)? + 100)
    };
    let again: Visit = |caller, _| Ok(caller.call::<_, ()>("trap", ()).map(|()| 0)?);
    everywhere(visit, again, &Limits::default(), |sandbox| {
        assert_eq!(sandbox.call::<_, u32>("walk", 1u32).expect("a call"), 101);
        // Passed on, it is the host function's error.
        let error = sandbox.call::<_, u32>("again", 1u32).expect_err("a trap, passed on");
        let Error::HostFunction { source, .. } = error else { panic!("{error}") };
        assert!(source.downcast_ref::<Error>().is_some_and(|error| error.name() == "trap"));
        assert_eq!(trap_of(sandbox.call::<_, ()>("trap", ())), TrapCode::Unreachable);
        assert_eq!(sandbox.call::<_, u32>("square", 3u32).expect("a call after that"), 9);
    });
}

#[test]
fn a_function_that_is_not_there_is_an_error_of_the_call_within() {
    let visit: Visit = |caller, n| {
        let main = caller.main();
        let errors = [
            caller.call::<_, u32>("missing", n).expect_err("no such function"),
            caller.call::<_, u64>("square", n).expect_err("another type"),
            caller.call_values(main, "square", &[]).expect_err("an argument too few"),
            caller.call_component::<_, ()>("square", ()).expect_err("not a component's"),
        ];
        for error in errors {
            assert_eq!(error.name(), "bad-call", "{error}");
        }
        let values = caller.call_values(main, "square", &[Value::I32(3)])?;
        assert_eq!(values, [Value::I32(9)]);
        Ok(n)
    };
    everywhere(visit, no, &Limits::default(), |sandbox| {
        assert_eq!(sandbox.call::<_, u32>("walk", 1u32).expect("a call"), 1);
    });
}

#[test]
fn the_deadline_ends_the_outer_call_too() {
    // Whatever the host function makes of it.
    let visit: Visit = |caller, n| {
        let error = caller.call::<_, ()>("spin", ()).expect_err("it is stopped");
        assert!(error.is_final(), "{error}");
        caller.call::<_, u32>("square", n).expect_err("nothing is possible after that");
        Ok(n)
    };
    everywhere(visit, no, &soon(), |sandbox| {
        let error = sandbox.call::<_, u32>("walk", 1u32).expect_err("it takes too long");
        assert!(matches!(error, Error::Deadline(_)), "{error}");
        let (name, _) = name_of(sandbox.call::<_, u32>("square", 1u32));
        assert_eq!(name, "ended");
    });
    everywhere(visit, no, &Limits::default(), |sandbox| {
        let handle = sandbox.interrupt_handle();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let interrupting = std::thread::spawn(move || {
            // Until it has met the call.
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(100));
                handle.interrupt();
            }
        });
        let error = sandbox.call::<_, u32>("walk", 1u32).expect_err("it is interrupted");
        is_over.store(true, Ordering::SeqCst);
        assert!(matches!(error, Error::Interrupted), "{error}");
        interrupting.join().expect("it has interrupted");
    });
}

#[test]
fn asynchronous_functions_are_waited_for_within() {
    let wat = r#"(module
        (import "host" "now" (func $now (result i32)))
        (import "host" "later" (func $later (result i32)))
        (func (export "now") (result i32) (call $now))
        (func (export "later") (result i32) (call $later)))"#;
    on_both(|engine| {
        // On no executor: whichever thread polls it.
        let later = || {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(1));
                sender.send(42_u32)
            });
            async { receiver.await.expect("a number") }
        };
        let now = |caller: &mut Caller<'_>| caller.call::<_, u32>("later", ());
        let mut sandbox = Sandbox::builder(&module(engine, wat))
            .function("host", "now", now)
            .async_function("host", "later", later)
            .build()
            .expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("now", ()).expect("a call"), 42);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let called = runtime.expect("a runtime").block_on(sandbox.call_async::<_, u32>("now", ()));
        assert_eq!(called.expect("a call"), 42);
    });
}

#[test]
fn an_exit_within_ends_the_program() {
    let wat = r#"(module
        (import "host" "now" (func $now))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "quit") (call $exit (i32.const 3)))
        (func (export "_start") (call $now)))"#;
    on_both(|engine| {
        let now = |caller: &mut Caller<'_>| {
            let _ = caller.call::<_, ()>("quit", ());
        };
        let mut sandbox = Sandbox::builder(&module(engine, wat))
            .wasi(WasiConfig::new())
            .function("host", "now", now)
            .build()
            .expect("a sandbox");
        assert_eq!(sandbox.run().expect("an exit"), 3);
    });
}

#[test]
fn a_start_function_has_nothing_to_be_called_back_yet() {
    let wat = r#"(module (import "host" "now" (func $now)) (func (export "f"))
        (start $now))"#;
    on_both(|engine| {
        let now = |caller: &mut Caller<'_>| {
            let error = caller.call::<_, ()>("f", ()).expect_err("there is no instance");
            assert!(error.to_string().contains("not instantiated yet"), "{error}");
        };
        let built = Sandbox::builder(&module(engine, wat)).function("host", "now", now).build();
        built.expect("a sandbox").call::<_, ()>("f", ()).expect("a call");
    });
}

/// A component that calls the host's `ask`, and has something to be asked.
const ASKING: &str = r#"(component
    (import "ask" (func $ask (param "n" u32) (result u32)))
    (core func $ask' (canon lower (func $ask)))
    (core module $code
        (import "host" "ask" (func $ask (param i32) (result i32)))
        (func (export "f") (param i32) (result i32) (call $ask (local.get 0)))
        (func (export "g") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))
    (core instance $code (instantiate $code
        (with "host" (instance (export "ask" (func $ask'))))))
    (func (export "f") (param "n" u32) (result u32) (canon lift (core func $code "f")))
    (func (export "g") (param "n" u32) (result u32) (canon lift (core func $code "g"))))"#;

#[test]
fn a_component_is_not_entered_while_it_is_called() {
    on_both(|engine| {
        let ask = |caller: &mut Caller<'_>, n: u32| -> Result<u32, Abort> {
            let error = caller.call_component::<_, u32>("g", (n,)).expect_err("by its rules");
            assert!(matches!(error, Error::BadCall(_)), "{error}");
            assert!(error.to_string().contains("in the middle of a call"), "{error}");
            Ok(n * 2)
        };
        let mut sandbox = Sandbox::builder(&module(engine, ASKING))
            .component_function("", "ask", ask)
            .build()
            .expect("a sandbox");
        for n in 1..3_u32 {
            // It is of use afterwards.
            assert_eq!(sandbox.call_component::<_, u32>("f", (n,)).expect("a call"), n * 2);
            assert_eq!(sandbox.call_component::<_, u32>("g", (n,)).expect("a call"), n + 1);
        }
    });
}

/// Doubles a text.
const TWICE: &str = r#"(component
    (core module $code
        (memory (export "memory") 40)
        (global $next (mut i32) (i32.const 64))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (global.get $next)
            (global.set $next (i32.add (global.get $next) (local.get 3))))
        (func (export "twice") (param i32 i32) (result i32)
            (memory.copy (i32.add (local.get 0) (local.get 1)) (local.get 0) (local.get 1))
            (i32.store (i32.const 0) (local.get 0))
            (i32.store (i32.const 4) (i32.mul (local.get 1) (i32.const 2)))
            (i32.const 0)))
    (core instance $code (instantiate $code))
    (func (export "twice") (param "s" string) (result string) (canon lift
        (core func $code "twice") (memory (core memory $code "memory"))
        (realloc (core func $code "realloc")))))"#;

#[test]
fn another_component_of_the_sandbox_is_called() {
    fn both(engine: &sandgrain::Engine, text: &str) -> Result<(Sandbox, Arc<Mutex<String>>)> {
        let (seen, text) = (Arc::new(Mutex::new(String::new())), text.to_owned());
        let other = Arc::new(Mutex::new(None));
        let ask = {
            let (seen, other) = (Arc::clone(&seen), Arc::clone(&other));
            move |caller: &mut Caller<'_>, n: u32| -> Result<u32, Abort> {
                let other = other.lock().unwrap().expect("it is instantiated");
                let args = [Val::String(text.clone())];
                match caller.call_component_values(other, "twice", &args)? {
                    Some(Val::String(twice)) => *seen.lock().unwrap() = twice,
                    other => panic!("it has returned {other:?}"),
                }
                Ok(n)
            }
        };
        let mut sandbox = Sandbox::builder(&module(engine, ASKING))
            .limits(Limits::default().extra_memories(1))
            .component_function("", "ask", ask)
            .build()?;
        let twice = sandbox.instantiate(&module(engine, TWICE))?;
        *other.lock().unwrap() = Some(twice);
        Ok((sandbox, seen))
    }
    on_both(|engine| {
        // One that travels in the message, and one that does not.
        for text in ["ab".to_owned(), "xyz".repeat(100_000)] {
            let (mut sandbox, seen) = both(engine, &text).expect("a sandbox");
            assert_eq!(sandbox.call_component::<_, u32>("f", (5u32,)).expect("a call"), 5);
            assert!(*seen.lock().unwrap() == text.repeat(2));
        }
    });
}

/// A module that has not been loaded cannot be called back, whatever its caller is.
#[test]
fn instances_of_other_sandboxes_are_not_called() {
    let elsewhere = |engine: &sandgrain::Engine| {
        let mut other = Sandbox::new(&module(engine, "(module)")).expect("a sandbox");
        let more: Module = module(engine, "(module)");
        (0..3).map(|_| other.instantiate(&more).expect("an instance")).last()
    };
    on_both(|engine| {
        let instance = elsewhere(engine).expect("three");
        let visit = move |caller: &mut Caller<'_>, n: u32| -> Result<u32> {
            let error = caller.call_values(instance, "square", &[]).expect_err("not its own");
            assert!(error.to_string().contains("another sandbox"), "{error}");
            Ok(n)
        };
        let mut sandbox = Sandbox::builder(&module(engine, WALK))
            .function("host", "visit", visit)
            .function("host", "again", no as Visit)
            .build()
            .expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("walk", 1u32).expect("a call"), 1);
    });
}
