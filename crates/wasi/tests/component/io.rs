//! Streams and pollables.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sandgrain_wasi::{Error, Input, Output, Stream, WasiConfig};

use super::support::{Guest, IO, POLL, StreamError, handles};

pub fn stdin(guest: &mut Guest) -> u32 {
    guest.call("wasi:cli/stdin@0.2.0", "get-stdin", ())
}

pub fn stdout(guest: &mut Guest) -> u32 {
    guest.call("wasi:cli/stdout@0.2.0", "get-stdout", ())
}

fn stderr(guest: &mut Guest) -> u32 {
    guest.call("wasi:cli/stderr@0.2.0", "get-stderr", ())
}

/// A reader that has what it is sent, and waits for it.
pub struct Fed(pub Receiver<Vec<u8>>);

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Ok(bytes) = self.0.recv() else { return Ok(0) };
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

#[test]
fn output_is_captured_of_both_streams() {
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::Capture).stderr(Output::Capture));
    let out = stdout(&mut guest);
    let err: u32 = guest.call("wasi:cli/stderr@0.2.0", "get-stderr", ());
    guest.write(out, b"to stdout").unwrap();
    guest.write(err, b"to stderr").unwrap();
    assert_eq!(&guest.wasi.stdout()[..], b"to stdout");
    assert_eq!(&guest.wasi.stderr()[..], b"to stderr");
}

#[test]
fn what_is_checked_can_be_written_and_flushed() {
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::Capture));
    let out = stdout(&mut guest);
    let room: Result<u64, StreamError> = guest.call(IO, "[method]output-stream.check-write", out);
    let room = room.unwrap() as usize;
    let bytes = vec![7_u8; room];
    let written: Result<(), StreamError> =
        guest.call(IO, "[method]output-stream.write", (out, bytes));
    written.unwrap();
    let flushed: Result<(), StreamError> =
        guest.call(IO, "[method]output-stream.blocking-flush", out);
    flushed.unwrap();
    assert_eq!(guest.wasi.stdout().len(), room);
}

#[test]
fn zeroes_are_written() {
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::Capture));
    let out = stdout(&mut guest);
    let name = "[method]output-stream.blocking-write-zeroes-and-flush";
    guest.call::<Result<(), StreamError>>(IO, name, (out, 100_u64)).unwrap();
    assert_eq!(&guest.wasi.stdout()[..], &[0; 100]);
}

#[test]
fn input_is_read_to_its_end() {
    let mut guest = Guest::new(WasiConfig::new().stdin(Input::Bytes("some input".into())));
    let input = stdin(&mut guest);
    assert_eq!(guest.read(input, 4).unwrap(), b"some");
    let skipped: Result<u64, StreamError> =
        guest.call(IO, "[method]input-stream.blocking-skip", (input, 1_u64));
    assert_eq!(skipped, Ok(1));
    assert_eq!(guest.read(input, 100).unwrap(), b"input");
    assert_eq!(guest.read(input, 100), Err(StreamError::Closed));
}

#[test]
fn input_is_spliced_into_output() {
    let config = WasiConfig::new().stdin(Input::Bytes("passed on".into())).stdout(Output::Capture);
    let mut guest = Guest::new(config);
    let (input, out) = (stdin(&mut guest), stdout(&mut guest));
    let spliced: Result<u64, StreamError> =
        guest.call(IO, "[method]output-stream.blocking-splice", (out, input, 100_u64));
    assert_eq!(spliced, Ok(9));
    assert_eq!(&guest.wasi.stdout()[..], b"passed on");
}

#[test]
fn large_results_are_sent_beside_the_message() {
    let bytes: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let mut guest = Guest::new(WasiConfig::new().stdin(Input::Bytes(bytes.clone().into())));
    let input = stdin(&mut guest);
    assert_eq!(guest.read(input, 1 << 20).unwrap(), bytes);
}

