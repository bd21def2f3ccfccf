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
    // In QEMU's emulation, with its quirk.
    let emulated = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
    let builder = Engine::builder().without_cache().available_tss(emulated);
    let platforms = (
        builder.build().and_then(Platform::new),
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
    let all = scripts.len();
    scripts::remove_repeated(&mut scripts);
    println!("{} scripts; {all} with those that are in several folders", scripts.len());
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
        report.add_unused_exceptions(exceptions::unused());
    }
    report.print();
    if report.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn pop(queue: &Mutex<Vec<Script>>) -> Option<Script> {
    queue.lock().ok()?.pop()
}

/// Runs a script on both.
fn run(script: &Script, vm: &Platform, reference: &Platform, report: &Mutex<Report>) {
    let started = Instant::now();
    let in_vm = script::run(vm, script);
    let seconds = started.elapsed().as_secs_f64();
    let in_process = script::run(reference, script);
    if let Ok(mut report) = report.lock() {
        report.add(script, in_vm, seconds, in_process);
    }
}
