//! Standard streams: captured, limited, piped and inherited.

use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use crate::support::*;
use bytes::Bytes;
use sandgrain_wasi::{Error, Input, Output, Reply, Stream, Wasi, WasiConfig};

#[test]
fn both_outputs_are_captured_apart() {
    let config = WasiConfig::new().stdout(Output::Capture).stderr(Output::Capture);
    let mut guest = Guest::new(config);
    assert_eq!(guest.write(1, b"out"), Ok(3));
    assert_eq!(guest.write(2, b"err"), Ok(3));
    assert_eq!(guest.write(1, &[b'x'; 10_000]), Ok(10_000));
    assert_eq!(guest.wasi.stdout().len(), 10_003);
    assert_eq!(&guest.wasi.stderr()[..], b"err");
    assert_eq!(guest.wasi.take_stdout().len(), 10_003);
    assert!(guest.wasi.stdout().is_empty());
    assert_eq!(guest.write(1, b"more"), Ok(4));
    assert_eq!(&guest.wasi.take_stdout()[..], b"more");
    assert_eq!(guest.wasi.streams().written(Stream::Stdout), 10_007);
    assert_eq!(&guest.wasi.take_stderr()[..], b"err");
}

fn limited(output: Output) -> (Guest, Option<u64>) {
    let config = WasiConfig::new().stdout(output).stderr(Output::Capture).output_limits(10, 4);
    let mut guest = Guest::new(config);
    assert_eq!(guest.write(1, b"0123456"), Ok(7));
    assert!(!guest.wasi.streams().limit_exceeded(Stream::Stdout));
    for _ in 0..2 {
        match guest.try_write(1, b"789abc") {
            Err(Error::OutputLimit { stream: Stream::Stdout, limit: 10 }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(guest.wasi.streams().limit_exceeded(Stream::Stdout));
    let written = guest.wasi.streams().written(Stream::Stdout);
    (guest, Some(written))
}

#[test]
fn a_limit_fails_the_call_and_keeps_what_fits() {
    let (mut guest, written) = limited(Output::Capture);
    assert_eq!(written, Some(10));
    assert_eq!(&guest.wasi.stdout()[..], b"0123456789");
    // The other stream has a limit of its own, and exactly full is fine.
    assert_eq!(guest.write(2, b"1234"), Ok(4));
    assert!(matches!(
        guest.try_write(2, b"5"),
        Err(Error::OutputLimit { stream: Stream::Stderr, limit: 4 })
    ));
    assert_eq!(&guest.wasi.stderr()[..], b"1234");
    // The sandbox goes on.
    assert_eq!(guest.call("sched_yield", &[]), SUCCESS);
}

#[test]
fn limits_hold_for_every_kind_of_output() {
    let file = Shared::default();
    let (_, written) = limited(Output::pipe(file.clone()));
    assert_eq!(written, Some(10));
    assert_eq!(file.0.lock().unwrap().as_slice(), b"0123456789");
    assert_eq!(limited(Output::Null).1, Some(10));
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn output_reaches_a_pipe_before_the_call_returns() {
    let file = Shared::default();
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::pipe(file.clone())));
    let mut expected = Vec::new();
    for round in 0..50 {
        let text = vec![round; 5000];
        assert_eq!(guest.write(1, &text), Ok(5000));
        expected.extend(text);
        assert_eq!(*file.0.lock().unwrap(), expected);
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes {
            b"panic" => panic!("the embedder's writer panics"),
            _ => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }
}

#[test]
fn failures_of_pipes_become_error_numbers() {
    let config = WasiConfig::new().stdout(Output::pipe(Broken)).stdin(Input::pipe(Broken));
    // What the embedder's reader may not do is no want of a grant.
    let mut guest = Guest::new(config.on_denied(|denied| panic!("{denied:?}")));
    for _ in 0..3 {
        assert!(guest.write(1, b"text").is_err());
        assert!(guest.write(1, b"panic").is_err());
    }
    assert!(guest.read(0, 10).is_err());
    assert_eq!(guest.read(0, 10), Ok(Vec::new()), "then the end");
}

#[test]
fn input_from_bytes() {
    let config = WasiConfig::new().stdin(Input::Bytes(Bytes::from_static(b"hello world")));
    for _ in 0..2 {
        let mut guest = Guest::new(config.clone());
        assert_eq!(guest.read(0, 5).unwrap(), b"hello");
        assert_eq!(guest.read(0, 100).unwrap(), b" world");
        assert_eq!(guest.read(0, 100).unwrap(), b"");
        assert!(guest.write(0, b"x").is_err());
        assert!(guest.read(1, 5).is_err());
    }
}

/// A pipe whose other end is a channel.
struct Channel(Receiver<Vec<u8>>);

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.recv() {
            Ok(bytes) => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Err(_) => Ok(0),
        }
    }
}

fn channel() -> (Sender<Vec<u8>>, Input) {
    let (sender, receiver) = mpsc::channel();
    (sender, Input::pipe(Channel(receiver)))
}

#[test]
fn input_from_a_pipe() {
    let (sender, input) = channel();
    let config = WasiConfig::new().stdin(input);
    let mut guest = Guest::new(config.clone());
    let writer = std::thread::spawn(move || {
        for piece in ["one ", "two ", "three"] {
            std::thread::sleep(std::time::Duration::from_millis(10));
            sender.send(piece.as_bytes().to_vec()).unwrap();
        }
    });
    let mut all = Vec::new();
    loop {
        let piece = guest.read(0, 100).unwrap();
        if piece.is_empty() {
            break;
        }
        all.extend(piece);
    }
    assert_eq!(all, b"one two three");
    writer.join().unwrap();
    assert_eq!(Guest::new(config).read(0, 10), Ok(Vec::new()), "clones share the pipe");
}

#[test]
fn poll_sees_a_pipe_become_readable() {
    let (sender, input) = channel();
    let mut guest = Guest::new(WasiConfig::new().stdin(input));
    // A timer of 10 ms, then the pipe or a timer of a minute.
    guest.readable(PATH, 0);
    guest.clock(PATH + 48, 10_000_000);
    let args = [PATH as u64, DATA as u64, 2, OUT as u64];
    assert_eq!(guest.call("poll_oneoff", &args), SUCCESS);
    assert_eq!((guest.u32(OUT), guest.u64(DATA)), (1, 7));
    sender.send(b"x".to_vec()).unwrap();
    guest.clock(PATH + 48, 60_000_000_000);
    assert_eq!(guest.call("poll_oneoff", &args), SUCCESS);
    assert_eq!((guest.u32(OUT), guest.u64(DATA)), (1, 9));
    assert_eq!(guest.read(0, 10).unwrap(), b"x");
}

#[test]
fn captures_are_no_terminals() {
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::Capture));
    for fd in 0..3 {
        assert_eq!(guest.call("fd_fdstat_get", &[fd, OUT as u64]), SUCCESS);
        assert_eq!(guest.memory[OUT], 0, "neither a terminal nor a file");
    }
}

