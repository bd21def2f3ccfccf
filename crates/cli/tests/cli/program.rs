//! Programs: what they are given, and what comes back.

use crate::command::{Ended, Place, example};
use std::fs;
use std::process::Stdio;

/// Prints its arguments, each on a line.
pub const ARGUMENTS: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32) (local $end i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $get (i32.const 1024) (i32.const 4096)))
    (local.set $at (i32.const 4096))
    (local.set $end (i32.add (i32.const 4096) (i32.load (i32.const 4))))
    ;; The zero behind each argument becomes the end of a line.
    (block $done (loop $next
      (br_if $done (i32.eq (local.get $at) (local.get $end)))
      (if (i32.eqz (i32.load8_u (local.get $at)))
        (then (i32.store8 (local.get $at) (i32.const 10))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
    (i32.store (i32.const 8) (i32.const 4096))
    (i32.store (i32.const 12) (i32.load (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"#;

/// A program that exits with a code.
pub fn exits_with(code: u32) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
             (memory (export "memory") 1)
             (func (export "_start") (call $exit (i32.const {code}))))"#
    )
}

#[test]
fn hello_prints() {
    Place::new().run(&["run", &example("wat/hello.wasm")]).prints("Hello, world!\n");
}

#[test]
fn the_text_format_runs_too() {
    Place::new().run(&["run", &example("wat/hello.wat")]).prints("Hello, world!\n");
}

#[test]
fn a_second_run_takes_the_module_from_the_cache() {
    let place = Place::new();
    let hello = example("wat/hello.wasm");
    let cached = || {
        let ended = place.run(&["run", "--json=report", &hello]);
        ended.prints("Hello, world!\n");
        let report: serde_json::Value = serde_json::from_slice(&place.read("report")).unwrap();
        report["compile"]["cached"].as_bool().unwrap()
    };
    assert!(!cached());
    assert!(cached());
}

#[test]
fn without_a_cache_nothing_is_written() {
    let place = Place::new();
    place.run(&["run", "--no-cache", &example("wat/hello.wasm")]).prints("Hello, world!\n");
    assert!(!place.path("cache").exists());
}

#[test]
fn the_cache_can_be_elsewhere() {
    let place = Place::new();
    place.run(&["run", "--cache-dir=own", &example("wat/hello.wasm")]).prints("Hello, world!\n");
    assert_eq!(fs::read_dir(place.path("own")).unwrap().count(), 1);
    assert!(!place.path("cache").exists());
}

#[test]
fn the_exit_code_passes_through() {
    for code in [0, 1, 7, 125, 134, 255] {
        let ended = Place::with("exit.wat", exits_with(code)).run(&["run", "exit.wat"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (code as i32, ""));
    }
}

#[test]
fn a_code_that_no_system_has_does_not_become_a_success() {
    for code in [256, u32::MAX] {
        let ended = Place::with("exit.wat", exits_with(code)).run(&["run", "exit.wat"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (255, ""));
    }
}

#[test]
fn the_program_sees_its_name_and_its_arguments() {
    let place = Place::with("arguments.wat", ARGUMENTS);
    place
        .run(&["run", "./arguments.wat", "--", "-c", "--stats", "", "ü"])
        .prints("arguments.wat\n-c\n--stats\n\nü\n");
    place.run(&["run", "arguments.wat", "1", "-2"]).prints("arguments.wat\n1\n-2\n");
}

#[test]
fn directories_and_variables_reach_the_program() {
    let place = Place::new();
    let data = format!("{}::/data::ro", example("data"));
    fs::create_dir(place.path("out")).unwrap();
    let sort = example("c/sortfile.wasm");
    let ended = place.run(&[
        "run",
        "--dir",
        &data,
        "--dir",
        "out",
        "--env",
        "GREETING=Hello",
        &sort,
        "--",
        "/data/numbers.txt",
        "out/sorted.txt",
        "42",
    ]);
    assert_eq!(ended.code, 42, "{ended:?}");
    assert!(ended.stdout.starts_with("Hello: 3 arguments\n-250\n"), "{ended:?}");
    assert_eq!(place.read("out/sorted.txt"), b"-250\n-7\n3\n3\n8\n19\n42\n1000000\n");
}

#[test]
fn a_directory_can_be_for_reading_only() {
    let place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    let data = format!("{}::/data", example("data"));
    let sort = example("c/sortfile.wasm");
    let ended = place.run(&[
        "run",
        "--dir",
        &data,
        "--dir",
        "out::/out::ro",
        &sort,
        "--",
        "/data/numbers.txt",
        "/out/sorted.txt",
    ]);
    assert_eq!(ended.code, 5, "the program's code for an output that it cannot open: {ended:?}");
    assert!(fs::read_dir(place.path("out")).unwrap().next().is_none());
}

/// The first line of a program that says what its variable GREETING is, or that it has none.
fn greeting(options: &[&str], outside: Option<&str>) -> Ended {
    let sort = example("c/sortfile.wasm");
    let arguments = [&["run"], options, &[&sort, "--", "nothing", "nothing"]].concat();
    let place = Place::new();
    let mut command = place.command(&arguments);
    command.envs(outside.map(|value| ("GREETING", value)));
    Ended::new(command.output().unwrap())
}

#[test]
fn no_variable_is_passed_on_unasked() {
    let ended = greeting(&[], Some("Servus"));
    assert!(ended.stdout.starts_with("no GREETING in the environment"), "{ended:?}");
}

#[test]
fn one_variable_can_be_passed_on() {
    let ended = greeting(&["--env", "GREETING"], Some("Servus"));
    assert!(ended.stdout.starts_with("Servus: "), "{ended:?}");
}

#[test]
fn a_variable_that_is_not_there_cannot_be_passed_on() {
    let ended = greeting(&["--env", "GREETING"], None);
    assert!(ended.fails_with_one_line(211).contains("--env GREETING=VALUE"), "{ended:?}");
}

#[test]
fn the_whole_environment_can_be_passed_on() {
    let ended = greeting(&["--inherit-env"], Some("Servus"));
    assert!(ended.stdout.starts_with("Servus: "), "{ended:?}");
    let ended = greeting(&["--inherit-env", "--env", "GREETING=Hello"], Some("Servus"));
    assert!(ended.stdout.starts_with("Hello: "), "{ended:?}");
}

#[test]
fn standard_input_reaches_the_program() {
    let count = example("cpp/wordcount.wasm");
    let ended = Place::new().run_with_input(&["run", &count], "one two\ntwo\n");
    assert!(ended.stdout.ends_with("2 lines, 3 words, 2 different\n"), "{ended:?}");
}

#[test]
fn a_reader_that_leaves_is_no_error_of_the_command() {
    let fib = example("wat/fib.wasm");
    let place = Place::new();
    let mut command = place.command(&["run", "--invoke", "fib", &fib, "10"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let ended = Ended::new(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}

#[test]
fn eight_processes_share_one_empty_cache() {
    let place = Place::new();
    let sort = example("c/sortfile.wasm");
    let start = |_| {
        let mut command = place.command(&["run", &sort]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..8).map(start).collect();
    for child in children {
        let ended = Ended::new(child.wait_with_output().unwrap());
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
        assert_eq!(ended.stderr, "usage: sortfile INPUT OUTPUT [EXIT-CODE]\n");
    }
    let cached = fs::read_dir(place.path("cache/sandgrain")).unwrap().count();
    assert_eq!(cached, 1);
}
