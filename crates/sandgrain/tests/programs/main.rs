//! Real programs in several languages, in the VM: all that `examples/expected.json` says of them.
//!
//! Some are made or fetched by scripts, which have to have run before: a program that is missing is a
//! failure that names its script.

mod components;
mod run;
mod snapshots;
mod table;

use run::{Ended, run};
use sandgrain::{Engine, Workers};
use std::path::Path;
use std::sync::OnceLock;
use table::{Run, runs};

fn cache() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandgrain-cache")
}

fn vm() -> &'static Engine {
    static VM: OnceLock<Engine> = OnceLock::new();
    // In QEMU's emulation, with its quirk.
    let emulated = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
    let builder = Engine::builder().cache_dir(cache()).available_tss(emulated);
    VM.get_or_init(|| match builder.build() {
        Ok(engine) => engine,
        Err(error) => panic!("{error}"),
    })
}

fn workers() -> &'static Workers {
    static WORKERS: OnceLock<Workers> = OnceLock::new();
    WORKERS.get_or_init(|| Workers::of_program(env!("CARGO_BIN_EXE_sandgrain-worker")))
}

fn reference() -> &'static Engine {
    static REFERENCE: OnceLock<Engine> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        Engine::builder().without_cache().dangerously_without_vm().build().expect("an engine")
    })
}

/// Runs all programs whose names begin so; each must do what is expected of it.
fn check(engine: &Engine, workers: Option<&Workers>, prefix: &str) {
    let runs: Vec<Run> = runs().into_iter().filter(|run| run.name.starts_with(prefix)).collect();
    check_all(engine, workers, &runs);
}

/// Runs programs, each of which must do what is expected of it.
fn check_all(engine: &Engine, workers: Option<&Workers>, runs: &[Run]) {
    assert!(!runs.is_empty(), "expected.json has no such run");
    let failures: Vec<String> = runs
        .iter()
        .filter_map(|expected| {
            let problems = expected.compare(&run(engine, workers, expected));
            (!problems.is_empty())
                .then(|| format!("{}:\n  {}", expected.name, problems.join("\n  ")))
        })
        .collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), runs.len(), failures.join("\n"));
}

macro_rules! programs {
    ($($name:ident: $prefix:literal),* $(,)?) => {
        /// What the tests below cover.
        const PREFIXES: &[&str] = &[$($prefix),*];

        mod in_the_vm {
            $(#[test] fn $name() { super::check(super::vm(), None, $prefix); })*
        }

        mod in_a_worker {
            $(#[test] fn $name() {
                super::check(super::vm(), Some(super::workers()), $prefix);
            })*
        }
    };
}

programs! {
    c: "c-",
    cpp: "cpp-",
    rust: "rust-",
    go: "go-",
    assemblyscript: "assemblyscript-",
    wat: "wat-",
    traps: "trap-",
    limits: "limit-",
    host_functions: "host-",
    python: "python-",
}

/// The same without a VM, for all that compiles in a moment.
mod without_a_vm {
    macro_rules! reference {
        ($($name:ident: $prefix:literal),* $(,)?) => {
            $(#[test] fn $name() { super::check(super::reference(), None, $prefix); })*
        };
    }

    reference! {
        c: "c-",
        cpp: "cpp-",
        rust: "rust-",
        assemblyscript: "assemblyscript-",
        wat: "wat-",
        traps: "trap-",
        limits: "limit-",
        host_functions: "host-",
    }
}

#[test]
fn no_program_is_left_out() {
    for run in runs() {
        let covered = PREFIXES.iter().filter(|prefix| run.name.starts_with(**prefix)).count();
        assert_eq!(covered, 1, "{}: the table above has to name its group", run.name);
    }
}

#[test]
fn cpython_prints_42_from_inside_the_vm() {
    let expected = Run {
        name: "python-42".to_owned(),
        wasm: "python.wasm".to_owned(),
        needs: Some("tools/fetch-python".to_owned()),
        args: vec!["-c".to_owned(), "print(6 * 7)".to_owned()],
        ..Run::default()
    };
    assert!(!vm().is_without_vm());
    let outcome = run(vm(), None, &expected);
    assert_eq!(outcome.stdout, "42\n");
    assert!(matches!(outcome.ended, Ended::Exit(0)), "{:?}", outcome.ended);
}
