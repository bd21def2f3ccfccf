//! Calls: values in and out, state, globals, memories.

use crate::support::{module, name_of, on_both, sandbox};
use sandgrain::types::HeapType;
use sandgrain::{Error, Sandbox, Value};

#[test]
fn a_missing_export_is_named_with_what_there_is() {
    on_both(|engine| {
        let mut sandbox =
            sandbox(engine, r#"(module (func (export "first")) (func (export "other")))"#);
        let (name, text) = name_of(sandbox.call::<_, ()>("frist", ()));
        assert_eq!(name, "bad-call");
        assert!(["frist", "first", "other"].iter().all(|word| text.contains(word)), "{text}");
        sandbox.call::<_, ()>("first", ()).expect("the sandbox goes on");
    });
}

#[test]
fn an_export_that_is_no_function() {
    on_both(|engine| {
        let mut sandbox = sandbox(engine, r#"(module (memory (export "m") 1))"#);
        let (name, text) = name_of(sandbox.call::<_, ()>("m", ()));
        assert!(name == "bad-call" && text.contains("is a memory"), "{text}");
    });
}

#[test]
fn the_wrong_number_or_type_of_arguments() {
    on_both(|engine| {
        let wat = r#"(module (func (export "add") (param i32 i32) (result i32)
            (i32.add (local.get 0) (local.get 1))))"#;
        let mut sandbox = sandbox(engine, wat);
        for (result, what) in [
            (sandbox.call::<_, i32>("add", ()), "none"),
            (sandbox.call::<_, i32>("add", 1), "one"),
            (sandbox.call::<_, i32>("add", (1, 2, 3)), "three"),
            (sandbox.call::<_, i32>("add", (1, 2_i64)), "another"),
            (sandbox.call::<_, i32>("add", (1.0_f32, 2.0_f32)), "floats"),
        ] {
            let (name, text) = name_of(result);
            assert!(name == "bad-call" && text.contains("\"add\""), "{what}: {text}");
        }
        assert_eq!(sandbox.call::<_, i32>("add", (1, 2)).expect("a call"), 3);
    });
}

#[test]
fn the_wrong_type_of_results() {
    on_both(|engine| {
        let mut sandbox =
            sandbox(engine, r#"(module (func (export "f") (result i32) (i32.const 1)))"#);
        assert_eq!(name_of(sandbox.call::<_, i64>("f", ())).0, "bad-call");
        assert_eq!(name_of(sandbox.call::<_, ()>("f", ())).0, "bad-call");
        assert_eq!(name_of(sandbox.call::<_, (i32, i32)>("f", ())).0, "bad-call");
        assert_eq!(sandbox.call::<_, i32>("f", ()).expect("a call"), 1);
    });
}

#[test]
fn a_call_with_the_wrong_types_is_refused_before_anything_runs() {
    on_both(|engine| {
        let wat = r#"(module (global (export "n") (mut i32) (i32.const 0))
            (func (export "f") (result i32) (global.set 0 (i32.const 1)) (i32.const 1)))"#;
        let mut sandbox = sandbox(engine, wat);
        let main = sandbox.main();
        assert_eq!(name_of(sandbox.call::<_, i64>("f", ())).0, "bad-call");
        assert_eq!(name_of(sandbox.call::<_, i32>("f", 1)).0, "bad-call");
        assert_eq!(sandbox.global(main, "n").expect("a global"), Value::I32(0));
    });
}

