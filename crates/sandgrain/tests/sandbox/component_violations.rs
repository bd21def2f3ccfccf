//! Components that pass and return what is none of their types' values: the call traps, nothing of it reaches the host,
//! and the engine is well.

use crate::support::{module, on_both};
use sandgrain::component::Val;
use sandgrain::{Engine, Error, Limits, Sandbox};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns and passes to the host what it is called with, as a value of the type `ty`, which is two of WebAssembly's
/// values: of a pointer and a count, or at the first one's address.
fn liar(ty: &str, code: &str) -> String {
    format!(
        r#"(component
    (import "test:host/all" (instance $host (export "see" (func (param "x" {ty})))))
    (alias export $host "see" (func $see))
    (core module $memory
        (memory (export "memory") 1)
        (data (i32.const 1000) "\ff\fe\80ab\c0\80")
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 2000)))
    (core instance $memory (instantiate $memory))
    (core func $see' (canon lower (func $see) (memory (core memory $memory "memory"))
        (realloc (core func $memory "realloc"))))
    (core module $code
        (import "memory" "memory" (memory 1))
        {code})
    (core instance $code (instantiate $code
        (with "memory" (instance $memory))
        (with "host" (instance (export "see" (func $see'))))))
    (func (export "return") (param "a" u32) (param "b" u32) (result {ty})
        (canon lift (core func $code "return") (memory (core memory $memory "memory"))))
    (func (export "pass") (param "a" u32) (param "b" u32)
        (canon lift (core func $code "pass") (memory (core memory $memory "memory"))))
    (func (export "point") (param "a" u32) (param "b" u32) (result {ty})
        (canon lift (core func $code "point") (memory (core memory $memory "memory")))))"#
    )
}

/// For a type that is a pointer and a count.
const PAIR: &str = r#"
    (import "host" "see" (func $see (param i32 i32)))
    (func (export "return") (param i32 i32) (result i32)
        (i32.store (i32.const 16) (local.get 0))
        (i32.store (i32.const 20) (local.get 1))
        (i32.const 16))
    (func (export "pass") (param i32 i32) (call $see (local.get 0) (local.get 1)))
    (func (export "point") (param i32 i32) (result i32) (local.get 0))"#;

/// For a type that is one value.
const SINGLE: &str = r#"
    (import "host" "see" (func $see (param i32)))
    (func (export "return") (param i32 i32) (result i32) (local.get 0))
    (func (export "pass") (param i32 i32) (call $see (local.get 0)))
    (func (export "point") (param i32 i32) (result i32) (local.get 0))"#;

fn limits() -> Limits {
    Limits::default().memory(64 << 20).call_bytes(16 << 20)
}

#[track_caller]
fn traps(engine: &Engine, ty: &str, name: &str, (a, b): (u32, u32)) {
    let code = if ty == "char" { SINGLE } else { PAIR };
    let module = module(engine, &liar(ty, code));
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let see = move |_: &[Val]| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    };
    let builder = Sandbox::builder(&module).limits(limits());
    let builder = builder.component_function_values("test:host/all", "see", see);
    let mut sandbox = builder.build().expect("a sandbox");
    let main = sandbox.main();
    let result = sandbox.call_component_values(main, name, &[Val::U32(a), Val::U32(b)]);
    assert!(matches!(result, Err(Error::Trap(_))), "{ty}, {name}({a:#x}, {b:#x}): {result:?}");
    assert_eq!(seen.load(Ordering::Relaxed), 0, "{ty}, {name}({a:#x}, {b:#x})");
    let again = sandbox.call_component_values(main, name, &[Val::U32(0), Val::U32(0)]);
    assert!(matches!(again, Err(Error::Trap(_))), "it is not entered again: {again:?}");
}

/// The memory's size.
const END: u32 = 1 << 16;

#[test]
fn lists_and_strings_out_of_bounds_trap() {
    on_both(|engine| {
        for ty in ["string", "(list u8)", "(list u64)", "(list string)", "(list (option u16))"] {
            for range in [
                (END - 8, 16),
                (END, 1),
                (0, END + 1),
                (8, u32::MAX),
                (8, u32::MAX / 8),
                (0xffff_fff8, 1),
                (0xffff_fff8, 0xffff_fff8),
                (0x8000_0000, 1),
            ] {
                for name in ["return", "pass"] {
                    traps(engine, ty, name, range);
                }
            }
        }
    });
}

#[test]
fn lists_that_are_not_aligned_trap() {
    on_both(|engine| {
        let odd = [("(list u16)", 1), ("(list u64)", 4), ("(list string)", 2), ("(list f32)", 2)];
        for (ty, at) in odd {
            for name in ["return", "pass"] {
                traps(engine, ty, name, (at, 1));
            }
        }
    });
}

#[test]
fn strings_that_are_not_utf_8_trap() {
    on_both(|engine| {
        for range in [(1000, 7), (1000, 1), (1002, 1), (1005, 2)] {
            for name in ["return", "pass"] {
                traps(engine, "string", name, range);
            }
        }
    });
}

#[test]
fn results_that_lie_nowhere_trap() {
    on_both(|engine| {
        for at in [1, 2, 3, END - 4, END, u32::MAX - 3, u32::MAX] {
            traps(engine, "string", "point", (at, 0));
        }
    });
}

#[test]
fn numbers_that_are_no_characters_trap() {
    on_both(|engine| {
        for number in [0xd800, 0xdfff, 0x11_0000, u32::MAX] {
            for name in ["return", "pass"] {
                traps(engine, "char", name, (number, 0));
            }
        }
    });
}

#[test]
fn cases_that_there_are_not_trap() {
    on_both(|engine| {
        for ty in ["(option u32)", "(result u32 (error u32))"] {
            for number in [2, 255, u32::MAX] {
                traps(engine, ty, "pass", (number, 0));
            }
            traps(engine, ty, "return", (2, 0));
        }
    });
}

#[test]
fn room_that_a_component_does_not_have_traps() {
    on_both(|engine| {
        for at in [END - 4, END, u32::MAX, 1] {
            let text = format!(
                r#"(component
    (core module $code
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const {at}))
        (func (export "take") (param i32 i32)))
    (core instance $code (instantiate $code))
    (func (export "take") (param "x" (list u64))
        (canon lift (core func $code "take") (memory (core memory $code "memory"))
            (realloc (core func $code "realloc")))))"#,
                at = at as i32
            );
            let mut sandbox = Sandbox::new(&module(engine, &text)).expect("a sandbox");
            let result = sandbox.call_component::<_, ()>("take", (vec![1u64; 100],));
            assert!(matches!(result, Err(Error::Trap(_))), "{at}: {result:?}");
        }
    });
}

