//! Running the command, in a directory and with a cache of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A directory to run the command in.
pub struct Place {
    dir: TempDir,
}

/// How the command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A directory with one file in it.
    pub fn with(name: &str, content: impl AsRef<[u8]>) -> Self {
        let place = Self::new();
        place.write(name, content);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The command, with nothing of this process's environment that could change what it does.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandgrain"));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_clear().env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::new(self.command(arguments).output().unwrap())
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ended::new(child.wait_with_output().unwrap())
    }
}

impl Ended {
    pub fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or_else(|| panic!("killed: {output:?}")),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It went well and printed this.
    #[track_caller]
    pub fn prints(&self, stdout: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (0, stdout), "{self:?}");
    }

    /// It failed with this code and one line that says what to try: the line.
    #[track_caller]
    pub fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        let lines = self.stderr.lines().filter(|line| line.starts_with("error: "));
        let [line] = lines.collect::<Vec<_>>()[..] else { panic!("not one error: {self:?}") };
        let (what, advice) = line.split_once("; try: ").unwrap_or_else(|| panic!("{self:?}"));
        assert!(!what.is_empty() && !advice.is_empty(), "{self:?}");
        line
    }

    /// As [`fails`](Self::fails), with nothing else on standard error.
    #[track_caller]
    pub fn fails_with_one_line(&self, code: i32) -> &str {
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        self.fails(code)
    }
}

/// A file of the project's examples.
pub fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    path.to_str().unwrap().to_owned()
}