#[test]
fn a_failed_writer_is_an_error_with_a_text() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is on fire"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::pipe(Broken)));
    let out = stdout(&mut guest);
    let Err(StreamError::Failed(error)) = guest.write(out, b"x") else { panic!("it is broken") };
    const ERROR: &str = "wasi:io/error@0.2.0";
    let text: String = guest.call(ERROR, "[method]error.to-debug-string", error);
    assert!(text.contains("the disk is on fire"), "{text}");
    let code: Option<u32> =
        guest.call("wasi:filesystem/types@0.2.0", "filesystem-error-code", error);
    assert!(code.is_some());
    guest.drop_handle(ERROR, "error", error);
}

#[test]
fn too_much_output_ends_the_guest() {
    let config = WasiConfig::new().stdout(Output::Capture).output_limits(10, 10);
    let mut guest = Guest::new(config);
    let out = stdout(&mut guest);
    let name = "[method]output-stream.blocking-write-and-flush";
    let error = guest.try_call(IO, name, (out, &b"twelve bytes"[..])).unwrap_err();
    assert!(matches!(error, Error::OutputLimit { stream: Stream::Stdout, limit: 10 }), "{error}");
    assert_eq!(&guest.wasi.stdout()[..], b"twelve byt");
}

#[test]
fn a_busy_stream_is_waited_for() {
    let (send, receive) = channel::<()>();
    struct Slow(Receiver<()>);
    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::pipe(Slow(receive))));
    let out = stdout(&mut guest);
    let write = "[method]output-stream.write";
    guest.call::<Result<(), StreamError>>(IO, write, (out, &b"x"[..])).unwrap();
    let room: Result<u64, StreamError> = guest.call(IO, "[method]output-stream.check-write", out);
    assert_eq!(room, Ok(0));
    // The guest may have been told that there is room: the write takes as long as it takes.
    let waiting = guest.later(IO, write, (out, &b"y"[..]));
    drop(waiting);
    drop(send);
}

#[test]
fn what_is_written_to_both_streams_comes_out_in_that_order() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    struct Slow(Log, Duration);
    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            thread::sleep(self.1);
            self.0.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let slow = |millis| Output::pipe(Slow(log.clone(), Duration::from_millis(millis)));
    let mut guest = Guest::new(WasiConfig::new().stdout(slow(20)).stderr(slow(0)));
    let (out, err) = (stdout(&mut guest), stderr(&mut guest));
    for _ in 0..3 {
        let write = "[method]output-stream.write";
        guest.call::<Result<(), StreamError>>(IO, write, (out, &b"out "[..])).unwrap();
        let write = "[method]output-stream.blocking-write-and-flush";
        guest.call::<Result<(), StreamError>>(IO, write, (err, &b"err "[..])).unwrap();
    }
    assert_eq!(*log.0.lock().unwrap(), b"out err out err out err ");
}

#[test]
fn a_poll_tells_which_are_ready() {
    let (send, receive) = channel();
    let mut guest = Guest::new(WasiConfig::new().stdin(Input::pipe(Fed(receive))));
    let input = stdin(&mut guest);
    let readable: u32 = guest.call(IO, "[method]input-stream.subscribe", input);
    let (soon, late) = (guest.timer(1_000_000), guest.timer(3_600_000_000_000));
    let ready: Vec<u32> = guest.call(POLL, "poll", handles(&[late, readable, soon]));
    assert_eq!(ready, [2]);
    assert!(!guest.call::<bool>(POLL, "[method]pollable.ready", late));
    assert!(guest.call::<bool>(POLL, "[method]pollable.ready", soon));

    send.send(b"now".to_vec()).unwrap();
    let ready: Vec<u32> = guest.call(POLL, "poll", handles(&[readable, late, readable]));
    assert_eq!(ready, [0, 2]);
    assert_eq!(guest.read(input, 10).unwrap(), b"now");
}

#[test]
fn an_empty_poll_traps() {
    let mut guest = Guest::new(WasiConfig::new());
    let message = guest.trap(POLL, "poll", handles(&[]));
    assert!(message.contains("empty poll list"), "{message}");
}

#[test]
fn open_handles_are_told() {
    let mut guest = Guest::new(WasiConfig::new());
    assert!(!guest.wasi.has_open_files());
    let out = stdout(&mut guest);
    assert!(guest.wasi.has_open_files());
    guest.drop_handle(IO, "output-stream", out);
    assert!(!guest.wasi.has_open_files());
}
