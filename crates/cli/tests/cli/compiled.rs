//! `compile`, and running what it made.

use crate::command::{Place, example};
use std::fs;
use std::process::Stdio;

#[test]
fn a_compiled_module_runs() {
    let place = Place::new();
    place.run(&["compile", &example("wat/hello.wasm"), "-o", "hello.sgm"]).prints("");
    place.run(&["run", "hello.sgm"]).prints("Hello, world!\n");
}

#[test]
fn the_output_is_beside_the_input_unless_told_otherwise() {
    let place = Place::with("fib.wat", fs::read(example("wat/fib.wat")).unwrap());
    place.run(&["compile", "--no-cache", "fib.wat"]).prints("");
    place.run(&["run", "--invoke", "fib", "fib.sgm", "10"]).prints("55\n");
    let mut names: Vec<_> = fs::read_dir(place.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["fib.sgm", "fib.wat"], "nothing else is left");
}

#[test]
fn a_module_for_every_cpu_needs_no_hypervisor_to_compile() {
    let place = Place::new();
    let hello = example("wat/hello.wasm");
    let device = ["--kvm-device", "/nonexistent/kvm"];
    let ended = place.run(&["compile", device[0], device[1], &hello, "-o", "hello.sgm"]);
    assert!(ended.fails_with_one_line(201).contains("--any-cpu"), "{ended:?}");
    assert!(!place.path("hello.sgm").exists());
    place
        .run(&["compile", "--any-cpu", device[0], device[1], &hello, "-o", "hello.sgm"])
        .prints("");
    place.run(&["run", "hello.sgm"]).prints("Hello, world!\n");
}

#[test]
fn standard_output_can_be_the_output() {
    let place = Place::new();
    let mut command = place.command(&["compile", &example("wat/hello.wasm"), "-o", "-"]);
    let output = command.stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    place.write("hello.sgm", output.stdout);
    place.run(&["run", "hello.sgm"]).prints("Hello, world!\n");
}

#[test]
fn a_flipped_bit_is_found() {
    let place = Place::new();
    place.run(&["compile", &example("wat/hello.wasm"), "-o", "hello.sgm"]).prints("");
    let whole = place.read("hello.sgm");
    for at in [whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        place.write("damaged.sgm", damaged);
        let ended = place.run(&["run", "damaged.sgm"]);
        let line = ended.fails_with_one_line(203);
        assert!(line.contains("damaged.sgm") && line.contains("digest"), "{line}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_compiled_module_is_not_compiled_again() {
    let place = Place::new();
    place.run(&["compile", &example("wat/hello.wasm"), "-o", "hello.sgm"]).prints("");
    let ended = place.run(&["compile", "hello.sgm", "-o", "again.sgm"]);
    assert!(ended.fails_with_one_line(203).contains("already"), "{ended:?}");
    assert!(!place.path("again.sgm").exists());
}

#[test]
fn the_input_is_never_replaced() {
    let place = Place::with("fib.wasm", fs::read(example("wat/fib.wasm")).unwrap());
    let before = place.read("fib.wasm");
    place.run(&["compile", "fib.wasm", "-o", "./fib.wasm"]).fails_with_one_line(2);
    assert_eq!(place.read("fib.wasm"), before);
}

#[test]
fn a_failure_leaves_an_older_output_alone() {
    let place = Place::with("bad.wat", "(module (func (i32.bogus)))");
    place.write("out.sgm", "old");
    place.run(&["compile", "bad.wat", "-o", "out.sgm"]).fails_with_one_line(203);
    assert_eq!(place.read("out.sgm"), b"old");
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let ended =
        Place::new().run(&["compile", &example("wat/fib.wasm"), "-o", "no/such/dir/fib.sgm"]);
    assert!(ended.fails_with_one_line(202).contains("no/such/dir/fib.sgm"), "{ended:?}");
}
