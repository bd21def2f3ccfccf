//! The project's own chores. `cargo xtask --help` lists them.
#![forbid(unsafe_code)]

mod svm;

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores")]
enum Chore {
    /// Runs a program of this machine in QEMU, under a Debian kernel with a real kvm_amd.
    Svm(svm::Arguments),
}

fn main() -> ExitCode {
    let result = match Chore::parse() {
        Chore::Svm(arguments) => svm::run(&arguments),
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
