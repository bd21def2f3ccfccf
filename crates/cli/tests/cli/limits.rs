//! Limits that a program reaches.

use crate::command::{Place, example};

/// Writes without end.
const CHATTER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $to (mut i32) (i32.const 1))
  (data (i32.const 0) "\08\00\00\00\04\00\00\00abc\0a")
  (func $forever (loop $next
    (drop (call $write (global.get $to) (i32.const 0) (i32.const 1) (i32.const 16)))
    (br $next)))
  (func (export "_start") (call $forever))
  (func (export "complain") (global.set $to (i32.const 2)) (call $forever)))"#;

#[test]
fn a_program_that_does_not_end_is_stopped() {
    let spin = example("wat/spin.wasm");
    for arguments in [
        &["run", "--timeout", "200ms", &spin][..],
        &["run", "--timeout", "200ms", "--invoke", "spin_calls", &spin],
    ] {
        let ended = Place::new().run(arguments);
        assert!(ended.fails_with_one_line(208).contains("--timeout"), "{ended:?}");
    }
}

#[test]
fn a_start_function_that_does_not_end_is_stopped() {
    let module = "(module (func $s (loop $l (br $l))) (start $s) (func (export \"_start\")))";
    let ended = Place::with("start.wat", module).run(&["run", "--timeout", "200ms", "start.wat"]);
    ended.fails_with_one_line(208);
}

#[test]
fn a_program_that_waits_is_stopped() {
    let place = Place::new();
    let mut command = place.command(&["run", "--timeout", "200ms", &example("cpp/wordcount.wasm")]);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Held open, and silent.
    let input = child.stdin.take();
    let ended = crate::command::Ended::new(child.wait_with_output().unwrap());
    drop(input);
    ended.fails_with_one_line(208);
}

#[test]
fn standard_output_is_cut_at_its_limit() {
    let ended =
        Place::with("chatter.wat", CHATTER).run(&["run", "--max-stdout", "10", "chatter.wat"]);
    assert!(ended.fails_with_one_line(206).contains("--max-stdout"), "{ended:?}");
    assert_eq!(ended.stdout, "abc\nabc\nab");
}

#[test]
fn standard_error_is_cut_at_its_limit() {
    let ended = Place::with("chatter.wat", CHATTER).run(&[
        "run",
        "--max-stderr",
        "8",
        "--invoke",
        "complain",
        "chatter.wat",
    ]);
    assert!(ended.fails(206).contains("--max-stderr"), "{ended:?}");
    assert!(ended.stderr.starts_with("abc\nabc\nerror: "), "{ended:?}");
}

#[test]
fn memory_grows_to_its_limit() {
    let grow = example("wat/grow.wasm");
    let place = Place::new();
    let invoke = |memory, pages| {
        place.run(&["run", "--memory", memory, "--invoke", "grow_by", &grow, pages])
    };
    invoke("64M", "1024").prints("-1\n");
    invoke("128MiB", "1024").prints("1\n");
}

#[test]
fn a_module_that_needs_more_memory_is_refused() {
    let big = example("wat/big-memory.wasm");
    let ended = Place::new().run(&["run", "--memory", "64M", "--invoke", "last", &big]);
    assert!(ended.fails_with_one_line(206).contains("--memory"), "{ended:?}");
}

#[test]
fn the_stack_is_as_large_as_asked_for() {
    let module = r#"(module (func $f (export "depth") (param i32) (result i32)
      (if (result i32) (local.get 0)
        (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))
        (else (i32.const 0)))))"#;
    let place = Place::with("deep.wat", module);
    let ended = place.run(&["run", "--max-stack", "64K", "--invoke", "depth", "deep.wat", "20000"]);
    assert!(ended.fails(207).contains("--max-stack"), "{ended:?}");
    place
        .run(&["run", "--max-stack", "4M", "--invoke", "depth", "deep.wat", "20000"])
        .prints("20000\n");
}

#[test]
fn tables_are_counted_and_measured() {
    let module = r#"(module (table 10 funcref) (table 10 funcref) (func (export "_start")))"#;
    let place = Place::with("tables.wat", module);
    place.run(&["run", "tables.wat"]).prints("");
    for option in ["--max-tables", "--max-table-elements"] {
        let ended = place.run(&["run", option, "1", "tables.wat"]);
        assert!(ended.fails_with_one_line(206).contains(option), "{ended:?}");
    }
}

#[test]
fn instances_are_counted() {
    let place = Place::with("plain.wat", "(module (func (export \"_start\")))");
    place.run(&["run", "--preload", "a=plain.wat", "plain.wat"]).prints("");
    let ended =
        place.run(&["run", "--max-instances", "1", "--preload", "a=plain.wat", "plain.wat"]);
    assert!(ended.fails_with_one_line(206).contains("--max-instances"), "{ended:?}");
}

#[test]
fn a_limit_beyond_what_a_vm_can_have_is_refused() {
    for (option, value) in [("--memory", "100G"), ("--max-stack", "1"), ("--heap", "15000000000G")]
    {
        let ended = Place::new().run(&["run", option, value, &example("wat/hello.wasm")]);
        let line = ended.fails_with_one_line(205);
        assert!(line.contains("must be between") && line.ends_with("these bounds"), "{line}");
    }
}
