//! Traps, hypervisors that are not there, and names that are not fit to print.

use crate::command::{Place, example};

#[test]
fn a_trap_shows_its_backtrace_with_names() {
    let traps = example("wat/traps.wasm");
    let ended = Place::new().run(&["run", "--invoke", "div_by_zero", &traps]);
    let line = ended.fails(207);
    assert!(line.contains("integer divide by zero in divides"), "{line}");
    let frames: Vec<&str> =
        ended.stderr.lines().skip(1).map(|line| line.strip_prefix("    in ").unwrap()).collect();
    assert_eq!(frames.len(), 2, "{ended:?}");
    assert!(frames[0].contains("divides at 0x"), "{ended:?}");
    assert!(frames[1].contains("div_by_zero at 0x"), "{ended:?}");
}

#[test]
fn output_before_a_trap_is_not_lost() {
    let module = r#"(module
      (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\08\00\00\00\03\00\00\00abc")
      (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
        (unreachable)))"#;
    let ended = Place::with("trap.wat", module).run(&["run", "trap.wat"]);
    ended.fails(207);
    assert_eq!(ended.stdout, "abc");
}

#[test]
fn a_trap_in_the_start_function_is_one() {
    let ended = Place::new().run(&["run", "--invoke", "answer", &example("wat/start-trap.wasm")]);
    ended.fails(207);
    assert!(ended.stderr.contains("    in start-trap!boom") || ended.stderr.contains("boom at"));
}

#[test]
fn without_a_hypervisor_the_error_says_how_to_get_one_and_what_else_there_is() {
    for device in ["/nonexistent/kvm", "/dev/null"] {
        let hello = example("wat/hello.wasm");
        let ended = Place::new().run(&["run", "--kvm-device", device, &hello]);
        let line = ended.fails_with_one_line(201);
        assert!(line.contains(device) && line.contains("--without-vm"), "{line}");
        let (_, advice) = line.split_once("; try: ").unwrap();
        assert!(!advice.starts_with("sandgrain doctor"), "no way to get one: {line}");
        assert_eq!(ended.stdout, "", "nothing ran");
    }
}

/// Bytes that a terminal would act on.
fn acts(text: &str) -> bool {
    text.chars().any(|c| c.is_control() && c != '\n')
}

#[test]
fn control_characters_in_a_function_s_name_are_escaped() {
    let module = r#"(module
      (func $"\1b[31mred\0d\0aerror: forged; try: \9b" (export "_start") (unreachable)))"#;
    // The text format takes only UTF-8 in names: U+009B as two bytes.
    let module = module.replace("\\9b", "\\c2\\9b");
    let ended = Place::with("names.wat", module).run(&["run", "names.wat"]);
    ended.fails(207);
    assert!(ended.stderr.contains("[31mred") && !acts(&ended.stderr), "{ended:?}");
}

#[test]
fn control_characters_in_imports_and_exports_are_escaped() {
    let module =
        r#"(module (import "\1b[2J" "\0aerror: x; try: y" (func)) (func (export "_start")))"#;
    let ended = Place::with("imports.wat", module).run(&["run", "imports.wat"]);
    assert!(!acts(ended.fails_with_one_line(204)));

    let ended = Place::with("exports.wat", r#"(module (func (export "\1b[2J\0a")))"#)
        .run(&["run", "exports.wat"]);
    assert!(!acts(ended.fails_with_one_line(205)));
}

#[test]
fn control_characters_in_a_file_s_name_are_escaped() {
    let ended = Place::new().run(&["run", "no\x1b[31m\nfile"]);
    assert!(!acts(ended.fails_with_one_line(202)));
}

#[test]
fn control_characters_do_not_reach_the_log() {
    let ended = Place::with("names.wat", r#"(module (func (export "\1b[31m\0d")))"#).run(&[
        "-vvv",
        "run",
        "--invoke",
        "\x1b[31m\r",
        "names.wat",
    ]);
    ended.prints("");
    assert!(ended.stderr.contains("call") && !acts(&ended.stderr), "{ended:?}");
}

#[test]
fn a_wrong_command_line_has_the_usual_code() {
    for arguments in [
        &["run"][..],
        &["run", "--no-such-option", "x.wasm"],
        &["run", "--memory", "64MB", "x.wasm"],
        &["run", "--timeout", "30", "x.wasm"],
        &["run", "--dir", "a::b::c", "x.wasm"],
        &["--log", "sandgrain=loud", "doctor"],
    ] {
        let ended = Place::new().run(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
    }
}

#[test]
fn the_help_has_the_exit_codes() {
    for arguments in [&["--help"][..], &["run", "--help"]] {
        let ended = Place::new().run(arguments);
        assert_eq!(ended.code, 0);
        assert!(ended.stdout.contains("\n  207    WebAssembly trapped\n"), "{}", ended.stdout);
    }
}
