//! How much a component may have.

use sandgrain_wasi::{Error, Input, WasiConfig};

use super::io::stdin;
use super::support::{Guest, POLL, function, handles};
use sandgrain_abi::component::{Lower as _, Reader, Writer};

#[test]
fn there_is_a_limit_of_handles() {
    let mut guest = Guest::new(WasiConfig::new().max_handles(10));
    let streams: Vec<u32> = (0..10).map(|_| stdin(&mut guest)).collect();
    let error = guest.try_call("wasi:cli/stdin@0.2.0", "get-stdin", ()).unwrap_err();
    assert!(matches!(error, Error::Limit { what: "handles", limit: 10, .. }), "{error}");
    assert!(error.to_string().contains("max_handles"), "{error}");
    guest.drop_handle("wasi:io/streams@0.2.0", "input-stream", streams[3]);
    stdin(&mut guest);
}

#[test]
fn there_is_a_limit_of_pollables_in_one_call() {
    let mut guest = Guest::new(WasiConfig::new().max_poll_list(3));
    let timer = guest.timer(0);
    guest.call::<Vec<u32>>(POLL, "poll", handles(&[timer; 3]));
    let error = guest.try_call(POLL, "poll", handles(&[timer; 4])).unwrap_err();
    assert!(matches!(error, Error::Limit { limit: 3, setting: "max_poll_list", .. }), "{error}");
}

#[test]
fn there_is_a_limit_of_bytes_that_one_call_gives() {
    let config = WasiConfig::new().max_call_bytes(1000).stdin(Input::Bytes(vec![1; 5000].into()));
    let mut guest = Guest::new(config);
    let input = stdin(&mut guest);
    assert_eq!(guest.read(input, u64::MAX).unwrap().len(), 1000);
    let random = "wasi:random/random@0.2.0";
    assert_eq!(guest.call::<Vec<u8>>(random, "get-random-bytes", 1000_u64).len(), 1000);
    for name in ["get-random-bytes", "get-insecure-random-bytes"] {
        let instance =
            if name.contains("insecure") { "wasi:random/insecure@0.2.0" } else { random };
        let error = guest.try_call(instance, name, 1001_u64).unwrap_err();
        assert!(matches!(error, Error::Limit { limit: 1000, .. }), "{error}");
    }
}

#[test]
fn by_default_nobody_has_the_host_make_up_much_memory() {
    let mut guest = Guest::new(WasiConfig::new());
    let random = "wasi:random/random@0.2.0";
    let error = guest.try_call(random, "get-random-bytes", u64::MAX).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
}

#[test]
fn arguments_take_no_more_memory_than_their_reader_may() {
    let mut guest = Guest::new(WasiConfig::new());
    let out: u32 = guest.call("wasi:cli/stdout@0.2.0", "get-stdout", ());
    let mut args = Writer::new();
    (out, vec![0_u8; 2000]).lower(&mut args);
    let (payload, _) = args.finish();
    let write = function("wasi:io/streams@0.2.0", "[method]output-stream.write");
    let args = Reader::new(&payload.body, &[], &[], 1000);
    let error = guest.wasi.call_component(write, args, &guest.cancel).unwrap_err();
    assert!(
        matches!(&error, Error::Arguments { problem, .. } if problem.contains("limit")),
        "{error}"
    );
}
