//! Functions of the host.

use crate::support::{module, name_of, on_both};
use sandgrain::{Caller, Error, Sandbox};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn a_closure_keeps_its_state() {
    on_both(|engine| {
        let wat = r#"(module (import "host" "next" (func $next (result i32)))
            (func (export "sum") (result i32)
                (i32.add (call $next) (i32.add (call $next) (call $next)))))"#;
        let mut count = 0_u32;
        let next = move || {
            count += 1;
            count
        };
        let mut sandbox = Sandbox::builder(&module(engine, wat))
            .function("host", "next", next)
            .build()
            .expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("sum", ()).expect("a call"), 6);
        assert_eq!(sandbox.call::<_, u32>("sum", ()).expect("a call"), 15);
    });
}

#[test]
fn all_types_and_several_results_pass() {
    on_both(|engine| {
        let wat = r#"(module
            (import "host" "all" (func $all (param i32 i64 f32 f64 v128) (result v128 f64 f32 i64 i32)))
            (func (export "f") (param i32 i64 f32 f64 v128) (result v128 f64 f32 i64 i32)
                (call $all (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))))"#;
        let turn = |a: u32, b: i64, c: f32, d: f64, e: u128| (e, d, c, b, a);
        let mut sandbox = Sandbox::builder(&module(engine, wat))
            .function("host", "all", turn)
            .build()
            .expect("a sandbox");
        let args = (u32::MAX, i64::MIN, -0.5_f32, 1e300_f64, u128::MAX - 1);
        let got: (u128, f64, f32, i64, u32) = sandbox.call("f", args).expect("a call");
        assert_eq!(got, (args.4, args.3, args.2, args.1, args.0));
    });
}

const TEXT: &str = r#"(module (import "host" "text" (func $text (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 8) "sandgrain")
    (func (export "f") (param i32 i32) (result i32) (call $text (local.get 0) (local.get 1)))
    (func (export "first") (result i32) (i32.load8_u (i32.const 8))))"#;

#[test]
fn a_caller_gives_bytes_to_read_and_write() {
    on_both(|engine| {
        let upper = |caller: &mut Caller<'_>, address: u32, len: u32| {
            let bytes = caller.bytes(address, len)?;
            bytes.make_ascii_uppercase();
            Ok::<_, sandgrain::BoxError>(bytes.len() as u32)
        };
        let mut sandbox = Sandbox::builder(&module(engine, TEXT))
            .function("host", "text", upper)
            .build()
            .expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("f", (8, 9)).expect("a call"), 9);
        assert_eq!(sandbox.call::<_, u32>("first", ()).expect("a call"), u32::from(b'S'));
        for (address, len) in [(65_535_u32, 2_u32), (0, 65_537), (u32::MAX, u32::MAX)] {
            let (name, text) = name_of(sandbox.call::<_, u32>("f", (address, len)));
            assert!(name == "host-function" && text.contains("outside"), "{text}");
        }
        assert_eq!(sandbox.call::<_, u32>("f", (65_536_u32, 0_u32)).expect("an empty range"), 0);
    });
}

#[test]
fn a_caller_without_a_memory_is_told_so() {
    on_both(|engine| {
        let wat = r#"(module (import "host" "f" (func $f)) (memory (export "other") 1)
            (func (export "f") (call $f)))"#;
        let ask = |caller: &mut Caller<'_>| caller.memory().map(|_| ());
        let mut sandbox =
            Sandbox::builder(&module(engine, wat)).function("host", "f", ask).build().expect("one");
        let (name, text) = name_of(sandbox.call::<_, ()>("f", ()));
        assert!(name == "host-function" && text.contains("exports no memory"), "{text}");
    });
}

#[test]
fn an_error_comes_back_as_it_was_and_the_sandbox_goes_on() {
    on_both(|engine| {
        let wat = r#"(module (import "host" "check" (func $check (param i32)))
            (func (export "f") (param i32) (call $check (local.get 0))))"#;
        let check = |n: i32| if n > 0 { Ok(()) } else { Err(std::io::Error::other("too small")) };
        let mut sandbox = Sandbox::builder(&module(engine, wat))
            .function("host", "check", check)
            .build()
            .expect("a sandbox");
        match sandbox.call::<_, ()>("f", 0) {
            Err(Error::HostFunction { function, source }) => {
                assert_eq!(function, "host.check");
                let source = source.downcast::<std::io::Error>().expect("the error itself");
                assert_eq!(source.to_string(), "too small");
            }
            other => panic!("{other:?}"),
        }
        sandbox.call::<_, ()>("f", 1).expect("the sandbox goes on");
    });
}

#[test]
fn the_last_function_of_a_name_is_the_one() {
    on_both(|engine| {
        let wat = r#"(module (import "h" "f" (func $f (result i32)))
            (func (export "f") (result i32) (call $f)))"#;
        let mut sandbox = Sandbox::builder(&module(engine, wat))
            .function("h", "f", || 1)
            .function("h", "f", || 2)
            .build()
            .expect("a sandbox");
        assert_eq!(sandbox.call::<_, i32>("f", ()).expect("a call"), 2);
    });
}

#[test]
fn a_panic_reaches_the_caller_and_harms_only_its_sandbox() {
    on_both(|engine| {
        let wat = r#"(module (import "h" "f" (func $f)) (func (export "f") (call $f)))"#;
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let fail = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            panic!("a defect of the host function's");
        };
        let module = module(engine, wat);
        let mut sandbox = Sandbox::builder(&module)
            .function("h", "f", move || -> () { fail() })
            .build()
            .expect("a sandbox");
        let result = catch_unwind(AssertUnwindSafe(|| sandbox.call::<_, ()>("f", ())));
        let payload = result.expect_err("the panic");
        assert_eq!(payload.downcast_ref(), Some(&"a defect of the host function's"));
        // The guest was left in the middle of a call. It must not go on from there.
        let again = catch_unwind(AssertUnwindSafe(|| sandbox.call::<_, ()>("f", ())));
        assert!(matches!(again, Ok(Err(Error::Ended(_)))), "{again:?}");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_host_function_can_be_called_very_often() {
    on_both(|engine| {
        let wat = r#"(module (import "h" "add" (func $add (param i64 i64) (result i64)))
            (func (export "sum") (param $n i64) (result i64) (local $s i64)
                (loop
                    (local.set $s (call $add (local.get $s) (local.get $n)))
                    (br_if 0 (i64.ne (i64.const 0)
                        (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
                (local.get $s)))"#;
        let mut sandbox = Sandbox::builder(&module(engine, wat))
            .function("h", "add", |a: i64, b: i64| a + b)
            .build()
            .expect("a sandbox");
        assert_eq!(sandbox.call::<_, i64>("sum", 20_000_i64).expect("a call"), 200_010_000);
        let stats = sandbox.stats();
        assert_eq!(stats.host_calls, 20_000);
    });
}
