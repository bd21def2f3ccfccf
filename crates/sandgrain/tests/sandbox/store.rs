//! Snapshots saved to disk and loaded from it.

use crate::support::{COUNTER, module, name_of, reference, sandbox, trap_of, vm, works};
use sandgrain::wasi::{Access, Output, WasiConfig};
use sandgrain::{Error, Limits, Sandbox, Snapshot, SnapshotStore, TrapCode};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

mod damage;
mod processes;

/// [`COUNTER`] that also says which module it is.
fn counter(id: u32) -> String {
    COUNTER.replacen(
        "(module",
        &format!("(module (func (export \"id\") (result i32) (i32.const {id}))"),
        1,
    )
}

fn snapshot(id: u32) -> Snapshot {
    sandbox(vm(), &counter(id)).snapshot().expect("a snapshot")
}

/// A store in a directory of its own, which goes with the first of the two.
fn store() -> (TempDir, SnapshotStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SnapshotStore::open(dir.path().join("store")).expect("a store");
    (dir, store)
}

fn manifest(store: &SnapshotStore, name: &str) -> PathBuf {
    store.dir().join(format!("{name}.snapshot"))
}

/// The files of parts, and their sizes.
fn parts(store: &SnapshotStore) -> Vec<(PathBuf, u64)> {
    let items = fs::read_dir(store.dir().join("parts")).expect("parts");
    let mut parts: Vec<_> = items
        .map(|item| {
            let item = item.expect("a part");
            (item.path(), item.metadata().expect("a file").len())
        })
        .collect();
    parts.sort();
    parts
}

