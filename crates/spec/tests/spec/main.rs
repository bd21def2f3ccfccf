//! Runs WebAssembly's specification tests in the VM, through the public library, and the same in
//! process for comparison: `cargo test -p sandgrain-spec [part of a script's name]`.
#![allow(clippy::print_stdout, reason = "a test program reports on its standard output")]

mod exceptions;
mod report;
mod script;
mod scripts;
mod spectest;
mod values;

use report::Report;
use sandgrain::Engine;
use scripts::Script;
use spectest::Platform;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

/// Scripts that run at a time.
const THREADS: usize = 2;

fn main() -> ExitCode {
    // Other test programs' options mean nothing here, but come along with `cargo test -- --option`.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    let mut scripts = scripts::all();
    if let Some(filter) = filter {
        scripts.retain(|script| script.name.contains(filter.as_str()));
    }
    if args.iter().any(|arg| arg == "--list") {
        scripts.iter().for_each(|script| println!("{}: test", script.name));
        return ExitCode::SUCCESS;
    }
    let platforms = (
        Engine::builder().without_cache().build().and_then(Platform::new),
        Engine::builder().without_cache().dangerously_without_vm().build().and_then(Platform::new),
    );
    let (vm, reference) = match platforms {
        (Ok(vm), Ok(reference)) => (vm, reference),
        (Err(error), _) | (_, Err(error)) => {
            println!("the tests cannot run: {error}");
            return ExitCode::FAILURE;
        }
    };

    let report = Mutex::new(Report::default());
    // The longest come first, so that no thread is left alone with one at the end.
    scripts.sort_by_key(|script| script.source.len());
    let queue = Mutex::new(scripts);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(script) = pop(&queue) {
                    run(&script, &vm, &reference, &report);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(|broken| broken.into_inner());
    if filter.is_none() {
        report.unused_exceptions(exceptions::unused());
    }
    report.print();
    if report.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn pop(queue: &Mutex<Vec<Script>>) -> Option<Script> {
    queue.lock().ok()?.pop()
}

fn run(script: &Script, vm: &Platform, reference: &Platform, report: &Mutex<Report>) {
    let mut times = [0.0; 2];
    let mut outcomes = [vm, reference].into_iter().zip(&mut times).map(|(platform, time)| {
        let started = Instant::now();
        let outcomes = match script.skipped {
            None => script::run(platform, &script.name, script.source),
            Some(_) => Ok(Vec::new()),
        };
        *time = started.elapsed().as_secs_f64();
        outcomes
    });
    let (in_vm, in_process) = (outcomes.next(), outcomes.next());
    drop(outcomes);
    if let (Ok(mut report), Some(in_vm), Some(in_process)) = (report.lock(), in_vm, in_process) {
        report.add(script, in_vm, in_process, times);
    }
}
