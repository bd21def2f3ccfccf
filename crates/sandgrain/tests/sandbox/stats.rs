//! What calls report of themselves.

use crate::support::{module, reference, vm};
use sandgrain::Sandbox;

const WAT: &str = r#"(module (import "h" "f" (func $f)) (memory 64)
    (func (export "nothing"))
    (func (export "calls") (param $n i32)
        (loop (call $f) (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
    (func (export "touch") (param $pages i32)
        (loop
            (i32.store (i32.mul (local.get $pages) (i32.const 4096)) (i32.const 1))
            (br_if 0 (local.tee $pages (i32.sub (local.get $pages) (i32.const 1)))))))"#;

#[test]
fn a_call_counts_its_exits_and_host_calls() {
    let module = module(vm(), WAT);
    let mut sandbox = Sandbox::builder(&module).function("h", "f", || {}).build().expect("one");
    assert!(sandbox.stats().exits > 0, "creation");
    sandbox.call::<_, ()>("nothing", ()).expect("a call");
    let stats = sandbox.stats();
    // The first exits may be the host's own interrupts; hypercalls are exact.
    assert_eq!((stats.hypercalls, stats.host_calls), (1, 0));
    assert!(stats.exits >= stats.hypercalls && !stats.guest.is_zero(), "{stats:?}");
    assert_eq!(stats.pages_touched, None);
    sandbox.call::<_, ()>("calls", 10).expect("a call");
    let stats = sandbox.stats();
    assert_eq!((stats.hypercalls, stats.host_calls), (11, 10));
    sandbox.call::<_, ()>("nothing", ()).expect("a call");
    assert_eq!(sandbox.stats().host_calls, 0, "each call counts for itself");
}

#[test]
fn pages_are_counted_if_asked_for() {
    let module = module(vm(), WAT);
    let mut sandbox = Sandbox::builder(&module)
        .function("h", "f", || {})
        .count_pages(true)
        .build()
        .expect("a sandbox");
    let mut touched = |pages| {
        sandbox.call::<_, ()>("touch", pages).expect("a call");
        sandbox.stats().pages_touched.expect("pages are counted")
    };
    // The kernel may give 512 at once.
    let huge = 512;
    let first = touched(100);
    assert!((100..100 + huge).contains(&first), "{first}");
    let again = touched(100);
    assert!(again < 10, "they have been touched already: {again}");
    let more = touched(600);
    assert!((600..600 + 2 * huge).contains(&(first + more)), "{first} and {more}");
}

#[test]
fn without_a_vm_there_are_no_exits() {
    let module = module(reference(), WAT);
    let mut sandbox = Sandbox::builder(&module).function("h", "f", || {}).build().expect("one");
    sandbox.call::<_, ()>("calls", 10).expect("a call");
    let stats = sandbox.stats();
    assert_eq!((stats.exits, stats.hypercalls, stats.host_calls), (0, 0, 10));
}
