//! Threads, memory, time and the end of a confined process.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    os::unix::process::ExitStatusExt,
    process::Stdio,
    sync::{Arc, Barrier, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::process::{
    PLAIN, about_to, assert_done, assert_ended_by_call, confined, done, role, start,
};

#[test]
fn threads_come_and_go() {
    confined(
        PLAIN,
        || (),
        |()| {
            for round in 0..20 {
                let threads: Vec<_> = (0..8)
                    .map(|n| {
                        let named = thread::Builder::new().name(format!("{round}.{n}"));
                        // Now and then a large stack, which is not kept for the next one.
                        named.stack_size(64 << (10 + n)).spawn(move || n * 2).unwrap()
                    })
                    .collect();
                let sum: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
                assert_eq!(sum, 56);
            }
        },
    );
}

#[test]
fn threads_that_were_there_before_are_confined_too() {
    if role().is_some() {
        let confined = Arc::new(Barrier::new(2));
        let other = Arc::clone(&confined);
        let thread = thread::spawn(move || {
            other.wait();
            about_to("getppid");
            // SAFETY: it has no requirements.
            unsafe { libc::getppid() };
        });
        PLAIN.apply().unwrap();
        confined.wait();
        thread.join().unwrap();
        done();
    }
    assert_ended_by_call(&start("").output().unwrap(), "getppid");
}

/// Takes much memory in blocks of many sizes and gives it back, in an order that leaves holes.
fn churn(seed: usize) {
    for round in 0..30 {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        for n in 0..400 {
            let len = 1 << ((n * 7 + round + seed) % 19);
            blocks.push(vec![seed as u8; len]);
            if n % 3 == 0 {
                let at = n / 3;
                blocks[at] = Vec::new();
            }
        }
        // One that grows: it is moved.
        let mut grows = Vec::new();
        for n in 0..2_000_000_u32 {
            grows.push(n as u8);
        }
        blocks.push(grows);
        blocks.reverse();
    }
}

#[test]
fn memory_is_taken_and_given_back_in_many_threads() {
    confined(
        PLAIN,
        || (),
        |()| {
            let threads: Vec<_> = (0..16).map(|seed| thread::spawn(move || churn(seed))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            churn(0);
        },
    );
}

#[test]
fn threads_wait_for_locks_and_for_each_other() {
    confined(
        PLAIN,
        || (),
        |()| {
            let shared = Arc::new((Mutex::new(HashMap::new()), Condvar::new()));
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        for round in 0..2000 {
                            shared.0.lock().unwrap().insert((n, round), round);
                            shared.1.notify_all();
                            thread::yield_now();
                        }
                    })
                })
                .collect();
            let mut map = shared.0.lock().unwrap();
            while map.len() < 16_000 {
                map = shared.1.wait_timeout(map, Duration::from_millis(5)).unwrap().0;
            }
            drop(map);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        },
    );
}

/// Waits until the child has said this.
fn read_to(stdout: &mut impl Read, end: &str) {
    let mut said = Vec::new();
    while !said.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
}

#[test]
fn a_wait_goes_on_after_the_process_was_stopped() {
    if role().is_some() {
        PLAIN.apply().unwrap();
        about_to("sleep");
        let start = Instant::now();
        thread::sleep(Duration::from_millis(500));
        assert!(start.elapsed() >= Duration::from_millis(500));
        done();
    }
    let mut child = start("").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    read_to(child.stdout.as_mut().unwrap(), "about to: sleep\n");
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        thread::sleep(Duration::from_millis(50));
        // SAFETY: it takes numbers only; the child has not been waited for, so the number is its.
        assert_eq!(unsafe { libc::kill(child.id().cast_signed(), signal) }, 0);
    }
    assert_done(&child.wait_with_output().unwrap());
}

#[test]
fn a_panic_says_where_even_when_a_backtrace_is_asked_for() {
    if role().is_some() {
        PLAIN.apply().unwrap();
        let thread = thread::Builder::new().name("guest 7".to_owned());
        let result = thread.spawn(|| panic!("out of {}", "luck")).unwrap().join();
        assert!(result.is_err());
        std::process::exit(3);
    }
    let output = start("").env("RUST_BACKTRACE", "full").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{output:#?}");
    let place = format!("thread 'guest 7' panicked at {}:", file!());
    assert!(said.contains(&place) && said.contains("out of luck"), "{said}");
}

#[test]
fn an_abort_is_an_abort() {
    if role().is_some() {
        PLAIN.apply().unwrap();
        std::process::abort();
    }
    let output = start("").output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:#?}");
    assert!(!output.status.core_dumped());
}

#[test]
fn a_stack_overflow_is_reported() {
    #[allow(unconditional_recursion, reason = "that is the point")]
    fn deeper(n: u64) -> u64 {
        std::hint::black_box(deeper(n + 1) + n)
    }
    if role().is_some() {
        PLAIN.apply().unwrap();
        let thread = thread::spawn(|| deeper(0));
        thread.join().unwrap();
    }
    let output = start("").output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:#?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("overflowed its stack"), "{said}");
}

#[test]
fn the_kernel_knows_it_as_confined() {
    if role().is_some() {
        PLAIN.apply().unwrap();
        about_to("wait");
        thread::sleep(Duration::from_secs(60));
    }
    let mut child = start("").stdout(Stdio::piped()).spawn().unwrap();
    read_to(child.stdout.as_mut().unwrap(), "about to: wait\n");
    let of = |file| fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap();
    let (status, limits) = (of("status"), of("limits"));
    child.kill().unwrap();
    child.wait().unwrap();
    let has = |text: &str, words: &[&str]| {
        text.lines().any(|line| {
            words.iter().zip(line.split_whitespace()).filter(|(a, b)| **a == *b).count()
                == words.len()
        })
    };
    assert!(has(&status, &["NoNewPrivs:", "1"]), "{status}");
    assert!(has(&status, &["Seccomp:", "2"]), "{status}");
    assert!(has(&limits, &["Max", "core", "file", "size", "0", "0"]), "{limits}");
    assert!(has(&limits, &["Max", "open", "files", "256", "256"]), "{limits}");
}
