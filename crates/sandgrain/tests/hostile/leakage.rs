//! What one sandbox leaves behind, the next one must not find.

use crate::support::{deadline, module, patient, works};
use sandgrain::{Error, Sandbox};

/// Fills all of its memory, a table and vector locals, and ends as it is told. `search` looks for what
/// is not zero in memory that has just been grown.
const PROGRAM: &str = r#"(module
    (memory (export "memory") 1)
    (global $g (export "g") (mut i64) (i64.const 0))
    (func $grow
        (loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 1))))))
    (func $spread (param v128 v128 v128 v128) (result v128)
        (i8x16.add (i8x16.add (local.get 0) (local.get 1)) (i8x16.add (local.get 2) (local.get 3))))
    (func (export "fill") (param $how i32)
        (local $v v128)
        (call $grow)
        (memory.fill (i32.const 0) (i32.const 0xa7) (i32.mul (memory.size) (i32.const 65536)))
        (global.set $g (i64.const 0x5a6ed9a1c3f7b28d))
        (local.set $v (i64x2.splat (i64.const 0x5a6ed9a1c3f7b28d)))
        (local.set $v (call $spread (local.get $v) (local.get $v) (local.get $v) (local.get $v)))
        (v128.store (i32.const 0) (local.get $v))
        (if (i32.eq (local.get $how) (i32.const 1)) (then unreachable))
        (if (i32.eq (local.get $how) (i32.const 2)) (then (loop (br 0)))))
    ;; The first address that is not zero, or the size of the memory in bytes.
    (func (export "search") (result i32) (local $at i32)
        (call $grow)
        (block (loop
            (br_if 1 (i32.ge_u (local.get $at) (i32.mul (memory.size) (i32.const 65536))))
            (br_if 1 (i64.ne (i64.load (local.get $at)) (i64.const 0)))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br 0)))
        (local.get $at)))"#;

#[test]
fn a_new_sandbox_finds_nothing_of_the_one_before() {
    let module = module(PROGRAM);
    let limits = patient().memory(64 << 20);
    for how in [0, 1, 2] {
        // Only the last one runs into its deadline, and not before it has filled everything.
        let hostile = limits.clone();
        let hostile = if how == 2 { hostile.deadline(Some(deadline() * 2)) } else { hostile };
        let mut sandbox = Sandbox::builder(&module).limits(hostile).build().expect("a sandbox");
        let result = sandbox.call::<_, ()>("fill", how);
        match (how, result) {
            (0, Ok(())) | (1, Err(Error::Trap(_))) | (2, Err(Error::Deadline(_))) => {}
            (_, result) => panic!("{how}: {result:?}"),
        }
        drop(sandbox);
        let mut next = Sandbox::builder(&module).limits(limits.clone()).build().expect("another");
        let main = next.main();
        assert_eq!(next.global(main, "g").expect("a global"), sandgrain::Value::I64(0));
        assert_eq!(next.call::<_, u32>("search", ()).expect("a call"), 64 << 20, "{how}");
        let memory = next.read_memory(main, "memory", 0..64 << 20).expect("the memory");
        assert!(memory.iter().all(|byte| *byte == 0));
    }
    works();
}

#[test]
fn sandboxes_side_by_side_see_only_themselves() {
    let module = module(PROGRAM);
    let limits = patient().memory(8 << 20);
    let build = || Sandbox::builder(&module).limits(limits.clone()).build().expect("a sandbox");
    let (mut hostile, mut other) = (build(), build());
    hostile.call::<_, ()>("fill", 0).expect("a call");
    assert_eq!(other.call::<_, u32>("search", ()).expect("a call"), 8 << 20);
    hostile.call::<_, ()>("fill", 0).expect("a call");
    assert_eq!(other.call::<_, u32>("search", ()).expect("a call"), 8 << 20);
    works();
}
