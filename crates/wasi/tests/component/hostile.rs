//! Guests that mean harm.

use std::os::unix::fs::symlink;
use std::{fs, sync::LazyLock};

use http_body_util::Full;
use proptest::prelude::*;
use sandgrain_abi::component::Reader;
use sandgrain_wasi::component::{Function, Reply, fuzzing, resources};
use sandgrain_wasi::{Access, Error, Input, Output, Wasi, WasiConfig};
use tempfile::TempDir;

use super::io::{stdin, stdout};
use super::support::{Guest, IO, POLL};

static DIR: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    dir
});

fn everything() -> WasiConfig {
    let destination = |text: &str| text.parse().unwrap();
    WasiConfig::new()
        .args(["program"])
        .preopen(DIR.path(), "/", Access::ReadWrite)
        .stdin(Input::Bytes("some input".into()))
        .stdout(Output::Capture)
        .allow_http(destination("127.0.0.1:9"))
        .allow_tcp(destination("127.0.0.1:9"))
        .allow_tcp(destination("localhost:9"))
        .allow_udp(destination("127.0.0.1:9"))
        .allow_listen(destination("127.0.0.1:*"))
        .max_handles(64)
        .output_limits(1 << 16, 1 << 16)
}

/// A guest with a resource of each kind that is easily had, under small numbers.
fn guest() -> Guest {
    let mut guest = Guest::new(everything());
    let request = http::Request::post("/path")
        .header("host", "example.com")
        .body(Full::from("body"))
        .unwrap();
    guest.wasi.incoming_request(request).unwrap();
    stdin(&mut guest);
    stdout(&mut guest);
    guest.timer(0);
    guest.call::<Vec<(u32, String)>>("wasi:filesystem/preopens@0.2.0", "get-directories", ());
    guest.call::<u32>("wasi:sockets/instance-network@0.2.0", "instance-network", ());
    let make = |guest: &mut Guest, kind: &str| {
        let instance = format!("wasi:sockets/{kind}-create-socket@0.2.0");
        let socket: Result<u32, u32> =
            guest.call(&instance, &format!("create-{kind}-socket"), 0_u32);
        socket.unwrap();
    };
    make(&mut guest, "tcp");
    make(&mut guest, "udp");
    guest.call::<u32>("wasi:http/types@0.2.0", "[constructor]fields", ());
    guest.call::<u32>("wasi:http/types@0.2.0", "[constructor]request-options", ());
    guest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_sequence_of_calls_makes_the_host_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut guest = guest();
        fuzzing::call(&mut guest.wasi, &bytes);
        // It goes on answering.
        guest.call::<u64>("wasi:clocks/monotonic-clock@0.2.0", "now", ());
    }
}

/// Bytes that look random and are the same in every run.
fn noise(state: &mut u64, length: usize) -> Vec<u8> {
    let next = |_| {
        *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (*state >> 56) as u8
    };
    (0..length).map(next).collect()
}

#[test]
fn made_up_calls_get_beyond_their_handles() {
    // Who has nothing but handles that there are not is answered little more than what is easily had.
    let mut state = 1;
    let answered = |bytes: &[u8]| fuzzing::call(&mut Wasi::new(everything()), bytes);
    let easily_had = answered(&[]);
    assert!(easily_had >= 10, "{easily_had}");
    let all: usize = (0..100).map(|_| answered(&noise(&mut state, 600)) - easily_had).sum();
    assert!(all > 1000, "{all} of some 6000 calls");
}

#[test]
fn arguments_that_are_noise_are_errors() {
    let mut state = 1;
    let mut wasi = Wasi::new(everything());
    for function in Function::all() {
        for length in 0..40 {
            let bytes = noise(&mut state, length);
            let cancel = sandgrain_wasi::Cancel::new();
            let args = Reader::new(&bytes, &[], &[], 1 << 16);
            let result = wasi.call_component(function, args, &cancel);
            // Only what takes none is called without arguments, and numbers can be any.
            if let Err(error) = result {
                let fits =
                    matches!(error, Error::Arguments { .. } | Error::Trap(_) | Error::Limit { .. });
                assert!(fits, "{function:?}: {error}");
            }
        }
    }
}

