//! Modules that cannot be run, and modules that need others.

use crate::command::{Place, example};

#[test]
fn a_missing_file_is_named() {
    let ended = Place::new().run(&["run", "nothing.wasm"]);
    let line = ended.fails_with_one_line(202);
    assert!(line.contains("cannot read nothing.wasm"), "{line}");
}

#[test]
fn what_is_not_webassembly_is_refused() {
    let ended = Place::with("text.wasm", "#!/bin/sh\necho hello\n").run(&["run", "text.wasm"]);
    let line = ended.fails_with_one_line(203);
    assert!(line.contains("text.wasm: not WebAssembly"), "{line}");
}

#[test]
fn a_truncated_module_is_refused() {
    let whole = std::fs::read(example("wat/fib.wasm")).unwrap();
    let ended = Place::with("half.wasm", &whole[..whole.len() / 2]).run(&["run", "half.wasm"]);
    ended.fails_with_one_line(203);
}

#[test]
fn a_mistake_in_the_text_format_is_located() {
    let ended = Place::with("bad.wat", "(module\n  (func (i32.bogus)))").run(&["run", "bad.wat"]);
    assert!(ended.fails_with_one_line(203).contains("line 2"), "{ended:?}");
}

#[test]
fn a_component_that_is_no_program_says_so() {
    let ended = Place::with("component.wat", "(component)").run(&["run", "component.wat"]);
    let line = ended.fails_with_one_line(205);
    assert!(line.contains("component") && line.contains("wasi:cli/run"), "{line}");
}

#[test]
fn a_function_of_a_component_is_called_in_wave() {
    let component = r#"(component
        (core module $m (func (export "f") (param i32) (result i32)
            (i32.xor (local.get 0) (i32.const 1))))
        (core instance $i (instantiate $m))
        (func (export "not") (param "b" bool) (result bool) (canon lift (core func $i "f"))))"#;
    let place = Place::with("not.wat", component);
    let ended = place.run(&["run", "--invoke", "not(true)", "not.wat"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "false\n"), "{ended:?}");
    let ended = place.run(&["run", "--invoke", "not(1)", "not.wat"]);
    let line = ended.fails_with_one_line(205);
    assert!(line.contains("bool"), "{line}");
}

#[test]
fn all_missing_imports_are_listed() {
    let module = r#"(module
      (import "env" "one" (func))
      (import "env" "two" (func (param i32)))
      (import "wasi_snapshot_preview1" "fd_flush" (func))
      (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
      (func (export "_start")))"#;
    let ended = Place::with("needy.wat", module).run(&["run", "needy.wat"]);
    let line = ended.fails_with_one_line(204);
    for name in ["env.one", "env.two", "wasi_snapshot_preview1.fd_flush"] {
        assert!(line.contains(name), "{name} is not in {line}");
    }
    assert!(!line.contains("fd_close") && line.contains("--preload"), "{line}");
}

#[test]
fn another_module_can_satisfy_imports() {
    let place = Place::new();
    place.write(
        "math.wat",
        r#"(module (func (export "twice") (param i32) (result i32)
        (i32.shl (local.get 0) (i32.const 1))))"#,
    );
    place.write(
        "main.wat",
        r#"(module
        (import "math" "twice" (func $twice (param i32) (result i32)))
        (func (export "four_times") (param i32) (result i32)
          (call $twice (call $twice (local.get 0)))))"#,
    );
    let invoke = ["run", "--preload", "math=math.wat", "--invoke", "four_times", "main.wat", "10"];
    place.run(&invoke).prints("40\n");
}

#[test]
fn a_missing_preload_is_named() {
    let hello = example("wat/hello.wasm");
    let ended = Place::new().run(&["run", "--preload", "math=nothing.wat", &hello]);
    assert!(ended.fails_with_one_line(202).contains("nothing.wat"), "{ended:?}");
}

#[test]
fn a_directory_that_is_not_there_cannot_be_granted() {
    let ended = Place::new().run(&["run", "--dir", "nowhere", &example("wat/hello.wasm")]);
    let line = ended.fails_with_one_line(211);
    assert!(line.contains("nowhere") && line.contains("--dir"), "{line}");
}
