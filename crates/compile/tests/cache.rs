//! The cache when everything works, and when many use it.

use crate::support::{SMALL, SMALL_COMPONENT, TempDir, compiler, compiler_for};
use sandgrain_compile::{Cache, CacheOutcome, Error};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Tells this file's [`child`] test what to do.
const CHILD: &str = "SANDGRAIN_COMPILE_TEST_CACHE";

/// Not a test of its own: what the tests below run in other processes.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let (artifact, outcome) =
        compiler().compile_cached(large().as_bytes(), &Cache::at(dir)).expect("compiles");
    assert!(artifact.module_info().expect("a module").export("f0").is_some());
    if std::env::var_os("SANDGRAIN_COMPILE_TEST_FULL").is_some() {
        assert!(matches!(outcome, CacheOutcome::Bypassed { .. }), "{outcome:?}");
    } else {
        assert!(!matches!(outcome, CacheOutcome::Bypassed { .. }), "{outcome:?}");
    }
}

fn child_command(dir: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("test program"));
    command.args(["--exact", "cache::child"]).env(CHILD, dir).stdout(Stdio::null());
    command
}

/// Some hundred kilobytes of code, so that writing it takes a while.
fn large() -> String {
    let functions = (0..300).map(|i| {
        format!(
            "(func (export \"f{i}\") (param i32) (result i32) (local i32) (loop $l
               (local.set 1 (i32.add (local.get 1) (i32.mul (local.get 0) (i32.const {i}))))
               (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (local.get 1))"
        )
    });
    format!("(module {})", functions.collect::<String>())
}

#[test]
fn stored_once_then_hit() {
    let dir = TempDir::new();
    let cache = Cache::at(dir.path().join("a/b"));
    let compiler = compiler();
    for (text, files) in [(SMALL, 1), (SMALL_COMPONENT, 2)] {
        let (first, outcome) = compiler.compile_cached(text.as_bytes(), &cache).expect("compiles");
        assert_eq!(outcome, CacheOutcome::Stored);
        // The text and the binary format are the same.
        let wasm = wat::parse_str(text).expect("text");
        let (second, outcome) = compiler.compile_cached(&wasm, &cache).expect("compiles");
        assert_eq!(outcome, CacheOutcome::Hit);
        assert_eq!(first.as_bytes(), second.as_bytes());
        assert_eq!(first.info(), second.info());
        assert_eq!((first.compile_time().is_some(), second.compile_time()), (true, None));
        assert_eq!(dir.list("a/b").len(), files);
    }
}

#[test]
fn other_modules_and_other_cpus_are_other_entries() {
    let dir = TempDir::new();
    let cache = Cache::at(dir.path().join("c"));
    let wide = compiler_for(&["sse3", "ssse3", "sse41", "sse42", "avx"]);
    for (compiler, text) in [(compiler(), SMALL), (wide, SMALL), (compiler(), "(module)")] {
        for expected in [CacheOutcome::Stored, CacheOutcome::Hit] {
            let (artifact, outcome) =
                compiler.compile_cached(text.as_bytes(), &cache).expect("compiles");
            assert_eq!(outcome, expected);
            assert_eq!(artifact.cpu_features(), compiler.cpu_features());
        }
    }
    assert_eq!(dir.list("c").len(), 3);
}

#[test]
fn invalid_modules_leave_nothing() {
    let dir = TempDir::new();
    let cache = Cache::at(dir.path().join("c"));
    let result = compiler().compile_cached(b"(module (func i32.add))", &cache);
    assert!(matches!(result, Err(Error::Invalid { .. })));
    assert!(!cache.dir().exists());
}

#[test]
fn threads_share_a_cache() {
    let dir = TempDir::new();
    let cache = Cache::at(dir.path().join("c"));
    let compiler = compiler();
    let text = large();
    let expected = compiler.compile(text.as_bytes()).expect("compiles");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let (artifact, outcome) =
                        compiler.compile_cached(text.as_bytes(), &cache).expect("compiles");
                    assert!(!matches!(outcome, CacheOutcome::Bypassed { .. }), "{outcome:?}");
                    assert_eq!(artifact.as_bytes(), expected.as_bytes());
                }
            });
        }
    });
    assert_eq!(dir.list("c").len(), 1, "no temporary files are left");
}