#[test]
fn a_list_of_more_than_a_call_may_pass_is_a_limit() {
    on_both(|engine| {
        // Each of its elements takes nothing in memory, nor on its way, but much of the host's.
        let text = r#"(component
    (import "test:host/all" (instance $host
        (type $t' (record (field "a" u8) (field "b" u8)))
        (export "t" (type $t (eq $t')))
        (export "see" (func (param "x" (list $t))))))
    (alias export $host "t" (type $t))
    (alias export $host "see" (func $see))
    (core module $memory (memory (export "memory") 1024))
    (core instance $memory (instantiate $memory))
    (core func $see' (canon lower (func $see) (memory (core memory $memory "memory"))))
    (core module $code
        (import "host" "see" (func $see (param i32 i32)))
        (func (export "return") (param i32) (result i32) (i32.const 0))
        (func (export "pass") (param i32) (call $see (i32.const 0) (local.get 0))))
    (core instance $code (instantiate $code
        (with "host" (instance (export "see" (func $see'))))))
    (func (export "pass") (param "n" u32) (canon lift (core func $code "pass"))))"#;
        let builder = Sandbox::builder(&module(engine, text));
        let limits = Limits::default().memory(128 << 20).call_bytes(1 << 20);
        let see = |_: &[Val]| Ok(None);
        let mut sandbox = builder
            .limits(limits)
            .component_function_values("test:host/all", "see", see)
            .build()
            .expect("a sandbox");
        sandbox.call_component::<_, ()>("pass", (100u32,)).expect("few");
        for count in [100_000_u32, 1 << 20, 1 << 25] {
            let result = sandbox.call_component::<_, ()>("pass", (count,));
            let is_limit = matches!(result, Err(Error::Limit { .. }));
            let is_over = matches!(result, Err(Error::Ended(_) | Error::Trap(_)));
            assert!(is_limit || is_over && count > 100_000, "{count}: {result:?}");
        }
    });
}
