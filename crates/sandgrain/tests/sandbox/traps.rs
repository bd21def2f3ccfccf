//! WebAssembly that stops by its own rules. None of it ends the sandbox.

use crate::support::{module, on_both, sandbox, trap_of, vm};
use sandgrain::{Error, Sandbox, TrapCode};

const TRAPS: &str = r#"(module
    (memory 1)
    (type $none (func))
    (table 3 funcref)
    (elem (i32.const 0) $takes_two)
    (func $takes_two (param i32 i32))
    (func (export "fine") (result i32) (i32.const 42))
    (func (export "unreachable") unreachable)
    (func (export "zero") (result i32) (i32.div_s (i32.const 1) (i32.const 0)))
    (func (export "zero64") (result i64) (i64.rem_u (i64.const 1) (i64.const 0)))
    (func (export "overflow") (result i32) (i32.div_s (i32.const 0x80000000) (i32.const -1)))
    (func (export "convert") (result i32) (i32.trunc_f64_s (f64.const nan)))
    (func (export "convert_large") (result i32) (i32.trunc_f64_s (f64.const 1e20)))
    (func (export "behind") (result i32) (i32.load (i32.const 65533)))
    (func (export "highest") (result i32)
        (i32.load offset=0xffffffff (i32.const 0xffffffff)))
    (func (export "highest_store")
        (i64.store offset=0xffffffff (i32.const 0xffffffff) (i64.const 1)))
    (func (export "highest_address") (result i32) (i32.load8_u (i32.const 0xffffffff)))
    (func (export "highest_offset") (result i32) (i32.load8_u offset=0xffffffff (i32.const 0)))
    (func (export "fill") (memory.fill (i32.const 65535) (i32.const 1) (i32.const 2)))
    (func (export "copy") (memory.copy (i32.const 0) (i32.const -1) (i32.const 1)))
    (func (export "mismatch") (call_indirect (type $none) (i32.const 0)))
    (func (export "null") (call_indirect (type $none) (i32.const 1)))
    (func (export "outside") (call_indirect (type $none) (i32.const 3)))
    (func (export "far_outside") (call_indirect (type $none) (i32.const -1)))
    (func (export "table") (table.set (i32.const 3) (ref.null func)))
    (func $forever (export "recursion") (call $forever))
    (func $wide (export "wide_recursion") (result i64) (local i64 i64 v128 v128)
        (i64.add (call $wide) (i64.add (call $wide) (local.get 0))))
    (func (export "null_reference") (call_ref $none (ref.null $none))))"#;

const EXPECTED: &[(&str, TrapCode)] = &[
    ("unreachable", TrapCode::Unreachable),
    ("zero", TrapCode::IntegerDivisionByZero),
    ("zero64", TrapCode::IntegerDivisionByZero),
    ("overflow", TrapCode::IntegerOverflow),
    ("convert", TrapCode::BadConversionToInteger),
    ("convert_large", TrapCode::IntegerOverflow),
    ("behind", TrapCode::MemoryOutOfBounds),
    ("highest", TrapCode::MemoryOutOfBounds),
    ("highest_store", TrapCode::MemoryOutOfBounds),
    ("highest_address", TrapCode::MemoryOutOfBounds),
    ("highest_offset", TrapCode::MemoryOutOfBounds),
    ("fill", TrapCode::MemoryOutOfBounds),
    ("copy", TrapCode::MemoryOutOfBounds),
    ("mismatch", TrapCode::BadSignature),
    ("null", TrapCode::IndirectCallToNull),
    ("outside", TrapCode::TableOutOfBounds),
    ("far_outside", TrapCode::TableOutOfBounds),
    ("table", TrapCode::TableOutOfBounds),
    ("recursion", TrapCode::StackOverflow),
    ("wide_recursion", TrapCode::StackOverflow),
    ("null_reference", TrapCode::NullReference),
];

#[test]
fn each_fault_is_the_right_trap_and_the_sandbox_goes_on() {
    on_both(|engine| {
        let mut sandbox = sandbox(engine, TRAPS);
        let main = sandbox.main();
        for (name, code) in EXPECTED {
            assert_eq!(trap_of(sandbox.call_values(main, name, &[])), *code, "{name}");
            assert_eq!(sandbox.call::<_, u32>("fine", ()).expect(name), 42);
        }
    });
}

#[test]
fn traps_can_follow_each_other_for_long() {
    let mut sandbox = sandbox(vm(), TRAPS);
    let main = sandbox.main();
    for _ in 0..500 {
        for name in ["highest", "recursion", "zero", "unreachable"] {
            trap_of(sandbox.call_values(main, name, &[]));
        }
    }
    assert_eq!(sandbox.call::<_, u32>("fine", ()).expect("a call"), 42);
}

#[test]
fn a_backtrace_has_names_where_the_module_has_them() {
    on_both(|engine| {
        let wat = r#"(module $shop
            (func $pay (param i32) (unreachable))
            (func $order (call $pay (i32.const 1)))
            (func (export "open") (call $order)))"#;
        let mut sandbox = sandbox(engine, wat);
        let Err(Error::Trap(trap)) = sandbox.call::<_, ()>("open", ()) else { panic!("no trap") };
        let names: Vec<_> = trap.frames.iter().map(|frame| frame.name.as_deref()).collect();
        assert_eq!(names[..2], [Some("pay"), Some("order")]);
        assert_eq!(trap.frames.len(), 3);
        let lines: Vec<_> = trap.backtrace().collect();
        assert!(lines[0].starts_with("shop!pay at 0x"), "{lines:?}");
        assert!(trap.to_string().contains("unreachable"), "{trap}");
    });
}

#[test]
fn names_do_not_reach_a_terminal_as_they_are() {
    let wat = r#"(module (func $f (@name "\1b[2J") (export "f") unreachable))"#;
    let mut sandbox = sandbox(vm(), wat);
    let text = sandbox.call::<_, ()>("f", ()).expect_err("a trap").to_string();
    assert!(text.contains("[2J") && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_trap_in_one_sandbox_is_none_in_another() {
    let module = module(vm(), TRAPS);
    let mut first = Sandbox::new(&module).expect("a sandbox");
    let mut second = Sandbox::new(&module).expect("a sandbox");
    let main = first.main();
    trap_of(first.call_values(main, "recursion", &[]));
    assert_eq!(second.call::<_, u32>("fine", ()).expect("a call"), 42);
}
