//! Workers that end, or never were workers.

use super::{counter, workers};
use crate::support::name_of;
use sandgrain::{Error, Sandbox, Workers};
use std::process::Command;
use std::thread::{sleep, spawn};
use std::time::Duration;

fn kill(process: u32) {
    let status = Command::new("kill").args(["-9", &process.to_string()]).status();
    assert!(status.expect("kill(1)").success());
}

fn add(sandbox: &mut Sandbox, n: u32) -> u32 {
    sandbox.call("add", n).expect("a call")
}

#[test]
fn a_worker_that_is_killed_in_a_call_takes_its_own_sandboxes_and_no_others() {
    let wat = r#"(module (func (export "spin") (loop (br 0))) (func (export "f") (result i32) (i32.const 1)))"#;
    let snapshot =
        crate::support::sandbox(crate::support::vm(), wat).snapshot().expect("a snapshot");
    let workers = workers().sandboxes_each(2);
    let build = || snapshot.sandbox().workers(&workers).build().expect("a sandbox");
    let (mut spinning, mut beside, mut elsewhere) = (build(), build(), build());
    let processes = workers.processes();
    assert_eq!(processes.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 1]);
    let first = processes[0].0;
    let call = spawn(move || (spinning.call::<_, ()>("spin", ()), spinning));
    sleep(Duration::from_millis(50));
    kill(first);
    let (ended, mut spinning) = call.join().expect("a thread");
    let (name, text) = name_of(ended);
    assert_eq!(name, "host");
    assert!(text.contains(&format!("worker process {first} is lost")), "{text}");
    assert!(text.contains("signal 9"), "{text}");
    assert!(matches!(spinning.call::<_, u32>("f", ()), Err(Error::Ended(_))));
    assert_eq!(name_of(beside.call::<_, u32>("f", ())).0, "host");
    assert_eq!(elsewhere.call::<_, u32>("f", ()).expect("a call in another worker"), 1);
    assert_eq!(build().call::<_, u32>("f", ()).expect("a call in a new sandbox"), 1);
    assert!(workers.processes().iter().all(|(id, _)| *id != first));
}

#[test]
fn a_worker_that_is_ended_says_why_to_all_who_are_in_it() {
    let wat = r#"(module (func (export "spin") (loop (br 0))) (func (export "f") (result i32) (i32.const 1)))"#;
    let snapshot =
        crate::support::sandbox(crate::support::vm(), wat).snapshot().expect("a snapshot");
    let workers = workers();
    let build = || snapshot.sandbox().workers(&workers).build().expect("a sandbox");
    let (mut spinning, mut beside) = (build(), build());
    let process = workers.processes()[0].0;
    assert!(!workers.end_process(process + 1, "it is none"));
    let call = spawn(move || spinning.call::<_, ()>("spin", ()));
    sleep(Duration::from_millis(50));
    assert!(workers.end_process(process, "it has eaten everything"));
    for ended in [call.join().expect("a thread"), beside.call::<_, ()>("spin", ())] {
        let (name, text) = name_of(ended);
        assert_eq!(name, "host");
        assert!(text.contains(&format!("worker process {process} is lost")), "{text}");
        assert!(text.contains("it has eaten everything"), "{text}");
    }
    assert!(!workers.end_process(process, "it is gone"));
    assert_eq!(build().call::<_, u32>("f", ()).expect("a call in another worker"), 1);
}

#[test]
fn a_killed_worker_is_replaced() {
    let (snapshot, workers) = (counter(), workers());
    for _ in 0..3 {
        let mut sandbox = snapshot.sandbox().workers(&workers).build().expect("a sandbox");
        assert_eq!(add(&mut sandbox, 1), 1);
        kill(workers.processes()[0].0);
        let (name, _) = name_of(sandbox.call::<_, u32>("add", 1u32));
        assert_eq!(name, "host");
    }
}

#[test]
fn a_worker_whose_end_nobody_has_noticed_costs_no_sandbox() {
    let (snapshot, workers) = (counter(), workers());
    let build = || snapshot.sandbox().workers(&workers).build().expect("a sandbox");
    let _in_it = build();
    let lost = workers.processes()[0].0;
    kill(lost);
    // Until it has ended, but for its status, which nobody asks for.
    let stat = || std::fs::read_to_string(format!("/proc/{lost}/stat")).expect("its state");
    while !stat().contains(") Z ") {
        sleep(Duration::from_millis(1));
    }
    assert_eq!(workers.processes()[0].0, lost);
    assert_eq!(add(&mut build(), 1), 1);
    assert!(workers.processes().iter().all(|(process, _)| *process != lost));
}

#[test]
fn workers_end_with_their_sandboxes() {
    let (snapshot, workers) = (counter(), workers().sandboxes_each(1));
    let build = || snapshot.sandbox().workers(&workers).build().expect("a sandbox");
    let sandboxes = [build(), build(), build()];
    let all: Vec<u32> = workers.processes().into_iter().map(|(id, _)| id).collect();
    assert_eq!(all.len(), 3);
    drop(sandboxes);
    assert_eq!(workers.processes().len(), 1, "one stays for the next sandbox");
    drop(workers);
    for id in all {
        let path = format!("/proc/{id}/cmdline");
        assert!(!std::fs::read(&path).is_ok_and(|line| !line.is_empty()), "{path} is still there");
    }
}

#[test]
fn a_program_that_is_no_worker_is_named_with_what_to_do() {
    let snapshot = counter();
    for (program, expected) in [
        ("/no/such/program", "cannot be started"),
        ("/bin/true", "did not become a worker process"),
        ("/bin/cat", "worker process"),
    ] {
        let workers = Workers::of_program(program);
        let (name, text) = name_of(snapshot.sandbox().workers(&workers).build());
        assert_eq!(name, "host", "{text}");
        assert!(text.contains(program) && text.contains(expected), "{text}");
        assert!(text.contains("try:"), "{text}");
    }
}
