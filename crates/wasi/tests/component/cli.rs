//! Arguments, environment, exits, clocks and randomness.

use std::time::{Duration, Instant, SystemTime};

use sandgrain_wasi::component::Reply;
use sandgrain_wasi::{Access, Error, WasiConfig};

use super::support::{CLOCK, Guest};

const ENVIRONMENT: &str = "wasi:cli/environment@0.2.0";
const EXIT: &str = "wasi:cli/exit@0.2.0";
const RANDOM: &str = "wasi:random/random@0.2.0";
const INSECURE: &str = "wasi:random/insecure@0.2.0";

#[test]
fn nothing_is_built_before_the_first_call() {
    let mut guest = Guest::new(WasiConfig::new().preopen("/does/not/exist", "/", Access::ReadOnly));
    assert!(!guest.wasi.is_created());
    let error = guest.try_call(ENVIRONMENT, "get-arguments", ()).unwrap_err();
    assert!(matches!(error, Error::Grant { .. }), "{error}");
    assert!(!guest.wasi.is_created());

    let mut guest = Guest::new(WasiConfig::new());
    guest.call::<Vec<String>>(ENVIRONMENT, "get-arguments", ());
    assert!(guest.wasi.is_created());
}

#[test]
fn arguments_and_environment() {
    let config = WasiConfig::new().args(["prog", "-x"]).env("A", "old").env("B", "2").env("A", "1");
    let mut guest = Guest::new(config);
    assert_eq!(guest.call::<Vec<String>>(ENVIRONMENT, "get-arguments", ()), ["prog", "-x"]);
    let variables: Vec<(String, String)> = guest.call(ENVIRONMENT, "get-environment", ());
    assert_eq!(variables, [("A".into(), "1".into()), ("B".into(), "2".into())]);
    assert_eq!(guest.call::<Option<String>>(ENVIRONMENT, "initial-cwd", ()), None);
}

#[test]
fn exits_carry_their_code() {
    let mut guest = Guest::new(WasiConfig::new());
    let success: Result<(), ()> = Ok(());
    assert!(matches!(guest.try_call(EXIT, "exit", success), Ok(Reply::Exit(0))));
    let failure: Result<(), ()> = Err(());
    assert!(matches!(guest.try_call(EXIT, "exit", failure), Ok(Reply::Exit(1))));
    assert!(matches!(guest.try_call(EXIT, "exit-with-code", 200_u8), Ok(Reply::Exit(200))));
}

#[test]
fn the_wall_clock_is_the_hosts() {
    let mut guest = Guest::new(WasiConfig::new());
    let (seconds, nanoseconds): (u64, u32) = guest.call("wasi:clocks/wall-clock@0.2.0", "now", ());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(seconds) < 60 && nanoseconds < 1_000_000_000);
}

#[test]
fn the_monotonic_clock_goes_on() {
    let mut guest = Guest::new(WasiConfig::new());
    let first: u64 = guest.call(CLOCK, "now", ());
    std::thread::sleep(Duration::from_millis(2));
    let second: u64 = guest.call(CLOCK, "now", ());
    assert!(second - first >= 2_000_000);
    assert!(guest.call::<u64>(CLOCK, "resolution", ()) > 0);
}

#[test]
fn a_timer_blocks_for_its_time() {
    let mut guest = Guest::new(WasiConfig::new());
    let start = Instant::now();
    let timer = guest.timer(20_000_000);
    guest.block(timer);
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn random_numbers_are_noted() {
    for (instance, name) in [(RANDOM, "get-random-bytes"), (INSECURE, "get-insecure-random-bytes")]
    {
        let mut guest = Guest::new(WasiConfig::new());
        guest.call::<u64>(CLOCK, "now", ());
        assert!(!guest.wasi.has_given_randomness());
        let (a, b): (Vec<u8>, Vec<u8>) =
            (guest.call(instance, name, 100_000_u64), guest.call(instance, name, 100_000_u64));
        assert!(a.len() == 100_000 && b.len() == 100_000 && a != b);
        assert!(guest.wasi.has_given_randomness());
    }
    let singles = [
        (RANDOM, "get-random-u64"),
        (INSECURE, "get-insecure-random-u64"),
        ("wasi:random/insecure-seed@0.2.0", "insecure-seed"),
    ];
    for (instance, name) in singles {
        let mut guest = Guest::new(WasiConfig::new());
        guest.try_call(instance, name, ()).unwrap();
        assert!(guest.wasi.has_given_randomness(), "{name}");
    }
}

#[test]
fn two_guests_have_random_numbers_of_their_own() {
    let numbers = || -> Vec<u64> {
        let mut guest = Guest::new(WasiConfig::new());
        let (a, b): (u64, u64) = guest.call("wasi:random/insecure-seed@0.2.0", "insecure-seed", ());
        let c: u64 = guest.call(RANDOM, "get-random-u64", ());
        let d: u64 = guest.call(INSECURE, "get-insecure-random-u64", ());
        vec![a, b, c, d]
    };
    let (one, other) = (numbers(), numbers());
    assert!(one.iter().zip(&other).all(|(a, b)| a != b), "{one:?} {other:?}");
}

#[test]
fn there_are_no_terminals_but_the_hosts_own() {
    let mut guest = Guest::new(WasiConfig::new());
    for stream in ["stdin", "stdout", "stderr"] {
        let instance = format!("wasi:cli/terminal-{stream}@0.2.0");
        let terminal: Option<u32> = guest.call(&instance, &format!("get-terminal-{stream}"), ());
        assert_eq!(terminal, None);
    }
}
