//! The scripts: the component model's own, and the validator's.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One script.
pub struct Script {
    /// Its folder.
    pub suite: String,
    /// Its folder and file name.
    pub name: String,
    pub source: String,
    /// Whether components that import something are only compiled: those of the validator's tests import what there
    /// is not.
    pub compile_only: bool,
    /// Why it is not run, if it is not.
    pub skipped: Option<&'static str>,
}

/// Folders of the package with tests.
const FOLDERS: [(&str, &str, bool); 7] = [
    ("tests/component-model/test/values", "values", false),
    ("tests/component-model/test/resources", "resources", false),
    ("tests/component-model/test/linking", "linking", false),
    ("tests/component-model/test/validation", "validation", false),
    ("tests/component-model/test/binary", "binary", false),
    ("tests/component-model/test/async", "async", false),
    ("tests/cli/component-model", "validator", true),
];

pub fn all() -> Result<Vec<Script>, String> {
    let package = package()?;
    let mut scripts = Vec::new();
    for (folder, suite, compile_only) in FOLDERS {
        let folder = package.join(folder);
        let read = |error| format!("cannot read {}: {error}", folder.display());
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(read)? {
            files.push(entry.map_err(read)?.path());
        }
        files.retain(|file| file.extension().is_some_and(|extension| extension == "wast"));
        files.sort();
        for file in files {
            scripts.push(script(&file, suite, compile_only)?);
        }
    }
    Ok(scripts)
}

fn script(file: &Path, suite: &str, compile_only: bool) -> Result<Script, String> {
    let source = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let skipped = if suite == "async" {
        Some("async functions are off: the guest's engine is not built with them")
    } else if source.contains("WAST_STRICT_COMPONENT_INDICES=0") {
        Some("older rule: it is written in a text format that is no longer read")
    } else {
        None
    };
    let name = format!("{suite}/{name}");
    Ok(Script { suite: suite.to_owned(), name, source, compile_only, skipped })
}

/// Where cargo keeps the files of the package that carries the tests. It fetches them if need be.
fn package() -> Result<PathBuf, String> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/suite/Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest])
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo cannot fetch the tests: {}", said.trim()));
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = packages.iter().find(|package| package["name"] == "wasm-tools");
    let path = found.and_then(|package| package["manifest_path"].as_str());
    let folder = path.and_then(|path| Path::new(path).parent());
    folder.map(Path::to_owned).ok_or_else(|| "cargo does not know the tests' package".to_owned())
}
