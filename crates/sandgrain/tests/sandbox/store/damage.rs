//! Saved snapshots that are not what was saved, and stores that others could have changed.

use super::{files, is, manifest, parts, refused, snapshot, store};
use crate::support::{name_of, vm, works};
use sandgrain::SnapshotStore;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Replaces a part's bytes, leaving it read-only, as only this user can.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a part");
    change(&mut bytes);
    fs::remove_file(path).expect("removed");
    fs::write(path, bytes).expect("written");
    set_mode(path, 0o400);
}

/// The words with which verifying is refused.
#[track_caller]
fn unverified(store: &SnapshotStore, name: &str) -> String {
    let (kind, text) = name_of(store.verify(name));
    assert_eq!(kind, "snapshot", "{text}");
    text
}

#[test]
fn a_flipped_bit_anywhere_in_a_manifest_is_found() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let path = manifest(&store, "f");
    let good = fs::read(&path).expect("a manifest");
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).expect("written");
        let text = refused(&store, "f");
        let words: &[&str] = match at {
            0..8 => &["is no saved snapshot"],
            8..12 => &["its format is version"],
            12..20 => &["cut off", "something follows its end"],
            20..36 => &["another key"],
            _ => &["damaged or forged"],
        };
        assert!(words.iter().any(|words| text.contains(words)), "byte {at}: {text}");
    }
    fs::write(&path, &good).expect("as it was");
    is(&store, "f", 1);
}

#[test]
fn a_manifest_that_is_cut_off_or_continued() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let path = manifest(&store, "f");
    let good = fs::read(&path).expect("a manifest");
    for len in (0..60).chain([good.len() / 2, good.len() - 33, good.len() - 1]) {
        fs::write(&path, &good[..len]).expect("written");
        let text = refused(&store, "f");
        let words = if len < 8 { "no saved snapshot" } else { "cut off" };
        assert!(text.contains(words), "{len} bytes: {text}");
    }
    fs::write(&path, [&good[..], b"x"].concat()).expect("written");
    assert!(refused(&store, "f").contains("something follows its end"));
    fs::write(&path, "").expect("written");
    fs::File::options().write(true).open(&path).and_then(|f| f.set_len(1 << 40)).expect("sparse");
    assert!(refused(&store, "f").contains("no saved snapshot"), "it is not even read");
    works(vm());
}

#[test]
fn snapshots_of_another_host_are_refused() {
    let (_dir, here) = store();
    let (_other_dir, there) = store();
    there.save("f", &snapshot(1)).expect("saved");
    for (from, _) in parts(&there) {
        let to = here.dir().join("parts").join(from.file_name().expect("a name"));
        fs::copy(from, to).expect("copied");
    }
    fs::copy(manifest(&there, "f"), manifest(&here, "f")).expect("copied");
    assert!(refused(&here, "f").contains("another key"), "there is none here yet");
    here.save("g", &snapshot(2)).expect("saved");
    assert!(refused(&here, "f").contains("another key"));
    assert!(unverified(&here, "f").contains("another key"));
    // A key that is lost takes all snapshots with it, and the next save makes another.
    fs::remove_file(here.dir().join("key")).expect("removed");
    assert!(refused(&here, "g").contains("another key"));
    here.save("g", &snapshot(3)).expect("saved");
    is(&here, "g", 3);
}

#[test]
fn the_key_is_secret_and_whole() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let key = store.dir().join("key");
    for mode in [0o640, 0o604, 0o644] {
        set_mode(&key, mode);
        let text = refused(&store, "f");
        assert!(text.contains("key") && text.contains("others can read it"), "{text}");
        assert_eq!(name_of(store.save("f", &snapshot(1))).0, "snapshot");
    }
    set_mode(&key, 0o600);
    is(&store, "f", 1);
    for bytes in [&b""[..], &[0; 31], &[0; 33]] {
        fs::write(&key, bytes).expect("written");
        assert!(refused(&store, "f").contains("is no key; try: deleting it"));
    }
}

#[test]
fn manifests_swapped_between_functions_are_refused() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    store.save("g", &snapshot(2)).expect("saved");
    let between = store.dir().join("between");
    fs::rename(manifest(&store, "f"), &between).expect("moved");
    fs::rename(manifest(&store, "g"), manifest(&store, "f")).expect("moved");
    fs::rename(&between, manifest(&store, "g")).expect("moved");
    assert!(refused(&store, "f").contains("it was saved as \"g\""));
    assert!(refused(&store, "g").contains("it was saved as \"f\""));
}

#[test]
fn parts_have_to_be_there_and_of_their_size() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let good = store.load(vm(), "f").expect("loaded");
    let all = parts(&store);
    assert!(all.len() >= 2, "{all:?}");
    for (path, len) in &all {
        let digest = path.file_name().and_then(|name| name.to_str()).expect("a name");
        rewrite(path, |bytes| bytes.truncate(bytes.len() - 4096));
        let text = refused(&store, "f");
        let sizes = format!("its part {digest} has {} bytes, not {len}", len - 4096);
        assert!(text.contains(&sizes), "{text}");
        rewrite(path, |bytes| bytes.resize(bytes.len() + 2 * 4096, 0));
        assert!(refused(&store, "f").contains("bytes, not"));
        fs::remove_file(path).expect("removed");
        let text = refused(&store, "f");
        assert!(text.contains(&format!("its part {digest} is missing")), "{text}");
        assert!(unverified(&store, "f").contains("is missing"));
        // Saving it again mends it.
        store.save("f", &good).expect("saved");
        is(&store, "f", 1);
    }
}