fn files(dir: &Path) -> Vec<String> {
    let items = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> = items
        .map(|item| item.expect("an item").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

/// Asserts that a snapshot is there, whole, and that module's.
#[track_caller]
fn is(store: &SnapshotStore, name: &str, id: u32) {
    store.verify(name).expect("what was saved");
    let mut next = store.load(vm(), name).expect("a snapshot").sandbox().build().expect("built");
    assert_eq!(next.call::<_, u32>("id", ()).expect("a call"), id);
}

/// The words with which loading is refused.
#[track_caller]
fn refused(store: &SnapshotStore, name: &str) -> String {
    let (kind, text) = name_of(store.load(vm(), name));
    assert_eq!(kind, "snapshot", "{text}");
    assert!(text.contains("try: "), "{text}");
    text
}

#[test]
fn a_loaded_snapshot_is_the_one_that_was_saved() {
    let (_dir, store) = store();
    let mut first = sandbox(vm(), &counter(1));
    first.call::<_, u32>("add", 5u32).expect("a call");
    first.call::<_, u32>("grow", 2u32).expect("a call");
    first.call::<_, ()>("poke", (150_000u32, 77u32)).expect("a call");
    store.save("f", &first.snapshot().expect("a snapshot")).expect("saved");
    drop(first);
    store.verify("f").expect("whole");
    let loaded = store.load(vm(), "f").expect("loaded");
    let build = || loaded.sandbox().build().expect("a sandbox");
    let (mut a, mut b) = (build(), build());
    assert_eq!(a.call::<_, u32>("add", 1u32).expect("a call"), 6);
    assert_eq!(b.call::<_, u32>("add", 2u32).expect("a call"), 7, "they share nothing");
    for sandbox in [&mut a, &mut b] {
        assert_eq!(sandbox.call::<_, u32>("peek", 150_000u32).expect("a call"), 77);
        let end = 3 * 65536u32;
        assert_eq!(trap_of(sandbox.call::<_, u32>("peek", end)), TrapCode::MemoryOutOfBounds);
        assert_eq!(sandbox.call::<_, u32>("grow", 1u32).expect("a call"), 3);
        assert_eq!(sandbox.call::<_, u32>("peek", end).expect("a call"), 0);
        assert_eq!(trap_of(sandbox.call::<_, ()>("trap", ())), TrapCode::Unreachable);
    }
    store.verify("f").expect("nothing that they did has reached it");
}

#[test]
fn a_snapshot_of_a_loaded_one_can_be_saved_too() {
    let (_dir, store) = store();
    store.save("0", &snapshot(1)).expect("saved");
    for n in 1..=4u32 {
        let before = store.load(vm(), &(n - 1).to_string()).expect("loaded");
        let mut next = before.sandbox().build().expect("a sandbox");
        assert_eq!(next.call::<_, u32>("add", 1u32).expect("a call"), n);
        store.save(&n.to_string(), &next.snapshot().expect("a snapshot")).expect("saved");
    }
    assert_eq!(store.list().expect("a list"), ["0", "1", "2", "3", "4"]);
    let last = store.load(vm(), "4").expect("loaded");
    assert_eq!(
        last.sandbox().build().expect("built").call::<_, u32>("add", 0u32).expect("called"),
        4
    );
}

#[test]
fn snapshots_share_parts_on_disk() {
    let (_dir, store) = store();
    store.save("f0", &snapshot(0)).expect("saved");
    let one = parts(&store).len();
    for id in 1..4 {
        store.save(&format!("f{id}"), &snapshot(id)).expect("saved");
    }
    let all = parts(&store).len();
    assert!(all <= one + 3, "one of its own for each: {one}, then {all}");
    for id in 0..4 {
        is(&store, &format!("f{id}"), id);
    }
    // What only one has goes with it.
    store.remove("f1").expect("removed");
    assert_eq!(parts(&store).len(), all - 1);
    for id in [0, 2, 3] {
        is(&store, &format!("f{id}"), id);
        store.remove(&format!("f{id}")).expect("removed");
    }
    assert_eq!(parts(&store), []);
    assert!(refused(&store, "f0").contains("there is none of this name"));
    assert_eq!(name_of(store.remove("f0")).0, "snapshot");
}

#[test]
fn host_functions_and_wasi_have_to_be_there() {
    let (_dir, store) = store();
    let wat = r#"(module
        (import "host" "a" (func $a (result i32)))
        (import "host" "b" (func $b (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 32) "hello")
        (data (i32.const 40) "\20\00\00\00\05\00\00\00")
        (func (export "run") (result i32)
            (drop (call $write (i32.const 1) (i32.const 40) (i32.const 1) (i32.const 64)))
            (call $b (call $a))))"#;
    let first = Sandbox::builder(&module(vm(), wat))
        .function("host", "unused", || {})
        .function("host", "a", || 1u32)
        .function("host", "b", |n: u32| n + 10)
        .wasi(WasiConfig::new())
        .build()
        .expect("a sandbox");
    store.save("f", &first.snapshot().expect("a snapshot")).expect("saved");
    let loaded = store.load(vm(), "f").expect("loaded");
    let mut next = loaded
        .sandbox()
        .function("host", "b", |n: u32| n + 100)
        .function("host", "a", || 2u32)
        .wasi(WasiConfig::new().stdout(Output::Capture))
        .build()
        .expect("a sandbox");
    assert_eq!(next.call::<_, u32>("run", ()).expect("a call"), 102);
    assert_eq!(&next.take_stdout()[..], b"hello");

    let (name, text) = name_of(loaded.sandbox().function("host", "a", || 1u32).build());
    assert_eq!(name, "snapshot");
    assert!(text.contains("WASI"), "{text}");
    let granted = loaded.sandbox().wasi(WasiConfig::new());
    let missing = granted.function("host", "a", || 1u64).build();
    let Err(Error::Imports(errors)) = missing else { panic!("{missing:?}") };
    let names: Vec<_> = errors.iter().filter_map(|e| e.import.clone()).map(|(_, n)| n).collect();
    assert_eq!(names, ["a", "b"]);
}

/// Asks for its first directory, and for random bytes.
const WASI: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get"
        (func $prestat (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "random") (result i64)
        (drop (call $random (i32.const 64) (i32.const 8))) (i64.load (i32.const 64)))
    (func (export "prestat") (result i32) (call $prestat (i32.const 3) (i32.const 64))))"#;

#[test]
fn what_the_guest_knows_of_wasi_is_saved() {
    let (dir, store) = store();
    let config = |name| WasiConfig::new().preopen(dir.path(), name, Access::ReadOnly);
    let build = Sandbox::builder(&module(vm(), WASI)).wasi(config("/a")).build();
    let mut first = build.expect("a sandbox");
    store.save("unaware", &first.snapshot().expect("a snapshot")).expect("saved");
    assert_eq!(first.call::<_, u32>("prestat", ()).expect("a call"), 0);
    store.save("aware", &first.snapshot().expect("a snapshot")).expect("saved");
    let with = |name: &str, directory| {
        store.load(vm(), name).expect("loaded").sandbox().wasi(config(directory)).build()
    };
    with("unaware", "/b").expect("it has not asked for any directory");
    with("aware", "/a").expect("the same directory");
    let (name, text) = name_of(with("aware", "/b"));
    assert_eq!(name, "snapshot");
    assert!(text.contains("\"/a\"") && text.contains("\"/b\""), "{text}");
}

#[test]
fn random_bytes_come_from_the_host_or_are_known_to_be_shared() {
    let (_dir, store) = store();
    let build = Sandbox::builder(&module(vm(), WASI)).wasi(WasiConfig::new()).build();
    let mut first = build.expect("a sandbox");
    let make = |name: &str| {
        let loaded = store.load(vm(), name).expect("loaded");
        (loaded.sandbox().wasi(WasiConfig::new()).build().expect("a sandbox"), loaded)
    };
    store.save("before", &first.snapshot().expect("a snapshot")).expect("saved");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let (mut next, loaded) = make("before");
        assert!(!loaded.shares_randomness());
        assert!(seen.insert(next.call::<_, u64>("random", ()).expect("a call")));
    }
    first.call::<_, u64>("random", ()).expect("a call");
    let after = first.snapshot_with_randomness().expect("a snapshot");
    store.save("after", &after).expect("saved");
    let (next, loaded) = make("after");
    assert!(loaded.shares_randomness());
    assert_eq!(
        name_of(next.snapshot()).0,
        "snapshot",
        "still nothing to be copied unless asked for"
    );
}

