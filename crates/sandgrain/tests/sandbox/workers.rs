//! Sandboxes in worker processes: the same as here, and what becomes of them when their worker does not do as
//! it should.

mod confined;
mod losses;
mod pools;

use crate::support::{COUNTER, builder, is_emulated, module, name_of, sandbox, soon, trap_of, vm};
use rustix::process::{Pid, Signal, kill_process};
use sandgrain::wasi::{Access, Output, WasiConfig};
use sandgrain::{
    Caller, Error, Limits, Module, Sandbox, SandboxBuilder, Snapshot, TrapCode, Value, Workers,
};
use std::sync::mpsc;
use std::time::Duration;

/// The library's own worker program.
fn workers() -> Workers {
    Workers::of_program(env!("CARGO_BIN_EXE_sandgrain-worker"))
}

fn counter() -> Snapshot {
    sandbox(vm(), COUNTER).snapshot().expect("a snapshot")
}

fn kill(process: u32) {
    let process = Pid::from_raw(process.cast_signed()).expect("a process's number");
    kill_process(process, Signal::KILL).expect("a process");
}

/// Does the same in this process and in a worker.
fn here_and_there(
    wat: &str,
    configure: impl Fn(SandboxBuilder) -> SandboxBuilder,
    test: impl Fn(&mut Sandbox),
) {
    let module = module(vm(), wat);
    let first = configure(Sandbox::builder(&module)).build().expect("a sandbox");
    let snapshot = first.snapshot().expect("a snapshot");
    let workers = workers();
    test(&mut configure(snapshot.sandbox()).build().expect("a sandbox here"));
    test(&mut configure(snapshot.sandbox()).workers(&workers).build().expect("a sandbox there"));
}

#[test]
fn calls_globals_memory_and_traps_are_the_same() {
    here_and_there(
        COUNTER,
        |builder| builder,
        |sandbox| {
            let main = sandbox.main();
            assert_eq!(sandbox.call::<_, u32>("add", 5u32).expect("a call"), 5);
            assert_eq!(sandbox.call::<_, u32>("add", 6u32).expect("a call"), 11);
            assert_eq!(sandbox.global(main, "n").expect("a global"), Value::I32(11));
            sandbox.set_global(main, "n", Value::I32(-1)).expect("a global");
            assert_eq!(sandbox.call::<_, i32>("add", 0).expect("a call"), -1);
            let bytes = sandbox.read_memory(main, "memory", 39_998..40_006).expect("memory");
            assert_eq!(bytes, [0, 0, 255, 255, 255, 255, 0, 0]);
            sandbox.write_memory(main, "memory", 100, b"1234").expect("memory");
            assert_eq!(sandbox.call::<_, i32>("peek", 100).expect("a call"), 0x3433_3231);
            assert_eq!(trap_of(sandbox.call::<_, ()>("trap", ())), TrapCode::Unreachable);
            assert_eq!(sandbox.call::<_, u32>("add", 2u32).expect("a call after a trap"), 1);
            assert!(sandbox.stats().exits > 0 && sandbox.stats().guest > Duration::ZERO);
            let missing = name_of(sandbox.call::<_, ()>("missing", ()));
            assert_eq!(missing.0, "bad-call");
        },
    );
}

#[test]
fn memory_beyond_a_message_is_read_and_written() {
    here_and_there(
        COUNTER,
        |builder| builder,
        |sandbox| {
            let main = sandbox.main();
            assert_eq!(sandbox.call::<_, u32>("grow", 159u32).expect("a call"), 1);
            let size = 160 << 16;
            let bytes: Vec<u8> = (0..size).map(|at: u64| (at / 7) as u8).collect();
            sandbox.write_memory(main, "memory", 0, &bytes).expect("memory");
            assert_eq!(sandbox.read_memory(main, "memory", 0..size).expect("memory"), bytes);
            let reversed = std::ops::Range { start: 5, end: 4 };
            for range in [0..size + 1, size..u64::MAX, reversed] {
                let error = sandbox.read_memory(main, "memory", range.clone()).expect_err("beyond");
                assert!(matches!(error, Error::BadCall(_)), "{range:?}: {error}");
            }
            let error = sandbox.write_memory(main, "memory", size - 1, b"ab").expect_err("beyond");
            assert!(matches!(error, Error::BadCall(_)), "{error}");
        },
    );
}

