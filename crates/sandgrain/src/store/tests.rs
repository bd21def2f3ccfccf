//! Manifests that are authentic, and yet not what this library would write here.

use super::manifest::{CODE, Origin, PREFIX, seal};
use super::*;
use crate::limits::Limits;
use crate::module::Module;
use crate::sandbox::Sandbox;
use proptest::prelude::*;
use std::sync::LazyLock;
use std::time::Duration;

fn engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        let emulated = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
        let builder = Engine::builder().available_tss(emulated).without_cache();
        builder.build().unwrap_or_else(|error| panic!("{error}"))
    });
    &ENGINE
}

fn hypervisor() -> &'static dyn Hypervisor {
    &*engine().virtual_machines().unwrap().hypervisor
}

/// A snapshot with something in each of its lists.
fn snapshot() -> Snapshot {
    let wat = r#"(module
        (import "host" "f" (func $f (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $g (param i32 i32) (result i32)))
        (import "user" "h" (func $h (result i32)))
        (memory (export "memory") 1)
        (func (export "run") (result i32)
            (call $f (i32.add (call $h) (call $g (i32.const 3) (i32.const 64))))))"#;
    let user = r#"(module (memory 2) (func (export "h") (result i32) (i32.const 4)))"#;
    let module = |wat: &str| Module::new(engine(), wat.as_bytes()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let access = sandgrain_wasi::Access::ReadOnly;
    let wasi = sandgrain_wasi::WasiConfig::new().preopen(directory.path(), "/d", access);
    let mut sandbox = Sandbox::builder(&module(wat))
        .preload("user", &module(user))
        .function("host", "f", |n: i32| n + 1)
        .wasi(wasi)
        .limits(Limits::default().deadline(Some(Duration::from_millis(500))))
        .build()
        .unwrap();
    assert_eq!(sandbox.call::<_, i32>("run", ()).unwrap(), 5);
    sandbox.snapshot().unwrap()
}

/// A store with that snapshot.
struct Saved {
    _dir: tempfile::TempDir,
    store: SnapshotStore,
    key: HostKey,
    /// What is authenticated of it, behind the key's mark.
    content: Vec<u8>,
}

impl Saved {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotStore::open(dir.path().join("store")).unwrap();
        store.save("f", &snapshot()).unwrap();
        let bytes = store.files.read("f").unwrap();
        let content = bytes[PREFIX + 16..bytes.len() - CODE].to_vec();
        let key = store.files.key().unwrap();
        Self { _dir: dir, store, key, content }
    }

    /// Loads it with this content, authenticated.
    fn load(&self, content: &[u8]) -> Result<Snapshot> {
        // Not as the store does it, which waits for the disk.
        std::fs::write(self.store.dir().join("f.snapshot"), seal(&self.key, content)).unwrap();
        self.store.load(engine(), "f")
    }
}

/// Where in the content the rest begins, after the name and the parts.
fn origin_at(saved: &Saved) -> usize {
    let bytes = seal(&saved.key, &saved.content);
    let manifest = Manifest::read(&bytes, &saved.key, "f").unwrap();
    manifest.rest_at()
}

fn with_origin(saved: &Saved, origin: &Origin) -> Vec<u8> {
    use sandgrain_abi::Encode;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    Origin::here(hypervisor()).encode_to(&mut own);
    origin.encode_to(&mut other);
    let at = origin_at(saved);
    [&saved.content[..at], &other, &saved.content[at + own.len()..]].concat()
}

