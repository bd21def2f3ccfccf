//! The table of components, and where they are.

use sandgrain::{Engine, Module};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The directory of the examples' components.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/components")
}

/// The table.
pub fn table() -> &'static Value {
    static TABLE: OnceLock<Value> = OnceLock::new();
    TABLE.get_or_init(|| {
        let text = std::fs::read(directory().join("expected.json")).expect("the table");
        serde_json::from_slice(&text).expect("JSON")
    })
}

/// The entries of a list in the table.
pub fn list(name: &str) -> &'static [Value] {
    table()[name].as_array().expect("a list")
}

/// A text in an entry.
pub fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_else(|| panic!("no {name} in {entry}"))
}

/// The engine with VMs. Without KVM every test fails here, with the library's own words.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("component-cache");
        let emulated = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
        match Engine::builder().available_tss(emulated).cache_dir(cache).build() {
            Ok(engine) => engine,
            Err(error) => panic!("{error}"),
        }
    })
}

/// The engine without, for components that compile in a moment.
pub fn reference() -> &'static Engine {
    static REFERENCE: OnceLock<Engine> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        Engine::builder().without_cache().dangerously_without_vm().build().expect("an engine")
    })
}

/// A component by its name in the table, for a VM.
pub fn component(name: &str) -> Module {
    component_for(engine(), name)
}

/// A component by its name in the table. One that is built by a script must have been.
pub fn component_for(engine: &Engine, name: &str) -> Module {
    let entry = list("components").iter().find(|entry| entry["name"] == name);
    let entry = entry.unwrap_or_else(|| panic!("no component {name} in the table"));
    let path = match entry["wasm"].as_str() {
        Some(path) => directory().join(path),
        None => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/build-component");
            let output = Command::new(script).args(["--cached", name]).output().expect("bash");
            let path = String::from_utf8(output.stdout).expect("a path").trim().to_owned();
            assert!(!path.is_empty(), "{name} has not been built; try: {}", text(entry, "needs"));
            path.into()
        }
    };
    Module::open(engine, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
