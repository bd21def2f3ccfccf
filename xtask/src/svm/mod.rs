//! A real, hardware-style KVM on any machine: QEMU emulates an AMD CPU with its virtualization, a Debian
//! kernel with kvm_amd runs on it, and in it a program of this machine, which sees this machine's files
//! read-only under a layer that is thrown away.
//!
//! It is slow, and its times mean nothing next to other times; what it counts and what it permits is what
//! counts.

mod install;

use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

/// What and how to run.
#[derive(Args)]
pub struct Arguments {
    /// Seconds until the machine is stopped; the exit status is then 124.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Memory of the machine.
    #[arg(long, default_value = "3G")]
    memory: String,
    /// Sets an environment variable of the program: NAME=VALUE, or NAME to pass this one's on.
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    environment: Vec<String>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Why it could not be run: what happened, and what to do.
pub type Error = Box<dyn std::error::Error>;

/// Runs the program; its exit status.
pub fn run(arguments: &Arguments) -> Result<u8, Error> {
    let installed = install::install()?;
    let results = installed.directory.join(format!("results-{}", std::process::id()));
    fs::create_dir_all(&results)?;
    let code = start(arguments, &installed, &results);
    for (name, to) in
        [("stdout", &mut io::stdout() as &mut dyn Write), ("stderr", &mut io::stderr())]
    {
        // A machine that did not get so far has written neither.
        if let Ok(bytes) = fs::read(results.join(name)) {
            to.write_all(&bytes)?;
        }
    }
    let code = code.map_err(|error| {
        let console = fs::read_to_string(results.join("console")).unwrap_or_default();
        let last: Vec<&str> = console.lines().rev().take(15).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        format!("{error}; the end of its console:\n{}", last.join("\n"))
    });
    fs::remove_dir_all(&results)?;
    Ok(code?)
}

fn start(
    arguments: &Arguments,
    installed: &install::Installed,
    results: &Path,
) -> Result<u8, Error> {
    fs::write(results.join("command"), script(arguments)?)?;
    let share = |id: &str, path: &Path, options: &str| {
        format!(
            "local,id={id},path={},security_model=none,multidevs=remap{options}",
            path.display()
        )
    };
    let mut console = OsString::from("file:");
    console.push(results.join("console"));
    let status = Command::new("timeout")
        .arg(arguments.timeout.to_string())
        .arg("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max,+svm", "-smp", "2"])
        .args(["-m", &arguments.memory, "-nodefaults", "-display", "none", "-no-reboot"])
        .arg("-serial")
        .arg(console)
        .arg("-kernel")
        .arg(&installed.kernel)
        .arg("-initrd")
        .arg(&installed.initrd)
        .arg("-append")
        .arg("console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=reliable")
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .arg("-fsdev")
        .arg(share("root", Path::new("/"), ",readonly=on"))
        .args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=hostroot"])
        .arg("-fsdev")
        .arg(share("results", results, ""))
        .args(["-device", "virtio-9p-pci,fsdev=results,mount_tag=results"])
        .status()
        .map_err(|error| format!("cannot run qemu-system-x86_64: {error}"))?;
    match status.code() {
        Some(124) => Err(format!("the machine was stopped after {} s", arguments.timeout).into()),
        // isa-debug-exit turns the status s into 2s + 1.
        Some(code) if code & 1 == 1 => match (code >> 1) as u8 {
            121 => Err("the emulated machine could not be set up".into()),
            code => Ok(code),
        },
        _ => Err(format!("QEMU ended by itself: {status}").into()),
    }
}

/// The shell script that the machine runs.
fn script(arguments: &Arguments) -> Result<String, Error> {
    let mut script = String::from("export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp\n");
    for variable in &arguments.environment {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (variable.as_str(), std::env::var(variable)?),
        };
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || name.is_empty() {
            return Err(format!("{name:?} is not a variable's name; use letters and digits").into());
        }
        script += &format!("export {name}={}\n", quoted(&value));
    }
    script += &format!("cd {}\n", quoted(&utf8(std::env::current_dir()?.into_os_string())?));
    script += "exec";
    for word in &arguments.command {
        script += " ";
        script += &quoted(&utf8(word.clone())?);
    }
    Ok(script + "\n")
}

fn utf8(text: OsString) -> Result<String, Error> {
    text.into_string().map_err(|text| format!("{text:?} is not UTF-8").into())
}

/// A word for a shell: nothing is special within single quotes but themselves.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
