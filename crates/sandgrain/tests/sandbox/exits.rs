//! What components need not ask the host for, and that it changes nothing but how often they do.

use crate::streams_program::PROGRAM;
use crate::support::{deadline, is_emulated, module, name_of, on_both, vm, works};
use sandgrain::wasi::{Input, Output, WasiConfig};
use sandgrain::{Engine, Error, Limits, Policy, Pool, Sandbox};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

fn capturing() -> WasiConfig {
    WasiConfig::new().stdout(Output::Capture).stderr(Output::Capture)
}

fn program(engine: &Engine, wasi: WasiConfig) -> Sandbox {
    let module = module(engine, PROGRAM);
    Sandbox::builder(&module).wasi(wasi).build().expect("a sandbox")
}

#[track_caller]
fn call(sandbox: &mut Sandbox, name: &str, n: u32) -> u32 {
    sandbox.call_component(name, (n,)).unwrap_or_else(|error| panic!("{name}({n}): {error}"))
}

/// A writer that others look into.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that fails from some write on.
struct Failing(u32);

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_printed_line_takes_one_exit() {
    for name in ["print", "lines", "waited"] {
        on_both(|engine| {
            let mut sandbox = program(engine, capturing());
            for n in [10, 3] {
                assert_eq!(call(&mut sandbox, name, n), 0);
                assert_eq!(sandbox.take_stdout(), "line\n".repeat(n as usize), "{name}");
                // One for each, and the last, by which the call ends.
                assert_eq!(sandbox.stats().host_calls, u64::from(n), "{name}");
                let hypercalls = if engine.is_without_vm() { 0 } else { u64::from(n) + 1 };
                assert_eq!(sandbox.stats().hypercalls, hypercalls, "{name}");
            }
        });
    }
}

#[test]
fn both_streams_are_written_to_in_their_order() {
    on_both(|engine| {
        let log = Log::default();
        let wasi =
            WasiConfig::new().stdout(Output::pipe(log.clone())).stderr(Output::pipe(log.clone()));
        let mut sandbox = program(engine, wasi);
        for round in 1..=3 {
            assert_eq!(call(&mut sandbox, "both", 20), 0);
            assert_eq!(log.text(), "out\nerr\n".repeat(20 * round));
        }
    });
}

#[test]
fn what_was_written_before_a_trap_is_there() {
    on_both(|engine| {
        let mut sandbox = program(engine, capturing());
        let result = sandbox.call_component::<_, u32>("trap", (1_u32,));
        assert!(matches!(result, Err(Error::Trap(_))), "{result:?}");
        assert_eq!(sandbox.take_stdout(), "line\n");
    });
}

#[test]
fn what_was_written_is_there_while_the_guest_computes() {
    let log = Log::default();
    let mut sandbox = program(vm(), WasiConfig::new().stdout(Output::pipe(log.clone())));
    let handle = sandbox.interrupt_handle();
    let watcher = thread::spawn(move || {
        let started = Instant::now();
        while log.text().is_empty() && started.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(1));
        }
        handle.interrupt();
        log.text()
    });
    let result = sandbox.call_component::<_, u32>("spin", (1_u32,));
    assert_eq!(watcher.join().expect("no panic"), "line\n");
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    works(vm());
}

#[test]
fn what_was_written_before_a_deadline_is_there() {
    let module = module(vm(), PROGRAM);
    let limits = Limits::default().deadline(Some(deadline()));
    let mut sandbox =
        Sandbox::builder(&module).limits(limits).wasi(capturing()).build().expect("a sandbox");
    assert_eq!(name_of(sandbox.call_component::<_, u32>("spin", (1_u32,))).0, "deadline");
    assert_eq!(sandbox.take_stdout(), "line\n");
}

#[test]
fn a_write_that_fails_is_told_with_the_next() {
    on_both(|engine| {
        for (name, told) in [("print", 3), ("lines", 4), ("waited", 4)] {
            let wasi = WasiConfig::new().stdout(Output::pipe(Failing(2)));
            let mut sandbox = program(engine, wasi);
            // The third one fails.
            assert_eq!(call(&mut sandbox, name, 10), told, "{name}");
            if name == "lines" {
                // The program has made up its mind, and can go on.
                assert_eq!(call(&mut sandbox, "borrow", 1), 0);
            }
        }
    });
}

#[test]
fn a_last_write_that_fails_fails_the_call() {
    on_both(|engine| {
        let mut sandbox = program(engine, WasiConfig::new().stdout(Output::pipe(Failing(2))));
        let (name, text) = name_of(sandbox.call_component::<_, u32>("lines", (3_u32,)));
        assert_eq!(name, "host-function", "{text}");
        assert!(text.contains("last write to a standard stream has failed"), "{text}");
        // Which is over with that.
        assert_eq!(call(&mut sandbox, "borrow", 1), 0);
    });
}

#[test]
fn output_has_its_limit() {
    on_both(|engine| {
        for name in ["print", "lines", "waited"] {
            let module = module(engine, PROGRAM);
            let limits = Limits::default().stdout(52);
            let builder = Sandbox::builder(&module).limits(limits).wasi(capturing());
            let mut sandbox = builder.build().expect("a sandbox");
            let (kind, text) = name_of(sandbox.call_component::<_, u32>(name, (100_u32,)));
            assert!(kind == "limit" && text.contains("52 bytes"), "{name}: {text}");
            assert_eq!(sandbox.take_stdout(), "line\n".repeat(11)[..52], "{name}");
        }
    });
}

