//! Many sandboxes: one after the other, at once, on several threads.

use crate::support::{builder, module, on_both, vm, works};
use sandgrain::Sandbox;
use std::thread;

const COUNTER: &str = r#"(module (memory 1)
    (func (export "add") (param i32) (result i32)
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (local.get 0)))
        (i32.load (i32.const 0))))"#;

#[test]
fn many_one_after_the_other() {
    on_both(|engine| {
        let module = module(engine, COUNTER);
        for n in 0..200_u32 {
            let mut sandbox = Sandbox::new(&module).expect("a sandbox");
            assert_eq!(sandbox.call::<_, u32>("add", n).expect("a call"), n, "fresh each time");
        }
    });
}

#[test]
fn many_at_once() {
    let module = module(vm(), COUNTER);
    let mut sandboxes: Vec<_> =
        (0..64).map(|_| Sandbox::new(&module).expect("a sandbox")).collect();
    for round in 1..=3_u32 {
        for (n, sandbox) in sandboxes.iter_mut().enumerate() {
            let n = n as u32;
            assert_eq!(sandbox.call::<_, u32>("add", n).expect("a call"), n * round);
        }
    }
    works(vm());
}

#[test]
fn two_in_two_threads() {
    on_both(|engine| {
        let module = module(engine, COUNTER);
        thread::scope(|scope| {
            for step in [1_u32, 1000] {
                let module = &module;
                scope.spawn(move || {
                    let mut sandbox = Sandbox::new(module).expect("a sandbox");
                    for n in 1..=2000 {
                        let sum = sandbox.call::<_, u32>("add", step).expect("a call");
                        assert_eq!(sum, step * n);
                    }
                });
            }
        });
    });
}

#[test]
fn one_that_moves_from_thread_to_thread() {
    on_both(|engine| {
        let mut sandbox = Sandbox::new(&module(engine, COUNTER)).expect("a sandbox");
        for n in 1..=10_u32 {
            let (back, sum) = thread::spawn(move || {
                let sum = sandbox.call::<_, u32>("add", 1_u32).expect("a call");
                (sandbox, sum)
            })
            .join()
            .expect("no panic");
            sandbox = back;
            assert_eq!(sum, n);
        }
    });
}

#[test]
fn one_that_spins_does_not_hold_up_another() {
    let spin = module(vm(), r#"(module (func (export "spin") (loop (br 0))))"#);
    let counter = module(vm(), COUNTER);
    let mut spinning = Sandbox::new(&spin).expect("a sandbox");
    let handle = spinning.interrupt_handle();
    let thread = thread::spawn(move || spinning.call::<_, ()>("spin", ()));
    let mut sandbox = Sandbox::new(&counter).expect("a sandbox");
    for n in 1..=100_u32 {
        assert_eq!(sandbox.call::<_, u32>("add", 1_u32).expect("a call"), n);
    }
    while !thread.is_finished() {
        handle.interrupt();
        thread::yield_now();
    }
    let result = thread.join().expect("no panic");
    assert!(matches!(result, Err(sandgrain::Error::Interrupted)), "{result:?}");
}

#[test]
fn an_engine_and_its_modules_can_be_dropped_before_a_sandbox() {
    let mut sandbox = {
        let engine = builder().without_cache().build().expect("an engine");
        Sandbox::new(&module(&engine, COUNTER)).expect("a sandbox")
    };
    assert_eq!(sandbox.call::<_, u32>("add", 5_u32).expect("a call"), 5);
}
