//! `run --invoke`: typed arguments and results.

use crate::command::{Ended, Place, example};

const ECHO: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "i64") (param i64) (result i64) (local.get 0))
  (func (export "f32") (param f32) (result f32) (local.get 0))
  (func (export "f64") (param f64) (result f64) (local.get 0))
  (func (export "v128") (param v128) (result v128) (local.get 0))
  (func (export "null") (param externref) (result i32) (ref.is_null (local.get 0)))
  (func (export "nothing"))
  (func (export "swap") (param i32 f64) (result f64 i32) (local.get 1) (local.get 0)))"#;

fn echo(function: &str, arguments: &[&str]) -> Ended {
    let arguments = [&["run", "--invoke", function, "echo.wat", "--"], arguments].concat();
    Place::with("echo.wat", ECHO).run(&arguments)
}

#[test]
fn an_exported_function_is_called() {
    let fib = example("wat/fib.wasm");
    let place = Place::new();
    place.run(&["run", "--invoke", "fib", &fib, "30"]).prints("832040\n");
    place.run(&["run", "--invoke", "fib64", &fib, "93"]).prints("-6246583658587674878\n");
}

#[test]
fn arguments_of_every_number_type_come_back() {
    for (function, given, printed) in [
        ("i32", "-1", "-1"),
        ("i32", "4294967295", "-1"),
        ("i32", "0x10", "16"),
        ("i64", "-9223372036854775808", "-9223372036854775808"),
        ("i64", "0xffffffffffffffff", "-1"),
        ("f32", "0.1", "0.1"),
        ("f32", "-inf", "-inf"),
        ("f64", "1e300", "1e300"),
        ("f64", "0.30000000000000004", "0.30000000000000004"),
        ("f64", "nan", "nan"),
        ("v128", "0x000102030405060708090a0b0c0d0e0f", "0x000102030405060708090a0b0c0d0e0f"),
        ("null", "null", "1"),
    ] {
        echo(function, &[given]).prints(&format!("{printed}\n"));
    }
}

#[test]
fn results_are_printed_one_a_line() {
    echo("swap", &["7", "2.5"]).prints("2.5\n7\n");
    echo("nothing", &[]).prints("");
}

#[test]
fn negative_numbers_need_no_separator() {
    let place = Place::with("echo.wat", ECHO);
    place.run(&["run", "--invoke", "i32", "echo.wat", "-5"]).prints("-5\n");
    place.run(&["run", "--invoke", "f64", "echo.wat", "-2.5"]).prints("-2.5\n");
}

#[test]
fn a_bad_argument_is_named_by_number_and_type() {
    let ended = echo("swap", &["7", "seven"]);
    let line = ended.fails_with_one_line(205);
    assert!(line.contains("argument 2") && line.contains("f64"), "{line}");
    assert!(line.contains("\"seven\""), "{line}");
}

#[test]
fn a_number_that_does_not_fit_is_refused() {
    let ended = echo("i32", &["4294967296"]);
    assert!(ended.fails_with_one_line(205).contains("is out of range"));
}

#[test]
fn a_wrong_number_of_arguments_is_refused() {
    for arguments in [&["7"][..], &["7", "2.5", "1"]] {
        let ended = echo("swap", arguments);
        let line = ended.fails_with_one_line(205);
        assert!(line.contains("it takes 2 arguments"), "{line}");
    }
}

#[test]
fn a_missing_function_is_answered_with_those_there_are() {
    let ended = echo("fib", &[]);
    let line = ended.fails_with_one_line(205);
    assert!(line.contains("\"swap\" (i32, f64) -> (f64, i32)"), "{line}");
    assert!(line.contains("\"nothing\" () -> ()") && !line.contains("memory"), "{line}");
}

#[test]
fn an_export_that_is_no_function_is_not_called() {
    let ended = echo("memory", &[]);
    assert!(ended.fails_with_one_line(205).contains("is a memory, not a function"));
}

#[test]
fn a_module_that_is_no_program_lists_its_functions() {
    let ended = Place::new().run(&["run", &example("wat/fib.wasm")]);
    let line = ended.fails_with_one_line(205);
    assert!(line.contains("\"fib\"") && line.contains("\"fib64\""), "{line}");
    assert!(line.contains("no _start") && line.contains("--invoke"), "{line}");
}

#[test]
fn many_functions_are_not_all_listed() {
    let functions: String = (0..50).map(|n| format!("(func (export \"f{n}\"))")).collect();
    let ended = Place::with("many.wat", format!("(module {functions})")).run(&["run", "many.wat"]);
    let line = ended.fails_with_one_line(205);
    assert!(line.contains("\"f19\"") && !line.contains("\"f20\""), "{line}");
    assert!(line.contains("and 30 more"), "{line}");
}
