//! No call of a hostile guest brings the host down.

use std::time::{Duration, Instant};

use crate::support::{DATA, Guest, OUT, PATH};
use proptest::prelude::*;
use sandgrain_wasi::{Access, Cancel, Error, Function, Input, Output, Wasi, WasiConfig};

/// Numbers that tend to hurt, next to any number.
fn slot() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..8,
        4 => 0_u64..300,
        2 => prop::sample::select(vec![
            u64::MAX, u64::MAX - 7, 1 << 63, (1 << 63) - 1, 0xffff_ffff, 0xffff_fff8,
            0x8000_0000, 0x7fff_ffff, 0x1_0000_0000, 65_535, 65_536, 65_537, 4096,
        ]),
        1 => any::<u64>(),
    ]
}

fn calls() -> impl Strategy<Value = Vec<(u16, Vec<u64>)>> {
    let count = Function::all().len() as u16;
    prop::collection::vec((0..count, prop::collection::vec(slot(), 9)), 1..40)
}

fn memory() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => 0_u8..6, 1 => any::<u8>()];
    let size = prop_oneof![Just(0_usize), 1_usize..64, 64_usize..2048];
    size.prop_flat_map(move |size| prop::collection::vec(byte.clone(), size))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_calls_do_not_panic(calls in calls(), memory in memory()) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "text").unwrap();
        let config = WasiConfig::new()
            .args(["a", "b"])
            .env("K", "V")
            .preopen(dir.path(), "/", Access::ReadWrite)
            .stdin(Input::Bytes(vec![7; 100].into()))
            .stdout(Output::Capture)
            .output_limits(1000, 1000);
        let mut wasi = Wasi::new(config);
        let mut memory = memory;
        for (index, slots) in calls {
            let function = Function::from_index(index).unwrap();
            // A file of a petabyte is none of this test's business.
            if function.name() == "fd_filestat_set_size" && slots[1] > 1 << 20 {
                continue;
            }
            let cancel = Cancel::new().with_deadline(Instant::now() + Duration::from_millis(5));
            let args = &slots[..function.params().len()];
            let start = Instant::now();
            let result = wasi.call(function, args, &mut memory, &cancel);
            prop_assert!(start.elapsed() < Duration::from_secs(5), "{} is slow", function.name());
            prop_assert!(
                !matches!(result, Err(Error::BadCall { .. } | Error::Host { .. } | Error::Grant { .. })),
                "{}: {result:?}", function.name()
            );
        }
    }
}

#[test]
fn every_function_survives_an_empty_memory() {
    for value in [0, 1, u64::MAX, 0x7fff_ffff, 0x8000_0000] {
        for function in Function::all() {
            let dir = tempfile::tempdir().unwrap();
            let config = WasiConfig::new().preopen(dir.path(), "/", Access::ReadWrite);
            let mut wasi = Wasi::new(config);
            let args = vec![value; function.params().len()];
            let cancel = Cancel::new().with_deadline(Instant::now() + Duration::from_millis(50));
            let _ = wasi.call(function, &args, &mut [], &cancel);
        }
    }
}

#[test]
fn pointers_outside_of_memory_trap() {
    let mut guest = Guest::new(WasiConfig::new());
    for (name, args) in [
        ("clock_time_get", &[1_u64, 0, 65_536][..]),
        ("clock_time_get", &[1, 0, 0xffff_fff8]),
        ("fd_write", &[1, 65_532, 1, 0]),
        ("args_sizes_get", &[65_534, 0]),
        ("poll_oneoff", &[65_500, 0, 1, 0]),
        ("poll_oneoff", &[0, 65_530, 1, 0]),
    ] {
        let result = guest.try_call(name, args);
        assert!(matches!(result, Err(Error::Trap(_))), "{name}: {result:?}");
    }
}

#[test]
fn lists_of_a_guest_are_bounded() {
    let mut guest = Guest::new(WasiConfig::new().stdout(Output::Capture));
    guest.memory = vec![0; 64 << 20];
    guest.cancel = Cancel::new().with_deadline(Instant::now() + Duration::from_secs(60));
    let start = Instant::now();
    // A million timers, and the most empty buffers that fit.
    let result = guest.try_call("poll_oneoff", &[0, 48 << 20, 400_000, OUT as u64]);
    assert!(result.is_ok_and(|reply| reply != sandgrain_wasi::Reply::Value(0)));
    let _ = guest.try_call("fd_write", &[1, PATH as u64, 8_000_000, DATA as u64]);
    let _ = guest.try_call("fd_write", &[1, PATH as u64, u32::MAX.into(), DATA as u64]);
    let _ = guest.try_call("fd_read", &[0, PATH as u64, 8_000_000, DATA as u64]);
    let _ = guest.try_call("random_get", &[0, 60 << 20]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn memory_that_the_host_did_not_align_is_named() {
    let mut wasi = Wasi::new(WasiConfig::new());
    let mut memory = [0_u64; 4].map(u64::to_le_bytes).concat();
    let odd = memory.as_ptr().align_offset(8) + 1;
    let function = Wasi::lookup("random_get").unwrap();
    let result = wasi.call(function, &[0, 4], &mut memory[odd..], &Cancel::new());
    assert!(matches!(result, Err(Error::Misaligned { .. })), "{result:?}");
}
