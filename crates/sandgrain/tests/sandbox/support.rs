//! Engines, and the proof that they are well.

use sandgrain::{
    Engine, EngineBuilder, Error, Limits, Module, Pool, PoolStats, Result, Sandbox, TrapCode,
};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("sandgrain-cache")
}

/// Whether this is QEMU's emulation, where everything takes many times longer.
pub fn is_emulated() -> bool {
    std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some()
}

/// An engine as these tests need it: in QEMU's emulation, with its quirk.
pub fn builder() -> EngineBuilder {
    Engine::builder().available_tss(is_emulated())
}

/// The engine with VMs. Without KVM every test fails here, with the library's own words.
pub fn vm() -> &'static Engine {
    static VM: OnceLock<Engine> = OnceLock::new();
    VM.get_or_init(|| match builder().cache_dir(cache()).build() {
        Ok(engine) => engine,
        Err(error) => panic!("{error}"),
    })
}

/// The engine without.
pub fn reference() -> &'static Engine {
    static REFERENCE: OnceLock<Engine> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        Engine::builder().without_cache().dangerously_without_vm().build().expect("an engine")
    })
}

/// Does the same with both engines, each of which must be well afterwards.
pub fn on_both(test: impl Fn(&Engine)) {
    for engine in [vm(), reference()] {
        test(engine);
        works(engine);
    }
}

/// Asserts that an engine makes sandboxes that answer.
#[track_caller]
pub fn works(engine: &Engine) {
    let module = module(engine, r#"(module (func (export "answer") (result i32) (i32.const 42)))"#);
    let mut sandbox = Sandbox::new(&module).expect("a sandbox after all that");
    assert_eq!(sandbox.call::<_, u32>("answer", ()).expect("a call after all that"), 42);
}

/// Counts in a global, in memory, and in memory that it has grown.
pub const COUNTER: &str = r#"(module (memory (export "memory") 1)
    (global $n (export "n") (mut i32) (i32.const 0))
    (func (export "add") (param i32) (result i32)
        (global.set $n (i32.add (global.get $n) (local.get 0)))
        (i32.store (i32.const 40000) (global.get $n))
        (i32.load (i32.const 40000)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "peek") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "poke") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
    (func (export "spin") (loop (br 0)))
    (func (export "trap") unreachable))"#;

#[track_caller]
pub fn module(engine: &Engine, wat: &str) -> Module {
    Module::new(engine, wat.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{wat}"))
}

/// A sandbox with nothing granted.
#[track_caller]
pub fn sandbox(engine: &Engine, wat: &str) -> Sandbox {
    Sandbox::new(&module(engine, wat)).unwrap_or_else(|error| panic!("{error}\n{wat}"))
}

/// A sandbox with these limits, or the error that there is instead.
pub fn limited(engine: &Engine, limits: Limits, wat: &str) -> Result<Sandbox> {
    Sandbox::builder(&module(engine, wat)).limits(limits).build()
}

/// A deadline that comes soon, but not before a sandbox is made.
pub fn deadline() -> Duration {
    Duration::from_millis(if is_emulated() { 2000 } else { 200 })
}

/// Limits with that deadline.
pub fn soon() -> Limits {
    Limits::default().deadline(Some(deadline()))
}

/// The name of what went wrong.
#[track_caller]
pub fn name_of<T>(result: Result<T>) -> (&'static str, String) {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => (error.name(), error.to_string()),
    }
}

/// The trap that ended a call.
#[track_caller]
pub fn trap_of<T>(result: Result<T>) -> TrapCode {
    match result {
        Err(Error::Trap(trap)) => trap.code,
        Err(error) => panic!("not a trap: {error}"),
        Ok(_) => panic!("it should have trapped"),
    }
}

/// Waits until the pool's threads have got so far; not for ever.
#[track_caller]
pub fn wait_for(pool: &Pool, what: &str, condition: impl Fn(&PoolStats) -> bool) {
    let started = Instant::now();
    while !condition(&pool.stats()) {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: {:?}", pool.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}
