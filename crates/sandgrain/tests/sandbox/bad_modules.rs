//! Bytes that are no module that can run.

use crate::support::{on_both, vm};
use sandgrain::compile::Error as CompileError;
use sandgrain::{Error, Module};

const EMPTY: [u8; 8] = *b"\0asm\x01\0\0\0";

fn refused(bytes: &[u8], check: impl Fn(&CompileError, &str)) {
    on_both(|engine| match Module::new(engine, bytes) {
        Err(Error::Module(error)) => check(&error, &error.to_string()),
        other => panic!("{other:?}"),
    });
}

#[test]
fn bytes_that_are_not_wasm() {
    for bytes in [&b"\x7fELF\x02\x01\x01\0"[..], b"\0\0\0\0\0\0\0\0", b"MZ\x90\0", &[0xff; 100]] {
        refused(bytes, |error, text| {
            assert!(matches!(error, CompileError::NotWasm { .. }), "{error:?}");
            assert!(text.starts_with("not WebAssembly: found "), "{text}");
        });
    }
}

#[test]
fn no_bytes_at_all() {
    refused(&[], |error, _| assert!(matches!(error, CompileError::NotWasm { .. }), "{error:?}"));
}

#[test]
fn text_that_does_not_parse_is_refused_with_its_place() {
    refused(b"(module\n  (func (export \"f\") i32.cnst 1))", |error, text| {
        assert!(matches!(error, CompileError::Wat { line: 2, .. }), "{error:?}");
        assert!(text.contains("line 2"), "{text}");
    });
}

#[test]
fn a_module_cut_off_anywhere() {
    let wat = r#"(module (memory 1) (func (export "f") (result i32)
        (i32.load (i32.const 0))))"#;
    let compiler = sandgrain::compile::Compiler::new(&Default::default()).expect("a compiler");
    let wasm = compiler.to_wasm(wat.as_bytes()).expect("a module").into_owned();
    for len in 0..wasm.len() {
        match Module::new(vm(), &wasm[..len]) {
            Err(Error::Module(_)) => {}
            // What has been read so far can be a whole module: its sections come one by one.
            Ok(module) => assert!(module.export("f").is_none(), "{len}"),
            Err(error) => panic!("{len} bytes: {error}"),
        }
    }
    refused(&wasm[..wasm.len() - 1], |error, _| {
        assert!(matches!(error, CompileError::Invalid { .. }), "{error:?}");
    });
}

#[test]
fn another_version_of_the_format() {
    let mut bytes = EMPTY;
    bytes[4] = 2;
    refused(&bytes, |error, _| {
        assert!(matches!(error, CompileError::UnsupportedVersion { version: 2 }), "{error:?}");
    });
}

#[test]
fn proposals_that_are_off_are_named() {
    for (wat, word) in [
        ("(module (memory 1 1 shared))", "threads"),
        ("(module (type (func)) (type (cont 0)))", "stack switching"),
    ] {
        refused(wat.as_bytes(), |error, text| {
            assert!(matches!(error, CompileError::Invalid { .. }), "{error:?}");
            assert!(text.contains(word), "{text}");
        });
    }
}

#[test]
fn a_module_that_does_not_validate() {
    let wat = b"(module (func (export \"f\") (result i32) (i64.const 1)))";
    refused(wat, |error, text| {
        assert!(matches!(error, CompileError::Invalid { .. }), "{error:?}");
        assert!(text.contains("type mismatch"), "{text}");
    });
}

#[test]
fn a_component_that_is_cut_off() {
    let component = [&b"\0asm\x0d\0\x01\0"[..], &[0; 16]].concat();
    refused(&component, |error, text| {
        assert!(matches!(error, CompileError::Invalid { .. }), "{error:?}");
        assert!(text.contains("byte 10"), "{text}");
    });
}

#[test]
fn an_artifact_where_webassembly_is_expected() {
    let module = Module::new(vm(), &EMPTY).expect("a module");
    let artifact = module.artifact_bytes().expect("compiled for the VM").to_vec();
    refused(&artifact, |error, _| assert!(matches!(error, CompileError::IsArtifact), "{error:?}"));
}

#[test]
fn any_flipped_bit_is_an_error_or_another_module() {
    let wat = r#"(module (memory 1) (func (export "f") (param i32) (result i32)
        (i32.add (local.get 0) (i32.const 1))))"#;
    let compiler = sandgrain::compile::Compiler::new(&Default::default()).expect("a compiler");
    let wasm = compiler.to_wasm(wat.as_bytes()).expect("a module").into_owned();
    for at in 0..wasm.len() * 8 {
        let mut bytes = wasm.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        match Module::new(crate::support::reference(), &bytes) {
            Ok(_) | Err(Error::Module(_)) => {}
            Err(error) => panic!("bit {at}: {error}"),
        }
    }
}
