//! Programs that take all they can get: each thing that can be taken has a limit.

use crate::support::{
    ends_before_the_deadline, is_emulated, module, patient, print, sandbox, works,
};
use sandgrain::wasi::{Access, Output, WasiConfig};
use sandgrain::{Error, Sandbox, TrapCode};
use std::time::Instant;

#[test]
fn recursion_ends_at_the_stacks_limit() {
    // With small frames, with large ones, through a table, and through the host's call.
    // Fifty vectors as arguments of each call.
    let params = "v128 ".repeat(50);
    let args: String = (0..50).map(|n| format!("(local.get {n})")).collect();
    let zeros = "(v128.const i64x2 0 0)".repeat(50);
    for (name, wat) in [
        ("recursion", r#"(module (func $f (export "run") (call $f)))"#.to_owned()),
        (
            "two functions",
            r#"(module (func $f (export "run") (call $g)) (func $g (call $f)))"#.to_owned(),
        ),
        (
            "large frames",
            format!(
                r#"(module (func $f (param {params}) (call $f {args}))
                    (func (export "run") (call $f {zeros})))"#
            ),
        ),
        (
            "through a table",
            r#"(module (type $t (func)) (table funcref (elem $f))
                (func $f (export "run") (call_indirect (type $t) (i32.const 0))))"#
                .to_owned(),
        ),
    ] {
        for stack in [16 << 10, 512 << 10, 64 << 20] {
            let limits = patient().stack(stack);
            let mut sandbox =
                Sandbox::builder(&module(&wat)).limits(limits).build().expect("a sandbox");
            // The sandbox lives on, and the same happens again.
            for _ in 0..2 {
                match ends_before_the_deadline(&format!("{name}, {stack} bytes"), &mut sandbox) {
                    Error::Trap(trap) => assert_eq!(trap.code, TrapCode::StackOverflow, "{name}"),
                    error => panic!("{name}: {error}"),
                }
            }
        }
    }
}

#[test]
fn memory_grows_to_its_limit_and_all_of_it_can_be_touched() {
    let wat = r#"(module (memory (export "memory") 0)
        (func (export "fill") (result i32) (local $at i32)
            (loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
            (loop
                (i32.store (local.get $at) (i32.const 0x5a5a5a5a))
                (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                (br_if 0 (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
            (memory.size))
        (func (export "run") (drop (i32.load (i32.mul (memory.size) (i32.const 65536))))))"#;
    let mut sandbox = sandbox(wat);
    let started = Instant::now();
    let pages = sandbox.call::<_, u32>("fill", ()).expect("a call");
    print(&format!("256 MiB grown and touched in {:.1} ms", started.elapsed().as_secs_f64() * 1e3));
    assert_eq!(u64::from(pages) << 16, 256 << 20);
    match ends_before_the_deadline("one byte beyond", &mut sandbox) {
        Error::Trap(trap) => assert_eq!(trap.code, TrapCode::MemoryOutOfBounds),
        error => panic!("{error}"),
    }
}

/// Opens the file `f` of the first directory until it is refused: how often it could, and the error.
const OPEN: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "f")
    (func (export "open") (result i32 i32) (local $n i32) (local $errno i32)
        (block (loop
            (local.set $errno (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1)
                (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 16)))
            (br_if 1 (local.get $errno))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br 0)))
        (local.get $n) (local.get $errno)))"#;

#[test]
fn files_are_opened_to_their_limit() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("f"), "x").expect("a file");
    let config = WasiConfig::new().preopen(directory.path(), "/", Access::ReadOnly);
    for limit in [10, 500] {
        let config = config.clone().max_open_files(limit);
        let mut sandbox = Sandbox::builder(&module(OPEN))
            .wasi(config)
            .limits(patient())
            .build()
            .expect("a sandbox");
        let (opened, errno) = sandbox.call::<_, (u32, u32)>("open", ()).expect("a call");
        assert_eq!(errno, 33, "EMFILE");
        assert!(opened < limit && opened > 0, "{opened} of {limit}");
        // They are still open: none is left.
        assert_eq!(sandbox.call::<_, (u32, u32)>("open", ()).expect("a call"), (0, 33));
    }
    works();
}

#[test]
fn files_that_one_guest_leaves_open_are_not_missing_for_the_next() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("f"), "x").expect("a file");
    let module = module(OPEN);
    for _ in 0..20 {
        let config =
            WasiConfig::new().preopen(directory.path(), "/", Access::ReadOnly).max_open_files(500);
        let mut sandbox =
            Sandbox::builder(&module).wasi(config).limits(patient()).build().expect("a sandbox");
        let (opened, errno) = sandbox.call::<_, (u32, u32)>("open", ()).expect("a call");
        assert!(opened > 400 && errno == 33, "{opened} files, then {errno}");
    }
    works();
}

