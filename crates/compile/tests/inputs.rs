//! What is accepted as a module, and what is said about everything else.

use crate::support::{SMALL, SMALL_COMPONENT, compiler};
use sandgrain_compile::{Error, Kind, identify};

/// A valid module's binary format, with a type, function, memory, export, code and data section.
fn small_wasm() -> Vec<u8> {
    wat::parse_str(SMALL).expect("text")
}

fn error(bytes: &[u8]) -> Error {
    let error = compiler().compile(bytes).expect_err("must be rejected");
    let message = error.to_string();
    assert!(!message.contains('\n'), "one line: {message:?}");
    assert_eq!(
        std::mem::discriminant(&compiler().check(bytes).expect_err("check")),
        std::mem::discriminant(&error)
    );
    error
}

#[test]
fn text_and_binary_give_the_same_artifact() {
    let compiler = compiler();
    let text = compiler.compile(SMALL.as_bytes()).expect("text");
    let binary = compiler.compile(&small_wasm()).expect("binary");
    assert_eq!(text.as_bytes(), binary.as_bytes());
    assert_eq!(text.digest(), *blake3::hash(&small_wasm()).as_bytes());
    assert!(text.compile_time().is_some());
}

#[test]
fn compilers_and_artifacts_can_be_shared() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<sandgrain_compile::Compiler>();
    shared::<sandgrain_compile::Artifact>();
}

#[test]
fn kinds_are_told_apart() {
    let artifact = compiler().compile(SMALL.as_bytes()).expect("compiles");
    assert_eq!(identify(artifact.as_bytes()), Kind::Artifact);
    assert_eq!(identify(&small_wasm()), Kind::Module);
    assert_eq!(identify(b"\0asm\x02\0\0\0"), Kind::Module);
    assert_eq!(identify(b"\0asm\x0d\0\x01\0"), Kind::Component);
    assert_eq!(identify(b" ;; comment\n(module)"), Kind::Wat);
    for unknown in [&b""[..], b"\0as", b"hello", b"\x7fELF", b"\xff\xfe", b"SGM"] {
        assert_eq!(identify(unknown), Kind::Unknown, "{unknown:?}");
    }
}

