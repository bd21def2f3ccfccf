//! `examples/expected.json`: what is to be run, and what comes of it.

use crate::run::{Ended, Outcome};
use sandgrain::TrapCode;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A directory that a program is given.
#[derive(Clone, Debug)]
pub enum Dir {
    /// One of the examples' own, only read from.
    Source { host: PathBuf, guest: String },
    /// A fresh one.
    Temp { guest: String },
}

/// A run and what is expected of it; see `examples/README.md`.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub name: String,
    pub wasm: String,
    /// The component that it is run as, in place of the module.
    pub component: Option<PathBuf>,
    pub needs: Option<String>,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub dirs: Vec<Dir>,
    pub stdin: String,
    pub invoke: Option<String>,
    pub invoke_args: Vec<String>,
    pub memory: Option<u64>,
    pub milliseconds: Option<u64>,
    pub host: bool,
    pub stdout: Option<String>,
    pub stderr: Option<String>,
    pub exit: Option<i64>,
    pub files: BTreeMap<String, String>,
    pub results: Option<Vec<String>>,
    pub log: Option<Vec<String>>,
    pub trap: Option<(String, Vec<String>)>,
    pub refused: Option<String>,
}

pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_else(|| panic!("expected.json: {json} should be a string")).to_owned()
}

fn texts(json: &Json) -> Vec<String> {
    json.as_array().map(|list| list.iter().map(text).collect()).unwrap_or_default()
}

fn map(json: &Json) -> BTreeMap<String, String> {
    let pairs = json.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), text(value))).collect()
}

fn dir(json: &Json) -> Dir {
    if let Some(guest) = json.get("temp") {
        return Dir::Temp { guest: text(guest) };
    }
    let both = text(json);
    let (host, guest) = both.split_once("::").expect("expected.json: HOST::GUEST");
    Dir::Source { host: examples().join(host), guest: guest.to_owned() }
}

/// The fields that are understood. Another one would be an expectation that nothing checks.
const FIELDS: &[&str] = &[
    "name",
    "wasm",
    "needs",
    "args",
    "env",
    "dirs",
    "stdin",
    "invoke",
    "invoke_args",
    "limits",
    "host",
    "expect_stdout",
    "expect_stderr",
    "expect_exit",
    "expect_files",
    "expect_results",
    "expect_log",
    "expect_trap",
    "expect_refused",
];

/// All runs of the table.
pub fn runs() -> Vec<Run> {
    let path = examples().join("expected.json");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let json: Json = serde_json::from_slice(&bytes).expect("expected.json");
    json["runs"].as_array().expect("a list of runs").iter().map(parse).collect()
}

fn parse(json: &Json) -> Run {
    for field in json.as_object().expect("an object").keys() {
        assert!(FIELDS.contains(&field.as_str()), "expected.json: unknown field {field}");
    }
    let optional = |name: &str| json.get(name).map(text);
    let list = |name: &str| json.get(name).map(texts);
    let trap = json.get("expect_trap");
    Run {
        name: text(&json["name"]),
        wasm: text(&json["wasm"]),
        component: None,
        needs: optional("needs"),
        args: list("args").unwrap_or_default(),
        env: map(&json["env"]),
        dirs: json["dirs"].as_array().into_iter().flatten().map(dir).collect(),
        stdin: optional("stdin").unwrap_or_default(),
        invoke: optional("invoke"),
        invoke_args: list("invoke_args").unwrap_or_default(),
        memory: json["limits"]["memory_bytes"].as_u64(),
        milliseconds: json["limits"]["milliseconds"].as_u64(),
        host: json["host"].as_bool().unwrap_or(false),
        stdout: optional("expect_stdout"),
        stderr: optional("expect_stderr"),
        exit: json["expect_exit"].as_i64(),
        files: map(&json["expect_files"]),
        results: list("expect_results"),
        log: list("expect_log"),
        trap: trap.map(|trap| (text(&trap["code"]), texts(&trap["functions"]))),
        refused: optional("expect_refused"),
    }
}

/// Our name for one of the engine's.
fn trap_code(name: &str) -> TrapCode {
    match name {
        "UnreachableCodeReached" => TrapCode::Unreachable,
        "IntegerDivisionByZero" => TrapCode::IntegerDivisionByZero,
        "IntegerOverflow" => TrapCode::IntegerOverflow,
        "BadConversionToInteger" => TrapCode::BadConversionToInteger,
        "MemoryOutOfBounds" => TrapCode::MemoryOutOfBounds,
        "BadSignature" => TrapCode::BadSignature,
        "IndirectCallToNull" => TrapCode::IndirectCallToNull,
        "TableOutOfBounds" => TrapCode::TableOutOfBounds,
        "StackOverflow" => TrapCode::StackOverflow,
        other => panic!("expected.json: the trap {other} has no name here yet"),
    }
}

/// Whether a name in a backtrace is that of a function: as it is, or as the last part of a Rust path,
/// which the compiler writes with its length before it.
fn is_named(found: &str, name: &str) -> bool {
    found == name || found.starts_with("_R") && found.ends_with(&format!("{}{name}", name.len()))
}

/// Whether `wanted` occur in `found` in their order, with others between.
fn in_order(wanted: &[String], found: &[String]) -> bool {
    let mut found = found.iter();
    wanted.iter().all(|name| found.any(|other| is_named(other, name)))
}

impl Run {
    /// What does not agree with the table.
    pub fn compare(&self, outcome: &Outcome) -> Vec<String> {
        let mut problems = Vec::new();
        let mut same = |what: &str, expected: Option<String>, got: String| {
            if let Some(expected) = expected
                && expected != got
            {
                problems.push(format!("{what}: expected {expected:?}, got {got:?}"));
            }
        };
        same("stdout", self.stdout.clone(), outcome.stdout.clone());
        same("stderr", self.stderr.clone(), outcome.stderr.clone());
        let list = |list: &[String]| format!("{list:?}");
        same("log", self.log.as_deref().map(list), list(&outcome.log));
        for (path, content) in &self.files {
            let got = outcome.files.get(path).cloned().unwrap_or_else(|| "no file".to_owned());
            same(path, Some(content.clone()), got);
        }
        let right = match (&outcome.ended, &self.trap) {
            (Ended::Exit(code), None) => self.exit == Some(i64::from(*code)),
            (Ended::Returned(values), None) => self.results.as_ref() == Some(values),
            (Ended::Refused(limit), None) => self.refused.as_deref() == Some(limit.as_str()),
            (Ended::Trap(code, functions), Some((name, wanted))) if name != "Interrupt" => {
                *code == trap_code(name) && in_order(wanted, functions)
            }
            // A VM that is stopped has no time left to say where it was.
            (Ended::Deadline, Some((name, _))) => name == "Interrupt",
            _ => false,
        };
        match &outcome.ended {
            _ if right => {}
            Ended::Other(error) => problems.push(error.clone()),
            ended => problems.push(format!("ended with {ended:?}")),
        }
        problems
    }
}