#[test]
fn processes_share_a_cache() {
    let dir = TempDir::new();
    let path = dir.path().join("c");
    let mut children: Vec<_> =
        (0..6).map(|_| child_command(&path).spawn().expect("child")).collect();
    for child in &mut children {
        assert!(child.wait().expect("wait").success());
    }
    let (_, outcome) =
        compiler().compile_cached(large().as_bytes(), &Cache::at(path)).expect("compiles");
    assert_eq!(outcome, CacheOutcome::Hit);
    assert_eq!(dir.list("c").len(), 1);
}

#[test]
fn killed_processes_do_no_harm() {
    let dir = TempDir::new();
    let path = dir.path().join("c");
    let cache = Cache::at(&path);
    for attempt in 0..12 {
        cache.remove().expect("removes");
        let mut child = child_command(&path).spawn().expect("child");
        std::thread::sleep(Duration::from_millis(20 * attempt));
        child.kill().expect("kill");
        child.wait().expect("wait");
        // Whatever the child left is either the whole entry or none.
        for name in dir.list(".").iter().filter(|name| *name == "c").flat_map(|_| dir.list("c")) {
            if name.ends_with(".sgm") {
                let bytes = std::fs::read(path.join(&name)).expect("entry");
                compiler().load(bytes).expect("whole");
            }
        }
        let (_, outcome) = compiler().compile_cached(large().as_bytes(), &cache).expect("compiles");
        assert!(!matches!(outcome, CacheOutcome::Bypassed { .. }), "{outcome:?}");
    }
}

#[test]
fn remains_of_crashes_are_removed_after_an_hour() {
    let dir = TempDir::new();
    let path = dir.path().join("c");
    let cache = Cache::at(&path);
    let compiler = compiler();
    compiler.compile_cached(b"(module)", &cache).expect("compiles");
    let entry = dir.list("c").remove(0);
    let (old, new) = (format!("{entry}.1-0-0.tmp"), format!("{entry}.2-0-0.tmp"));
    let foreign = "notes.tmp".to_owned();
    for name in [&old, &new, &foreign] {
        let file = File::create(path.join(name)).expect("file");
        if *name != new {
            file.set_modified(SystemTime::now() - Duration::from_secs(3700)).expect("time");
        }
    }
    compiler.compile_cached(SMALL.as_bytes(), &cache).expect("compiles");
    let left = dir.list("c");
    assert!(!left.contains(&old) && left.contains(&new) && left.contains(&foreign), "{left:?}");
    // Asked to remove everything, it removes those too, but nothing that is not its own.
    assert!(cache.remove().expect("removes") > 0);
    assert_eq!(dir.list("c"), [foreign]);
}

#[test]
fn trim_keeps_what_was_used_last() {
    let dir = TempDir::new();
    let path = dir.path().join("c");
    let cache = Cache::at(&path);
    assert_eq!(cache.trim(0).expect("no directory is an empty cache"), 0);
    let compiler = compiler();
    let text = |i: u64| format!("(module (func (export \"f{i}\")))");
    let mut names: Vec<String> = Vec::new();
    for i in 0..4 {
        compiler.compile_cached(text(i).as_bytes(), &cache).expect("compiles");
        let name = dir.list("c").into_iter().find(|name| !names.contains(name)).expect("new");
        let age = Duration::from_secs(3600 * (10 - i));
        let file = File::options().write(true).open(path.join(&name)).expect("file");
        file.set_modified(SystemTime::now() - age).expect("time");
        names.push(name);
    }
    // Using the oldest makes it the newest.
    let (_, outcome) = compiler.compile_cached(text(0).as_bytes(), &cache).expect("compiles");
    assert_eq!(outcome, CacheOutcome::Hit);
    let size = std::fs::metadata(path.join(&names[0])).expect("entry").len();
    assert_eq!(cache.trim(2 * size).expect("trims"), 2 * size);
    let mut kept = vec![names[0].clone(), names[3].clone()];
    kept.sort();
    assert_eq!(dir.list("c"), kept);
}

#[cfg(unix)]
#[test]
fn a_full_disk_costs_only_time() {
    let dir = TempDir::new();
    std::fs::create_dir(dir.path().join("c")).expect("directory");
    // A limit on file sizes fails writes half way, as a full disk does.
    let child = child_command(&dir.path().join("c"));
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
        .arg(child.get_program())
        .args(child.get_args())
        .env(CHILD, dir.path().join("c"))
        .env("SANDGRAIN_COMPILE_TEST_FULL", "1")
        .stdout(Stdio::null())
        .status()
        .expect("child");
    assert!(status.success());
    assert!(dir.list("c").is_empty(), "the part that was written is gone");
}