#[test]
fn handles_that_there_are_not_trap() {
    let mut guest = Guest::new(WasiConfig::new());
    for handle in [0, 1, 1000, u32::MAX] {
        for (instance, name) in resources() {
            let message = guest.trap(instance, &format!("[resource-drop]{name}"), handle);
            assert!(message.contains("not present"), "{message}");
        }
        let message = guest.trap(IO, "[method]input-stream.blocking-read", (handle, 1_u64));
        assert!(message.contains("not present"), "{message}");
    }
}

#[test]
fn handles_of_another_kind_trap() {
    let mut guest = guest();
    let out = stdout(&mut guest);
    for (instance, name, args) in [
        (IO, "[method]input-stream.read", (out, 1_u64)),
        (IO, "[method]input-stream.blocking-skip", (out, 1_u64)),
    ] {
        let message = guest.trap(instance, name, args);
        assert!(message.contains("another type"), "{message}");
    }
    for (instance, name) in [
        (POLL, "[method]pollable.block"),
        ("wasi:filesystem/types@0.2.0", "[method]descriptor.stat"),
        ("wasi:http/types@0.2.0", "[method]fields.entries"),
        ("wasi:sockets/tcp@0.2.0", "[method]tcp-socket.remote-address"),
    ] {
        let message = guest.trap(instance, name, out);
        assert!(message.contains("another type"), "{message}");
    }
}

#[test]
fn handles_of_another_kind_are_not_subscribed_to_nor_dropped() {
    let mut guest = guest();
    let out = stdout(&mut guest);
    for (instance, name) in [
        (IO, "[method]input-stream.subscribe"),
        (IO, "[resource-drop]input-stream"),
        ("wasi:filesystem/types@0.2.0", "[resource-drop]descriptor"),
        ("wasi:http/types@0.2.0", "[method]future-trailers.subscribe"),
        ("wasi:sockets/udp@0.2.0", "[method]udp-socket.subscribe"),
    ] {
        let message = guest.trap(instance, name, out);
        assert!(message.contains("another type"), "{message}");
    }
    guest.write(out, b"still there").unwrap();
}

#[test]
fn nothing_is_dropped_twice() {
    let mut guest = Guest::new(WasiConfig::new());
    let out = stdout(&mut guest);
    guest.drop_handle(IO, "output-stream", out);
    let message = guest.trap(IO, "[resource-drop]output-stream", out);
    assert!(message.contains("not present"), "{message}");
    assert!(message.contains("output-stream"), "{message}");
}

#[test]
fn what_is_subscribed_to_is_not_dropped_first() {
    let mut guest = Guest::new(WasiConfig::new());
    let input = stdin(&mut guest);
    let pollable: u32 = guest.call(IO, "[method]input-stream.subscribe", input);
    let message = guest.trap(IO, "[resource-drop]input-stream", input);
    assert!(message.contains("children"), "{message}");
    guest.drop_handle(POLL, "pollable", pollable);
    guest.drop_handle(IO, "input-stream", input);
}

#[test]
fn cases_and_flags_that_there_are_not_are_errors() {
    let mut guest = guest();
    let create = "create-tcp-socket";
    let result = guest.try_call("wasi:sockets/tcp-create-socket@0.2.0", create, 2_u32);
    assert!(matches!(result, Err(Error::Arguments { .. })), "{result:?}");
    let files = "wasi:filesystem/types@0.2.0";
    let args = (4_u32, 2_u8, "file");
    let result = guest.try_call(files, "[method]descriptor.stat-at", args);
    assert!(matches!(result, Err(Error::Arguments { .. })), "{result:?}");
    let result: Result<Reply, Error> =
        guest.try_call(IO, "[method]output-stream.flush", (1_u32, 0_u8));
    assert!(matches!(result, Err(Error::Arguments { .. })), "{result:?}");
}