#[test]
fn parts_that_hold_something_else_are_found_by_verify() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let good = store.load(vm(), "f").expect("loaded");
    for (path, len) in parts(&store) {
        for at in [0, len / 2, len - 1] {
            rewrite(&path, |bytes| bytes[at as usize] ^= 4);
            let text = unverified(&store, "f");
            assert!(text.contains("is damaged: its content has another digest"), "{text}");
            rewrite(&path, |bytes| bytes[at as usize] ^= 4);
            store.verify("f").expect("as it was");
        }
        rewrite(&path, |bytes| bytes[7] ^= 1);
        store.save("f", &good).expect("saved");
        is(&store, "f", 1);
    }
}

#[test]
fn parts_swapped_between_functions_are_found_by_their_size_or_by_verify() {
    let (_dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let common = parts(&store);
    store.save("g", &snapshot(2)).expect("saved");
    let own = parts(&store).into_iter().find(|part| !common.contains(part)).expect("its own");
    for other in common {
        let swap = || {
            let between = store.dir().join("between");
            fs::rename(&own.0, &between).expect("moved");
            fs::rename(&other.0, &own.0).expect("moved");
            fs::rename(&between, &other.0).expect("moved");
        };
        swap();
        if own.1 == other.1 {
            store.load(vm(), "g").expect("parts are not read");
        } else {
            assert!(refused(&store, "g").contains("bytes, not"));
        }
        unverified(&store, "g");
        unverified(&store, "f");
        swap();
        is(&store, "g", 2);
    }
}

#[test]
fn parts_that_could_change_are_refused() {
    let (dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    let (part, _) = parts(&store).remove(0);
    assert_eq!(fs::metadata(&part).expect("a part").mode() & 0o777, 0o400);
    for (mode, words) in [
        (0o600, "it can be written to; a part must be read-only"),
        (0o440 | 0o200, "it can be written to; a part must be read-only"),
        (0o420, "others can write to it"),
        (0o402, "others can write to it"),
    ] {
        set_mode(&part, mode);
        let text = refused(&store, "f");
        assert!(text.contains(words), "{mode:o}: {text}");
    }
    set_mode(&part, 0o444);
    is(&store, "f", 1);

    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&part, &elsewhere).expect("moved");
    symlink(&elsewhere, &part).expect("a link");
    assert!(refused(&store, "f").contains("symbolic link"));
    fs::remove_file(&part).expect("removed");
    fs::create_dir(&part).expect("a directory");
    assert!(refused(&store, "f").contains("not a regular file"));
    fs::remove_dir(&part).expect("removed");
    fs::rename(&elsewhere, &part).expect("moved");
    is(&store, "f", 1);
}

#[test]
fn what_is_not_ours_is_refused() {
    let (dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    if fs::metadata(dir.path()).expect("a directory").uid() != 0 {
        // Only root can give files away; and what is root's is someone else's.
        let (_, text) = name_of(SnapshotStore::open("/usr"));
        assert!(text.contains("belongs to user 0"), "{text}");
        return;
    }
    let (part, _) = parts(&store).remove(0);
    let dirs = [store.dir().to_owned(), store.dir().join("parts")];
    for path in dirs.into_iter().chain([manifest(&store, "f"), store.dir().join("key"), part]) {
        chown(&path, Some(12345), None).expect("given away");
        let text = refused(&store, "f");
        assert!(text.contains("belongs to user 12345"), "{text}");
        chown(&path, Some(0), None).expect("taken back");
    }
    is(&store, "f", 1);
}

#[test]
fn a_directory_that_others_can_write_to_is_no_store() {
    let (dir, store) = store();
    store.save("f", &snapshot(1)).expect("saved");
    for path in [store.dir().to_owned(), store.dir().join("parts")] {
        assert_eq!(fs::metadata(&path).expect("a directory").mode() & 0o777, 0o700);
        for mode in [0o770, 0o702, 0o777, 0o1777] {
            set_mode(&path, mode);
            assert!(refused(&store, "f").contains("others can write to it"));
            for result in [
                SnapshotStore::open(store.dir()).map(|_| ()),
                store.save("f", &snapshot(1)),
                store.verify("f"),
                store.list().map(|_| ()),
                store.remove("f"),
                store.remove_unused().map(|_| ()),
            ] {
                let (kind, text) = name_of(result);
                assert_eq!(kind, "snapshot");
                assert!(text.contains("others can write to it"), "{text}");
            }
        }
        set_mode(&path, 0o755);
        is(&store, "f", 1);
        set_mode(&path, 0o700);
    }
    let link = dir.path().join("link");
    symlink(store.dir(), &link).expect("a link");
    let (_, text) = name_of(SnapshotStore::open(&link));
    assert!(text.contains("symbolic link"), "{text}");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    assert_eq!(name_of(SnapshotStore::open(&file)).0, "snapshot");
    assert_eq!(files(dir.path()), ["file", "link", "store"]);
}