const HOST: &str = r#"(module
    (import "host" "upper" (func $upper (param i32 i32) (result i32)))
    (import "host" "sum" (func $sum (result i64)))
    (import "host" "fail" (func $fail))
    (import "host" "later" (func $later (param i32) (result i32)))
    (memory (export "memory") 3)
    (data (i32.const 8) "sandgrain")
    (func (export "upper") (param i32 i32) (result i32) (call $upper (local.get 0) (local.get 1)))
    (func (export "first") (result i32) (i32.load8_u (i32.const 8)))
    (func (export "sum") (result i64) (call $sum))
    (func (export "fail") (call $fail))
    (func (export "later") (param i32) (result i32) (call $later (local.get 0))))"#;

fn with_host(builder: SandboxBuilder) -> SandboxBuilder {
    let upper = |caller: &mut Caller<'_>, address: u32, len: u32| {
        let bytes = caller.bytes(address, len)?;
        bytes.make_ascii_uppercase();
        Ok::<_, sandgrain::BoxError>(bytes.len() as u32)
    };
    let sum = |caller: &mut Caller<'_>| {
        let memory = caller.memory()?;
        Ok::<_, sandgrain::BoxError>(memory.iter().map(|byte| u64::from(*byte)).sum::<u64>())
    };
    builder
        .function("host", "upper", upper)
        .function("host", "sum", sum)
        .function("host", "fail", || Err::<(), _>("it does not work"))
        .async_function("host", "later", |n: u32| async move { n + 1 })
}

#[test]
fn host_functions_see_and_change_the_callers_memory() {
    here_and_there(HOST, with_host, |sandbox| {
        let sum: u64 = sandbox.call("sum", ()).expect("a call");
        assert_eq!(sum, b"sandgrain".iter().map(|byte| u64::from(*byte)).sum::<u64>());
        assert_eq!(sandbox.call::<_, u32>("upper", (8u32, 4u32)).expect("a call"), 4);
        let main = sandbox.main();
        assert_eq!(sandbox.read_memory(main, "memory", 8..17).expect("memory"), b"SANDgrain");
        assert_eq!(sandbox.call::<_, u32>("first", ()).expect("a call"), u32::from(b'S'));
        assert_eq!(sandbox.call::<_, u32>("later", 41u32).expect("a call"), 42);
        for (address, len) in [(3 << 16, 1), (0, (3 << 16) + 1), (u32::MAX, u32::MAX)] {
            let (name, text) = name_of(sandbox.call::<_, u32>("upper", (address, len)));
            assert_eq!(name, "host-function");
            assert!(text.contains("outside a memory of 196608 bytes"), "{text}");
        }
        let (name, text) = name_of(sandbox.call::<_, ()>("fail", ()));
        assert_eq!(name, "host-function");
        assert!(text.contains("it does not work"), "{text}");
        assert_eq!(sandbox.call::<_, u32>("first", ()).expect("a call"), u32::from(b'S'));
    });
}

#[test]
fn a_host_function_that_panics_leaves_the_worker_and_its_other_sandboxes_well() {
    let wat = r#"(module (import "host" "panic" (func $panic (param i32)))
        (func (export "f") (param i32) (call $panic (local.get 0))))"#;
    let with_panic = |builder: SandboxBuilder| {
        builder.function("host", "panic", |n: u32| assert!(n == 0, "as told"))
    };
    let first = with_panic(Sandbox::builder(&module(vm(), wat))).build().expect("a sandbox");
    let (snapshot, workers) = (first.snapshot().expect("a snapshot"), workers());
    let build =
        || with_panic(snapshot.sandbox()).workers(&workers).build().expect("a sandbox there");
    let (mut panicking, mut other) = (build(), build());
    let call = std::panic::AssertUnwindSafe(|| panicking.call::<_, ()>("f", 1u32));
    std::panic::catch_unwind(call).expect_err("the host function's panic");
    assert_eq!(name_of(panicking.call::<_, ()>("f", 0u32)).0, "ended");
    for _ in 0..3 {
        other.call::<_, ()>("f", 0u32).expect("a call of another one");
    }
    drop(panicking);
    build().call::<_, ()>("f", 0u32).expect("a call of a new one");
    assert_eq!(workers.processes().len(), 1, "no worker was lost");
}

