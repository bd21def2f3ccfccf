//! The engine, and the proof that it is well after each attack.

use sandgrain::{Engine, Error, Limits, Module, Sandbox};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Whether this is QEMU's emulation, where everything takes many times longer.
pub fn is_emulated() -> bool {
    std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some()
}

/// The deadline of programs that would never end by themselves.
pub fn deadline() -> Duration {
    if is_emulated() { Duration::from_secs(2) } else { Duration::from_millis(300) }
}

/// What no deadline may be missed by, however slow the machine: that it holds at all is the test, and
/// how well is printed.
pub fn bound() -> Duration {
    Duration::from_secs(if is_emulated() { 100 } else { 10 })
}

/// The engine with VMs. Without KVM every test fails here, with the library's own words.
pub fn vm() -> &'static Engine {
    static VM: OnceLock<Engine> = OnceLock::new();
    VM.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandgrain-cache");
        let builder = Engine::builder().available_tss(is_emulated()).cache_dir(cache);
        builder.build().unwrap_or_else(|error| panic!("{error}"))
    })
}

#[track_caller]
pub fn module(wat: &str) -> Module {
    Module::new(vm(), wat.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{wat}"))
}

#[track_caller]
pub fn sandbox(wat: &str) -> Sandbox {
    Sandbox::builder(&module(wat))
        .limits(patient())
        .build()
        .unwrap_or_else(|error| panic!("{error}\n{wat}"))
}

/// Limits with a deadline that comes soon.
pub fn soon() -> Limits {
    Limits::default().deadline(Some(deadline()))
}

/// Limits whose deadline is none that these programs reach, on any machine.
pub fn patient() -> Limits {
    Limits::default().deadline(Some(Duration::from_secs(3600)))
}

/// Asserts that the engine makes sandboxes that answer.
#[track_caller]
pub fn works() {
    let mut sandbox = sandbox(r#"(module (func (export "answer") (result i32) (i32.const 42)))"#);
    assert_eq!(sandbox.call::<_, u32>("answer", ()).expect("a call after all that"), 42);
}

/// Calls `run`, which never ends by itself: it ends at the deadline, and the sandbox with it. Prints how
/// much later.
#[track_caller]
pub fn ends_at_the_deadline(name: &str, sandbox: &mut Sandbox) {
    let started = Instant::now();
    let result = sandbox.call::<_, ()>("run", ());
    let taken = started.elapsed();
    assert!(matches!(result, Err(Error::Deadline(_))), "{name}: {result:?}");
    assert!(taken >= deadline(), "{name}: {taken:?}");
    let slack = taken - deadline();
    assert!(slack < bound(), "{name}: {slack:?} after its deadline");
    print(&format!("{name}: {:.1} ms after its deadline", slack.as_secs_f64() * 1e3));
    let again = sandbox.call::<_, ()>("run", ());
    assert!(matches!(again, Err(Error::Ended(_))), "{name}: {again:?}");
    works();
}

/// Calls `run`, which hits a limit long before the deadline: the error that it ends with.
#[track_caller]
pub fn ends_before_the_deadline(name: &str, sandbox: &mut Sandbox) -> Error {
    let started = Instant::now();
    let error = sandbox.call::<_, ()>("run", ()).expect_err(name);
    print(&format!(
        "{name}: {} after {:.1} ms",
        error.name(),
        started.elapsed().as_secs_f64() * 1e3
    ));
    assert!(
        !matches!(error, Error::Deadline(_) | Error::Host(_) | Error::Guest(_)),
        "{name}: {error}"
    );
    works();
    error
}

/// For the one who reads the test's output: `--nocapture` shows it.
#[allow(clippy::print_stdout, reason = "measurements are printed, not asserted")]
pub fn print(line: &str) {
    println!("measured: {line}");
}
