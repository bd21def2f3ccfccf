//! Calls that wait, and how they are stopped.

use std::future::Future;
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use sandgrain_wasi::component::{Answer, Pending, Reply};
use sandgrain_wasi::{Cancel, Error, Input, Output, WasiConfig};

use super::io::{Fed, stdin, stdout};
use super::support::{CLOCK, Guest, IO, POLL, StreamError, function, handles, read, with_reader};

const FOREVER: u64 = u64::MAX;

/// A writer that never gets anything written until the other end is gone.
struct Stuck(Receiver<()>);

impl io::Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a call that another thread stops.
pub fn cancelled(
    guest: &mut Guest,
    instance: &str,
    name: &str,
    args: impl sandgrain_abi::component::Lower,
) {
    guest.cancel = Cancel::new();
    let cancel = guest.cancel.clone();
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        cancel.cancel();
    });
    let start = Instant::now();
    let result = guest.try_call(instance, name, args);
    assert!(matches!(result, Err(Error::Cancelled)), "{name}: {result:?}");
    assert!(start.elapsed() < Duration::from_secs(30));
    stopper.join().unwrap();
    guest.cancel = Cancel::new();
}

#[test]
fn waiting_for_pollables_is_cancelled() {
    let mut guest = Guest::new(WasiConfig::new());
    let timer = guest.timer(FOREVER);
    cancelled(&mut guest, POLL, "poll", handles(&[timer]));
    cancelled(&mut guest, POLL, "[method]pollable.block", timer);
    // Its resources stay.
    assert!(!guest.call::<bool>(POLL, "[method]pollable.ready", timer));
    guest.drop_handle(POLL, "pollable", timer);
}

#[test]
fn waiting_for_input_is_cancelled() {
    let (send, receive) = channel();
    let config = WasiConfig::new().stdin(Input::pipe(Fed(receive))).stdout(Output::Capture);
    let mut guest = Guest::new(config);
    let (input, out) = (stdin(&mut guest), stdout(&mut guest));
    cancelled(&mut guest, IO, "[method]input-stream.blocking-read", (input, 1_u64));
    cancelled(&mut guest, IO, "[method]input-stream.blocking-skip", (input, 1_u64));
    cancelled(&mut guest, IO, "[method]output-stream.blocking-splice", (out, input, 1_u64));
    // As much as was asked for first.
    send.send(b"l".to_vec()).unwrap();
    assert_eq!(guest.read(input, 10).unwrap(), b"l");
}

#[test]
fn waiting_for_output_is_cancelled() {
    let (_send, receive) = channel();
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::pipe(Stuck(receive))));
    let out = stdout(&mut guest);
    let name = "[method]output-stream.blocking-write-and-flush";
    cancelled(&mut guest, IO, name, (out, &b"x"[..]));
    cancelled(&mut guest, IO, name, (out, &b"x"[..]));
    cancelled(&mut guest, IO, "[method]output-stream.blocking-flush", out);
    let name = "[method]output-stream.blocking-write-zeroes-and-flush";
    cancelled(&mut guest, IO, name, (out, 1_u64));
}

#[test]
fn a_deadline_stops_a_call() {
    let mut guest = Guest::new(WasiConfig::new());
    let timer = guest.timer(FOREVER);
    guest.cancel = Cancel::new().with_deadline(Instant::now() + Duration::from_millis(20));
    let result = guest.try_call(POLL, "[method]pollable.block", timer);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
}

#[test]
fn nothing_is_called_after_it_was_cancelled() {
    let mut guest = Guest::new(WasiConfig::new());
    guest.cancel.cancel();
    assert!(matches!(guest.try_call(CLOCK, "now", ()), Err(Error::Cancelled)));
}

#[test]
fn what_need_not_wait_is_answered_at_once() {
    let mut guest = Guest::new(WasiConfig::new());
    let Answer::Now(Reply::Value(now)) = guest.begin(CLOCK, "now", ()) else { panic!() };
    read::<u64>(now);
    let exit: Result<(), ()> = Err(());
    let answer = guest.begin("wasi:cli/exit@0.2.0", "exit", exit);
    assert!(matches!(answer, Answer::Now(Reply::Exit(1))));
}

fn value(reply: Reply) -> sandgrain_abi::component::Writer {
    match reply {
        Reply::Value(value) => value,
        other @ Reply::Exit(_) => panic!("{other:?}"),
    }
}

#[test]
fn a_call_that_waits_is_awaited_on_any_executor() {
    let (send, receive) = channel();
    let mut guest = Guest::new(WasiConfig::new().stdin(Input::pipe(Fed(receive))));
    let input = stdin(&mut guest);
    let pending = guest.later(IO, "[method]input-stream.blocking-read", (input, 10_u64));
    send.send(b"awaited".to_vec()).unwrap();
    // No runtime of tokio's at all.
    let reply = Cancel::new().block_on(pending).unwrap().unwrap();
    let bytes: Result<Vec<u8>, StreamError> = read(value(reply));
    assert_eq!(bytes.unwrap(), b"awaited");

    let timer = guest.timer(5_000_000);
    let pending = guest.later(POLL, "poll", handles(&[timer]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let reply = runtime.block_on(runtime.spawn(pending)).unwrap().unwrap();
    assert_eq!(read::<Vec<u32>>(value(reply)), [0]);
}

#[test]
fn nothing_else_is_answered_while_a_call_waits() {
    let mut guest = Guest::new(WasiConfig::new());
    let timer = guest.timer(FOREVER);
    let pending = guest.later(POLL, "[method]pollable.block", timer);
    assert!(matches!(guest.try_call(CLOCK, "now", ()), Err(Error::Busy)));
    let now = function(CLOCK, "now");
    let begun = with_reader(&(), |args| guest.wasi.begin_component_call(now, args));
    assert!(matches!(begun, Err(Error::Busy)));
    assert!(guest.wasi.has_open_files());
    drop(pending);
    // It was given up, and its resources are there.
    assert!(!guest.call::<bool>(POLL, "[method]pollable.ready", timer));
}

#[test]
fn a_call_that_waits_is_cancelled() {
    let mut guest = Guest::new(WasiConfig::new());
    let timer = guest.timer(FOREVER);
    let pending = guest.later(POLL, "[method]pollable.block", timer);
    let cancel = Cancel::new();
    let mut waits = Box::pin(cancel.wait_for(pending));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waits.as_mut().poll(&mut context).is_pending());
    cancel.cancel();
    assert!(matches!(waits.as_mut().poll(&mut context), Poll::Ready(Err(Error::Cancelled))));
    drop(waits);
    guest.drop_handle(POLL, "pollable", timer);
}

#[test]
fn a_call_may_outlive_its_guest() {
    let mut guest = Guest::new(WasiConfig::new());
    let timer = guest.timer(1_000_000);
    let pending = guest.later(POLL, "[method]pollable.block", timer);
    drop(guest);
    assert!(matches!(Cancel::new().block_on(pending), Ok(Ok(Reply::Value(_)))));
}

#[test]
fn a_thousand_calls_wait_without_threads() {
    let mut all: Vec<Pending> = Vec::new();
    for _ in 0..1000 {
        let mut guest = Guest::new(WasiConfig::new());
        let timer = guest.timer(FOREVER);
        all.push(guest.later(POLL, "[method]pollable.block", timer));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
    assert!(threads.trim().parse::<u32>().unwrap() < 500, "{threads}");
}