#[test]
fn what_is_no_webassembly_is_named() {
    for (bytes, word) in [
        (&b""[..], "no bytes"),
        (b"\0as", "first 3 bytes"),
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"<!doctype html>", "markup"),
        (b"hello world", "text"),
        (b"\xde\xad\xbe\xef\x01", "de ad be ef"),
    ] {
        let error = error(bytes);
        assert!(matches!(error, Error::NotWasm { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn every_truncation_is_rejected_or_a_valid_module_of_its_own() {
    let compiler = compiler();
    let wasm = small_wasm();
    let mut valid = 0;
    for len in 0..wasm.len() {
        match compiler.compile(&wasm[..len]) {
            // A module may end after a section, but not with a declared body missing.
            Ok(artifact) => {
                valid += 1;
                let info = artifact.module_info().expect("a module");
                let (export, code) = (info.export("add"), artifact.text());
                assert!(export.is_none() || !code.is_empty(), "cut at {len}");
            }
            Err(Error::NotWasm { .. }) => assert!(len < 4, "cut at {len}"),
            Err(Error::Invalid { offset, message }) => {
                assert!(len >= 4 && offset <= len, "cut at {len}: {offset} {message}");
            }
            Err(error) => panic!("cut at {len}: {error}"),
        }
    }
    assert!((1..wasm.len() / 4).contains(&valid), "{valid} of {}", wasm.len());
}

#[test]
fn every_flipped_bit_is_survived() {
    let compiler = compiler();
    let wasm = small_wasm();
    for bit in 0..wasm.len() * 8 {
        let mut wasm = wasm.clone();
        wasm[bit / 8] ^= 1 << (bit % 8);
        // Many flips are valid modules; what counts is that each has an answer.
        let _ = compiler.check(&wasm);
    }
}

#[test]
fn every_change_of_a_component_is_survived() {
    let compiler = compiler();
    let wasm = wat::parse_str(SMALL_COMPONENT).expect("text");
    for len in 0..wasm.len() {
        match compiler.check(&wasm[..len]) {
            // A component may end after a section.
            Ok(_) | Err(Error::NotWasm { .. }) => {}
            Err(Error::Invalid { offset, .. }) => assert!(offset <= len, "cut at {len}: {offset}"),
            Err(error) => panic!("cut at {len}: {error}"),
        }
    }
    for bit in 0..wasm.len() * 8 {
        let mut wasm = wasm.clone();
        wasm[bit / 8] ^= 1 << (bit % 8);
        let _ = compiler.check(&wasm);
    }
}

#[test]
fn other_versions_are_named() {
    let mut wasm = small_wasm();
    wasm[4] = 7;
    assert!(matches!(error(&wasm), Error::UnsupportedVersion { version: 7 }));
    assert!(matches!(error(b"\0asm\x0c\0\x01\0"), Error::UnsupportedVersion { version: 12 }));
    assert!(matches!(error(b"\0asm\x01\0\x02\0"), Error::Invalid { .. }));
    let artifact = compiler().compile(SMALL.as_bytes()).expect("compiles");
    assert!(matches!(error(artifact.as_bytes()), Error::IsArtifact));
}

#[test]
fn errors_of_text_name_line_and_column() {
    for (text, place, word) in [
        ("(module\n  (func (bad)))", (2, 10), "operator"),
        ("(module", (1, 8), "expected `)`"),
        ("(module\n\n  (func call $nobody))", (3, 14), "nobody"),
        ("(module (func (export \"a\")) \u{7})", (1, 29), "character"),
    ] {
        match error(text.as_bytes()) {
            Error::Wat { line, column, message } => {
                assert_eq!((line, column), place, "{message}");
                assert!(message.contains(word), "{message}");
            }
            other => panic!("{other}"),
        }
    }
    // The parser shows very long lines differently.
    let text = format!("(module\n{}(bad))", " ".repeat(600));
    match error(text.as_bytes()) {
        Error::Wat { line: 2, column: 602, message } => assert!(!message.contains("anon")),
        other => panic!("{other}"),
    }
}

#[test]
fn validation_names_the_place() {
    let error = error(b"(module (func (result i32) i64.const 1))");
    match &error {
        Error::Invalid { offset, message } => {
            assert!(*offset > 8 && message.contains("type mismatch"), "{error}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn proposals_that_are_switched_off_are_named() {
    for (text, word) in [
        ("(module (memory 1 1 shared))", "threads"),
        ("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", "threads"),
        ("(module (memory 1 (pagesize 1)))", "custom-page-sizes"),
        (
            "(module (func (param i64 i64 i64 i64) (result i64 i64)
               local.get 0 local.get 1 local.get 2 local.get 3 i64.add128))",
            "wide-arithmetic",
        ),
        ("(module (type $f (func)) (type (cont $f)))", "stack-switching"),
        ("(module (tag $t) (func try catch $t end))", "legacy-exceptions"),
        ("(module (global (shared i32) (i32.const 0)))", "shared-everything-threads"),
    ] {
        let error = error(text.as_bytes());
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(word), "{text}: {error}");
    }
}

#[test]
fn stable_proposals_compile() {
    let compiler = compiler();
    for text in [
        "(module (func (result v128) (i32x4.splat (i32.const 1))))",
        "(module (func (param v128 v128 v128) (result v128)
           (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2))))",
        "(module (memory 1) (memory 2) (func (result i32) (i32.load 1 (i32.const 0))))",
        "(module (memory i64 1) (func (result i32) (i32.load (i64.const 0))))",
        "(module (func $f return_call $f))",
        "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 1) (i32.const 2))))",
        "(module (func (result i32 i64) (i32.const 1) (i64.const 2)))",
        "(module (type $s (struct (field i32))) (func (result (ref $s)) (struct.new $s (i32.const 1))))",
        "(module (tag $t) (func (block $b (try_table (catch $t $b) (throw $t)))))",
        "(module (table 1 externref) (func (param externref) (table.set (i32.const 0) (local.get 0))))",
        "(module)",
    ] {
        let artifact = compiler.compile(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(artifact.text().end <= artifact.code().len());
    }
}
