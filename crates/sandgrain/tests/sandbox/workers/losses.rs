//! Workers that end, or never were workers.

use super::{counter, kill, workers};
use crate::support::{module, name_of, sandbox, vm, wait_for};
use sandgrain::{Error, Pool, Sandbox, SandboxBuilder, Workers};
use std::future::pending;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;

fn add(sandbox: &mut Sandbox, n: u32) -> u32 {
    sandbox.call("add", n).expect("a call")
}

#[test]
fn a_worker_that_is_killed_in_a_call_takes_its_own_sandboxes_and_no_others() {
    let wat = r#"(module (func (export "spin") (loop (br 0))) (func (export "f") (result i32) (i32.const 1)))"#;
    let snapshot = sandbox(vm(), wat).snapshot().expect("a snapshot");
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
fn a_worker_that_ends_while_its_guest_waits_fails_the_call_at_once() {
    let wat = r#"(module (import "host" "later" (func $later)) (func (export "f") (call $later)))"#;
    let (begun, mut has_begun) = unbounded_channel();
    let with_later = |builder: SandboxBuilder| {
        let begun = begun.clone();
        builder.async_function("host", "later", move || {
            let begun = begun.clone();
            async move {
                // By now the guest has left its turn.
                begun.send(()).expect("somebody listens");
                pending::<()>().await;
            }
        })
    };
    let first = with_later(Sandbox::builder(&module(vm(), wat))).build().expect("a sandbox");
    let (snapshot, workers) = (first.snapshot().expect("a snapshot"), workers());
    let build = || with_later(snapshot.sandbox()).workers(&workers).build().expect("a sandbox");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for why in ["signal 9", "it is not wanted any more"] {
        let mut waiting = build();
        let process = workers.processes()[0].0;
        let result = runtime.block_on(async {
            let ending = async {
                has_begun.recv().await.expect("it waits");
                match why {
                    "signal 9" => kill(process),
                    why => assert!(workers.end_process(process, why)),
                }
            };
            tokio::join!(waiting.call_async::<_, ()>("f", ()), ending).0
        });
        // Where nobody notices, this is its deadline.
        let (name, text) = name_of(result);
        assert_eq!(name, "host", "{text}");
        assert!(text.contains(&format!("worker process {process} is lost")), "{text}");
        assert!(text.contains(why), "{text}");
        assert!(matches!(waiting.call::<_, ()>("f", ()), Err(Error::Ended(_))));
    }
}

#[test]
fn a_pool_gives_nobody_a_sandbox_whose_worker_is_seen_to_have_ended() {
    let workers = workers();
    let builder = Pool::builder(&counter()).workers(&workers).parked(2..=2);
    let pool = builder.build().expect("a pool");
    wait_for(&pool, "two parked", |stats| stats.parked == 2);
    let lost = workers.processes()[0].0;
    kill(lost);
    let started = Instant::now();
    // Nobody asks it for anything.
    while workers.processes().iter().any(|(id, _)| *id == lost) {
        assert!(started.elapsed() < Duration::from_secs(60), "nobody has seen it end");
        sleep(Duration::from_millis(1));
    }
    for _ in 0..3 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("add", 1u32).expect("a call"), 1);
    }
}

#[test]
fn who_ends_a_worker_says_why() {
    let wat = r#"(module (func (export "spin") (loop (br 0))) (func (export "f") (result i32) (i32.const 1)))"#;
    let snapshot = sandbox(vm(), wat).snapshot().expect("a snapshot");
    let workers = workers();
    let pool = Pool::builder(&snapshot).workers(&workers).parked(0..=1).build().expect("a pool");
    let why = "it has more memory than its tenant may have";
    let (mut spinning, mut beside) = (pool.take("a").expect("one"), pool.take("a").expect("two"));
    let process = workers.processes()[0].0;
    // This one is none of them.
    assert!(!workers.end_process(std::process::id(), why));
    let call = spawn(move || name_of(spinning.call::<_, ()>("spin", ())));
    sleep(Duration::from_millis(50));
    assert!(workers.end_process(process, why));
    assert!(!workers.end_process(process, "because of something else"), "it has ended");
    for (name, text) in [call.join().expect("a thread"), name_of(beside.call::<_, u32>("f", ()))] {
        assert_eq!(name, "host");
        assert!(text.contains(&format!("worker process {process} is lost")), "{text}");
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(pool.take("a").expect("another").call::<_, u32>("f", ()).expect("a call"), 1);
    assert!(workers.processes().iter().all(|(id, _)| *id != process));
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
fn a_sandbox_that_is_to_be_made_where_a_worker_has_died_is_made_in_another() {
    let (snapshot, workers) = (counter(), workers());
    let build = || snapshot.sandbox().workers(&workers).build();
    let _first = build().expect("a sandbox");
    for round in 0..10 {
        let lost = workers.processes()[0].0;
        // Nobody has seen its end when the next sandbox is asked for.
        kill(lost);
        let mut sandbox = build().unwrap_or_else(|error| panic!("{round}: {error}"));
        assert_eq!(add(&mut sandbox, 1), 1);
        assert!(workers.processes().iter().all(|(id, _)| *id != lost));
    }
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
