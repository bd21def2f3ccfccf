//! Calls that no thread waits for.

mod components;
mod executors;
mod stopping;

use crate::support::{builder, module, name_of, on_both, trap_of, vm};
use executors::{block_on, executors, poll_once};
use sandgrain::wasi::{Input, Output, WasiConfig};
use sandgrain::{Engine, Error, Limits, Policy, Pool, Sandbox, SandboxBuilder, TrapCode};
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use tokio::sync::Barrier;

/// What tests call. `later` is an asynchronous host function; the others are not.
const MODULE: &str = r#"(module
    (import "host" "later" (func $later (param i32) (result i32)))
    (import "host" "begun" (func $begun))
    (import "wasi_snapshot_preview1" "poll_oneoff"
        (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    ;; A subscription at 0: number 7, the monotonic clock, a time that is stored at 24.
    (data (i32.const 0) "\07")
    (data (i32.const 16) "\01\00\00\00")
    (func $begin (export "begin") (call $begun))
    (func (export "later") (param i32) (result i32) (call $begun) (call $later (local.get 0)))
    (func (export "later twice") (param i32) (result i32)
        (i32.add (call $later (local.get 0)) (call $later (i32.add (local.get 0) (i32.const 1)))))
    (func (export "spin") (call $begun) (loop (br 0)))
    (func (export "sleep") (param $nanoseconds i64) (param $events i32) (result i32 i32 i64)
        (call $begun)
        (i64.store (i32.const 24) (local.get $nanoseconds))
        (call $poll (i32.const 0) (local.get $events) (i32.const 1) (i32.const 128))
        (i32.load (i32.const 128))
        (i64.load (local.get $events)))
    (func (export "exit") (param i32) (drop (call $later (i32.const 0))) (call $exit (local.get 0)))
    (func (export "trap") (drop (call $later (i32.const 0))) (unreachable))
    (func (export "deep") (call $deep))
    (func $deep (call $deep) (call $deep))
    (func (export "_start") (call $exit (call $later (i32.const 5)))))"#;

const HOUR: i64 = 3_600_000_000_000;

/// Waits until somebody else has had a turn, and returns its argument plus one.
async fn plus_one(n: u32) -> u32 {
    let mut is_first = true;
    std::future::poll_fn(|context| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(n + 1);
        }
        // From another thread, as a timer would.
        let waker: Waker = context.waker().clone();
        std::thread::spawn(move || waker.wake());
        Poll::Pending
    })
    .await
}

fn with_threads(count: usize) -> Engine {
    builder().without_cache().vcpu_threads(count).build().expect("an engine")
}

/// With and without a VM.
fn two_with_threads(count: usize) -> [Engine; 2] {
    let builder = || builder().without_cache().vcpu_threads(count);
    let reference = builder().dangerously_without_vm();
    [builder(), reference].map(|builder| builder.build().expect("an engine"))
}

fn described(engine: &Engine) -> SandboxBuilder {
    Sandbox::builder(&module(engine, MODULE))
        .async_function("host", "later", plus_one)
        .function("host", "begun", || {})
        .wasi(WasiConfig::new())
}

fn sandbox(engine: &Engine) -> Sandbox {
    described(engine).build().expect("a sandbox")
}

/// Another call completes: a vCPU thread is free.
#[track_caller]
fn is_free(engine: &Engine) {
    let n = block_on(sandbox(engine).call_async::<_, u32>("later", 1_u32)).expect("a call");
    assert_eq!(n, 2);
}

#[test]
fn values_and_errors_are_those_of_call() {
    on_both(|engine| {
        let mut one = sandbox(engine);
        for n in [0, 10, 1 << 20] {
            let awaited = block_on(one.call_async::<_, u32>("later twice", n)).expect("a call");
            assert_eq!(awaited, 2 * n + 3);
            assert_eq!(one.stats().host_calls, 2);
            assert_eq!(one.call::<_, u32>("later twice", n).expect("a call"), awaited);
        }
        let code = trap_of(block_on(one.call_async::<_, ()>("trap", ())));
        assert_eq!(code, TrapCode::Unreachable);
        let code = trap_of(block_on(one.call_async::<_, ()>("deep", ())));
        assert_eq!(code, TrapCode::StackOverflow);
        let error = block_on(one.call_async::<_, ()>("exit", 7));
        assert!(matches!(error, Err(Error::Exit(7))), "{error:?}");
        for (name, n) in [("nowhere", 1), ("trap", 1)] {
            let awaited = name_of(block_on(one.call_async::<_, ()>(name, n)));
            assert_eq!(awaited, name_of(one.call::<_, ()>(name, n)));
        }
        assert_eq!(name_of(block_on(one.call_async::<_, u64>("later", 1))).0, "bad-call");
        assert_eq!(block_on(one.run_async()).expect("a run"), 6);
    });
}

