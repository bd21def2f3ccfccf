//! An interpreter that goes on from a snapshot, with its libraries loaded.

use crate::run::program;
use crate::vm;
use sandgrain::wasi::{Input, Output, WasiConfig};
use sandgrain::{Module, Policy, Pool, Sandbox, Snapshot};

/// Loads libraries, and then does what it reads.
const PROGRAM: &str =
    "import sys, json, re, collections, dataclasses, datetime, math; exec(sys.stdin.read())";

fn config(program: &str) -> WasiConfig {
    WasiConfig::new()
        .args(["python", "-c", PROGRAM])
        // Else it would ask for random bytes, which all that go on from the snapshot would share.
        .env("PYTHONHASHSEED", "0")
        .stdin(Input::Bytes(program.to_owned().into()))
        .stdout(Output::Capture)
        .stderr(Output::Capture)
}

/// Of Python, with the libraries loaded.
fn snapshot() -> Snapshot {
    let module =
        Module::open(vm(), program("python.wasm", "tools/fetch-python")).expect("python.wasm");
    let mut first = Sandbox::builder(&module).wasi(config("")).build().expect("a sandbox");
    let code = first.run_to_input().expect("a run");
    assert_eq!(code, None, "{}", String::from_utf8_lossy(&first.take_stderr()));
    first.snapshot().expect("a snapshot")
}

#[track_caller]
fn says(sandbox: &mut Sandbox, code: i32, text: &str) {
    assert_eq!(sandbox.run().expect("a run"), code);
    let (out, err) = (sandbox.take_stdout(), sandbox.take_stderr());
    assert_eq!(&out[..], text.as_bytes(), "{}", String::from_utf8_lossy(&err));
}

#[test]
fn python_goes_on_with_its_libraries_loaded() {
    let snapshot = snapshot();
    for (program, code, text) in [
        ("print(6 * 7)", 0, "42\n"),
        ("print(json.dumps({'a': [1, 2.5]}))", 0, "{\"a\": [1, 2.5]}\n"),
        (
            "print(sorted(re.findall('[a-z]+', 'of mice and men'))); sys.exit(3)",
            3,
            "['and', 'men', 'mice', 'of']\n",
        ),
        ("print(collections.Counter('hello').most_common(1))", 0, "[('l', 2)]\n"),
    ] {
        let mut sandbox = snapshot.sandbox().wasi(config(program)).build().expect("a sandbox");
        says(&mut sandbox, code, text);
    }
}

#[test]
fn python_in_a_pool() {
    for policy in [Policy::Fresh, Policy::Reset] {
        let pool = Pool::builder(&snapshot())
            .policy(policy)
            .parked(1..=2)
            .configure(|builder| builder.wasi(config("")))
            .warm_up(|sandbox| {
                assert_eq!(sandbox.run()?, 0);
                Ok(())
            })
            .build()
            .expect("a pool");
        for n in 0..5 {
            let mut sandbox = pool.take("tenant").expect("a sandbox");
            let program = format!("x = globals().get('x', 0) + {n}; print(x)");
            sandbox.set_wasi(config(&program)).expect("not used so far");
            says(&mut sandbox, 0, &format!("{n}\n"));
        }
    }
}
