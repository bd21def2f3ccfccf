//! Limits: each holds, and says so.

use crate::support::{limited, module, name_of, on_both, sandbox, vm, works};
use sandgrain::{Error, Limits, Sandbox};

#[test]
fn a_memory_above_the_limit_is_refused_at_once() {
    on_both(|engine| {
        let limits = Limits::default().memory(1 << 20);
        let (name, text) = name_of(limited(engine, limits.clone(), "(module (memory 17))"));
        assert!(name == "limit" && text.contains("1048576 bytes"), "{text}");
        limited(engine, limits, "(module (memory 16))").expect("all that is allowed");
    });
}

#[test]
fn a_memory_grows_until_it_is_refused() {
    on_both(|engine| {
        let wat = r#"(module (memory 1) (func (export "grow") (result i32) (local $n i32)
            (block (loop
                (br_if 1 (i32.eq (i32.const -1) (memory.grow (i32.const 1))))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br 0)))
            (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 1))
            (memory.size)))"#;
        for pages in [1_u64, 2, 31, 32, 33, 100] {
            let limits = Limits::default().memory(pages << 16);
            let mut sandbox = limited(engine, limits, wat).expect("a sandbox");
            let size = sandbox.call::<_, u32>("grow", ()).expect("a call");
            assert_eq!(u64::from(size), pages);
        }
    });
}

#[test]
fn a_modules_own_maximum_holds_too() {
    on_both(|engine| {
        let wat = r#"(module (memory 1 3) (func (export "grow") (param i32) (result i32)
            (memory.grow (local.get 0))))"#;
        let mut sandbox = sandbox(engine, wat);
        assert_eq!(sandbox.call::<_, i32>("grow", 3).expect("a call"), -1);
        assert_eq!(sandbox.call::<_, i32>("grow", 2).expect("a call"), 1);
        assert_eq!(sandbox.call::<_, i32>("grow", 1).expect("a call"), -1);
        assert_eq!(sandbox.call::<_, i32>("grow", -1).expect("a call"), -1);
    });
}

#[test]
fn tables_have_a_limit() {
    on_both(|engine| {
        let limits = Limits::default().table_elements(100);
        let result = limited(engine, limits.clone(), "(module (table 101 funcref))");
        assert_eq!(name_of(result).0, "limit");
        let wat = r#"(module (table 100 funcref) (func (export "grow") (result i32)
            (table.grow (ref.null func) (i32.const 1))))"#;
        let mut sandbox = limited(engine, limits, wat).expect("a sandbox");
        assert_eq!(sandbox.call::<_, i32>("grow", ()).expect("a call"), -1);
        let limits = Limits::default().tables(2);
        let three = "(module (table 1 funcref) (table 1 funcref) (table 1 funcref))";
        assert_eq!(name_of(limited(engine, limits, three)).0, "limit");
    });
}

#[test]
fn instances_have_a_limit() {
    on_both(|engine| {
        let module = module(engine, r#"(module (func (export "f") (result i32) (i32.const 1)))"#);
        let limits = Limits::default().instances(5);
        let mut sandbox = Sandbox::builder(&module).limits(limits).build().expect("a sandbox");
        for _ in 1..5 {
            sandbox.instantiate(&module).expect("an instance");
        }
        for _ in 0..3 {
            assert_eq!(name_of(sandbox.instantiate(&module)).0, "limit");
        }
        assert_eq!(sandbox.call::<_, u32>("f", ()).expect("a call"), 1);
    });
}

#[test]
fn memories_of_later_modules_have_a_limit() {
    on_both(|engine| {
        let module = module(engine, "(module (memory 1))");
        let limits = Limits::default().extra_memories(1).memory(1 << 20);
        let mut sandbox = Sandbox::builder(&module).limits(limits).build().expect("a sandbox");
        sandbox.instantiate(&module).expect("the extra one");
        let mut refused = None;
        // One more may be there, which the engine would use for itself.
        for _ in 0..2 {
            refused = refused.or(sandbox.instantiate(&module).err());
        }
        assert_eq!(refused.map(|error| error.name()), Some("limit"));
    });
}

#[test]
fn code_of_later_modules_has_a_limit() {
    let module = module(vm(), r#"(module (func (export "f") (result i32) (i32.const 1)))"#);
    let limits = Limits::default().extra_code(1 << 20).instances(10_000);
    let mut sandbox = Sandbox::builder(&module).limits(limits).build().expect("a sandbox");
    let mut made = 1;
    let error = loop {
        match sandbox.instantiate(&module) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 10_000, "no limit");
    };
    assert!(made > 10, "{made}");
    let (name, text) = (error.name(), error.to_string());
    assert!(name == "limit" && text.contains("code"), "{text}");
    assert_eq!(sandbox.call::<_, u32>("f", ()).expect("a call"), 1);
    works(vm());
}

#[test]
fn a_small_stack_ends_recursion_early() {
    let wat = r#"(module (func $f (export "f") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))
            (else (i32.const 0)))))"#;
    let depth = |stack| {
        let limits = Limits::default().stack(stack);
        let mut sandbox = limited(vm(), limits, wat).expect("a sandbox");
        let mut depth = 1_u32;
        while sandbox.call::<_, u32>("f", depth).is_ok() {
            depth *= 2;
        }
        depth
    };
    let (small, large) = (depth(32 << 10), depth(8 << 20));
    assert!(small < large && small > 16, "{small} {large}");
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    for limits in [
        Limits::default().stack(0),
        Limits::default().stack(u64::MAX),
        Limits::default().heap(0),
        Limits::default().heap(u64::MAX),
        Limits::default().memory((4 << 30) + 1),
        Limits::default().memory(u64::MAX),
        Limits::default().extra_memories(u32::MAX),
        Limits::default().extra_code(u64::MAX),
    ] {
        let (name, text) = name_of(limited(vm(), limits.clone(), "(module)"));
        assert!(["bad-call", "limit"].contains(&name), "{limits:?}: {text}");
    }
    works(vm());
}

#[test]
fn a_runtime_without_heap_says_so() {
    let limits = || Limits::default().heap(1 << 20);
    // A table takes 8 bytes of heap for each element.
    let wat = r#"(module (table 1000 funcref) (func (export "grow") (param i32) (result i32)
        (table.grow (ref.null func) (local.get 0))))"#;
    let result = limited(vm(), limits(), "(module (table 1000000 funcref))");
    assert!(matches!(result, Err(Error::Limit { .. })), "{result:?}");
    match limited(vm(), limits(), wat) {
        Ok(mut sandbox) => {
            // The engine may grow the table or not; it must not break.
            let result = sandbox.call::<_, i32>("grow", 900_000);
            assert!(matches!(result, Ok(-1) | Err(Error::Limit { .. })), "{result:?}");
        }
        Err(error) => assert!(matches!(error, Error::Limit { .. }), "{error}"),
    }
    works(vm());
}

#[test]
fn a_heap_that_many_instances_use_up_says_so() {
    let module = module(vm(), "(module (table 20000 funcref))");
    let limits = Limits::default().heap(2 << 20).instances(1000).tables(1000).extra_code(256 << 20);
    let mut sandbox = Sandbox::builder(&module).limits(limits).build().expect("a sandbox");
    let mut made = 1;
    let error = loop {
        match sandbox.instantiate(&module) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 1000, "no limit");
    };
    assert!(matches!(error, Error::Limit { .. }), "{error}");
    works(vm());
}
