//! Names with control bytes, which must not reach a terminal as they are.

use crate::support::{module, vm, works};
use sandgrain::{Error, Module, Sandbox, Value};

/// Clears a screen, sets a title, rings, turns text around, ends a line.
const EVIL: &str = "\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\u{9b}1m\\u{202e}\\r\\n\\u{0}\\u{7f}";

fn is_evil(c: char) -> bool {
    c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)
}

/// Every text that an error offers: itself and its sources.
#[track_caller]
fn is_clean(what: &str, error: &Error) {
    let mut texts = vec![error.to_string(), format!("{error:#}"), format!("{error:?}")];
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        texts.push(error.to_string());
        source = error.source();
    }
    if let Error::Trap(trap) = error {
        texts.extend(trap.backtrace());
    }
    for text in texts {
        let raw: Vec<char> = text.chars().filter(|c| is_evil(*c) && *c != '\n').collect();
        assert!(raw.is_empty(), "{what}: {raw:?} in {text:?}");
        assert!(text.len() < 20_000, "{what}: {} bytes of text", text.len());
    }
}

#[test]
fn names_of_imports_are_clean_in_errors() {
    let wat = format!(r#"(module (import "{EVIL}" "{EVIL}" (func)))"#);
    is_clean("an unknown import", &Sandbox::new(&module(&wat)).expect_err("an import"));
    let wat = format!(r#"(module (import "host" "{EVIL}" (global i32)))"#);
    is_clean("a global", &Sandbox::new(&module(&wat)).expect_err("an import"));
    let wat = format!(r#"(module (import "wasi_snapshot_preview1" "{EVIL}" (func)))"#);
    is_clean("a WASI function", &Sandbox::new(&module(&wat)).expect_err("an import"));
    works();
}

#[test]
fn names_of_functions_are_clean_in_backtraces() {
    let wat = format!(r#"(module (func $f (@name "{EVIL}") (export "run") unreachable))"#);
    let mut sandbox = Sandbox::new(&module(&wat)).expect("a sandbox");
    is_clean("a trap", &sandbox.call::<_, ()>("run", ()).expect_err("a trap"));
    let wat = format!(r#"(module (@name "{EVIL}") (func (export "run") unreachable))"#);
    let mut sandbox = Sandbox::new(&module(&wat)).expect("a sandbox");
    is_clean("a module's name", &sandbox.call::<_, ()>("run", ()).expect_err("a trap"));
    works();
}

#[test]
fn names_of_exports_are_clean_in_errors() {
    let wat = format!(
        r#"(module (func (export "{EVIL}") (param i32)) (global (export "g{EVIL}") i32 (i32.const 0)))"#
    );
    let mut sandbox = Sandbox::new(&module(&wat)).expect("a sandbox");
    let main = sandbox.main();
    let name = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}1m\u{202e}\r\n\0\u{7f}";
    for (what, error) in [
        ("a name that there is not", sandbox.call::<_, ()>("nothing", ())),
        ("wrong arguments", sandbox.call::<_, ()>(name, ())),
        ("wrong result", sandbox.call::<_, u32>(name, 1).map(|_| ())),
        ("a function as a global", sandbox.global(main, name).map(|_| ())),
        ("an immutable global", sandbox.set_global(main, &format!("g{name}"), Value::I32(1))),
        ("no memory", sandbox.read_memory(main, name, 0..1).map(|_| ())),
    ] {
        is_clean(what, &error.expect_err(what));
    }
    works();
}

#[test]
fn names_in_broken_modules_are_clean_in_errors() {
    for wat in [
        format!(r#"(module (func (export "{EVIL}")) (func (export "{EVIL}")))"#),
        format!(r#"(module (func (@name "{EVIL}") (export "f") (result i32)))"#),
        format!(r#"(module (import "{EVIL}" "x" (func (param i32) (result i33))))"#),
    ] {
        let error = Module::new(vm(), wat.as_bytes()).expect_err("a broken module");
        // An error in text shows the line that it is in, as the caller wrote it: this is the binary form.
        is_clean("a broken module", &error);
    }
    works();
}