#[test]
fn tables_grow_to_their_limit() {
    let wat = r#"(module (table $t 0 funcref) (func $f)
        (elem declare func $f)
        (func (export "grow") (result i32)
            (loop (br_if 0 (i32.ne (i32.const -1)
                (table.grow $t (ref.func $f) (i32.const 1)))))
            (table.size $t)))"#;
    let mut sandbox = Sandbox::builder(&module(wat))
        .limits(patient().table_elements(100_000))
        .build()
        .expect("a sandbox");
    assert_eq!(sandbox.call::<_, u32>("grow", ()).expect("a call"), 100_000);
    works();
}

#[test]
fn a_hundred_tables_together_stay_within_the_heap() {
    // Each within its own limit, all together 800 MB: the heap has 64 MiB.
    let tables = "(table 0 funcref)".repeat(100);
    let grow: String = (0..100)
        .map(|n| format!("(drop (table.grow {n} (ref.null func) (i32.const 1000000)))"))
        .collect();
    let wat = format!(
        r#"(module {tables} (func (export "run") {grow})
        (func (export "fine") (result i32) (i32.const 42)))"#
    );
    let mut sandbox = sandbox(&wat);
    match sandbox.call::<_, ()>("run", ()) {
        // Growing says -1, or the whole call ends: either way it is the heap that is at its end.
        Ok(()) | Err(Error::Limit { .. }) => {}
        Err(error) => panic!("{}: {error}", error.name()),
    }
    works();
}

#[test]
fn garbage_collected_values_stay_within_the_memorys_limit() {
    let wat = r#"(module
        (type $list (struct (field (ref null $list)) (field i64) (field i64)))
        (global $head (mut (ref null $list)) (ref.null $list))
        (func (export "run")
            (loop (global.set $head
                (struct.new $list (global.get $head) (i64.const 1) (i64.const 2))) (br 0))))"#;
    let limits = patient().memory(16 << 20);
    let mut sandbox = Sandbox::builder(&module(wat)).limits(limits).build().expect("a sandbox");
    let error = ends_before_the_deadline("a list without end", &mut sandbox);
    assert!(matches!(error, Error::Trap(_) | Error::Limit { .. }), "{error}");
}

#[test]
fn a_hundred_megabytes_of_lines_end_at_the_outputs_limit() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2)
        ;; At 0 a buffer: 100 bytes at 1024, a line.
        (data (i32.const 0) "\00\04\00\00\64\00\00\00")
        (func (export "run") (local $n i32)
            (memory.fill (i32.const 1024) (i32.const 0x1b) (i32.const 99))
            (i32.store8 (i32.const 1123) (i32.const 10))
            (loop
                (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000000))))))"#;
    let config = WasiConfig::new().stderr(Output::Capture);
    let limits = patient().stderr(1 << 20);
    let mut sandbox =
        Sandbox::builder(&module(wat)).wasi(config).limits(limits).build().expect("a sandbox");
    let error = ends_before_the_deadline("100 MB of lines", &mut sandbox);
    assert!(matches!(error, Error::Limit { what: "standard error", .. }), "{error}");
    assert_eq!(sandbox.take_stderr().len(), 1 << 20);
}

#[test]
fn ten_thousand_traps_in_one_sandbox_leak_nothing() {
    let wat = r#"(module (memory 1)
        (func (export "unreachable") unreachable)
        (func (export "load") (drop (i32.load (i32.const -4))))
        (func (export "divide") (param i32) (drop (i32.div_u (i32.const 1) (local.get 0))))
        (func $f (export "recurse") (call $f))
        (func (export "fine") (result i32) (i32.const 42)))"#;
    let module = module(wat);
    let mut sandbox =
        Sandbox::builder(&module).count_pages(true).limits(patient()).build().expect("a sandbox");
    let mut pages = 0;
    let started = Instant::now();
    // Where all is emulated each takes some 40 ms.
    let rounds = if is_emulated() { 1000 } else { 10_000 };
    for round in 0..rounds {
        let result = match round % 4 {
            0 => sandbox.call::<_, ()>("unreachable", ()),
            1 => sandbox.call::<_, ()>("load", ()),
            2 => sandbox.call::<_, ()>("divide", 0),
            _ => sandbox.call::<_, ()>("recurse", ()),
        };
        assert!(matches!(result, Err(Error::Trap(_))), "{round}: {result:?}");
        if round >= 100 {
            pages += sandbox.stats().pages_touched.expect("pages are counted");
        }
    }
    print(&format!("{rounds} traps in {:.0} ms", started.elapsed().as_secs_f64() * 1e3));
    assert!(pages < 16, "{pages} pages more after the first hundred traps");
    assert_eq!(sandbox.call::<_, u32>("fine", ()).expect("a call"), 42);
    works();
}
