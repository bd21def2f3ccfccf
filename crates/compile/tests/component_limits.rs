//! Components that are refused: what they ask for is not there, or they are too much.

use crate::support::compiler;
use sandgrain_compile::Error;
use std::fmt::Write;

fn error(text: &str) -> Error {
    let error = compiler().check(text.as_bytes()).expect_err("must be rejected");
    assert!(!error.to_string().contains('\n'), "one line: {error}");
    error
}

fn unsupported(text: &str) -> String {
    match error(text) {
        Error::Unsupported { message } => message,
        other => panic!("{other}"),
    }
}

#[test]
fn imports_that_a_host_cannot_give_are_named() {
    for (text, words) in [
        (r#"(component (import "code" (core module)))"#, "core module \"code\""),
        (r#"(component (import "part" (component)))"#, "component \"part\""),
        (
            r#"(component (import "a:b/c" (instance (export "i" (instance
              (export "m" (core module)))))))"#,
            "core module \"a:b/c.i.m\"",
        ),
    ] {
        let message = unsupported(text);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn proposals_that_are_switched_off_are_named() {
    for (text, word) in [
        (r#"(component (import "f" (func async)))"#, "cm-async"),
        (r#"(component (type (stream u8)))"#, "cm-async"),
        (r#"(component (type (future string)))"#, "cm-async"),
        (r#"(component (import "f" (func (param "e" error-context))))"#, "cm-error-context"),
        (r#"(component (import "v" (value string)))"#, "cm-values"),
        (r#"(component (type (map string u8)))"#, "cm-map"),
        (r#"(component (type (list u8 4)))"#, "cm-fixed-length-lists"),
        (r#"(component (core module (memory 1 1 shared)))"#, "threads"),
    ] {
        let error = error(text);
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(word), "{text}: {error}");
    }
}

#[test]
fn function_bodies_are_validated() {
    let text = "(component (component (core module (func (result i32) i64.const 1))))";
    let error = error(text);
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert!(error.to_string().contains("type mismatch"), "{error}");
}

/// The validator's own defects are errors too.
#[test]
fn a_panic_of_the_validator_is_an_error() {
    let text = r#"(component
      (component $c
        (type $t (instance (type $u u8) (export "u" (type (eq $u)))))
        (type $i (instance
          (alias outer 1 $t (type $t))
          (export "a" (instance (type $t)))
          (export "b" (instance (type $t)))))
        (import "i" (instance (type $i))))
      (type $u u8)
      (instance $a (export "u" (type $u)))
      (instance $i (export "a" (instance $a)) (export "b" (instance $a)))
      (instance (instantiate $c (with "i" (instance $i)))))"#;
    let message = unsupported(text);
    assert!(message.contains("the validator has a defect"), "{message}");
}

#[test]
fn a_name_cannot_command_a_terminal() {
    // The text format has escapes, and names of instances' exports are checked by the validator, so that what
    // gets this far is at worst long.
    let long = "a".repeat(50_000);
    let message = unsupported(&format!(r#"(component (import "{long}" (core module)))"#));
    assert!(message.len() < 2_000, "{}", message.len());
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 & 0x7f | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], leb(content.len()).as_slice(), content].concat()
}

/// A component in binary format, of one section or none.
fn component(sections: &[u8]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0", sections].concat()
}

/// Each component makes two instances of the one before.
fn doubling(levels: usize) -> String {
    let mut text =
        "(component (component $c0 (core module $m (memory 1)) (core instance (instantiate $m)))"
            .to_owned();
    for level in 1..=levels {
        let before = level - 1;
        write!(
            text,
            "(component $c{level} (alias outer 1 $c{before} (component $c))
               (instance (instantiate $c)) (instance (instantiate $c)))"
        )
        .expect("text");
    }
    write!(text, "(instance (instantiate $c{levels})))").expect("text");
    text
}

#[test]
fn instances_that_double_are_bounded() {
    let info = compiler().check(doubling(5).as_bytes()).expect("valid");
    assert_eq!(info.component().expect("a component").memories.len(), 32);
    for levels in [20, 60, 95] {
        let message = unsupported(&doubling(levels));
        assert!(message.contains("more than 100000 items"), "{message}");
    }
}

#[test]
fn deep_nesting_is_bounded() {
    // The text format's own limit is lower.
    let nested =
        |levels: usize| (1..levels).fold(Vec::new(), |inner, _| section(4, &component(&inner)));
    compiler().check(&component(&nested(100))).expect("valid");
    for levels in [101, 1_000, 30_000] {
        match compiler().check(&component(&nested(levels))) {
            Err(Error::Unsupported { message }) => assert!(message.contains("deeper than 100")),
            other => panic!("{other:?}"),
        }
    }
    // A chain of instances of one another's components.
    let chain = |levels: usize| {
        let mut text = "(component (component $c0)".to_owned();
        for level in 1..=levels {
            let before = level - 1;
            write!(
                text,
                "(component $c{level} (alias outer 1 $c{before} (component $c))
                   (instance (instantiate $c)))"
            )
            .expect("text");
        }
        write!(text, "(instance (instantiate $c{levels})))").expect("text");
        text
    };
    compiler().check(chain(90).as_bytes()).expect("valid");
    assert!(unsupported(&chain(120)).contains("deeper than 100"));
}

/// Each instance type has two of the one before.
fn doubling_instances(levels: usize, name: &str) -> String {
    let mut text = format!("(component (type $t0 (instance (export \"{name}\" (func))))");
    for level in 1..=levels {
        let before = level - 1;
        write!(
            text,
            "(type $t{level} (instance (alias outer 1 $t{before} (type $t))
               (export \"a\" (instance (type $t))) (export \"b\" (instance (type $t)))))"
        )
        .expect("text");
    }
    write!(text, "(import \"i\" (instance (type $t{levels}))))").expect("text");
    text
}

#[test]
fn interfaces_that_double_are_bounded() {
    let info = compiler().check(doubling_instances(4, "f").as_bytes()).expect("valid");
    assert_eq!(info.component().expect("a component").imports.len(), 16);
    let message = unsupported(&doubling_instances(14, &"f".repeat(5_000)));
    assert!(message.contains("larger than 16 MiB"), "{message}");
    let error = error(&doubling_instances(25, "f"));
    assert!(error.to_string().contains("effective type size"), "{error}");
}

#[test]
fn types_that_double_are_bounded() {
    let doubling = |levels: usize| {
        let mut text = "(component (type $t0 (tuple u8 u8))".to_owned();
        for level in 1..=levels {
            let before = level - 1;
            write!(text, "(type $t{level} (tuple $t{before} $t{before}))").expect("text");
        }
        write!(text, "(import \"f\" (func (param \"x\" $t{levels}))))").expect("text");
        text
    };
    let info = compiler().check(doubling(12).as_bytes()).expect("valid");
    // Shared parts stay shared.
    assert_eq!(info.component().expect("a component").types.defs.len(), 13);
    let error = error(&doubling(30));
    assert!(error.to_string().contains("effective type size"), "{error}");
}

#[test]
fn deep_types_are_bounded() {
    let deep = |levels: usize| {
        let mut text = "(component (type $t0 (option u8))".to_owned();
        for level in 1..=levels {
            write!(text, "(type $t{level} (list $t{}))", level - 1).expect("text");
        }
        write!(text, "(import \"f\" (func (param \"x\" $t{levels}))))").expect("text");
        text
    };
    compiler().check(deep(90).as_bytes()).expect("valid");
    assert!(unsupported(&deep(110)).contains("deeper than 100"));
    assert!(unsupported(&deep(1_000)).contains("deeper than 100"));
}

/// Instance types within one another.
#[test]
fn deep_instances_are_bounded() {
    let deep = |levels: usize| {
        let mut text = "(component (type $t0 (instance (export \"f\" (func))))".to_owned();
        for level in 1..=levels {
            write!(
                text,
                "(type $t{level} (instance (alias outer 1 $t{} (type $t))
                   (export \"i\" (instance (type $t)))))",
                level - 1
            )
            .expect("text");
        }
        write!(text, "(import \"i\" (instance (type $t{levels}))))").expect("text");
        text
    };
    compiler().check(deep(50).as_bytes()).expect("valid");
    for levels in [110, 125, 200, 1000] {
        assert!(unsupported(&deep(levels)).contains("deeper than 100"));
    }
}

/// Types within types, as the binary format writes them, which is read by recursion.
#[test]
fn types_within_types_are_bounded() {
    // An instance or component type with one declaration, of a type. The innermost is a list of u8.
    for kind in [0x41, 0x42] {
        let nested = |levels: usize| {
            let bytes = [&[1][..], &[kind, 1, 1].repeat(levels), &[0x70, 0x7d]].concat();
            component(&section(7, &bytes))
        };
        compiler().check(&nested(90)).expect("valid");
        for levels in [110, 1_000, 1_000_000] {
            match compiler().check(&nested(levels)) {
                Err(Error::Unsupported { message }) => assert!(message.contains("deeper than 100")),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Instances made of one another, which have no type of their own in the file.
#[test]
fn instances_of_instances_are_bounded() {
    let chain = |levels: usize| {
        let mut text = "(component (instance $i0)".to_owned();
        for level in 1..=levels {
            write!(text, "(instance $i{level} (export \"i\" (instance $i{})))", level - 1)
                .expect("text");
        }
        text + ")"
    };
    compiler().check(chain(80).as_bytes()).expect("valid");
    for levels in [110, 126, 200, 900] {
        assert!(unsupported(&chain(levels)).contains("deeper than 100"));
    }
}

/// The same through components: an instance of each is exported by the next.
#[test]
fn instances_of_exported_instances_are_bounded() {
    let chain = |levels: usize| {
        let mut text = "(component (component $c0)".to_owned();
        for level in 1..=levels {
            let before = level - 1;
            write!(
                text,
                "(component $c{level} (alias outer 1 $c{before} (component $c))
                   (instance $i (instantiate $c)) (export \"i\" (instance $i)))"
            )
            .expect("text");
        }
        text + ")"
    };
    compiler().check(chain(40).as_bytes()).expect("valid");
    for levels in [110, 126, 200, 900] {
        assert!(unsupported(&chain(levels)).contains("deeper than 100"));
    }
}
