//! Several processes that use one store, and such as do not come to their end.

use super::{counter, files, is, parts, snapshot, store};
use crate::support::{module, vm};
use sandgrain::{Sandbox, SnapshotStore};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Tells [`child`] which store it is to save to, and what it is to do there.
const STORE: &str = "SANDGRAIN_TEST_STORE";
const TASK: &str = "SANDGRAIN_TEST_STORE_TASK";

/// Not a test of its own: what the tests below run in other processes.
#[test]
fn child() {
    let (Some(dir), Ok(task)) = (std::env::var_os(STORE), std::env::var(TASK)) else { return };
    let store = SnapshotStore::open(dir).expect("a store");
    match &*task {
        "save" => {
            for _ in 0..5 {
                store.save("f", &snapshot(1)).expect("saved");
                is(&store, "f", 1);
            }
        }
        "alternate" => {
            let both = [snapshot(1), snapshot(2)];
            for snapshot in both.iter().cycle() {
                store.save("f", snapshot).expect("saved");
            }
        }
        "full" => full(&store),
        other => panic!("{other:?}"),
    }
}

/// What it does on a full disk: which a limit on the size of files is like, half way through a file.
fn full(store: &SnapshotStore) {
    let large = large();
    limit_files("16384");
    for name in ["f", "g"] {
        let (kind, text) = crate::support::name_of(store.save(name, &large));
        assert_eq!(kind, "snapshot");
        assert!(text.contains("cannot write") && text.contains("freeing room"), "{text}");
        assert!(text.contains(&format!("{name:?}")), "{text}");
    }
    // All of its parts are there, and its manifest does not fit.
    limit_files("4096");
    let old = store.load(vm(), "f").expect("loaded");
    let (_, text) = crate::support::name_of(store.save("f", &old));
    assert!(text.contains("f.snapshot") && text.contains("freeing room"), "{text}");
    is(store, "f", 1);
    limit_files("unlimited");
    store.save("g", &large).expect("saved");
    store.verify("g").expect("whole");
}

/// A snapshot whose parts are larger than that.
fn large() -> sandgrain::Snapshot {
    let mut sandbox = Sandbox::new(&module(vm(), &counter(7))).expect("a sandbox");
    let main = sandbox.main();
    let bytes: Vec<u8> = (0..65536u32).map(|n| (n % 251) as u8).collect();
    sandbox.write_memory(main, "memory", 0, &bytes).expect("written");
    sandbox.snapshot().expect("a snapshot")
}

fn limit_files(bytes: &str) {
    let size = format!("--fsize={bytes}:");
    let mut command = Command::new("prlimit");
    let status = command.args(["--pid", &std::process::id().to_string(), &size]).status();
    assert!(status.expect("prlimit runs").success());
}

fn command(dir: &Path, task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test's program"));
    command.args(["--exact", "store::processes::child"]).stdout(Stdio::null());
    command.env(STORE, dir).env(TASK, task);
    command
}

#[test]
fn processes_save_the_same_snapshot_at_once() {
    let (_dir, store) = store();
    let mut children: Vec<_> =
        (0..3).map(|_| command(store.dir(), "save").spawn().expect("a child")).collect();
    for child in &mut children {
        assert!(child.wait().expect("waited for").success());
    }
    is(&store, "f", 1);
    store.remove_unused().expect("removed");
    is(&store, "f", 1);
    assert_eq!(files(store.dir()), ["f.snapshot", "key", "lock", "parts"]);
}

#[test]
fn threads_save_and_remove_at_once() {
    let (_dir, store) = store();
    std::thread::scope(|scope| {
        for id in 0..4u32 {
            let store = &store;
            scope.spawn(move || {
                let (name, snapshot) = (format!("f{id}"), snapshot(id));
                for _ in 0..8 {
                    store.save(&name, &snapshot).expect("saved");
                    is(store, &name, id);
                    store.remove(&name).expect("removed");
                }
            });
        }
    });
    store.remove_unused().expect("removed");
    assert_eq!(store.list().expect("a list"), [""; 0]);
    assert_eq!(parts(&store), []);
}

#[test]
fn a_killed_save_leaves_the_old_one_or_the_new_one() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    for attempt in 0..12 {
        let mut child = command(store.dir(), "alternate").spawn().expect("a child");
        std::thread::sleep(Duration::from_millis(60 + 17 * attempt));
        child.kill().expect("killed");
        child.wait().expect("waited for");
        store.verify("f").expect("one of the two");
        let mut next = store.load(vm(), "f").expect("loaded").sandbox().build().expect("built");
        let id: u32 = next.call("id", ()).expect("a call");
        assert!(id == 1 || id == 2, "{id}");
    }
    store.save("f", &snapshot(3)).expect("saved");
    is(&store, "f", 3);
    assert_eq!(files(store.dir()), ["f.snapshot", "key", "lock", "parts"]);
    let (_other_dir, fresh) = super::store();
    fresh.save("f", &snapshot(3)).expect("saved");
    assert_eq!(parts(&store).len(), parts(&fresh).len(), "nothing is left of the others");
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let (before, names) = (parts(&store), files(store.dir()));
    // Without the signal that ends a process for such a file.
    let child = command(store.dir(), "full");
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(child.get_program())
        .args(child.get_args())
        .env(STORE, store.dir())
        .env(TASK, "full")
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("a child").success());
    is(&store, "f", 1);
    store.remove("g").expect("it was saved when there was room");
    assert_eq!((parts(&store), files(store.dir())), (before, names), "nothing else is left");
}