#[test]
fn streams_are_had_and_given_back_for_ever() {
    let n = if is_emulated() { 1000 } else { 200_000 };
    on_both(|engine| {
        let mut sandbox = program(engine, capturing());
        assert_eq!(call(&mut sandbox, "borrow", n), 0);
        // A queue's length of them at a time.
        let asked = sandbox.stats().host_calls;
        assert!(asked <= u64::from(n) / 100, "{asked}");
        assert_eq!(call(&mut sandbox, "lines", 1), 0);
        assert_eq!(sandbox.take_stdout(), "line\n");
    });
}

#[test]
fn handles_have_their_limit() {
    on_both(|engine| {
        let mut sandbox = program(engine, capturing().max_handles(100));
        let (kind, text) = name_of(sandbox.call_component::<_, u32>("hoard", (1000_u32,)));
        assert!(kind == "limit" && text.contains("max_handles"), "{text}");
    });
}

fn input(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(n) >> 3) as u8).collect()
}

fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte)))
}

#[test]
fn input_is_read_ahead() {
    on_both(|engine| {
        let (lens, pieces): (&[u32], &[u32]) = match is_emulated() {
            true => (&[0, 5000, 8193], &[7, 8192]),
            false => (
                &[0, 1, 100, 5000, 8191, 8192, 8193, 20_000, 100_000],
                &[1, 7, 1000, 4096, 8191, 8192, 50_000],
            ),
        };
        for &len in lens {
            for &piece in pieces {
                let input = input(len);
                let wasi = capturing().stdin(Input::Bytes(input.clone().into()));
                let mut sandbox = program(engine, wasi);
                assert_eq!(call(&mut sandbox, "read", piece), hash(&input), "{len}, {piece}");
                let asked = sandbox.stats().host_calls;
                // Each queue and each piece that is sent ahead is an exit, and the first read, and the last.
                let most = 3 + len.div_ceil(piece).min(len / 4096);
                assert!(asked <= u64::from(most), "{len} in {piece}: {asked}");
            }
        }
    });
}

#[test]
fn input_of_a_pipe_is_read_to_its_end() {
    on_both(|engine| {
        let input = input(100_000);
        for piece in [100, 50_000] {
            let stdin = Input::pipe(io::Cursor::new(input.clone()));
            let mut sandbox = program(engine, capturing().stdin(stdin));
            assert_eq!(call(&mut sandbox, "read", piece), hash(&input), "{piece}");
        }
    });
}

/// What `mixed` reads of an input: all but what it skips.
fn mixed(mut input: &[u8], piece: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut read = |len: usize, out: &mut Vec<u8>| {
        let (piece, rest) = input.split_at(len.min(input.len()));
        input = rest;
        out.extend(piece);
        !piece.is_empty()
    };
    loop {
        for len in [piece, piece, piece, 1] {
            read(len, &mut all);
        }
        read(1, &mut Vec::new());
        if !read(piece, &mut all) {
            return all;
        }
    }
}

#[test]
fn two_handles_of_one_stream_read_it_in_turn() {
    on_both(|engine| {
        let (lens, pieces): (&[u32], &[u32]) = match is_emulated() {
            true => (&[5, 9000], &[7, 9000]),
            false => (&[0, 1, 5, 100, 8192, 30_000], &[1, 7, 1000, 9000]),
        };
        for &len in lens {
            for &piece in pieces {
                let input = input(len);
                let expected = hash(&mixed(&input, piece as usize));
                let wasi = capturing().stdin(Input::Bytes(input.into()));
                let mut sandbox = program(engine, wasi);
                assert_eq!(call(&mut sandbox, "mixed", piece), expected, "{len}, {piece}");
            }
        }
    });
}

#[test]
fn what_was_sent_ahead_and_not_read_is_the_next_calls() {
    on_both(|engine| {
        let input = input(3000);
        let wasi = capturing().stdin(Input::Bytes(input.clone().into()));
        let mut sandbox = program(engine, wasi);
        for n in 1..=30 {
            assert_eq!(call(&mut sandbox, "next", 100), hash(&input[..100 * n]), "{n}");
        }
        assert_eq!(call(&mut sandbox, "next", 100), hash(&input), "the end");
    });
}

#[test]
fn a_sandbox_that_is_reset_has_its_own_input() {
    let module = module(vm(), PROGRAM);
    let first = Sandbox::builder(&module).wasi(capturing()).build().expect("a sandbox");
    let snapshot = first.snapshot().expect("a snapshot");
    let input = input(3000);
    let stdin = Input::Bytes(input.clone().into());
    let pool = Pool::builder(&snapshot)
        .policy(Policy::Reset)
        .at_most(1)
        .parked(0..=1)
        .configure(move |builder| builder.wasi(capturing().stdin(stdin.clone())))
        .build()
        .expect("a pool");
    for _ in 0..4 {
        let mut sandbox = pool.take("a tenant").expect("a sandbox");
        assert_eq!(call(&mut sandbox, "next", 100), hash(&input[..100]));
        assert_eq!(call(&mut sandbox, "lines", 2), 0);
        assert_eq!(sandbox.take_stdout(), "line\nline\n");
    }
}
