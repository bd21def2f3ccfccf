//! Messages that are larger than the mailbox, and the largest there are.

use crate::support::{module, on_both, sandbox};
use sandgrain::{Error, Sandbox, Value};

#[test]
fn a_call_that_does_not_fit_into_the_mailbox_arrives() {
    on_both(|engine| {
        // The longest name that a module may use for an export.
        let name = "n".repeat(99_999);
        let wat =
            format!(r#"(module (func (export "{name}") (param i32) (result i32) (local.get 0)))"#);
        let mut sandbox = sandbox(engine, &wat);
        for n in 0..3_u32 {
            assert_eq!(sandbox.call::<_, u32>(&name, n).expect("a call"), n);
        }
    });
}

#[test]
fn instantiation_with_very_many_imports() {
    on_both(|engine| {
        let imports = r#"(import "h" "f" (func (result i32)))"#.repeat(20_000);
        let wat = format!(
            r#"(module {imports} (func (export "f") (result i32)
                (i32.add (call 0) (call 19999))))"#
        );
        let mut sandbox = Sandbox::builder(&module(engine, &wat))
            .function("h", "f", || 21)
            .build()
            .expect("a sandbox");
        assert_eq!(sandbox.call::<_, i32>("f", ()).expect("a call"), 42);
    });
}

#[test]
fn as_many_parameters_and_results_as_there_can_be() {
    on_both(|engine| {
        let types = "v128 ".repeat(1000);
        let gets: String = (0..1000).rev().map(|n| format!("(local.get {n})")).collect();
        let wat =
            format!(r#"(module (func (export "turn") (param {types}) (result {types}) {gets}))"#);
        let mut sandbox = sandbox(engine, &wat);
        let main = sandbox.main();
        let mut args: Vec<Value> = (0..1000).map(|n| Value::V128(n << 100 | n)).collect();
        let results = sandbox.call_values(main, "turn", &args).expect("a call");
        args.reverse();
        assert_eq!(results, args);
    });
}

#[test]
fn a_trap_in_functions_with_very_long_names() {
    on_both(|engine| {
        let name = "x".repeat(99_000);
        let wat = format!(
            r#"(module (func $f (@name "{name}") (export "f") (param i32)
                (if (i32.eqz (local.get 0)) (then unreachable))
                (call $f (i32.sub (local.get 0) (i32.const 1)))))"#
        );
        let mut sandbox = sandbox(engine, &wat);
        match sandbox.call::<_, ()>("f", 30) {
            Err(Error::Trap(trap)) => {
                assert!(!trap.frames.is_empty());
                assert!(trap.frames[0].name.as_ref().is_some_and(|name| name.starts_with("xxx")));
            }
            other => panic!("{}", other.expect_err("a trap")),
        }
    });
}
