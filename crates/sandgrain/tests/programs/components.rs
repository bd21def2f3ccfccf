//! The same programs as components, with wasmtime's adapter around them (`tools/build-component p1-NAME`): all that
//! the table says of them, and what the component model has otherwise.

use crate::table::{Run, runs};
use crate::{check_all, vm, workers};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Those that are programs by themselves: the others export functions, or import some of ours.
const PROGRAMS: [&str; 7] =
    ["sortfile", "wordcount", "textstats", "pipeline", "jsonreport", "hello", "python"];

/// The component of a program. Its script must have run before.
fn component(program: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/build-component");
    let name = format!("p1-{program}");
    let output = Command::new(script).args(["--cached", &name]).output().expect("bash");
    let path = String::from_utf8(output.stdout).expect("a path").trim().to_owned();
    assert!(!path.is_empty(), "{name} has not been built; try: tools/build-component {name}");
    path.into()
}

/// The run, of the component.
fn as_component(mut run: Run) -> Option<Run> {
    let program = Path::new(&run.wasm).file_stem()?.to_str()?;
    if !PROGRAMS.contains(&program) || run.invoke.is_some() {
        return None;
    }
    run.component = Some(component(program));
    // WASI 0.2 tells only whether a program has failed.
    run.exit = run.exit.map(|code| code.min(1));
    if run.name == "go-panic" {
        // It is built as a library there, whose panics do not exit.
        run.exit = None;
        run.trap = Some(("UnreachableCodeReached".to_owned(), Vec::new()));
    }
    Some(run)
}

fn components(prefix: &str) -> Vec<Run> {
    runs().into_iter().filter(|run| run.name.starts_with(prefix)).filter_map(as_component).collect()
}

macro_rules! languages {
    ($($name:ident: $prefix:literal),* $(,)?) => {
        /// What the tests below cover.
        const PREFIXES: &[&str] = &["go-", $($prefix),*];

        mod in_the_vm {
            use super::*;
            $(#[test] fn $name() { check_all(vm(), None, &components($prefix)); })*

            #[test]
            fn go() {
                check_all(vm(), None, &components("go-"));
            }
        }

        // Without Go, which asks for random bytes as soon as it is instantiated: there are no snapshots after that, and
        // so no workers.
        mod in_a_worker {
            use super::*;
            $(#[test] fn $name() { check_all(vm(), Some(workers()), &components($prefix)); })*
        }
    };
}

languages! {
    c: "c-",
    cpp: "cpp-",
    rust: "rust-",
    wat: "wat-",
    python: "python-",
}

#[test]
fn no_program_is_left_out() {
    for run in runs().into_iter().filter_map(as_component) {
        let covered = PREFIXES.iter().filter(|prefix| run.name.starts_with(**prefix)).count();
        assert_eq!(covered, 1, "{}: the list above has to name its group", run.name);
    }
}
