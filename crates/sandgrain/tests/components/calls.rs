//! Calls of the greeters, in five languages, as texts: what they return, and what they ask the host for.

use crate::table::{component, component_for, list, reference, text};
use sandgrain::wasi::WasiConfig;
use sandgrain::{Limits, Module, Policy, Pool, Sandbox, SandboxBuilder, Snapshot, Workers, wave};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The interface that the greeters import.
const HOST: &str = "sandgrain:examples/host";

/// What the host functions look up, and what they are told.
#[derive(Clone, Default)]
struct Host {
    settings: Arc<Mutex<HashMap<String, String>>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Host {
    /// With the settings of an entry, and nothing logged.
    fn begin(&self, entry: &Value) {
        let settings = entry["settings"].as_object().into_iter().flatten();
        let setting = |(key, value): (&String, &Value)| {
            (key.clone(), value.as_str().expect("a setting's text").to_owned())
        };
        *self.settings.lock().expect("no panic") = settings.map(setting).collect();
        self.log.lock().expect("no panic").clear();
    }

    fn define(&self, builder: SandboxBuilder) -> SandboxBuilder {
        let (settings, log) = (Arc::clone(&self.settings), Arc::clone(&self.log));
        builder
            .wasi(WasiConfig::new())
            .component_function(HOST, "lookup", move |key: String| {
                settings.lock().expect("no panic").get(&key).cloned()
            })
            .component_function(HOST, "log", move |line: String| {
                log.lock().expect("no panic").push(line);
            })
    }
}

fn limits() -> Limits {
    Limits::default().memory(1 << 30).deadline(Some(Duration::from_secs(120)))
}

fn new(module: &Module, host: &Host) -> SandboxBuilder {
    host.define(Sandbox::builder(module).limits(limits()))
}

/// One call of the table.
fn check(case: &str, sandbox: &mut Sandbox, module: &Module, host: &Host, entry: &Value) {
    let call = text(entry, "call");
    let info = module.component_info().expect("a component");
    let (function, args) =
        wave::parse_call(call, info).unwrap_or_else(|error| panic!("{case}: {error}"));
    host.begin(entry);
    let name = function.path.join("#");
    let result = sandbox.call_component_values(sandbox.main(), &name, &args);
    let result = result.unwrap_or_else(|error| panic!("{case}: {call}: {error}"));
    let result = result.as_ref().map(wave::print);
    assert_eq!(result.as_deref(), Some(text(entry, "expect_result")), "{case}: {call}");
    let expected = entry["expect_log"].as_array().into_iter().flatten();
    let expected: Vec<&str> = expected.map(|line| line.as_str().expect("a line")).collect();
    assert_eq!(*host.log.lock().expect("no panic"), expected, "{case}: {call}");
}

/// All calls, one after the other, in one sandbox.
fn check_all(case: &str, sandbox: &mut Sandbox, module: &Module, host: &Host) {
    for entry in list("calls") {
        check(case, sandbox, module, host, entry);
    }
}

/// All calls in one sandbox, made anew.
fn in_one(module: &Module, name: &str) {
    let host = Host::default();
    let mut sandbox = new(module, &host).build().unwrap_or_else(|error| panic!("{name}: {error}"));
    check_all(name, &mut sandbox, module, &host);
}

/// A snapshot of a greeter that has not been called.
fn snapshot(module: &Module) -> Snapshot {
    let sandbox = new(module, &Host::default()).build().expect("a sandbox");
    sandbox.snapshot().expect("a snapshot")
}

#[test]
fn rust_is_called() {
    in_one(&component("rust-greeter"), "rust");
}

#[test]
fn c_is_called() {
    in_one(&component("c-greeter"), "c");
}

#[test]
fn go_is_called() {
    in_one(&component("go-greeter"), "go");
}

#[test]
fn javascript_is_called() {
    in_one(&component("js-greeter"), "js");
}

#[test]
fn python_is_called() {
    in_one(&component("py-greeter"), "py");
}

/// Those that compile in a moment.
const SMALL: [&str; 2] = ["rust-greeter", "c-greeter"];

#[test]
fn greeters_are_called_without_a_vm() {
    for name in SMALL {
        in_one(&component_for(reference(), name), name);
    }
}

#[test]
fn greeters_are_called_in_workers() {
    let workers = Workers::of_program(env!("CARGO_BIN_EXE_sandgrain-worker"));
    for name in SMALL {
        let (module, host) = (component(name), Host::default());
        let builder = host.define(snapshot(&module).sandbox()).workers(&workers);
        let mut sandbox = builder.build().unwrap_or_else(|error| panic!("{name}: {error}"));
        check_all(name, &mut sandbox, &module, &host);
    }
}

#[test]
fn each_call_has_a_sandbox_of_the_snapshot() {
    for name in ["rust-greeter", "c-greeter", "js-greeter"] {
        let (module, host) = (component(name), Host::default());
        let snapshot = snapshot(&module);
        for entry in list("calls") {
            let mut sandbox = host.define(snapshot.sandbox()).build().expect("a sandbox of it");
            check(name, &mut sandbox, &module, &host, entry);
        }
    }
}

#[test]
fn a_snapshot_of_a_greeter_that_was_called_goes_on() {
    for name in SMALL {
        let (module, host) = (component(name), Host::default());
        let mut first = new(&module, &host).build().expect("a sandbox");
        check_all(name, &mut first, &module, &host);
        let snapshot = first.snapshot().expect("a snapshot");
        let mut second = host.define(snapshot.sandbox()).build().expect("a sandbox of it");
        check_all(name, &mut second, &module, &host);
        check_all(name, &mut first, &module, &host);
    }
}

#[test]
fn each_call_has_a_sandbox_of_a_pool() {
    for name in SMALL {
        for policy in [Policy::Fresh, Policy::Reset] {
            let (module, host) = (component(name), Host::default());
            let defined = host.clone();
            let pool = Pool::builder(&snapshot(&module))
                .policy(policy)
                .parked(1..=2)
                .configure(move |builder| defined.define(builder))
                .build()
                .expect("a pool");
            for entry in list("calls") {
                let mut sandbox = pool.take("tenant").expect("a sandbox of the pool");
                check(&format!("{name}, {policy:?}"), &mut sandbox, &module, &host, entry);
            }
        }
    }
}