#[test]
fn state_persists_between_calls() {
    on_both(|engine| {
        let wat = r#"(module (global $n (mut i32) (i32.const 0))
            (func (export "next") (result i32)
                (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"#;
        let module = module(engine, wat);
        let mut first = Sandbox::new(&module).expect("a sandbox");
        let mut second = Sandbox::new(&module).expect("a sandbox");
        for n in 1..=100_u32 {
            assert_eq!(first.call::<_, u32>("next", ()).expect("a call"), n);
        }
        assert_eq!(second.call::<_, u32>("next", ()).expect("a call"), 1, "nothing is shared");
    });
}

#[test]
fn every_type_goes_in_and_out_unchanged() {
    on_both(|engine| {
        let wat = r#"(module
            (func (export "i32") (param i32) (result i32) (local.get 0))
            (func (export "i64") (param i64) (result i64) (local.get 0))
            (func (export "f32") (param f32) (result f32) (local.get 0))
            (func (export "f64") (param f64) (result f64) (local.get 0))
            (func (export "v128") (param v128) (result v128) (local.get 0)))"#;
        let mut sandbox = sandbox(engine, wat);
        macro_rules! same {
            ($name:literal, $type:ty, $($value:expr),*) => {$(
                let value: $type = $value;
                let got: $type = sandbox.call($name, value).expect("a call");
                assert_eq!(got.to_le_bytes(), value.to_le_bytes(), "{value}");
            )*};
        }
        same!("i32", i32, 0, -1, i32::MIN, i32::MAX);
        same!("i32", u32, 0, u32::MAX, 1 << 31);
        same!("i64", i64, 0, -1, i64::MIN, i64::MAX);
        same!("i64", u64, 0, u64::MAX, 1 << 63);
        same!("f32", f32, 0.0, -0.0, 1.5, f32::INFINITY, f32::MIN_POSITIVE / 2.0);
        same!("f32", f32, f32::from_bits(0x7fc0_1234), f32::from_bits(0xffa0_0001));
        same!("f64", f64, 0.0, -0.0, 1.5, f64::NEG_INFINITY, f64::MIN_POSITIVE / 2.0);
        same!("f64", f64, f64::from_bits(0x7ff8_0000_1234_5678), f64::from_bits(0xfff4 << 48));
        same!("v128", u128, 0, u128::MAX, 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    });
}

#[test]
fn tuples_keep_their_order() {
    on_both(|engine| {
        let types = "i32 i64 f32 f64 v128 i32 i64 f32";
        let gets: String = (0..8).map(|n| format!("(local.get {n})")).collect();
        let wat = format!(
            r#"(module (func (export "same") (param {types}) (result {types}) {gets})
                (func (export "swap") (param i32 i64) (result i64 i32) (local.get 1) (local.get 0)))"#
        );
        let mut sandbox = sandbox(engine, &wat);
        let values = (1_u32, 2_i64, 3.0_f32, 4.0_f64, 5_u128, -6_i32, u64::MAX, 8.0_f32);
        type All = (u32, i64, f32, f64, u128, i32, u64, f32);
        assert_eq!(sandbox.call::<All, All>("same", values).expect("a call"), values);
        assert_eq!(sandbox.call::<_, (i64, i32)>("swap", (1, 2_i64)).expect("a call"), (2, 1));
    });
}

#[test]
fn references_go_out_and_come_back() {
    on_both(|engine| {
        let wat = r#"(module
            (global $kept (mut externref) (ref.null extern))
            (func (export "keep") (param externref) (global.set $kept (local.get 0)))
            (func (export "kept") (result externref) (global.get $kept))
            (func $seven (export "seven") (result i32) (i32.const 7))
            (elem declare func $seven)
            (func (export "ref") (result funcref) (ref.func $seven))
            (table $t 1 funcref)
            (func (export "call") (param funcref) (result i32)
                (table.set $t (i32.const 0) (local.get 0))
                (call_indirect (result i32) (i32.const 0))))"#;
        let mut sandbox = sandbox(engine, wat);
        let main = sandbox.main();
        let mut call =
            |name: &str, args: &[Value]| sandbox.call_values(main, name, args).expect("a call");
        assert_eq!(call("kept", &[]), [Value::Null(HeapType::Extern)]);
        call("keep", &[Value::ExternRef(4711)]);
        assert_eq!(call("kept", &[]), [Value::ExternRef(4711)]);
        let function = call("ref", &[]);
        assert!(matches!(function[..], [Value::FuncRef(_)]), "{function:?}");
        assert_eq!(call("call", &function), [Value::I32(7)]);
        let never = sandbox.call_values(main, "call", &[Value::FuncRef(9999)]);
        assert_eq!(name_of(never).0, "bad-call");
    });
}

const GLOBALS: &str = r#"(module
    (global (export "a") (mut i32) (i32.const 1))
    (global (export "b") i64 (i64.const 2))
    (func (export "get") (result i32) (global.get 0)))"#;

#[test]
fn globals_are_read_and_set() {
    on_both(|engine| {
        let mut sandbox = sandbox(engine, GLOBALS);
        let main = sandbox.main();
        assert_eq!(sandbox.global(main, "b").expect("a global"), Value::I64(2));
        sandbox.set_global(main, "a", Value::I32(5)).expect("a global");
        assert_eq!(sandbox.global(main, "a").expect("a global"), Value::I32(5));
        assert_eq!(sandbox.call::<_, i32>("get", ()).expect("a call"), 5);
    });
}

#[test]
fn globals_that_cannot_be_set_are_left_alone() {
    on_both(|engine| {
        let mut sandbox = sandbox(engine, GLOBALS);
        let main = sandbox.main();
        for (name, value) in [
            ("a", Value::I64(1)),
            ("b", Value::I64(1)),
            ("c", Value::I32(1)),
            ("get", Value::I32(1)),
        ] {
            assert_eq!(name_of(sandbox.set_global(main, name, value)).0, "bad-call", "{name}");
        }
        assert_eq!(sandbox.global(main, "a").expect("a global"), Value::I32(1));
    });
}

#[test]
fn memory_is_read_and_written() {
    on_both(|engine| {
        let wat = r#"(module (memory (export "memory") 1)
            (data (i32.const 100) "sandgrain")
            (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#;
        let mut sandbox = sandbox(engine, wat);
        let main = sandbox.main();
        let name = sandbox.read_memory(main, "memory", 100..109).expect("memory");
        assert_eq!(name, b"sandgrain");
        sandbox.write_memory(main, "memory", 65_535, &[77]).expect("memory");
        assert_eq!(sandbox.call::<_, u32>("load", 65_535).expect("a call"), 77);
        for range in [65_536..65_537, 0..65_537, u64::MAX - 1..u64::MAX, 0..u64::MAX] {
            let result = sandbox.read_memory(main, "memory", range.clone());
            assert_eq!(name_of(result).0, "bad-call", "{range:?}");
        }
        let past = sandbox.write_memory(main, "memory", u64::MAX, &[1, 2]);
        assert_eq!(name_of(past).0, "bad-call");
        assert_eq!(name_of(sandbox.read_memory(main, "other", 0..1)).0, "bad-call");
    });
}

#[test]
fn an_instance_of_another_sandbox_is_refused() {
    on_both(|engine| {
        let module = module(engine, r#"(module (func (export "f")))"#);
        let mut first = Sandbox::new(&module).expect("a sandbox");
        let more = first.instantiate(&module).expect("an instance");
        let mut second = Sandbox::new(&module).expect("a sandbox");
        let result = second.call_values(more, "f", &[]);
        assert!(matches!(result, Err(Error::BadCall(_))), "{result:?}");
    });
}
