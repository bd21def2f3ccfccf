//! Components whose calls no thread waits for.

use super::executors::{all, block_on, poll_once};
use super::{HOUR, plus_one, two_with_threads, with_threads};
use crate::support::{module, soon};
use sandgrain::wasi::WasiConfig;
use sandgrain::{Engine, Error, Limits, Sandbox, SandboxBuilder};
use std::future::{Future, pending};
use std::pin::{Pin, pin};

/// What tests call. `later` and `text` are asynchronous.
const COMPONENT: &str = r#"(component
    (import "test:host/all" (instance $host
        (export "later" (func (param "n" u32) (result u32)))
        (export "text" (func (param "s" string) (result string)))))
    (import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $pollable (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
    (alias export $poll "pollable" (type $pollable))
    (alias export $poll "[method]pollable.block" (func $block))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer 1 $pollable (type $p))
        (export "pollable" (type $pollable (eq $p)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
    (alias export $clock "subscribe-duration" (func $subscribe))
    (alias export $host "later" (func $later))
    (alias export $host "text" (func $text))
    (core module $memory
        (memory (export "memory") 8)
        (global $next (mut i32) (i32.const 4096))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
            (local.set $at (global.get $next))
            (global.set $next (i32.add (local.get $at) (local.get 3)))
            (local.get $at)))
    (core instance $memory (instantiate $memory))
    (core func $later' (canon lower (func $later)))
    (core func $text' (canon lower (func $text) (memory (core memory $memory "memory"))
        (realloc (core func $memory "realloc"))))
    (core func $block' (canon lower (func $block)))
    (core func $subscribe' (canon lower (func $subscribe)))
    (core func $drop' (canon resource.drop $pollable))
    (core module $code
        (import "host" "later" (func $later (param i32) (result i32)))
        (import "host" "text" (func $text (param i32 i32 i32)))
        (import "host" "block" (func $block (param i32)))
        (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
        (import "host" "drop" (func $drop (param i32)))
        (func (export "later") (param i32) (result i32) (call $later (local.get 0)))
        (func (export "later-twice") (param i32) (result i32)
            (i32.add (call $later (local.get 0)) (call $later (i32.add (local.get 0) (i32.const 1)))))
        (func (export "text") (param i32 i32) (result i32)
            (call $text (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16))
        (func (export "spin") (loop (br 0)))
        (func (export "sleep") (param i64) (local $pollable i32)
            (local.set $pollable (call $subscribe (local.get 0)))
            (call $block (local.get $pollable))
            (call $drop (local.get $pollable))))
    (core instance $code (instantiate $code (with "host" (instance
        (export "later" (func $later')) (export "text" (func $text'))
        (export "block" (func $block')) (export "subscribe" (func $subscribe'))
        (export "drop" (func $drop'))))))
    (func (export "later") (param "n" u32) (result u32) (canon lift (core func $code "later")))
    (func (export "later-twice") (param "n" u32) (result u32)
        (canon lift (core func $code "later-twice")))
    (func (export "text") (param "s" string) (result string)
        (canon lift (core func $code "text") (memory (core memory $memory "memory"))
            (realloc (core func $memory "realloc"))))
    (func (export "spin") (canon lift (core func $code "spin")))
    (func (export "sleep") (param "nanoseconds" u64) (canon lift (core func $code "sleep"))))"#;

const HOST: &str = "test:host/all";

async fn twice(text: String) -> String {
    plus_one(0).await;
    text.repeat(2)
}

fn described(engine: &Engine) -> SandboxBuilder {
    Sandbox::builder(&module(engine, COMPONENT))
        .component_async_function(HOST, "later", plus_one)
        .component_async_function(HOST, "text", twice)
        .wasi(WasiConfig::new())
}

fn sandbox(engine: &Engine) -> Sandbox {
    described(engine).build().unwrap_or_else(|error| panic!("{error}"))
}

/// One whose function never returns.
fn endless(engine: &Engine, limits: Limits) -> Sandbox {
    let never = |_: u32| pending::<u32>();
    let builder = described(engine).limits(limits).component_async_function(HOST, "later", never);
    builder.build().expect("a sandbox")
}

/// Another call completes: a vCPU thread is free.
#[track_caller]
fn is_free(engine: &Engine) {
    let mut sandbox = sandbox(engine);
    let n = block_on(sandbox.call_component_async::<_, u32>("later", (1_u32,))).expect("a call");
    assert_eq!(n, 2);
}

#[test]
fn components_wait_for_the_hosts_futures() {
    for engine in two_with_threads(1) {
        let mut sandbox = sandbox(&engine);
        let n = block_on(sandbox.call_component_async::<_, u32>("later-twice", (10_u32,)));
        assert_eq!(n.expect("a call"), 23);
        let n: u32 = sandbox.call_component("later-twice", (10_u32,)).expect("with a thread");
        assert_eq!(n, 23);
    }
}

#[test]
fn many_components_wait_on_one_vcpu_thread() {
    for engine in two_with_threads(1) {
        let call = |n: u32| -> Pin<Box<dyn Future<Output = u32> + Send>> {
            let mut sandbox = sandbox(&engine);
            Box::pin(async move {
                sandbox.call_component_async("later-twice", (n,)).await.expect("a call")
            })
        };
        let mut numbers = block_on(all((0..8).map(call).collect()));
        numbers.sort_unstable();
        assert_eq!(numbers, (0..8).map(|n| 2 * n + 3).collect::<Vec<_>>());
    }
}

#[test]
fn large_values_pass_while_nobody_waits() {
    for engine in two_with_threads(1) {
        let mut sandbox = sandbox(&engine);
        for len in [0, 10, 5000, 70_000] {
            let text = "é".repeat(len / 2);
            let back = block_on(sandbox.call_component_async::<_, String>("text", (&text,)));
            assert!(back.expect("a call") == text.repeat(2), "{len}");
        }
    }
}

#[test]
fn a_deadline_ends_a_component_that_waits() {
    for engine in two_with_threads(1) {
        for (name, args) in [("later", (1_u32,)), ("later-twice", (1_u32,))] {
            let mut sandbox = endless(&engine, soon());
            let result = block_on(sandbox.call_component_async::<_, u32>(name, args));
            assert!(matches!(result, Err(Error::Deadline(_))), "{result:?}");
            let again = sandbox.call_component::<_, u32>(name, args);
            assert!(matches!(again, Err(Error::Ended(_))), "{again:?}");
        }
        let mut sandbox = described(&engine).limits(soon()).build().expect("a sandbox");
        let result = block_on(sandbox.call_component_async::<_, ()>("sleep", (HOUR as u64,)));
        assert!(matches!(result, Err(Error::Deadline(_))), "{result:?}");
        let mut sandbox = described(&engine).limits(soon()).build().expect("a sandbox");
        let result = block_on(sandbox.call_component_async::<_, ()>("spin", ()));
        assert!(matches!(result, Err(Error::Deadline(_))), "{result:?}");
        is_free(&engine);
    }
}

#[test]
fn an_interrupt_ends_a_component_that_waits() {
    for engine in two_with_threads(1) {
        let mut sandbox = endless(&engine, Limits::default().deadline(None));
        let handle = sandbox.interrupt_handle();
        {
            let mut call = pin!(sandbox.call_component_async::<_, u32>("later", (1_u32,)));
            assert!(poll_once(call.as_mut()).is_pending());
            let thread = std::thread::spawn(move || handle.interrupt());
            let result = block_on(call);
            assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
            thread.join().expect("no panic");
        }
        is_free(&engine);
    }
}

#[test]
fn a_component_that_sleeps_is_woken() {
    for engine in two_with_threads(1) {
        let mut sandbox = sandbox(&engine);
        for nanoseconds in [0_u64, 1, 1_000_000] {
            let slept = sandbox.call_component_async::<_, ()>("sleep", (nanoseconds,));
            block_on(slept).expect("a call");
            let slept = sandbox.call_component::<_, ()>("sleep", (nanoseconds,));
            slept.expect("a call with a thread");
        }
    }
}

#[test]
fn a_sleeping_component_holds_no_vcpu_thread() {
    // Without a VM it does.
    let engine = with_threads(1);
    let limits = Limits::default().deadline(None);
    let mut sleeper = described(&engine).limits(limits).build().expect("a sandbox");
    let mut sleep = pin!(sleeper.call_component_async::<_, ()>("sleep", (HOUR as u64,)));
    assert!(poll_once(sleep.as_mut()).is_pending());
    is_free(&engine);
    let mut other = sandbox(&engine);
    let slept = block_on(other.call_component_async::<_, ()>("sleep", (1_000_000_u64,)));
    slept.expect("a call");
    let still = poll_once(sleep.as_mut());
    assert!(still.is_pending(), "{still:?}");
}
