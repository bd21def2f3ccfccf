//! The cache when something is wrong with it.
#![cfg(unix)]

use crate::support::{SMALL, TempDir, compiler};
use sandgrain_compile::{Cache, CacheOutcome, Error};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

fn outcome(cache: &Cache) -> CacheOutcome {
    let (artifact, outcome) = compiler().compile_cached(SMALL.as_bytes(), cache).expect("compiles");
    assert!(artifact.module_info().expect("a module").export("add").is_some());
    outcome
}

fn assert_bypassed(cache: &Cache, word: &str) {
    match outcome(cache) {
        CacheOutcome::Bypassed { reason } => {
            assert!(reason.contains(word) && !reason.contains('\n'), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

/// A cache with one entry, and the entry's path.
fn filled(dir: &TempDir) -> (Cache, PathBuf) {
    let cache = Cache::at(dir.path().join("c"));
    assert_eq!(outcome(&cache), CacheOutcome::Stored);
    let entry = cache.dir().join(dir.list("c").remove(0));
    (cache, entry)
}

fn is_root(dir: &TempDir) -> bool {
    fs::metadata(dir.path()).expect("directory").uid() == 0
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
}

#[test]
fn what_is_created_is_private() {
    let dir = TempDir::new();
    let (cache, entry) = filled(&dir);
    assert_eq!(fs::metadata(cache.dir()).expect("directory").mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(entry).expect("entry").mode() & 0o777, 0o600);
}

#[test]
fn a_corrupt_entry_is_replaced() {
    let dir = TempDir::new();
    let (cache, entry) = filled(&dir);
    let good = fs::read(&entry).expect("entry");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let other = compiler().compile(b"(module)").expect("compiles").to_bytes();
    let damaged: [&[u8]; 5] = [b"", b"nonsense", &good[..good.len() - 1], &flipped, &other];
    for bytes in damaged {
        fs::write(&entry, bytes).expect("write");
        assert_eq!(outcome(&cache), CacheOutcome::Stored);
        assert_eq!(fs::read(&entry).expect("entry"), good);
        assert_eq!(outcome(&cache), CacheOutcome::Hit);
    }
    // Sparse, and larger than any artifact: not read at all.
    fs::File::create(&entry).and_then(|file| file.set_len(1 << 40)).expect("sparse file");
    assert_eq!(outcome(&cache), CacheOutcome::Stored);
    assert_eq!(outcome(&cache), CacheOutcome::Hit);
}

#[test]
fn a_directory_that_others_can_write_to_is_not_used() {
    let dir = TempDir::new();
    let (cache, _) = filled(&dir);
    for mode in [0o770, 0o702, 0o777, 0o1777] {
        set_mode(cache.dir(), mode);
        assert_bypassed(&cache, "others can write to it");
        assert!(matches!(cache.trim(0), Err(Error::CacheUntrusted { .. })));
        assert!(matches!(cache.remove(), Err(Error::CacheUntrusted { .. })));
    }
    set_mode(cache.dir(), 0o755);
    assert_eq!(outcome(&cache), CacheOutcome::Hit);
}

#[test]
fn an_entry_that_others_can_write_to_is_not_used() {
    let dir = TempDir::new();
    let (cache, entry) = filled(&dir);
    for mode in [0o660, 0o602] {
        set_mode(&entry, mode);
        assert_bypassed(&cache, "others can write to it");
    }
    set_mode(&entry, 0o644);
    assert_eq!(outcome(&cache), CacheOutcome::Hit);
}

#[test]
fn what_belongs_to_someone_else_is_not_used() {
    let dir = TempDir::new();
    let (cache, entry) = filled(&dir);
    if !is_root(&dir) {
        // Only root can give files away; and what is root's is someone else's.
        assert_bypassed(&Cache::at("/usr"), "belongs to user 0");
        return;
    }
    chown(&entry, Some(12345), None).expect("chown");
    assert_bypassed(&cache, "belongs to user 12345");
    chown(&entry, Some(0), None).expect("chown");
    assert_eq!(outcome(&cache), CacheOutcome::Hit);
    chown(cache.dir(), Some(12345), None).expect("chown");
    assert_bypassed(&cache, "belongs to user 12345");
}

#[test]
fn links_are_not_followed() {
    let dir = TempDir::new();
    let (cache, entry) = filled(&dir);
    let link = dir.path().join("link");
    symlink(cache.dir(), &link).expect("link");
    assert_bypassed(&Cache::at(&link), "symbolic link");

    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&entry, &elsewhere).expect("move");
    symlink(&elsewhere, &entry).expect("link");
    assert_bypassed(&cache, "symbolic link");
    fs::remove_file(&elsewhere).expect("remove");
    assert_bypassed(&cache, "symbolic link");
    assert!(!elsewhere.exists(), "nothing is written through a link");
}

#[test]
fn other_things_in_place_of_files_are_not_used() {
    let dir = TempDir::new();
    let (cache, entry) = filled(&dir);
    fs::remove_file(&entry).expect("remove");
    fs::create_dir(&entry).expect("directory");
    assert_bypassed(&cache, "not a regular file");
    fs::remove_dir(&entry).expect("remove");
    // Opening a pipe without a writer would wait for one.
    let made = std::process::Command::new("mkfifo").arg(&entry).status().expect("mkfifo");
    assert!(made.success());
    assert_bypassed(&cache, "not a regular file");

    let file = dir.path().join("file");
    fs::write(&file, "").expect("write");
    assert_bypassed(&Cache::at(&file), "not a directory");
    assert_bypassed(&Cache::at(file.join("below")), "cannot");
}

#[test]
fn an_unwritable_place_costs_only_time() {
    assert_bypassed(&Cache::at("/proc/sandgrain-test"), "cannot create");
    let dir = TempDir::new();
    let (cache, entry) = filled(&dir);
    if is_root(&dir) {
        // To root, permissions mean nothing.
        return;
    }
    set_mode(cache.dir(), 0o500);
    assert_eq!(outcome(&cache), CacheOutcome::Hit);
    let (_, other) = compiler().compile_cached(b"(module)", &cache).expect("compiles");
    assert!(matches!(other, CacheOutcome::Bypassed { .. }), "{other:?}");
    set_mode(&entry, 0o000);
    assert_bypassed(&cache, "cannot read");
    set_mode(cache.dir(), 0o700);
}