#[test]
fn what_was_taken_elsewhere_is_refused_with_the_difference() {
    let saved = Saved::new();
    let here = || Origin::here(hypervisor());
    saved.load(&with_origin(&saved, &here())).expect("the same");
    let few = here().cpu_features[1..].to_vec();
    let only = format!("other CPU features (only here: {})", here().cpu_features[0]);
    let many = [here().cpu_features, vec!["avx4096".to_owned()]].concat();
    let other = |name: &str| name.to_owned();
    for (origin, words) in [
        (
            Origin { library: other("9.9.9"), ..here() },
            "it was saved by version 9.9.9 of this library, this is ",
        ),
        (
            Origin { engine: other("wasmtime 1\x1b[31m"), ..here() },
            "its code is for wasmtime 1\\u{1b}[31m, this library has wasmtime ",
        ),
        (Origin { runtime: [7; 32], ..here() }, "its guest has another runtime"),
        (
            Origin { hypervisor: other("mshv"), ..here() },
            "it was taken on the hypervisor mshv, this is kvm",
        ),
        (Origin { cpu_features: many, ..here() }, "other CPU features (missing here: avx4096)"),
        (Origin { cpu_features: few, ..here() }, &only),
    ] {
        let error = saved.load(&with_origin(&saved, &origin)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        assert!(text.contains("the snapshot \"f\": ") && text.contains("; try: "), "{text}");
        assert_eq!(error.name(), "snapshot");
        saved.store.verify("f").expect("its files are what they should be");
    }
}

/// Whatever was loaded: the host touches nothing for it but its memory, and making and calling a sandbox of it
/// ends in a value or an error.
fn assert_harmless(snapshot: &Snapshot) {
    let (ranges, len) = snapshot.state().guest.reach();
    for range in &ranges {
        assert!(range.start <= range.end && range.end <= len, "{range:x?} of {len:x}");
    }
    assert!(len <= 1 << 42, "{len:x}");
    let limits =
        Limits { deadline: Some(Duration::from_millis(100)), ..snapshot.state().limits.clone() };
    let wasi =
        sandgrain_wasi::WasiConfig::new().preopen("/", "/d", sandgrain_wasi::Access::ReadOnly);
    let builder = snapshot.sandbox().limits(limits).function("host", "f", |n: i32| n).wasi(wasi);
    if let Ok(mut sandbox) = builder.build() {
        let _ = sandbox.call::<_, i32>("run", ());
        let main = sandbox.main();
        let _ = sandbox.read_memory(main, "memory", 0..65536);
        let _ = sandbox.snapshot().map(|snapshot| snapshot.content_bytes());
    }
}

#[test]
fn any_number_in_a_manifest_is_refused_or_harmless() {
    let saved = Saved::new();
    let first = origin_at(&saved);
    // The vCPU's state is the kernel's to check.
    let end = saved.content.len() - saved.vcpu_len();
    let (mut loaded, mut refused) = (0, 0);
    for at in first..end - 8 {
        for number in [u64::MAX, u64::MAX << 12, 1 << 62] {
            let mut content = saved.content.clone();
            content[at..at + 8].copy_from_slice(&number.to_le_bytes());
            match saved.load(&content) {
                Ok(snapshot) => {
                    loaded += 1;
                    let (ranges, len) = snapshot.state().guest.reach();
                    assert!(ranges.iter().all(|r| r.start <= r.end && r.end <= len), "{at}");
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.name(), "snapshot", "{at}: {error}");
                }
            }
        }
    }
    assert!(refused > 1000 && loaded > 10, "{refused} refused, {loaded} loaded");
}

impl Saved {
    /// Bytes of the vCPU's state, which is the last.
    fn vcpu_len(&self) -> usize {
        let snapshot = self.store.load(engine(), "f").unwrap();
        snapshot.state().guest.vcpu_len()
    }
}

/// A change of some bytes.
#[derive(Clone, Debug)]
enum Change {
    Byte(u8),
    Number(u64),
    Page(u64),
    Remove(usize),
    Double(usize),
    End,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<u8>().prop_map(Change::Byte),
        any::<u64>().prop_map(Change::Number),
        (0..1u64 << 42).prop_map(|number| Change::Page(number << 12)),
        (0..1u64 << 10).prop_map(|number| Change::Page(number << 12)),
        (1..40usize).prop_map(Change::Remove),
        (1..40usize).prop_map(Change::Double),
        Just(Change::End),
    ]
}

fn apply(content: &mut Vec<u8>, at: usize, change: &Change) {
    let at = at % content.len();
    let until = |len: usize| at..(at + len).min(content.len());
    match *change {
        Change::Byte(byte) => content[at] = byte,
        Change::Number(number) | Change::Page(number) => {
            let range = until(8);
            let len = range.len();
            content[range].copy_from_slice(&number.to_le_bytes()[..len]);
        }
        Change::Remove(len) => drop(content.drain(until(len))),
        Change::Double(len) => {
            let bytes = content[until(len)].to_vec();
            content.splice(at..at, bytes);
        }
        Change::End => content.truncate(at.max(1)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_change_of_an_authentic_manifest_is_refused_or_harmless(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), change()), 1..4)
    ) {
        static SAVED: LazyLock<(Saved, usize)> = LazyLock::new(|| {
            let saved = Saved::new();
            let head = saved.content.len() - saved.vcpu_len();
            (saved, head)
        });
        let (saved, head) = &*SAVED;
        let mut content = saved.content.clone();
        for (index, anywhere, change) in &changes {
            // Mostly where structure is: the greatest part of it is the vCPU's state.
            let len = if *anywhere { content.len() } else { *head };
            apply(&mut content, index.index(len), change);
        }
        match saved.load(&content) {
            Ok(snapshot) => assert_harmless(&snapshot),
            Err(error) => prop_assert_eq!(error.name(), "snapshot", "{}", error),
        }
    }
}
