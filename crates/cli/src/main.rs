//! The `sandgrain` command: run WebAssembly in a micro-VM.
#![forbid(unsafe_code)]

mod advice;
mod arguments;
mod bench;
mod check;
mod compile;
mod doctor;
mod exit;
mod failure;
mod file;
mod log;
mod module;
mod options;
mod progress;
mod report;
mod run;
mod serve;
mod terminal;
mod values;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Runs WebAssembly in a micro-VM without an operating system.
#[derive(Debug, Parser)]
#[command(name = "sandgrain", version, after_help = exit::table())]
struct Cli {
    #[command(flatten)]
    log: log::LogOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a WASI program, or one exported function of a module
    #[command(after_help = exit::table())]
    Run(Box<run::Arguments>),
    /// Compiles a module ahead of time, into a file that `run` takes
    Compile(compile::Arguments),
    /// Serves functions to HTTP requests, each in a VM of its own
    Serve(Box<serve::Arguments>),
    /// Checks a manifest of the function server, and says everything that is wrong with it
    Check(check::Arguments),
    /// Shows what this machine offers, what is missing, and how to get it
    Doctor(doctor::Arguments),
    /// Measures what calls and programs cost on this machine
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    // Does not return in a worker process.
    sandgrain::be_worker_if_asked();
    let cli = Cli::parse();
    if let Err(failure) = cli.log.start() {
        return end(Err(failure));
    }
    match &cli.command {
        Command::Run(arguments) => run::execute(arguments),
        Command::Compile(arguments) => end(compile::execute(arguments)),
        Command::Serve(arguments) => end(serve::execute(arguments)),
        Command::Check(arguments) => end(check::execute(arguments)),
        Command::Doctor(arguments) => end(doctor::execute(arguments)),
        Command::Bench(arguments) => end(bench::execute(arguments)),
    }
}

fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.class.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
