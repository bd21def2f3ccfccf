//! WASI 0.2 as a component calls it that means harm: any functions, with arguments of the right types or
//! noise, and handles that calls before have returned, or others. The host answers, or ends the guest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sandgrain_fuzz::{noise, write_seeds};
use sandgrain_wasi::component::fuzzing;
use sandgrain_wasi::{Access, Input, Output, Wasi, WasiConfig};

fuzz_target!(init: write_seeds(|| (0..64).map(|number| noise(number, 512)).collect()), |data: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory of its own");
    std::fs::write(dir.path().join("file"), "content").expect("a file in it");
    std::fs::create_dir(dir.path().join("sub")).expect("a directory in it");
    std::os::unix::fs::symlink("file", dir.path().join("link")).expect("a link in it");
    // A port at which nobody listens: nothing leaves this machine.
    let destination = || "127.0.0.1:9".parse().expect("a destination");
    let here = "127.0.0.1:*".parse().expect("a destination");
    let config = WasiConfig::new()
        .args(["program"])
        .preopen(dir.path(), "/", Access::ReadWrite)
        .stdin(Input::Bytes("some input".into()))
        .stdout(Output::Capture)
        .allow_http(destination())
        .allow_tcp(destination())
        .allow_udp(destination())
        .allow_listen(here)
        .max_handles(64)
        .output_limits(1 << 16, 1 << 16);
    fuzzing::call(&mut Wasi::new(config), data);
});
