//! Where the WIT is.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The package that carries the WIT of everything that is offered: its own, and wasmtime-wasi's.
const PACKAGE: &str = "wasmtime-wasi-http";

/// The directory of the WIT.
pub fn wit() -> PathBuf {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let manifest = manifest.join("Cargo.toml");
    println!("cargo::rerun-if-changed={}", manifest.display());
    let metadata = metadata(&manifest);
    // Another version, and another directory for it, come only with another lock file.
    if let Some(root) = metadata["workspace_root"].as_str() {
        println!("cargo::rerun-if-changed={}", Path::new(root).join("Cargo.lock").display());
    }
    let package = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == PACKAGE))
        .and_then(|package| package["manifest_path"].as_str())
        .unwrap_or_else(|| panic!("{PACKAGE} is not among the packages that cargo tells of"));
    let wit = Path::new(package).with_file_name("wit");
    assert!(
        wit.join("deps").is_dir(),
        "{PACKAGE} has no WIT in {}; the build script has to be adapted to this release of it",
        wit.display()
    );
    wit
}

/// What cargo tells of this workspace, the places of its dependencies' sources included.
fn metadata(manifest: &Path) -> Value {
    let mut output = run(manifest, &["--offline"]);
    // Cargo has downloaded what this build needs. It tells of other packages too: tests', for one.
    if !output.status.success() {
        output = run(manifest, &[]);
    }
    assert!(
        output.status.success(),
        "cargo does not tell where the sources of {PACKAGE} are, which the WIT is in; try: cargo fetch \
         --locked\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn run(manifest: &Path, more: &[&str]) -> Output {
    let target = env::var("TARGET").expect("cargo sets it");
    Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &target])
        .arg("--manifest-path")
        .arg(manifest)
        .args(more)
        .output()
        .unwrap_or_else(|error| panic!("cannot run cargo: {error}"))
}