#[test]
fn asynchronous_calls_wait_without_a_thread() {
    here_and_there(HOST, with_host, |sandbox| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let n: u32 = runtime.block_on(sandbox.call_async("later", 41u32)).expect("a call");
        assert_eq!(n, 42);
        assert_eq!(sandbox.call::<_, u32>("first", ()).expect("a call"), u32::from(b's'));
    });
}

/// Copies what is in one file to another and to its standard output, and tells what it got.
const FILES: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (memory (export "memory") 40)
    (data (i32.const 1024) "from")
    (data (i32.const 1032) "to")
    ;; Two buffers: one of 1,000,000 bytes at 100,000, one of as many after it.
    (func $lists
        (i32.store (i32.const 0) (i32.const 100000)) (i32.store (i32.const 4) (i32.const 1000000))
        (i32.store (i32.const 8) (i32.const 1100000)) (i32.store (i32.const 12) (i32.const 1000000)))
    (func (export "copy") (result i32 i32 i32 i32)
        (local $from i32) (local $to i32) (local $got i32)
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 4)
            (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 64)))
        (local.set $from (i32.load (i32.const 64)))
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 1032) (i32.const 2)
            (i32.const 1) (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 64)))
        (local.set $to (i32.load (i32.const 64)))
        (call $lists)
        (call $read (local.get $from) (i32.const 0) (i32.const 2) (i32.const 72))
        (local.set $got (i32.load (i32.const 72)))
        (i32.store (i32.const 4) (local.get $got))
        (call $write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 76))
        (i32.store (i32.const 4) (i32.const 5))
        (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 80))
        (local.get $got))
    (func (export "arguments") (result i32)
        (drop (call $sizes (i32.const 200) (i32.const 204)))
        (drop (call $args (i32.const 208) (i32.const 300)))
        (i32.load (i32.const 204))))"#;

#[test]
fn wasi_works_on_files_and_streams_that_the_worker_never_sees() {
    let directory = tempfile::tempdir().expect("a directory");
    let content: Vec<u8> = (0..700_000).map(|at: u32| (at / 3) as u8).collect();
    std::fs::write(directory.path().join("from"), &content).expect("a file");
    let configure = |builder: SandboxBuilder| {
        builder.wasi(
            WasiConfig::new()
                .arg("program")
                .arg("with an argument")
                .preopen(directory.path(), "/", Access::ReadWrite)
                .stdout(Output::Capture),
        )
    };
    here_and_there(FILES, configure, |sandbox| {
        let _ = std::fs::remove_file(directory.path().join("to"));
        let main = sandbox.main();
        // What the buffers hold beyond what is read stays.
        sandbox.write_memory(main, "memory", 800_000, b"untouched").expect("memory");
        let (read, wrote, printed, got): (u32, u32, u32, u32) =
            sandbox.call("copy", ()).expect("a call");
        assert_eq!((read, wrote, printed), (0, 0, 0));
        assert_eq!(got, 700_000);
        assert_eq!(std::fs::read(directory.path().join("to")).expect("the copy"), content);
        assert_eq!(&sandbox.take_stdout()[..], &content[..5]);
        let end = sandbox.read_memory(main, "memory", 799_998..800_009).expect("memory");
        assert_eq!(&end[2..], b"untouched");
        assert_eq!(end[..2], content[699_998..]);
        let len: u32 = sandbox.call("arguments", ()).expect("a call");
        let text = sandbox.read_memory(main, "memory", 300..300 + u64::from(len)).expect("memory");
        assert_eq!(text, b"program\0with an argument\0");
    });
}

#[test]
fn a_call_ends_at_its_deadline_and_the_worker_goes_on() {
    let wat = r#"(module (func (export "spin") (loop (br 0))) (func (export "f")))"#;
    let snapshot = sandbox(vm(), wat).snapshot().expect("a snapshot");
    let workers = workers();
    let build = || snapshot.sandbox().limits(soon()).workers(&workers).build().expect("a sandbox");
    let mut other = build();
    let mut spinning = build();
    assert_eq!(name_of(spinning.call::<_, ()>("spin", ())).0, "deadline");
    assert_eq!(name_of(spinning.call::<_, ()>("f", ())).0, "ended");
    other.call::<_, ()>("f", ()).expect("a call of another one");
    let handle = other.interrupt_handle();
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        handle.interrupt();
    });
    let ended = name_of(other.call::<_, ()>("spin", ())).0;
    assert!(ended == "interrupted" || is_emulated() && ended == "deadline", "{ended}");
    stopping.join().expect("a thread");
    build().call::<_, ()>("f", ()).expect("a call of a new one");
    assert_eq!(workers.processes().len(), 1, "no worker was lost");
}

