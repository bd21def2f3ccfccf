//! What calls cost: `cargo bench -p sandgrain-wasi` prints the best of five rounds of each.
#![allow(clippy::print_stderr, reason = "printing is its purpose")]

#[path = "../tests/support/guest.rs"]
mod guest;

use std::time::Instant;

use bytes::Bytes;
use guest::*;
use sandgrain_wasi::{Access, Input, Output, Wasi, WasiConfig};

fn measure(what: &str, rounds: u32, mut call: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..rounds {
            call();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
    eprintln!("{what:<40} {best:>10.0} ns");
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), vec![1; 4096]).unwrap();
    let config = WasiConfig::new()
        .preopen(dir.path(), "/", Access::ReadWrite)
        .stdin(Input::Bytes(Bytes::from(vec![1; 64 << 20])))
        .stdout(Output::Capture)
        .stderr(Output::pipe(std::io::sink()))
        .output_limits(u64::MAX, u64::MAX);

    for (threads, rounds) in [(false, 2000), (true, 500)] {
        let mut guest = Guest::new(config.clone().cancellable_files(threads));
        let fd = guest.open(3, "f", 0, READ | WRITE).unwrap();
        guest.put(IOVS, &(DATA as u32).to_le_bytes());
        guest.put(IOVS + 4, &16_u32.to_le_bytes());
        let rw = |fd: u32| [fd.into(), IOVS as u64, 1, OUT as u64];
        let mut case = |name: &str, args: &[u64]| {
            let function = Wasi::lookup(name).unwrap();
            let cancel = guest.cancel.clone();
            let label = format!("{name}({}) threads={threads}", args.first().unwrap_or(&0));
            measure(&label, rounds, || {
                guest.wasi.call(function, args, &mut guest.memory, &cancel).unwrap();
            });
        };
        case("sched_yield", &[]);
        case("clock_time_get", &[1, 0, OUT as u64]);
        case("random_get", &[0, 16]);
        case("fd_write", &rw(1));
        case("fd_write", &rw(2));
        case("fd_write", &rw(fd));
        case("fd_pread", &[fd.into(), IOVS as u64, 1, 0, OUT as u64]);
        case("fd_read", &rw(0));
        case("fd_filestat_get", &[fd.into(), OUT as u64]);
        guest.clock(PATH, 0);
        guest.clock(PATH + 48, 0);
        let poll = |count| [PATH as u64, DATA as u64, count, OUT as u64];
        let mut case = |label: &str, args: &[u64]| {
            measure(label, rounds, || assert_eq!(guest.call("poll_oneoff", args), SUCCESS));
        };
        case("poll_oneoff, one timer of 0", &poll(1));
        case("poll_oneoff, two timers of 0", &poll(2));
    }
    for threads in [false, true] {
        let mut guest = Guest::new(config.clone().cancellable_files(threads));
        measure(&format!("path_open and fd_close threads={threads}"), 500, || {
            let fd = guest.open(3, "f", 0, READ).unwrap();
            assert_eq!(guest.call("fd_close", &[fd.into()]), SUCCESS);
        });
    }
    measure("first call (builds the context)", 500, || {
        let mut guest = Guest::new(config.clone());
        assert_eq!(guest.call("sched_yield", &[]), SUCCESS);
    });
    measure("Wasi::new only", 500, || drop(Wasi::new(config.clone())));
}
