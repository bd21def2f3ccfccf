//! Runs one program.

use crate::table::{Dir, Run, examples};
use sandgrain::types::{ExternType, ValType};
use sandgrain::wasi::{Access, Input, Output, WasiConfig};
use sandgrain::{
    BoxError, Caller, Engine, Error, Limits, Module, Sandbox, SandboxBuilder, TrapCode, Value,
    Workers,
};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a program ended.
#[derive(Debug)]
pub enum Ended {
    Exit(i32),
    Returned(Vec<String>),
    /// The trap, and the names of the functions in its backtrace.
    Trap(TrapCode, Vec<String>),
    Deadline,
    /// A limit did not let it be instantiated: which one.
    Refused(String),
    Other(String),
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub ended: Ended,
    pub stdout: String,
    pub stderr: String,
    pub log: Vec<String>,
    /// What is in the fresh directories afterwards, by guest path.
    pub files: BTreeMap<String, String>,
}

/// The directory that the scripts put downloads in: the same rule as in `tools/lib.sh`.
fn downloads() -> PathBuf {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("SANDGRAIN_CACHE").unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME")
            .or_else(|| Some(variable("HOME")?.join(".cache")))
            .expect("HOME is set");
        cache.join("sandgrain-dev")
    })
}

fn path(run: &Run) -> PathBuf {
    if let Some(component) = &run.component {
        return component.clone();
    }
    program(&run.wasm, run.needs.as_deref().unwrap_or("examples/build"))
}

/// A program that is there, if its script has run.
pub fn program(wasm: &str, made_by: &str) -> PathBuf {
    let path = match wasm {
        "python.wasm" => match std::env::var_os("SANDGRAIN_PYTHON") {
            Some(path) => PathBuf::from(path),
            None => downloads().join("python-wasm-0.1.0/python.wasm"),
        },
        other => examples().join(other),
    };
    assert!(path.exists(), "there is no {}; run {made_by} first", path.display());
    path
}

fn module(engine: &Engine, run: &Run) -> Module {
    static MODULES: Mutex<Option<HashMap<(PathBuf, bool), Module>>> = Mutex::new(None);
    let key = (path(run), engine.is_without_vm());
    // A test that failed has left the map as it was.
    let mut modules = MODULES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let modules = modules.get_or_insert_default();
    if let Some(module) = modules.get(&key) {
        return module.clone();
    }
    let module = Module::open(engine, &key.0).unwrap_or_else(|e| panic!("{}: {e}", run.name));
    modules.insert(key, module.clone());
    module
}

pub fn run(engine: &Engine, workers: Option<&Workers>, run: &Run) -> Outcome {
    let module = module(engine, run);
    let mut limits = Limits::default().deadline(Some(Duration::from_secs(300)));
    if let Some(bytes) = run.memory {
        limits = limits.memory(bytes);
    }
    if let Some(milliseconds) = run.milliseconds {
        limits = limits.deadline(Some(Duration::from_millis(milliseconds)));
    }
    let mut temporary = Vec::new();
    let mut wasi = WasiConfig::new()
        .arg(run.wasm.clone())
        .args(run.args.iter().cloned())
        .stdin(Input::Bytes(run.stdin.clone().into_bytes().into()))
        .stdout(Output::Capture)
        .stderr(Output::Capture);
    for (name, value) in &run.env {
        wasi = wasi.env(name, value);
    }
    for dir in &run.dirs {
        wasi = match dir {
            Dir::Source { host, guest } => wasi.preopen(host, guest, Access::ReadOnly),
            Dir::Temp { guest } => {
                let fresh = tempfile::tempdir().expect("a directory");
                let config = wasi.preopen(fresh.path(), guest, Access::ReadWrite);
                temporary.push((guest.clone(), fresh));
                config
            }
        };
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    let configure = |builder: SandboxBuilder| {
        let builder = builder.limits(limits.clone()).wasi(wasi.clone());
        if !run.host {
            return builder;
        }
        let lines = Arc::clone(&log);
        let add_line = move |caller: &mut Caller<'_>, address: u32, len: u32| {
            let text = String::from_utf8_lossy(caller.bytes(address, len)?).into_owned();
            lines.lock().expect("no panic").push(text);
            Ok::<_, BoxError>(())
        };
        builder
            .function("host", "log", add_line)
            .function("host", "add", |a: i32, b: i32| a.wrapping_add(b))
    };
    let mut built = configure(Sandbox::builder(&module)).build();
    if let Some(workers) = workers {
        built = built
            .and_then(|sandbox| configure(sandbox.snapshot()?.sandbox()).workers(workers).build());
    }
    let (ended, mut sandbox) = match built {
        Ok(mut sandbox) => {
            (execute(&mut sandbox, &module, run).unwrap_or_else(ended), Some(sandbox))
        }
        Err(Error::Limit { what, .. }) if what.contains("memory") => {
            (Ended::Refused("memory".to_owned()), None)
        }
        Err(error) => (ended(error), None),
    };
    let text = |bytes: Option<bytes::Bytes>| {
        String::from_utf8(bytes.unwrap_or_default().to_vec()).expect("programs write UTF-8")
    };
    Outcome {
        ended,
        stdout: text(sandbox.as_mut().map(Sandbox::take_stdout)),
        stderr: text(sandbox.as_mut().map(Sandbox::take_stderr)),
        log: log.lock().expect("no panic").clone(),
        files: files(&temporary),
    }
}

fn execute(sandbox: &mut Sandbox, module: &Module, run: &Run) -> Result<Ended, Error> {
    let Some(export) = &run.invoke else {
        return sandbox.run().map(Ended::Exit);
    };
    let Some(ExternType::Func(ty)) = module.export(export) else {
        panic!("{}: no function {export}", run.name)
    };
    assert_eq!(ty.params.len(), run.invoke_args.len(), "{}", run.name);
    let args: Vec<Value> =
        run.invoke_args.iter().zip(&ty.params).map(|(arg, ty)| parse(arg, *ty)).collect();
    let results = sandbox.call_values(sandbox.main(), export, &args)?;
    Ok(Ended::Returned(results.iter().map(show).collect()))
}

fn parse(text: &str, ty: ValType) -> Value {
    let number = "expected.json: a number";
    match ty {
        ValType::I32 => Value::I32(text.parse().expect(number)),
        ValType::I64 => Value::I64(text.parse().expect(number)),
        ValType::F32 => Value::F32(text.parse::<f32>().expect(number).to_bits()),
        ValType::F64 => Value::F64(text.parse::<f64>().expect(number).to_bits()),
        other => panic!("no argument of the type {other} can be written down"),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::F32(bits) => f32::from_bits(*bits).to_string(),
        Value::F64(bits) => f64::from_bits(*bits).to_string(),
        other => format!("{other:?}"),
    }
}

fn ended(error: Error) -> Ended {
    match error {
        Error::Trap(trap) => {
            let names = trap.frames.iter().filter_map(|frame| frame.name.clone()).collect();
            Ended::Trap(trap.code, names)
        }
        Error::Deadline(_) => Ended::Deadline,
        other => Ended::Other(other.to_string()),
    }
}

fn files(directories: &[(String, tempfile::TempDir)]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for (guest, directory) in directories {
        for entry in std::fs::read_dir(directory.path()).expect("a directory") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            let content = std::fs::read_to_string(entry.path()).expect("a text file");
            files.insert(format!("{guest}/{name}"), content);
        }
    }
    files
}
