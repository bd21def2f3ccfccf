//! Runs the component model's tests in VMs, through the public library, and the same in process for comparison:
//! `cargo test -p sandgrain-spec --test components [part of a script's name]`.
//!
//! Scripts run on a [`Platform`]; what they ask of one is little: compile a component, instantiate it, call
//! what it exports.
#![allow(clippy::print_stdout, reason = "a test program reports on its standard output")]

mod exceptions;
mod in_process;
mod in_vm;
mod platform;
mod report;
mod script;
mod suite;
mod values;

use platform::Platform;
use report::Report;
use std::process::ExitCode;
use std::sync::Mutex;
use suite::Script;

/// Scripts that run at a time.
const THREADS: usize = 2;

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
    let (vm, reference) = match (in_vm::InVm::new(), in_process::InProcess::new()) {
        (Ok(vm), Ok(reference)) => (vm, reference),
        (Err(error), _) | (_, Err(error)) => {
            println!("the tests cannot run: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut report = run(&vm, &reference, scripts);
    if filter.is_none() {
        report.add_unused_exceptions(exceptions::unused());
    }
    report.print();
    if report.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs scripts on both.
fn run(vm: &impl Platform, reference: &impl Platform, mut scripts: Vec<Script>) -> Report {
    let report = Mutex::new(Report::default());
    // The longest come first, so that no thread is left alone with one at the end.
    scripts.sort_by_key(|script| script.source.len());
    let queue = Mutex::new(scripts);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(script) = pop(&queue) {
                    let in_vm = script::run(vm, &script);
                    let in_process = script::run(reference, &script);
                    if let Ok(mut report) = report.lock() {
                        report.add(&script, in_vm, in_process);
                    }
                }
            });
        }
    });
    report.into_inner().unwrap_or_else(|broken| broken.into_inner())
}

fn pop(queue: &Mutex<Vec<Script>>) -> Option<Script> {
    queue.lock().ok()?.pop()
}
