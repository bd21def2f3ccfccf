//! Builds the runtime that runs inside the VMs, which the library carries as bytes.
//!
//! It is a program for a machine without an operating system, in a workspace of its own, but it needs
//! no other target than this one's and no other toolchain. Its build directory is shared by all
//! profiles of this one and kept, so that it is built once.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let library = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let crates = library.parent().expect("the library is in a folder of crates");
    let runtime = crates.join("wasm-runtime");
    for watched in ["wasm-runtime", "guest", "executor", "abi"] {
        let watched = crates.join(watched);
        for part in
            ["src", "Cargo.toml", "Cargo.lock", "build.rs", "layout.ld", "first.ld", "stubs"]
        {
            let part = watched.join(part);
            if part.exists() {
                println!("cargo::rerun-if-changed={}", part.display());
            }
        }
    }
    println!("cargo::rerun-if-changed=build.rs");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let build = build_directory(&out);
    let cargo = env::var_os("CARGO").expect("cargo sets it");
    let mut command = Command::new(cargo);
    command
        .current_dir(&runtime)
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&build);
    // What this build was told about its own code is not meant for the guest's.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let inherited =
            ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_MAKEFLAGS"];
        if text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_BUILD_")
            || text.starts_with("CARGO_CFG_")
            || text.starts_with("CARGO_FEATURE_")
            || inherited.contains(&&*text)
        {
            command.env_remove(&name);
        }
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Crelocation-model=static\u{1f}-Ctarget-cpu=x86-64");
    let status = command.status().unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
    assert!(status.success(), "the runtime does not build: see the errors above");

    let program = build.join(TARGET).join("release/sandgrain-wasm-runtime");
    assert!(program.is_file(), "the runtime's build left no {}", program.display());
    // This build's own copy: other checkouts may share the directory that the runtime was built in.
    let copy = out.join("sandgrain-wasm-runtime");
    std::fs::copy(&program, &copy).unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
    println!("cargo::rustc-env=SANDGRAIN_RUNTIME={}", copy.display());
}

/// A directory beside this build's own, which outlives changes of profile and of features.
fn build_directory(out: &Path) -> PathBuf {
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let target = out.ancestors().nth(4).unwrap_or(out);
    target.join("sandgrain-runtime")
}