#[test]
fn an_error_of_the_future_comes_back_as_it_was_and_the_sandbox_goes_on() {
    on_both(|engine| {
        let check = |n: u32| async move {
            if plus_one(n).await > 1 { Ok(n) } else { Err(std::io::Error::other("too small")) }
        };
        let mut one =
            described(engine).async_function("host", "later", check).build().expect("one");
        for is_awaited in [true, false] {
            let result = match is_awaited {
                true => block_on(one.call_async::<_, u32>("later", 0_u32)),
                false => one.call("later", 0_u32),
            };
            match result {
                Err(Error::HostFunction { function, source }) => {
                    assert_eq!(function, "host.later");
                    let source = source.downcast::<std::io::Error>().expect("the error itself");
                    assert_eq!(source.to_string(), "too small");
                }
                other => panic!("{other:?}"),
            }
            let n = block_on(one.call_async::<_, u32>("later", 1_u32)).expect("it goes on");
            assert_eq!(n, 1);
        }
    });
}

#[test]
fn a_sleep_tells_the_guest_what_it_would_tell_in_call() {
    on_both(|engine| {
        let mut one = sandbox(engine);
        let args = (1_000_000_i64, 64);
        let awaited: (i32, i32, i64) = block_on(one.call_async("sleep", args)).expect("a call");
        assert_eq!(awaited, (0, 1, 7));
        assert_eq!(one.call::<_, (i32, i32, i64)>("sleep", args).expect("a call"), awaited);
        // Where there is no memory for the answer, or for a part of it.
        for events in [-8, 65_532] {
            let args = (1_000_i64, events);
            let awaited = name_of(block_on(one.call_async::<_, (i32, i32, i64)>("sleep", args)));
            assert_eq!(awaited, name_of(one.call::<_, (i32, i32, i64)>("sleep", args)));
        }
    });
}

/// Calls of so many sandboxes.
fn calls(count: u32, make: impl Fn() -> Sandbox) -> Vec<Pin<Box<dyn Future<Output = u32> + Send>>> {
    let call = |n| -> Pin<Box<dyn Future<Output = u32> + Send>> {
        let mut sandbox = make();
        Box::pin(async move { sandbox.call_async("later", n).await.expect("a call") })
    };
    (0..count).map(call).collect()
}

#[test]
fn fifty_guests_wait_in_a_host_function_at_once_with_two_threads() {
    let engine = with_threads(2);
    for (name, executor) in executors() {
        // Nobody goes on before all are there.
        let barrier = Arc::new(Barrier::new(50));
        let futures = calls(50, || {
            let barrier = Arc::clone(&barrier);
            let meet = move |n: u32| {
                let barrier = Arc::clone(&barrier);
                async move {
                    barrier.wait().await;
                    n * 2
                }
            };
            described(&engine).async_function("host", "later", meet).build().expect("a sandbox")
        });
        let mut values = executor(futures);
        values.sort_unstable();
        assert!(values.into_iter().eq((0..50).map(|n| n * 2)), "{name}");
    }
}

#[test]
fn fifty_guests_sleep_at_once_with_two_threads() {
    let engine = with_threads(2);
    let (begun, wait) = mpsc::channel();
    let mut futures: Vec<_> = (0..50)
        .map(|_| {
            let begun = begun.clone();
            let begin = move || begun.send(()).expect("somebody listens");
            let mut one = described(&engine).function("host", "begun", begin).build().expect("one");
            Box::pin(async move { one.call_async::<_, (i32, i32, i64)>("sleep", (HOUR, 64)).await })
        })
        .collect();
    for future in &mut futures {
        assert!(poll_once(future.as_mut()).is_pending());
    }
    // Two at a time, and each only once another sleeps without its thread.
    for _ in 0..50 {
        wait.recv().expect("they all begin");
    }
    is_free(&engine);
}

