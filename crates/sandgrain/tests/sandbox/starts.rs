//! Start functions, which run in the VM like any code.

use crate::support::{limited, module, on_both, sandbox, soon, trap_of};
use sandgrain::wasi::WasiConfig;
use sandgrain::{Error, Sandbox, TrapCode};

#[test]
fn a_start_function_has_run_when_the_sandbox_is_there() {
    on_both(|engine| {
        let wat = r#"(module (global $n (mut i32) (i32.const 1))
            (func $start (global.set $n (i32.const 2))) (start $start)
            (func (export "n") (result i32) (global.get $n)))"#;
        assert_eq!(sandbox(engine, wat).call::<_, u32>("n", ()).expect("a call"), 2);
    });
}

#[test]
fn a_start_function_that_traps() {
    on_both(|engine| {
        let module = module(engine, "(module (func $s unreachable) (start $s))");
        assert_eq!(trap_of(Sandbox::new(&module)), TrapCode::Unreachable);
    });
}

#[test]
fn a_start_function_that_spins() {
    on_both(|engine| {
        let result = limited(engine, soon(), "(module (func $s (loop (br 0))) (start $s))");
        assert!(matches!(result, Err(Error::Deadline(_))), "{result:?}");
    });
}

#[test]
fn segments_that_do_not_fit() {
    on_both(|engine| {
        let data = module(engine, r#"(module (memory 1) (data (i32.const 65535) "two"))"#);
        assert_eq!(trap_of(Sandbox::new(&data)), TrapCode::MemoryOutOfBounds);
        let elements = "(module (table 1 funcref) (elem (i32.const 1) $f) (func $f))";
        assert_eq!(trap_of(Sandbox::new(&module(engine, elements))), TrapCode::TableOutOfBounds);
    });
}

#[test]
fn a_reactor_is_initialised() {
    on_both(|engine| {
        let wat = r#"(module (global $n (mut i32) (i32.const 1))
            (func (export "_initialize") (global.set $n (i32.const 3)))
            (func (export "n") (result i32) (global.get $n)))"#;
        let module = module(engine, wat);
        let mut sandbox =
            Sandbox::builder(&module).wasi(WasiConfig::new()).build().expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("n", ()).expect("a call"), 3);
    });
}

#[test]
fn an_instantiation_that_fails_leaves_the_sandbox_as_it_was() {
    on_both(|engine| {
        let good = module(engine, r#"(module (func (export "f") (result i32) (i32.const 1)))"#);
        let bad = module(engine, "(module (func $s unreachable) (start $s))");
        let mut sandbox = Sandbox::new(&good).expect("a sandbox");
        for _ in 0..3 {
            trap_of(sandbox.instantiate(&bad));
        }
        assert_eq!(sandbox.call::<_, u32>("f", ()).expect("a call"), 1);
        let more = sandbox.instantiate(&good).expect("an instance");
        assert_eq!(sandbox.call_values(more, "f", &[]).expect("a call").len(), 1);
    });
}
