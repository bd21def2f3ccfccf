//! The same function as a process of its own: `wasmtime run`, alone and in a container.

use super::LeftOut;
use super::figures::Floor;
use super::functions::Function;
use super::sandboxes::fresh_vm;
use super::turns::{Block, Member, Sample};
use crate::host_error;
use sandgrain::Result;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What can be measured of it here.
pub(super) struct Processes {
    pub(super) block: Option<Block>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Both ways, as far as the programs for it are there and work.
pub(super) fn block(wasmtime: Option<&Path>, function: &Function) -> Result<Processes> {
    let mut members = Vec::new();
    let mut left_out = Vec::new();
    let name = |what: &str| format!("{what}, {}", function.name);
    match prepare(wasmtime, function) {
        Err(reason) => {
            left_out.push(LeftOut::new(name("wasmtime run"), &reason));
            left_out.push(LeftOut::new(name("crun"), "it would run wasmtime, which is left out"));
        }
        Ok(place) => {
            let place = Arc::new(place);
            members.push(member("wasmtime run", &place, Place::process));
            match place.prepare_container().and_then(|()| run(place.container())) {
                Ok(_) => members.push(member("wasmtime run in crun", &place, Place::container)),
                Err(reason) => left_out.push(LeftOut::new(name("crun"), reason)),
            }
        }
    }
    if members.is_empty() {
        return Ok(Processes { block: None, left_out });
    }
    // For the ratios; the row is in another block.
    members.insert(0, Member { shown: false, ..fresh_vm()? });
    let block = Block { function: function.name, callers: 1, parked: 1, members };
    Ok(Processes { block: Some(block), left_out })
}

fn member(name: &'static str, place: &Arc<Place>, command: fn(&Place) -> Command) -> Member {
    let place = Arc::clone(place);
    let sample: Sample = Box::new(move || {
        run(command(&place)).map(Some).map_err(|reason| host_error(name, &reason))
    });
    Member::new(name, Floor::FreshVm, vec![sample])
}

/// A directory with the module, compiled ahead, and with what a container needs.
struct Place {
    dir: TempDir,
    wasmtime: PathBuf,
    export: &'static str,
}

fn prepare(wasmtime: Option<&Path>, function: &Function) -> Result<Place, String> {
    let wasmtime = match wasmtime {
        Some(path) => path.to_owned(),
        None => find("wasmtime").ok_or(
            "there is no wasmtime command in the search path; try: --wasmtime \
             \"$(tools/fetch-wasmtime)\"",
        )?,
    };
    let wasmtime = wasmtime
        .canonicalize()
        .map_err(|error| format!("cannot find {}: {error}", wasmtime.display()))?;
    let failed = |error: std::io::Error| format!("no temporary directory: {error}");
    let dir = tempfile::tempdir().map_err(failed)?;
    fs::write(dir.path().join("module.wasm"), &function.wasm).map_err(failed)?;
    let place = Place { dir, wasmtime, export: function.export };
    let mut compile = Command::new(&place.wasmtime);
    compile.arg("compile").arg("-o").arg(place.module()).arg(place.dir.path().join("module.wasm"));
    run(compile)?;
    run(place.process())?;
    Ok(place)
}

impl Place {
    fn module(&self) -> PathBuf {
        self.dir.path().join("module.cwasm")
    }

    fn process(&self) -> Command {
        let mut command = Command::new(&self.wasmtime);
        command.args(["run", "--allow-precompiled", "--invoke", self.export]).arg(self.module());
        command
    }

    /// A container that sees the system's programs and libraries, and has namespaces and a file system of its
    /// own.
    fn prepare_container(&self) -> Result<(), String> {
        if find("crun").is_none() {
            return Err("crun is not installed; try: apt-get install crun".to_owned());
        }
        let failed = |error: std::io::Error| format!("no directory for a container: {error}");
        fs::create_dir(self.dir.path().join("rootfs")).map_err(failed)?;
        let config = self.container_config();
        fs::write(self.dir.path().join("config.json"), config).map_err(failed)
    }

    fn container_config(&self) -> String {
        let (dir, wasmtime) = (self.dir.path(), &self.wasmtime);
        let bind = |from: &Path, to: &str| {
            format!(
                r#"{{"destination": "{to}", "type": "bind", "source": "{}", "options": ["rbind", "ro"]}}"#,
                from.display()
            )
        };
        let libraries = ["/usr", "/lib", "/lib64"].map(|dir| bind(Path::new(dir), dir)).join(", ");
        let (program, module) = (bind(wasmtime, "/wasmtime"), bind(dir, "/app"));
        let namespaces = ["pid", "mount", "ipc", "uts", "network"]
            .map(|kind| format!(r#"{{"type": "{kind}"}}"#))
            .join(", ");
        format!(
            r#"{{"ociVersion": "1.0.0",
  "process": {{"user": {{"uid": 0, "gid": 0}}, "cwd": "/",
    "args": ["/wasmtime", "run", "--allow-precompiled", "--invoke", "{}", "/app/module.cwasm"]}},
  "root": {{"path": "rootfs"}},
  "mounts": [{libraries}, {program}, {module}],
  "linux": {{"namespaces": [{namespaces}]}}}}
"#,
            self.export
        )
    }

    fn container(&self) -> Command {
        let mut command = Command::new("crun");
        // The directory's name is nobody else's, so no container has it.
        let name = self.dir.path().file_name().unwrap_or(OsStr::new("sandgrain-bench"));
        let id = name.to_string_lossy().replace('.', "");
        command.args(["run", "--bundle"]).arg(self.dir.path()).arg(id);
        command
    }
}

/// Runs a command to its end. How long it took, or how it failed.
fn run(mut command: Command) -> Result<Duration, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let program = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let output = command.output().map_err(|error| format!("cannot run {program}: {error}"))?;
    let taken = started.elapsed();
    if output.status.success() {
        return Ok(taken);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(format!("{program} failed ({}): {}", output.status, said.join("; ")))
}

/// Where the search path has a command.
fn find(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(command)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function() -> Function {
        let (wasm, result) = (b"\0asm\x01\0\0\0".to_vec(), None);
        Function { name: "f", export: "run", wasm, result, has_targets: false }
    }

    #[test]
    fn a_command_that_is_not_there_is_a_reason() {
        let missing = Path::new("/nonexistent/wasmtime");
        let processes = block(Some(missing), &function()).unwrap();
        assert!(processes.block.is_none());
        assert_eq!(processes.left_out[0].what, "wasmtime run, f");
        assert!(processes.left_out[0].reason.contains("/nonexistent/wasmtime"));
        assert_eq!(processes.left_out[1].what, "crun, f");
    }

    #[test]
    fn a_command_that_fails_is_a_reason_with_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck >&2; exit 3"]);
        let reason = run(command).unwrap_err();
        assert!(reason.contains("no such luck") && reason.contains('3'), "{reason}");
    }

    #[test]
    fn a_container_s_configuration_is_json() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { dir, wasmtime: "/opt/wasmtime".into(), export: "run" };
        let config: serde_json::Value = serde_json::from_str(&place.container_config()).unwrap();
        assert_eq!(config["process"]["args"][4], "run");
        assert!(config["mounts"].as_array().unwrap().len() > 3);
    }
}