#[test]
fn a_panic_reaches_who_awaits_and_the_thread_lives_on() {
    let at_once = |_: u32| -> std::future::Ready<u32> { panic!("at once") };
    let later = |n: u32| async move {
        assert!(plus_one(n).await == n, "later");
        n
    };
    for engine in two_with_threads(1) {
        for (text, one) in [
            ("begun", described(&engine).function("host", "begun", || -> () { panic!("begun") })),
            ("at once", described(&engine).async_function("host", "later", at_once)),
            ("later", described(&engine).async_function("host", "later", later)),
        ] {
            let mut one = one.build().expect("a sandbox");
            let call = || block_on(one.call_async::<_, u32>("later", 1_u32));
            let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("the panic");
            assert_eq!(panic.downcast_ref(), Some(&text));
            let (name, text) = name_of(block_on(one.call_async::<_, u32>("later", 1_u32)));
            assert!(name == "ended" && text.contains("panicked"), "{text}");
            is_free(&engine);
        }
    }
}

#[test]
fn a_pools_sandboxes_can_be_awaited() {
    let first = sandbox(vm());
    let pool = Pool::builder(&first.snapshot().expect("a snapshot"))
        .configure(|builder| {
            builder
                .async_function("host", "later", plus_one)
                .function("host", "begun", || {})
                .wasi(WasiConfig::new())
        })
        .policy(Policy::Reset)
        .build()
        .expect("a pool");
    for n in 0..10_u32 {
        let mut pooled = pool.take("a tenant").expect("a sandbox");
        assert_eq!(block_on(pooled.call_async::<_, u32>("later", n)).expect("a call"), n + 1);
    }
    // One that was dropped in the middle serves nobody again.
    let mut pooled = pool.take("a tenant").expect("a sandbox");
    assert!(poll_once(pin!(pooled.call_async::<_, ()>("spin", ()))).is_pending());
    drop(pooled);
    let mut pooled = pool.take("a tenant").expect("a sandbox");
    assert_eq!(block_on(pooled.call_async::<_, u32>("later", 1_u32)).expect("a call"), 2);
}

#[test]
fn a_run_that_was_stopped_at_its_input_can_be_awaited() {
    let wat = r#"(module
        (import "host" "later" (func $later (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\40\00\00\00\08\00\00\00")
        (func (export "_start")
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $exit (call $later (i32.load (i32.const 8))))))"#;
    let wasi = WasiConfig::new().stdin(Input::Bytes("hello".into())).stdout(Output::Capture);
    let mut one = Sandbox::builder(&module(vm(), wat))
        .async_function("host", "later", plus_one)
        .wasi(wasi)
        .build()
        .expect("a sandbox");
    assert_eq!(one.run_to_input().expect("a run"), None);
    assert_eq!(name_of(block_on(one.call_async::<_, ()>("_start", ()))).0, "bad-call");
    assert_eq!(block_on(one.run_async()).expect("a run"), 6);
}

#[test]
fn an_engine_ends_its_threads() {
    thread_local! {
        static ENDS: std::cell::RefCell<Option<mpsc::Sender<()>>> = const { std::cell::RefCell::new(None) };
    }
    for engine in two_with_threads(1) {
        let (sender, end) = mpsc::channel();
        let begin = move || ENDS.set(Some(sender.clone()));
        let mut one = described(&engine).function("host", "begun", begin).build().expect("one");
        block_on(one.call_async::<_, ()>("begin", ())).expect("a call");
        drop(one);
        assert_eq!(end.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(engine);
        // The thread's sender is the last one, and goes with it.
        assert_eq!(end.recv(), Err(mpsc::RecvError));
    }
}

#[test]
fn limits_hold_as_in_call() {
    on_both(|engine| {
        let wat = r#"(module (memory 1)
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;
        let limits = Limits::default().memory(1 << 20);
        let mut one = Sandbox::builder(&module(engine, wat)).limits(limits).build().expect("one");
        assert_eq!(block_on(one.call_async::<_, i32>("grow", 10)).expect("a call"), 1);
        assert_eq!(block_on(one.call_async::<_, i32>("grow", 100)).expect("a call"), -1);
    });
}
