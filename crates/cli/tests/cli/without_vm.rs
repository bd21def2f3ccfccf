//! `--without-vm`: asked for by name, and said each time.

use crate::command::{Place, example};

/// No hypervisor, so that nothing but the option can be the reason that something runs.
const NOWHERE: [&str; 2] = ["--kvm-device", "/nonexistent/kvm"];

#[test]
fn it_warns_each_time_and_gives_the_same_result() {
    let fib = example("wat/fib.wasm");
    let place = Place::new();
    let inside = place.run(&["run", "--invoke", "fib64", &fib, "90"]);
    for _ in 0..2 {
        let [option, device] = NOWHERE;
        let arguments = ["run", "--without-vm", option, device, "--invoke", "fib64", &fib, "90"];
        let outside = place.run(&arguments);
        outside.prints(&inside.stdout);
        assert!(outside.stderr.starts_with("warning: running without a VM"), "{outside:?}");
        assert_eq!(outside.stderr.lines().count(), 1, "{outside:?}");
    }
}

#[test]
fn the_warning_cannot_be_switched_off() {
    let hello = example("wat/hello.wasm");
    let ended = Place::new().run(&["--log", "off", "run", "--without-vm", &hello]);
    ended.prints("Hello, world!\n");
    assert!(ended.stderr.starts_with("warning: running without a VM"), "{ended:?}");
}

#[test]
fn the_report_says_so() {
    let hello = example("wat/hello.wasm");
    let ended = Place::new().run(&["run", "--without-vm", "--json", &hello]);
    let line = ended.stderr.lines().last().unwrap();
    let report: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(report["without_vm"], true);
}

#[test]
fn traps_and_deadlines_are_the_same() {
    let place = Place::new();
    let traps = example("wat/traps.wasm");
    let ended = place.run(&["run", "--without-vm", "--invoke", "div_by_zero", &traps]);
    assert!(ended.fails(207).contains("integer divide by zero in divides"), "{ended:?}");
    let spin = example("wat/spin.wasm");
    place.run(&["run", "--without-vm", "--timeout", "200ms", &spin]).fails(208);
}

#[test]
fn a_compiled_module_needs_the_vm() {
    let place = Place::new();
    place.run(&["compile", &example("wat/hello.wasm"), "-o", "hello.sgm"]).prints("");
    let ended = place.run(&["run", "--without-vm", "hello.sgm"]);
    let line = ended.fails(205);
    assert!(line.contains("which only a VM may run; try: the WebAssembly"), "{line}");
    assert_eq!(ended.stdout, "");
}
