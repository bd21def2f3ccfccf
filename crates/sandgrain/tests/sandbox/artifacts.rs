//! Modules that were compiled earlier, or elsewhere.

use crate::support::{module, reference, sandbox, vm, works};
use sandgrain::compile::{Compiler, Error as CompileError, Refusal, Settings};
use sandgrain::{Error, Module, Sandbox};

const WAT: &str = r#"(module (func (export "double") (param i32) (result i32)
    (i32.add (local.get 0) (local.get 0))))"#;

fn artifact() -> Vec<u8> {
    module(vm(), WAT).artifact_bytes().expect("compiled for the VM").to_vec()
}

#[track_caller]
fn refusal(bytes: Vec<u8>) -> Refusal {
    let result = Module::from_artifact(vm(), bytes);
    works(vm());
    match result {
        Err(Error::Module(CompileError::Refused { reason })) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_artifact_runs_as_the_module_does() {
    let module = Module::from_artifact(vm(), artifact()).expect("what was just made");
    let mut sandbox = Sandbox::new(&module).expect("a sandbox");
    assert_eq!(sandbox.call::<_, u32>("double", 21u32).expect("a call"), 42);
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let artifact = artifact();
    let last = artifact.len() - 1;
    // All of the header's fields, the code, the digest.
    for at in (0..600).chain([last / 3, last / 2, last - 40, last - 16, last]) {
        let mut bytes = artifact.clone();
        bytes[at] ^= 0x10;
        let reason = refusal(bytes);
        assert!(
            at < 24 || reason == Refusal::Damaged,
            "byte {at}: only the first fields are read before the digest: {reason}"
        );
    }
}

#[test]
fn an_artifact_that_is_cut_off_or_continued() {
    let artifact = artifact();
    for len in [24, 100, artifact.len() / 2, artifact.len() - 1] {
        let reason = refusal(artifact[..len].to_vec());
        assert!(matches!(reason, Refusal::Truncated { .. }), "{len}: {reason}");
    }
    let reason = refusal([&artifact[..], b"x"].concat());
    assert!(matches!(reason, Refusal::TrailingBytes { .. }), "{reason}");
}

#[test]
fn an_artifact_of_another_version() {
    let mut bytes = artifact();
    bytes[8] ^= 0x40;
    let reason = refusal(bytes);
    assert!(matches!(reason, Refusal::FormatVersion { .. }), "{reason}");
}

#[test]
fn an_artifact_for_another_cpu() {
    let all = ["sse3", "ssse3", "sse41", "sse42", "popcnt", "avx", "avx2", "fma", "bmi1", "bmi2"];
    let more = ["lzcnt", "avx512f", "avx512vl", "avx512dq", "avx512bitalg", "avx512vbmi"];
    let all: Vec<String> = all.iter().chain(&more).map(|name| (*name).to_owned()).collect();
    let mut missing: Vec<_> =
        all.iter().filter(|name| !vm().cpu_features().contains(name)).cloned().collect();
    assert!(!missing.is_empty(), "this machine's guests have every feature; use another machine");
    let compiler = Compiler::new(&Settings { cpu_features: all }).expect("a compiler");
    let bytes = compiler.compile(WAT.as_bytes()).expect("an artifact").to_bytes();
    let Refusal::CpuFeatures { missing: mut reported } = refusal(bytes) else {
        panic!("refused for another reason")
    };
    reported.sort();
    missing.sort();
    assert_eq!(reported, missing);
}

#[test]
fn what_is_no_artifact() {
    for bytes in [&b""[..], b"\0asm\x01\0\0\0", WAT.as_bytes(), &[0; 4096]] {
        let result = Module::from_artifact(vm(), bytes.to_vec());
        assert!(matches!(result, Err(Error::Module(_))), "{result:?}");
    }
    works(vm());
}

#[test]
fn machine_code_does_not_run_without_a_vm() {
    let result = Module::from_artifact(reference(), artifact());
    assert!(matches!(result, Err(Error::BadCall(_))), "{result:?}");
    works(reference());
}

#[test]
fn open_takes_text_binary_and_artifacts() {
    let dir = tempfile::tempdir().expect("a directory");
    let wasm = Compiler::new(&Settings::default()).expect("a compiler");
    let wasm = wasm.to_wasm(WAT.as_bytes()).expect("a module").into_owned();
    for (name, bytes) in
        [("text.wat", WAT.as_bytes().to_vec()), ("binary.wasm", wasm), ("compiled.sgm", artifact())]
    {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let module = Module::open(vm(), &path).expect(name);
        let mut sandbox = Sandbox::new(&module).expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("double", 4u32).expect("a call"), 8);
    }
    let missing = Module::open(vm(), dir.path().join("missing.wasm"));
    assert!(missing.expect_err("an error").to_string().contains("missing.wasm"));
}

#[test]
fn a_second_compilation_comes_from_the_cache() {
    let wat = format!("(module (func (export \"f{}\")))", std::process::id());
    assert!(!module(vm(), &wat).is_from_cache());
    assert!(module(vm(), &wat).is_from_cache());
    sandbox(vm(), &wat);
}