#[test]
fn a_call_that_has_begun_and_finds_no_thread_to_go_on_ends_at_its_deadline() {
    fn wait_for<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(future)
    }
    let engine = builder().without_cache().vcpu_threads(1).build().expect("an engine");
    let wat = r#"(module (func (export "spin") (loop (br 0))) (func (export "f")))"#;
    let snapshot = sandbox(&engine, wat).snapshot().expect("a snapshot");
    let workers = workers();
    let build = || snapshot.sandbox().limits(soon()).workers(&workers).build().expect("a sandbox");
    let wat = r#"(module (import "host" "hold" (func $hold)) (func (export "hold") (call $hold)))"#;
    let (release, held) = mpsc::channel::<()>();
    let (taken, is_taken) = mpsc::channel();
    let hold = move || {
        taken.send(()).expect("somebody listens");
        let _ = held.recv();
    };
    let holding = Sandbox::builder(&module(&engine, wat)).function("host", "hold", hold).build();
    let mut holding = holding.expect("a sandbox");
    let holder = std::thread::spawn(move || wait_for(holding.call_async::<_, ()>("hold", ())));
    is_taken.recv().expect("the only thread is taken");

    let mut spinning = build();
    assert_eq!(name_of(wait_for(spinning.call_async::<_, ()>("spin", ()))).0, "deadline");
    assert_eq!(name_of(wait_for(spinning.call_async::<_, ()>("f", ()))).0, "ended");
    release.send(()).expect("it waits");
    holder.join().expect("a thread").expect("it goes on");
    wait_for(build().call_async::<_, ()>("f", ())).expect("a call of a new one");
    assert_eq!(workers.processes().len(), 1, "no worker was lost");
}

#[test]
fn a_module_that_is_added_later_runs_there_too() {
    let later = module(vm(), r#"(module (func (export "g") (result i32) (i32.const 7)))"#);
    let large = {
        let functions = "(func (param i32) (result i32) (i32.mul (local.get 0) (local.get 0)))";
        module(vm(), &format!("(module {})", functions.repeat(2000)))
    };
    let workers = workers();
    let limits = Limits::default().extra_code(128 << 10);
    let first = Sandbox::builder(&module(vm(), "(module)")).limits(limits).build();
    let snapshot = first.expect("a sandbox").snapshot().expect("a snapshot");
    let mut sandbox = snapshot.sandbox().workers(&workers).build().expect("a sandbox");
    let instance = sandbox.instantiate(&later).expect("an instance");
    let results = sandbox.call_values(instance, "g", &[]).expect("a call");
    assert_eq!(results, [Value::I32(7)]);
    // More code than there is room for is refused in the same words as here.
    let refused = |sandbox: &mut Sandbox, module: &Module| loop {
        match sandbox.instantiate(module) {
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    };
    let here = refused(&mut snapshot.sandbox().build().expect("a sandbox"), &large);
    assert_eq!(refused(&mut sandbox, &large), here);
    assert!(here.contains("code of modules that are added later"), "{here}");
    assert_eq!(sandbox.call_values(instance, "g", &[]).expect("a call"), [Value::I32(7)]);
}

#[test]
fn what_a_worker_cannot_do_is_said() {
    let workers = workers();
    let module = module(vm(), COUNTER);
    let (name, text) = name_of(Sandbox::builder(&module).workers(&workers).build());
    assert_eq!(name, "bad-call");
    assert!(text.contains("a snapshot of one"), "{text}");
    let sandbox = counter().sandbox().workers(&workers).build().expect("a sandbox");
    let (name, text) = name_of(sandbox.snapshot());
    assert_eq!(name, "snapshot");
    assert!(text.contains("in a worker process"), "{text}");
}