#[test]
fn limits_are_those_of_the_snapshot() {
    let (_dir, store) = store();
    let limits = Limits::default().memory(1 << 20).deadline(Some(Duration::from_millis(12_345)));
    let first = Sandbox::builder(&module(vm(), &counter(0))).limits(limits.clone()).build();
    store.save("f", &first.expect("a sandbox").snapshot().expect("a snapshot")).expect("saved");
    let loaded = store.load(vm(), "f").expect("loaded");
    let mut next = loaded.sandbox().build().expect("a sandbox");
    assert_eq!(next.call::<_, i32>("grow", 100u32).expect("a call"), -1);
    loaded.sandbox().limits(limits.clone()).build().expect("the same limits");
    loaded.sandbox().limits(limits.deadline(None)).build().expect("the host's own limit");
    assert_eq!(name_of(loaded.sandbox().limits(Limits::default()).build()).0, "snapshot");
}

#[test]
fn instances_and_their_names_are_saved() {
    let (_dir, store) = store();
    let first = Sandbox::builder(&module(
        vm(),
        r#"(module (import "counter" "add" (func $add (param i32) (result i32)))
            (func (export "twice") (param i32) (result i32)
                (drop (call $add (local.get 0))) (call $add (local.get 0))))"#,
    ));
    let first = first.preload("counter", &module(vm(), &counter(0))).build().expect("a sandbox");
    store.save("f", &first.snapshot().expect("a snapshot")).expect("saved");
    let mut next = store.load(vm(), "f").expect("loaded").sandbox().build().expect("a sandbox");
    assert_eq!(next.call::<_, u32>("twice", 3u32).expect("a call"), 6);
    let user = r#"(module (import "counter" "add" (func $add (param i32) (result i32)))
        (func (export "run") (result i32) (call $add (i32.const 1))))"#;
    let added = next.instantiate(&module(vm(), user)).expect("an instance");
    assert_eq!(next.call_values(added, "run", &[]).expect("a call"), [sandgrain::Value::I32(7)]);
}

#[test]
fn a_pool_is_filled_from_a_loaded_snapshot() {
    let (_dir, store) = store();
    store.save("f", &snapshot(9)).expect("saved");
    let loaded = store.load(vm(), "f").expect("loaded");
    let pool = sandgrain::Pool::builder(&loaded).build().expect("a pool");
    for _ in 0..3 {
        let mut pooled = pool.take("tenant").expect("a sandbox");
        assert_eq!(pooled.call::<_, u32>("id", ()).expect("a call"), 9);
    }
}

#[test]
fn an_engine_without_vms_loads_none() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let (name, text) = name_of(store.load(reference(), "f"));
    assert_eq!(name, "snapshot");
    assert!(text.contains("without; try: an engine with VMs"), "{text}");
    works(reference());
}

