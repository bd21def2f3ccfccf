//! Arguments, environment, clocks, randomness, exits and the checks of a configuration.

use std::time::{Duration, SystemTime};

use crate::support::{BADF, Guest, INVAL, NOTSOCK, OUT, READ, SUCCESS};
use sandgrain_wasi::{Access, Cancel, Error, Function, Reply, WasiConfig};

#[test]
fn nothing_is_built_before_the_first_call() {
    let mut guest = Guest::new(WasiConfig::new().preopen("/does/not/exist", "/", Access::ReadOnly));
    assert!(!guest.wasi.is_created());
    let error = guest.try_call("sched_yield", &[]).unwrap_err();
    assert!(error.to_string().contains("/does/not/exist"), "{error}");
    assert!(!guest.wasi.is_created());

    let mut guest = Guest::new(WasiConfig::new());
    assert_eq!(guest.call("sched_yield", &[]), SUCCESS);
    assert!(guest.wasi.is_created());
}

#[test]
fn arguments_and_environment() {
    let config = WasiConfig::new().args(["prog", "-x"]).env("A", "old").env("B", "2").env("A", "1");
    let mut guest = Guest::new(config);
    assert_eq!(guest.call("args_sizes_get", &[0, 4]), SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (2, 8));
    assert_eq!(guest.call("args_get", &[0, 100]), SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (100, 105));
    assert_eq!(&guest.memory[100..108], b"prog\0-x\0");

    assert_eq!(guest.call("environ_sizes_get", &[0, 4]), SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (2, 8));
    assert_eq!(guest.call("environ_get", &[0, 100]), SUCCESS);
    assert_eq!(&guest.memory[100..108], b"A=1\0B=2\0");
}

#[test]
fn environment_is_inherited_on_request_only() {
    let count = |config| {
        let mut guest = Guest::new(config);
        assert_eq!(guest.call("environ_sizes_get", &[0, 4]), SUCCESS);
        guest.u32(0)
    };
    assert_eq!(count(WasiConfig::new()), 0);
    assert!(std::env::vars_os().next().is_some());
    assert!(count(WasiConfig::new().inherit_env(true)) > 0);
}

#[test]
fn clocks_are_those_of_the_host() {
    let mut guest = Guest::new(WasiConfig::new());
    assert_eq!(guest.call("clock_res_get", &[1, OUT as u64]), SUCCESS);
    assert!(guest.u64(OUT) > 0);
    let before = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    assert_eq!(guest.call("clock_time_get", &[0, 0, OUT as u64]), SUCCESS);
    let seen = Duration::from_nanos(guest.u64(OUT));
    assert!(seen >= before && seen - before < Duration::from_secs(60), "{seen:?}");
    assert_eq!(guest.call("clock_time_get", &[1, 0, OUT as u64]), SUCCESS);
    let first = guest.u64(OUT);
    assert_eq!(guest.call("clock_time_get", &[1, 0, OUT as u64]), SUCCESS);
    assert!(guest.u64(OUT) >= first);
    // The processor's clocks are not offered, and there is no clock 4.
    assert_eq!(guest.call("clock_time_get", &[2, 0, OUT as u64]), BADF);
    assert!(matches!(guest.try_call("clock_time_get", &[4, 0, 0]), Err(Error::Trap(_))));
}

#[test]
fn no_two_sandboxes_share_randomness() {
    let random = || {
        let mut guest = Guest::new(WasiConfig::new());
        assert_eq!(guest.call("random_get", &[0, 32]), SUCCESS);
        guest.memory[..32].to_vec()
    };
    assert_ne!(random(), random());
    let mut guest = Guest::new(WasiConfig::new());
    assert!(matches!(guest.try_call("random_get", &[0, 0xffff_ffff]), Err(Error::Trap(_))));
    assert!(matches!(guest.try_call("random_get", &[1 << 16, 1]), Err(Error::Trap(_))));
    assert_eq!(guest.call("random_get", &[1 << 16, 0]), SUCCESS);
}

#[test]
fn exits() {
    for code in [0, 1, 42, 125, 126, 255, -1] {
        let mut guest = Guest::new(WasiConfig::new());
        let slot = u64::from(code as u32);
        assert_eq!(guest.try_call("proc_exit", &[slot]).unwrap(), Reply::Exit(code));
    }
}

#[test]
fn sockets_are_never_there() {
    let mut guest = Guest::new(WasiConfig::new());
    assert_eq!(guest.call("sock_accept", &[3, 0, 0]), BADF);
    assert_eq!(guest.call("sock_shutdown", &[1, 1]), NOTSOCK);
    assert_eq!(guest.call("sock_send", &[1, 0, 0, 0, 0]), NOTSOCK);
    assert_eq!(guest.call("sock_recv", &[0, 0, 0, 0, 0, 4]), NOTSOCK);
}

#[test]
fn nothing_is_granted_by_default() {
    let mut guest = Guest::new(WasiConfig::new());
    assert_eq!(guest.call("fd_prestat_get", &[3, 0]), BADF);
    assert_eq!(guest.open(3, "x", 0, READ), Err(BADF));
    assert_eq!(guest.read(0, 10), Ok(Vec::new()));
    assert_eq!(guest.write(1, b"gone"), Ok(4));
    assert!(guest.wasi.stdout().is_empty());
    // A poll of nothing would never end.
    assert_eq!(guest.call("poll_oneoff", &[0, 0, 0, 0]), INVAL);
}

#[test]
fn wrong_number_of_arguments() {
    let mut guest = Guest::new(WasiConfig::new());
    for function in Function::all() {
        let args = vec![0; function.params().len() + 1];
        let result = guest.wasi.call(function, &args, &mut guest.memory, &Cancel::new());
        assert!(matches!(result, Err(Error::BadCall { .. })), "{}: {result:?}", function.name());
    }
    let error = guest.try_call("fd_close", &[]).unwrap_err();
    assert_eq!(error.to_string(), "fd_close takes 1 arguments and was called with 0");
}

#[test]
fn high_halves_of_i32_slots_are_ignored() {
    let mut guest = Guest::new(WasiConfig::new());
    assert_eq!(guest.call("random_get", &[0xdead_beef_0000_0000, 0xffff_0000_0000_0004]), SUCCESS);
}

#[test]
fn configurations_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let grant = |config: WasiConfig| match config.check() {
        Err(Error::Grant { path, source }) => (path, source.kind()),
        other => panic!("{other:?}"),
    };
    let missing = dir.path().join("missing");
    let (path, kind) = grant(WasiConfig::new().preopen(&missing, "/", Access::ReadOnly));
    assert_eq!((path, kind), (missing, std::io::ErrorKind::NotFound));
    let (path, kind) = grant(WasiConfig::new().preopen(&file, "/", Access::ReadWrite));
    assert_eq!((path, kind), (file, std::io::ErrorKind::NotADirectory));

    let config = WasiConfig::new().preopen(dir.path(), "/", Access::ReadOnly);
    config.check().unwrap();
    for wrong in [
        WasiConfig::new().arg("a\0b"),
        WasiConfig::new().env("", "x"),
        WasiConfig::new().env("A=B", "x"),
        WasiConfig::new().env("A", "x\0"),
        WasiConfig::new().preopen(dir.path(), "", Access::ReadOnly),
        config.preopen(dir.path(), "/", Access::ReadOnly),
    ] {
        assert!(matches!(wrong.check(), Err(Error::Config(_))), "{wrong:?}");
    }
}
