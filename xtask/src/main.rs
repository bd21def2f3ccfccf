//! The project's own chores. `cargo xtask --help` lists them.
#![forbid(unsafe_code)]

mod counts;
mod fuzz;
mod svm;

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores")]
enum Chore {
    /// Runs a program of this machine in QEMU, under a Debian kernel with a real kvm_amd.
    Svm(svm::Arguments),
    /// Counts what operations on a sandbox ask of KVM, in that machine: docs/structural-counts.md.
    Counts,
    /// Runs the fuzz targets, each for a while.
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    let result = match Chore::parse() {
        Chore::Svm(arguments) => svm::run(&arguments),
        Chore::Counts => counts::run(),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "a command's own words")]
            {
                eprintln!("error: {error}");
            }
            ExitCode::from(125)
        }
    }
}
