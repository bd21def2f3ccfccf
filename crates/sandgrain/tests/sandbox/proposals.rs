//! What WebAssembly has beyond its first version.

use crate::support::{limited, name_of, on_both, sandbox, trap_of};
use sandgrain::{Error, Limits, TrapCode, Value};

#[test]
fn several_memories_are_apart() {
    on_both(|engine| {
        let wat = r#"(module
            (memory $a (export "a") 1) (memory $b (export "b") 1 40) (memory $c (export "c") 2)
            (func (export "store") (param i32)
                (i32.store $a (local.get 0) (i32.const 1))
                (i32.store $b (local.get 0) (i32.const 2))
                (i32.store $c (local.get 0) (i32.const 3)))
            (func (export "grow_b") (result i32) (memory.grow $b (i32.const 39)))
            (func (export "copy") (memory.copy $b $c (i32.const 8) (i32.const 0) (i32.const 4)))
            (func (export "past_a") (result i32) (i32.load $a (i32.const 65536))))"#;
        let mut sandbox = sandbox(engine, wat);
        let main = sandbox.main();
        sandbox.call::<_, ()>("store", 0).expect("a call");
        assert_eq!(sandbox.call::<_, i32>("grow_b", ()).expect("a call"), 1);
        sandbox.call::<_, ()>("copy", ()).expect("a call");
        for (name, expected) in [("a", [1, 0]), ("b", [2, 3]), ("c", [3, 0])] {
            let bytes = sandbox.read_memory(main, name, 0..12).expect("memory");
            assert_eq!([bytes[0], bytes[8]], expected, "{name}");
        }
        assert_eq!(trap_of(sandbox.call::<_, i32>("past_a", ())), TrapCode::MemoryOutOfBounds);
    });
}

#[test]
fn memories_with_64_bit_addresses() {
    on_both(|engine| {
        let wat = r#"(module (memory i64 1 100)
            (func (export "store") (param i64 i64) (i64.store (local.get 0) (local.get 1)))
            (func (export "load") (param i64) (result i64) (i64.load (local.get 0)))
            (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0))))"#;
        let mut sandbox = sandbox(engine, wat);
        sandbox.call::<_, ()>("store", (65_528_u64, u64::MAX)).expect("a call");
        assert_eq!(sandbox.call::<_, u64>("load", 65_528_u64).expect("a call"), u64::MAX);
        for address in [65_529_u64, 65_536, 1 << 32, 1 << 40, (1 << 63) - 8, u64::MAX] {
            let result = sandbox.call::<_, u64>("load", address);
            assert_eq!(trap_of(result), TrapCode::MemoryOutOfBounds, "{address:#x}");
        }
        assert_eq!(sandbox.call::<_, i64>("grow", 99_i64).expect("a call"), 1);
        assert_eq!(sandbox.call::<_, i64>("grow", 1_i64).expect("a call"), -1);
        assert_eq!(sandbox.call::<_, i64>("grow", -1_i64).expect("a call"), -1);
        sandbox.call::<_, ()>("store", (65_536_u64 * 99, 7_u64)).expect("a call");
        assert_eq!(sandbox.call::<_, u64>("load", 65_536_u64 * 99).expect("a call"), 7);
    });
}

#[test]
fn a_64_bit_memory_above_the_limit_is_refused() {
    on_both(|engine| {
        let result = limited(engine, Limits::default(), "(module (memory i64 0x1000000000))");
        assert_eq!(name_of(result).0, "limit");
    });
}

#[test]
fn vectors_compute() {
    on_both(|engine| {
        let wat = r#"(module
            (func (export "add") (param v128 v128) (result v128)
                (i32x4.add (local.get 0) (local.get 1)))
            (func (export "mul") (param v128 v128) (result v128)
                (f32x4.mul (local.get 0) (local.get 1)))
            (func (export "shuffle") (param v128) (result v128)
                (i8x16.swizzle (local.get 0)
                    (v128.const i8x16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0)))
            (func (export "popcnt") (param v128) (result v128) (i8x16.popcnt (local.get 0))))"#;
        let mut sandbox = sandbox(engine, wat);
        let lanes = |lanes: [u32; 4]| {
            lanes.iter().rev().fold(0_u128, |all, lane| all << 32 | u128::from(*lane))
        };
        let sum: u128 =
            sandbox.call("add", (lanes([1, 2, 3, u32::MAX]), lanes([10, 20, 30, 1]))).expect("add");
        assert_eq!(sum, lanes([11, 22, 33, 0]));
        let floats = |values: [f32; 4]| lanes(values.map(f32::to_bits));
        let product: u128 = sandbox
            .call("mul", (floats([1.5, 2.0, -3.0, 0.0]), floats([2.0, 0.5, 4.0, 9.0])))
            .expect("mul");
        assert_eq!(product, floats([3.0, 1.0, -12.0, 0.0]));
        let bytes = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128;
        let turned: u128 = sandbox.call("shuffle", bytes).expect("shuffle");
        assert_eq!(turned, bytes.swap_bytes());
        let ones: u128 = sandbox.call("popcnt", 0xff_03_u128).expect("popcnt");
        assert_eq!(ones, 0x08_02);
    });
}

