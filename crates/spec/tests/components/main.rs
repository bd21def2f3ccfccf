//! Runs the component model's tests: `cargo test -p sandgrain-spec --test components [part of a script's name]`.
//!
//! Scripts run on a [`Platform`]; what they ask of one is little: compile a component, instantiate it, call
//! what it exports.
#![allow(clippy::print_stdout, reason = "a test program reports on its standard output")]

mod exceptions;
mod in_process;
mod platform;
mod report;
mod script;
mod suite;
mod values;

use platform::Platform;
use report::Report;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    let mut scripts = match suite::all() {
        Ok(scripts) => scripts,
        Err(error) => {
            println!("the tests cannot run: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(filter) = filter {
        scripts.retain(|script| script.name.contains(filter.as_str()));
    }
    if args.iter().any(|arg| arg == "--list") {
        scripts.iter().for_each(|script| println!("{}: test", script.name));
        return ExitCode::SUCCESS;
    }
    match in_process::InProcess::new() {
        Ok(platform) => run(&platform, &scripts, filter.is_none()),
        Err(error) => {
            println!("the tests cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(platform: &impl Platform, scripts: &[suite::Script], all: bool) -> ExitCode {
    let mut report = Report::default();
    for script in scripts {
        report.add(script, script::run(platform, script));
    }
    if all {
        report.add_unused_exceptions(exceptions::unused());
    }
    report.print();
    if report.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
