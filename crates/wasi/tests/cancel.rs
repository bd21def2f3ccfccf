//! Every call that waits can be stopped from another thread, and the sandbox lives on.

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use sandgrain_wasi::{Access, Cancel, Error, Input, Output, Reply, WasiConfig};

/// The bound. It is generous for the sake of a busy machine; a stop takes microseconds.
const SOON: Duration = Duration::from_secs(2);

/// Makes a call that would wait for ever, stops it in three ways, and checks that each is prompt.
fn stops(guest: &mut Guest, mut call: impl FnMut(&mut Guest) -> Result<Reply, Error>) {
    // From another thread.
    guest.cancel = Cancel::new();
    let remote = guest.cancel.clone();
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        remote.cancel();
        Instant::now()
    });
    let result = call(guest);
    let late = Instant::now().saturating_duration_since(stopper.join().unwrap());
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(late < SOON, "stopped {late:?} late");
    // Before it began.
    assert!(matches!(call(guest), Err(Error::Cancelled)));
    // By a deadline.
    let deadline = Instant::now() + Duration::from_millis(30);
    guest.cancel = Cancel::new().with_deadline(deadline);
    let result = call(guest);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(Instant::now() >= deadline && deadline.elapsed() < SOON);
    // The next call works.
    guest.cancel = Cancel::new();
    assert_eq!(guest.call("sched_yield", &[]), SUCCESS);
}

#[test]
fn sleep_on_one_timer() {
    let mut guest = Guest::new(WasiConfig::new());
    let args = [PATH as u64, DATA as u64, 1, OUT as u64];
    for nanoseconds in [3_600_000_000_000, u64::MAX] {
        guest.clock(PATH, nanoseconds);
        stops(&mut guest, |guest| guest.try_call("poll_oneoff", &args));
    }
    // And a short one ends by itself, with the right event.
    guest.clock(PATH, 20_000_000);
    let start = Instant::now();
    assert_eq!(guest.call("poll_oneoff", &args), SUCCESS);
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!((guest.u32(OUT), guest.u64(DATA)), (1, 7));
    assert_eq!(&guest.memory[DATA + 8..DATA + 12], [0, 0, 0, 0]);
}

#[test]
fn sleep_on_several_timers_and_absolute_ones() {
    let mut guest = Guest::new(WasiConfig::new());
    for nanoseconds in [3_600_000_000_000, u64::MAX] {
        guest.clock(PATH, nanoseconds);
        guest.clock(PATH + 48, nanoseconds);
        let args = [PATH as u64, DATA as u64, 2, OUT as u64];
        stops(&mut guest, |guest| guest.try_call("poll_oneoff", &args));
    }
    guest.clock(PATH, u64::MAX / 2);
    guest.put(PATH + 40, &[1]);
    let args = [PATH as u64, DATA as u64, 1, OUT as u64];
    stops(&mut guest, |guest| guest.try_call("poll_oneoff", &args));
}

struct Stuck(mpsc::Receiver<()>);

impl Read for Stuck {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.recv().is_err() {
            return Ok(0);
        }
        buffer[0] = b'!';
        Ok(1)
    }
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.recv().ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn read_of_a_silent_pipe() {
    let (sender, receiver) = mpsc::channel();
    let mut guest = Guest::new(WasiConfig::new().stdin(Input::pipe(Stuck(receiver))));
    stops(&mut guest, |guest| guest.try_read(0, 10));
    // Waiting for it in a poll, too.
    guest.readable(PATH, 0);
    let args = [PATH as u64, DATA as u64, 1, OUT as u64];
    stops(&mut guest, |guest| guest.try_call("poll_oneoff", &args));
    // What comes late is not lost.
    sender.send(()).unwrap();
    assert_eq!(guest.read(0, 10).unwrap(), b"!");
    drop(sender);
    assert_eq!(guest.read(0, 10).unwrap(), b"");
}

#[test]
fn write_to_a_full_pipe() {
    let (sender, receiver) = mpsc::channel();
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::pipe(Stuck(receiver))));
    stops(&mut guest, |guest| guest.try_write(1, b"text"));
    drop(sender);
    assert_eq!(guest.write(1, b"text"), Ok(4));
}

#[test]
fn open_of_a_named_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("mkfifo").arg(dir.path().join("fifo")).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let config = WasiConfig::new().preopen(dir.path(), "/", Access::ReadOnly);
    // Where it could not be stopped, it is not begun, also not through a link.
    std::os::unix::fs::symlink("fifo", dir.path().join("link")).unwrap();
    let mut guest = Guest::new(config.clone());
    for name in ["fifo", "link"] {
        assert_eq!(guest.open(3, name, 0, READ), Err(NOTSUP));
    }
    let mut guest = Guest::new(config.cancellable_files(true));
    let length = guest.put(PATH, b"fifo");
    let args = [3, 1, PATH as u64, length, 0, READ, READ, 0, OUT as u64];
    stops(&mut guest, |guest| guest.try_call("path_open", &args));
    // Lets go of the threads that still wait for a writer.
    let fifo = dir.path().join("fifo");
    drop(std::fs::OpenOptions::new().read(true).write(true).open(fifo));
}

#[test]
fn a_token_serves_many_calls_at_once() {
    let cancel = Cancel::new();
    let sleepers: Vec<_> = (0..8)
        .map(|_| {
            let cancel = cancel.clone();
            thread::spawn(move || {
                let mut guest = Guest::new(WasiConfig::new());
                guest.cancel = cancel;
                guest.clock(PATH, u64::MAX);
                guest.try_call("poll_oneoff", &[PATH as u64, DATA as u64, 1, OUT as u64])
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(30));
    assert!(!cancel.is_cancelled());
    cancel.cancel();
    for sleeper in sleepers {
        assert!(matches!(sleeper.join().unwrap(), Err(Error::Cancelled)));
    }
    assert!(cancel.is_cancelled() && cancel.clone().is_cancelled());
}

#[test]
fn the_earlier_deadline_holds() {
    let (soon, late) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
    for (first, second) in [(soon, late), (late, soon)] {
        let cancel = Cancel::new().with_deadline(first).with_deadline(second);
        assert_eq!(cancel.deadline(), Some(soon));
        assert!(cancel.is_cancelled());
    }
}