#[test]
fn tail_calls_take_no_stack() {
    on_both(|engine| {
        let wat = r#"(module (func $f (export "f") (param i32 i32) (result i32)
            (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
            (return_call $f (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 1)))))"#;
        let mut sandbox = sandbox(engine, wat);
        assert_eq!(sandbox.call::<_, u32>("f", (5_000_000, 0)).expect("a call"), 5_000_000);
    });
}

#[test]
fn structs_and_arrays_are_collected() {
    on_both(|engine| {
        let wat = r#"(module
            (type $node (struct (field $next (mut (ref null $node))) (field $value i64)))
            (type $bytes (array (mut i8)))
            (func (export "churn") (param $n i32) (result i64) (local $sum i64)
                (loop
                    (local.set $sum (i64.add (local.get $sum)
                        (struct.get $node $value
                            (struct.new $node (ref.null $node) (i64.extend_i32_u (local.get $n))))))
                    (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                (local.get $sum))
            (func (export "outside") (result i32)
                (array.get_u $bytes (array.new $bytes (i32.const 1) (i32.const 10)) (i32.const 10)))
            (func (export "cast") (result i32)
                (array.len (ref.cast (ref $bytes) (struct.new $node (ref.null $node) (i64.const 1)))))
            (func (export "small") (result i31ref) (ref.i31 (i32.const 5)))
            (func (export "node") (result anyref)
                (struct.new $node (ref.null $node) (i64.const 1))))"#;
        let limits = Limits::default().memory(4 << 20);
        let mut sandbox = limited(engine, limits, wat).expect("a sandbox");
        let main = sandbox.main();
        // Far more than fits at once.
        let sum: u64 = sandbox.call("churn", 300_000).expect("a call");
        assert_eq!(sum, 300_000 * 300_001 / 2);
        assert_eq!(trap_of(sandbox.call::<_, i32>("outside", ())), TrapCode::ArrayOutOfBounds);
        assert_eq!(trap_of(sandbox.call::<_, i32>("cast", ())), TrapCode::CastFailure);
        assert_eq!(sandbox.call_values(main, "small", &[]).expect("a call"), [Value::I31(5)]);
        let node = sandbox.call_values(main, "node", &[]).expect("a call");
        assert!(matches!(node[..], [Value::GcRef(_)]), "{node:?}");
    });
}

#[test]
fn a_collected_heap_has_a_limit() {
    on_both(|engine| {
        let wat = r#"(module
            (type $node (struct (field (mut (ref null $node))) (field i64)))
            (global $list (mut (ref null $node)) (ref.null $node))
            (func (export "fill") (loop
                (global.set $list (struct.new $node (global.get $list) (i64.const 1)))
                (br 0)))
            (func (export "clear") (global.set $list (ref.null $node)))
            (func (export "fine") (result i32) (i32.const 42)))"#;
        let limits = Limits::default().memory(2 << 20);
        let mut sandbox = limited(engine, limits, wat).expect("a sandbox");
        assert_eq!(trap_of(sandbox.call::<_, ()>("fill", ())), TrapCode::OutOfMemory);
        assert_eq!(sandbox.call::<_, u32>("fine", ()).expect("a call"), 42);
        sandbox.call::<_, ()>("clear", ()).expect("a call");
        assert_eq!(trap_of(sandbox.call::<_, ()>("fill", ())), TrapCode::OutOfMemory);
    });
}

#[test]
fn exceptions_are_caught_or_end_the_call() {
    on_both(|engine| {
        let wat = r#"(module (tag $e (param i32))
            (func $throw (param i32) (throw $e (local.get 0)))
            (func (export "caught") (param i32) (result i32)
                (block $h (result i32)
                    (try_table (catch $e $h) (call $throw (local.get 0)))
                    (i32.const -1)))
            (func (export "uncaught") (call $throw (i32.const 1))))"#;
        let mut sandbox = sandbox(engine, wat);
        for n in 0..3 {
            assert_eq!(sandbox.call::<_, i32>("caught", n).expect("a call"), n);
            let result = sandbox.call::<_, ()>("uncaught", ());
            assert!(
                matches!(&result, Err(Error::Trap(t)) if t.code == TrapCode::UncaughtException),
                "{result:?}"
            );
        }
    });
}
