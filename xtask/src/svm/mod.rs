//! A real, hardware-style KVM on any machine: QEMU emulates an AMD CPU with its virtualization, a Debian
//! kernel with kvm_amd runs on it, and in it a program of this machine, which sees this machine's files
//! read-only under a layer that is thrown away.
//!
//! It is slow, and its times mean nothing next to other times; what it counts and what it permits is what
//! counts.

mod install;
mod machine;
mod script;

use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The exit status for a program that ran into the time limit, as `timeout` has it.
const TIMED_OUT: u8 = 124;

/// What and how to run.
#[derive(Args)]
#[command(after_help = "\
The program starts in this directory and sees this machine's files; what it writes is thrown away with \
the machine. /dev, /proc and /sys are the emulated machine's own. Its standard input is empty, its output \
is shown when it has ended.

Exit status: the program's own; 128 and the signal's number where a signal ended it; 124 at the time \
limit; 125 where the machine could not be had.")]
pub struct Arguments {
    /// Seconds until the machine is stopped.
    #[arg(long, default_value_t = 600)]
    pub timeout: u64,
    /// Memory of the machine, as QEMU takes it.
    #[arg(long, default_value = "3G")]
    pub memory: String,
    /// Sets an environment variable of the program: NAME=VALUE, or NAME to pass this one's on. It has no
    /// others but PATH and HOME.
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub environment: Vec<String>,
    /// Shows, after the run, what the machine's kernel had to say.
    #[arg(long)]
    pub console: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Why it could not be run: what happened, and what to do.
pub type Error = Box<dyn std::error::Error>;

/// Runs the program; its exit status.
pub fn run(arguments: &Arguments) -> Result<u8, Error> {
    let script = script::script(arguments, &std::env::current_dir()?)?;
    let installed = install::install()?;
    let results = Results::new(installed.directory.join(format!("run-{}", std::process::id())))?;
    fs::write(results.path.join("command"), script)?;
    let ended = machine::run(arguments, &installed, &results.path);
    let mut stderr = io::stderr();
    if arguments.console {
        stderr.write_all(&results.read("console"))?;
    }
    let machine = results.read("machine");
    if !machine.is_empty() {
        stderr.write_all(b"svm: ")?;
        stderr.write_all(&machine)?;
    }
    // A machine that did not get so far has written neither.
    io::stdout().write_all(&results.read("stdout"))?;
    stderr.write_all(&results.read("stderr"))?;
    match ended? {
        machine::Ended::Finished => {
            let status = String::from_utf8_lossy(&results.read("status")).trim().to_owned();
            status.parse().map_err(|_| format!("the machine left {status:?} for a status").into())
        }
        machine::Ended::TimedOut => {
            writeln!(stderr, "error: the machine was stopped after {} s", arguments.timeout)?;
            Ok(TIMED_OUT)
        }
        machine::Ended::Failed(how) => {
            let console = String::from_utf8_lossy(&results.read("console")).into_owned();
            Err(format!("{how}{}", last_words(&console)).into())
        }
    }
}

/// What init said, or else the end of what the kernel did.
fn last_words(console: &str) -> String {
    if let Some(line) = console.lines().rev().find_map(|line| line.trim().strip_prefix("svm: ")) {
        return format!(": {line}");
    }
    let lines: Vec<&str> = console.lines().collect();
    let last = &lines[lines.len().saturating_sub(15)..];
    format!("; the end of its console:\n{}", last.join("\n"))
}

/// A directory for the files of a run. It goes away with this process, however that ends.
struct Results {
    path: PathBuf,
    sweeper: Child,
}

impl Results {
    fn new(path: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&path)?;
        // It waits for the end of its input, which comes also when this process is killed; in a group of
        // its own, so that Ctrl-C does not reach it. QEMU may write a last file meanwhile.
        let sweeper = Command::new("sh")
            .args(["-c", "cat; until rm -rf \"$1\"; do sleep 1; done 2>/dev/null", "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        Ok(Self { path, sweeper })
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path.join(name)).unwrap_or_default()
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        // If it fails there is a directory too many, in a cache.
        let _ = self.sweeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::{Results, last_words};

    #[test]
    fn what_init_said_explains_a_failure() {
        assert_eq!(last_words("a\nsvm: no host files\nb\n"), ": no host files");
    }

    #[test]
    fn a_silent_failure_is_explained_by_the_console() {
        assert!(last_words("one\ntwo").ends_with("one\ntwo"));
    }

    #[test]
    fn results_go_away() {
        let path = std::env::temp_dir().join(format!("xtask results {}", std::process::id()));
        let results = Results::new(path.clone()).expect("a directory");
        std::fs::write(path.join("file"), "x").expect("a file");
        assert_eq!(results.read("file"), b"x");
        drop(results);
        assert!(!path.exists());
    }
}