#[test]
fn names_lead_nowhere_else() {
    let (dir, store) = store();
    let snapshot = snapshot(1);
    let long = "a".repeat(101);
    for name in
        ["", ".", "..", "a/b", "../f", "/f", ".hidden", "-f", "a\0b", "a\\b", "a b", "ü", &long]
    {
        for result in [
            store.save(name, &snapshot),
            store.load(vm(), name).map(|_| ()),
            store.verify(name),
            store.remove(name),
        ] {
            let (kind, text) = name_of(result);
            assert_eq!(kind, "snapshot");
            assert!(text.contains("cannot be a snapshot's name"), "{name:?}: {text}");
        }
    }
    assert_eq!(files(dir.path()), ["store"]);
    assert_eq!(files(store.dir()), ["parts"]);
    for name in ["a", "9", "python-3.14_x86", "a.snapshot.b", "x.tmp", &long[1..]] {
        store.save(name, &snapshot).expect(name);
        is(&store, name, 1);
    }
}

#[test]
fn what_is_saved_again_takes_the_others_place() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let before = parts(&store).len();
    let old = store.load(vm(), "f").expect("loaded");
    let mut running = old.sandbox().build().expect("a sandbox");
    store.save("f", &snapshot(2)).expect("saved");
    assert_eq!(parts(&store).len(), before, "the first one's own part is gone");
    is(&store, "f", 2);
    // Sandboxes of the old one go on, and others can still be made.
    assert_eq!(running.call::<_, u32>("id", ()).expect("a call"), 1);
    let mut another = old.sandbox().build().expect("a sandbox");
    assert_eq!(another.call::<_, u32>("id", ()).expect("a call"), 1);
}

#[test]
fn files_can_be_deleted_while_they_are_in_use() {
    let (_dir, store) = store();
    store.save("f", &snapshot(5)).expect("saved");
    let loaded = store.load(vm(), "f").expect("loaded");
    let mut running = loaded.sandbox().build().expect("a sandbox");
    fs::remove_dir_all(store.dir()).expect("deleted");
    assert_eq!(running.call::<_, u32>("id", ()).expect("a call"), 5);
    let mut next = loaded.sandbox().build().expect("a sandbox");
    assert_eq!(next.call::<_, u32>("add", 3u32).expect("a call"), 3);
    assert!(refused(&store, "f").contains("cannot use"));
    // And saved again, into a directory that is made again.
    store.save("f", &loaded).expect("saved");
    is(&store, "f", 5);
}

#[test]
fn remains_of_crashes_are_removed_at_the_next_save() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let part = parts(&store)[0].0.clone();
    let beside = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let unnamed = store.dir().join("parts").join("ab".repeat(32));
    let remains = [
        beside(&manifest(&store, "f"), ".1-0-0.tmp"),
        beside(&store.dir().join("key"), ".1-0-0.tmp"),
        beside(&part, ".1-0-0.tmp"),
        unnamed,
    ];
    let foreign = store.dir().join("notes.tmp");
    for path in remains.iter().chain([&foreign]) {
        fs::write(path, "x").expect("a file");
    }
    store.save("g", &snapshot(2)).expect("saved");
    assert!(remains.iter().all(|path| !path.exists()));
    assert!(foreign.exists(), "not ours");
    fs::write(&remains[3], "x").expect("a file");
    assert_eq!(store.remove_unused().expect("removed"), 1);
    is(&store, "f", 1);
    is(&store, "g", 2);
}

#[test]
fn parts_stay_while_it_is_not_known_whose_they_are() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    store.save("g", &snapshot(2)).expect("saved");
    let good = fs::read(manifest(&store, "g")).expect("a manifest");
    let mut other = good.clone();
    other[8] += 1;
    fs::write(manifest(&store, "g"), &other).expect("another version's");
    let before = parts(&store);
    store.remove("f").expect("removed");
    assert_eq!(parts(&store), before);
    let (_, text) = name_of(store.remove_unused());
    assert!(text.contains("\"g\"") && text.contains("this library has version"), "{text}");
    fs::write(manifest(&store, "g"), &good).expect("as it was");
    assert!(store.remove_unused().expect("removed") > 0);
    is(&store, "g", 2);
}
