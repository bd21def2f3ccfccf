//! Generates the dispatcher of WASI 0.2 from its WIT: for each function how its arguments are read, which
//! method of wasmtime-wasi answers it, and how its result is written.
//!
//! The WIT is the one that wasmtime-wasi's own bindings were made from, so that both have the same functions
//! and types. What cannot be told from it is in the two tables of `functions.rs`.

#[path = "build/find.rs"]
mod find;
#[path = "build/functions.rs"]
mod functions;
#[path = "build/names.rs"]
mod names;
#[path = "build/types.rs"]
mod types;

use std::env;
use std::fs;
use std::path::PathBuf;

use wit_parser::Resolve;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let wit = find::wit();
    let mut resolve = Resolve::default();
    let (_, sources) = resolve
        .push_dir(&wit)
        .unwrap_or_else(|error| panic!("cannot read the WIT in {}: {error:#}", wit.display()));
    for path in sources.paths() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("component.rs");
    fs::write(&out, functions::generate(&resolve))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", out.display()));
}
