//! The runtime's heap: a part from the start, more as it is needed, up to the limit.

use crate::support::{limited, module, name_of, sandbox, vm, works};
use sandgrain::{Error, Limits, Policy, Pool, Sandbox, SnapshotStore, Value};

/// Tables take 8 bytes of heap for each element.
const TABLE: &str = r#"(module (table $t 1 1000000 funcref) (memory (export "memory") 1)
    (func $f) (elem declare func $f)
    (func (export "grow") (param i32) (result i32)
        (table.grow $t (ref.null func) (local.get 0)))
    (func (export "set") (param i32) (table.set $t (local.get 0) (ref.func $f)))
    (func (export "is_set") (param i32) (result i32)
        (i32.eqz (ref.is_null (table.get $t (local.get 0)))))
    (func (export "size") (result i32) (table.size $t)))"#;

/// Elements that take more heap than there is from the start.
const MANY: i32 = 900_000;

#[track_caller]
fn grow(sandbox: &mut Sandbox, elements: i32) -> i32 {
    sandbox.call("grow", elements).expect("a call")
}

#[track_caller]
fn set(sandbox: &mut Sandbox, element: i32) {
    sandbox.call::<_, ()>("set", element).expect("a call");
    assert_eq!(sandbox.call::<_, i32>("is_set", element).expect("a call"), 1);
}

#[test]
fn a_table_grows_beyond_the_heap_that_is_there_from_the_start() {
    let mut sandbox = sandbox(vm(), TABLE);
    assert_eq!(grow(&mut sandbox, MANY), 1);
    set(&mut sandbox, MANY);
    assert_eq!(grow(&mut sandbox, 1000), MANY + 1);
    set(&mut sandbox, MANY + 1000);
}

#[test]
fn a_table_that_begins_large_has_the_heap_for_it() {
    let wat = TABLE.replacen("$t 1 ", "$t 500000 ", 1);
    let mut sandbox = sandbox(vm(), &wat);
    set(&mut sandbox, 499_999);
}

#[test]
fn instances_take_heap_until_the_limit_and_say_so() {
    // 160 KB of heap for each.
    let module = module(vm(), "(module (table 20000 funcref))");
    let made = |heap: u64| {
        let limits = Limits::default().heap(heap).instances(1000).tables(1000);
        let limits = limits.extra_code(64 << 20);
        let mut sandbox = Sandbox::builder(&module).limits(limits).build().expect("a sandbox");
        let mut made = 1_u64;
        let error = loop {
            match sandbox.instantiate(&module) {
                Ok(_) => made += 1,
                Err(error) => break error,
            }
            assert!(made < 1000, "no limit");
        };
        assert!(matches!(error, Error::Limit { .. }), "{heap} bytes: {error}");
        made
    };
    for heap in [8 << 20, 16 << 20, 33 << 20] {
        // All of it but what the engine takes itself, and a last piece that is too small.
        let made = made(heap) * 160_000;
        assert!((heap - (2 << 20)..heap + (2 << 20)).contains(&made), "{made} of {heap}");
    }
    works(vm());
}

#[test]
fn a_table_beyond_the_limit_is_refused_and_the_sandbox_goes_on() {
    let mut sandbox = limited(vm(), Limits::default().heap(6 << 20), TABLE).expect("a sandbox");
    let (name, text) = name_of(sandbox.call::<_, i32>("grow", MANY));
    assert!(name == "limit" && text.contains("out of memory"), "{text}");
    assert_eq!(grow(&mut sandbox, 200_000), 1);
    set(&mut sandbox, 200_000);
    works(vm());
}

#[test]
fn a_command_that_the_heap_has_to_grow_for_arrives() {
    // Its imports are named one by one: 4 MB, which waits with the host while the guest makes room.
    let name = "n".repeat(99_000);
    let first =
        format!(r#"(module (func (export "{name}") (param i32) (result i32) (local.get 0)))"#);
    let import = format!(r#"(import "a" "{name}" (func (param i32) (result i32)))"#);
    let second = format!(
        r#"(module {} (func (export "f") (result i32) (call 39 (i32.const 7))))"#,
        import.repeat(40)
    );
    let mut sandbox = sandbox(vm(), &first);
    let main = sandbox.main();
    sandbox.register("a", main);
    let instance = sandbox.instantiate(&module(vm(), &second)).expect("an instance");
    let results = sandbox.call_values(instance, "f", &[]).expect("a call");
    assert_eq!(results, [Value::I32(7)]);
}

#[test]
fn a_snapshot_has_the_heap_that_its_sandbox_had() {
    let mut first = sandbox(vm(), TABLE);
    grow(&mut first, MANY);
    set(&mut first, MANY);
    let snapshot = first.snapshot().expect("a snapshot");
    let dir = tempfile::tempdir().expect("a directory");
    let store = SnapshotStore::open(dir.path().join("store")).expect("a store");
    store.save("grown", &snapshot).expect("a saved snapshot");
    let loaded = store.load(vm(), "grown").expect("a snapshot");
    for snapshot in [&snapshot, &loaded] {
        let mut sandbox = snapshot.sandbox().build().expect("a sandbox");
        assert_eq!(sandbox.call::<_, i32>("size", ()).expect("a call"), MANY + 1);
        assert_eq!(sandbox.call::<_, i32>("is_set", MANY).expect("a call"), 1);
        assert_eq!(grow(&mut sandbox, 90_000), MANY + 1);
        set(&mut sandbox, MANY + 90_000);
    }
}

#[test]
fn a_snapshot_has_the_code_of_modules_that_were_added() {
    let mut sandbox = sandbox(vm(), TABLE);
    // More of them than fit beside the first one's code.
    let wat = r#"(module (func (export "f") (param i32) (result i32)
        (i32.mul (local.get 0) (i32.const 7))))"#;
    let module = module(vm(), wat);
    let added: Vec<_> =
        (0..90).map(|_| sandbox.instantiate(&module).expect("an instance")).collect();
    let snapshot = sandbox.snapshot().expect("a snapshot");
    let mut copy = snapshot.sandbox().build().expect("a sandbox");
    for instance in added {
        let results = copy.call_values(instance, "f", &[Value::I32(6)]).expect("a call");
        assert_eq!(results, [Value::I32(42)]);
    }
    copy.instantiate(&module).expect("one more");
}

#[test]
fn a_call_that_needs_more_heap_does_so_after_each_reset() {
    let snapshot = sandbox(vm(), TABLE).snapshot().expect("a snapshot");
    let pool = Pool::builder(&snapshot).policy(Policy::Reset).parked(1..=1).build();
    let pool = pool.expect("a pool");
    for _ in 0..20 {
        let mut sandbox = pool.take("a").expect("a sandbox");
        assert_eq!(sandbox.call::<_, i32>("size", ()).expect("a call"), 1);
        assert_eq!(grow(&mut sandbox, MANY), 1);
        set(&mut sandbox, MANY);
    }
    assert_eq!(pool.stats().replaced, 0, "it was reset each time: {:?}", pool.stats());
}