#[test]
fn inherited_streams_work() {
    let config =
        WasiConfig::new().stdout(Output::Inherit).stderr(Output::Inherit).stdin(Input::Inherit);
    let mut guest = Guest::new(config);
    assert_eq!(guest.write(1, b"the guest says hello\n"), Ok(21));
    assert_eq!(guest.write(2, b"the guest complains\n"), Ok(20));
    for (fd, terminal) in [
        (0, io::IsTerminal::is_terminal(&io::stdin())),
        (1, io::IsTerminal::is_terminal(&io::stdout())),
        (2, io::IsTerminal::is_terminal(&io::stderr())),
    ] {
        assert_eq!(guest.call("fd_fdstat_get", &[fd, OUT as u64]), SUCCESS);
        assert_eq!(guest.memory[OUT] == 2, terminal, "{fd}");
    }
}

#[test]
fn works_inside_of_a_tokio_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (sender, input) = channel();
        sender.send(b"hi".to_vec()).unwrap();
        let file = Shared::default();
        let config = WasiConfig::new().stdin(input).stdout(Output::pipe(file.clone()));
        let mut guest = Guest::new(config);
        assert_eq!(guest.read(0, 10).unwrap(), b"hi");
        assert_eq!(guest.write(1, b"ho"), Ok(2));
        guest.clock(PATH, 1_000_000);
        guest.clock(PATH + 48, 2_000_000);
        let args = [PATH as u64, DATA as u64, 2, OUT as u64];
        assert_eq!(guest.try_call("poll_oneoff", &args).unwrap(), Reply::Value(0));
    });
    assert!(Wasi::lookup("poll_oneoff").is_some());
}
