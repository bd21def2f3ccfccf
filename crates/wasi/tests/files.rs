//! Files and directories, and the walls around them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::channel;

use crate::support::*;
use sandgrain_wasi::{Access, Capability, Reply, WasiConfig};
use tempfile::TempDir;

fn guest(access: Access) -> (TempDir, Guest) {
    let dir = tempfile::tempdir().unwrap();
    let guest = Guest::new(WasiConfig::new().preopen(dir.path(), "/data", access));
    (dir, guest)
}

fn size(guest: &mut Guest, fd: u32) -> u64 {
    assert_eq!(guest.call("fd_filestat_get", &[fd.into(), OUT as u64]), SUCCESS);
    guest.u64(OUT + 32)
}

#[test]
fn preopens_are_listed() {
    let (_dir, mut guest) = guest(Access::ReadOnly);
    assert_eq!(guest.call("fd_prestat_get", &[3, OUT as u64]), SUCCESS);
    assert_eq!((guest.memory[OUT], guest.u32(OUT + 4)), (0, 5));
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, DATA as u64, 5]), SUCCESS);
    assert_eq!(&guest.memory[DATA..DATA + 5], b"/data");
    assert_eq!(guest.call("fd_prestat_get", &[4, OUT as u64]), BADF);
    assert_eq!(guest.call("fd_fdstat_get", &[3, OUT as u64]), SUCCESS);
    assert_eq!(guest.memory[OUT], 3, "a directory");
}

fn lifecycle(mut guest: Guest, root: &Path) {
    let fd = guest.open(3, "f", O_CREAT | O_EXCL, READ | WRITE).unwrap();
    assert_eq!(guest.open(3, "f", O_CREAT | O_EXCL, READ | WRITE), Err(EXIST));
    assert_eq!(guest.write(fd, b"hello world"), Ok(11));
    assert_eq!(guest.call("fd_tell", &[fd.into(), OUT as u64]), SUCCESS);
    assert_eq!(guest.u64(OUT), 11);
    assert_eq!(guest.call("fd_seek", &[fd.into(), 6, 0, OUT as u64]), SUCCESS);
    assert_eq!(guest.read(fd, 100).unwrap(), b"world");
    assert_eq!(guest.read(fd, 100).unwrap(), b"");
    assert_eq!(guest.call("fd_seek", &[fd.into(), -5_i64 as u64, 2, OUT as u64]), SUCCESS);
    assert_eq!(guest.u64(OUT), 6);

    assert_eq!(guest.call("fd_pread", &[fd.into(), IOVS as u64, 1, 0, OUT as u64]), SUCCESS);
    assert_eq!(&guest.memory[DATA..DATA + 5], b"hello");
    guest.put(DATA, b"J");
    guest.put(IOVS + 4, &1_u32.to_le_bytes());
    assert_eq!(guest.call("fd_pwrite", &[fd.into(), IOVS as u64, 1, 0, OUT as u64]), SUCCESS);
    assert_eq!(std::fs::read(root.join("f")).unwrap(), b"Jello world");

    assert_eq!(size(&mut guest, fd), 11);
    assert_eq!(guest.call("fd_filestat_set_size", &[fd.into(), 5]), SUCCESS);
    assert_eq!(size(&mut guest, fd), 5);
    let second = 1_000_000_000;
    assert_eq!(guest.call("fd_filestat_set_times", &[fd.into(), second, 2 * second, 5]), SUCCESS);
    assert_eq!(guest.call("fd_filestat_get", &[fd.into(), OUT as u64]), SUCCESS);
    assert_eq!((guest.u64(OUT + 40), guest.u64(OUT + 48)), (second, 2 * second));
    for sync in ["fd_sync", "fd_datasync"] {
        assert_eq!(guest.call(sync, &[fd.into()]), SUCCESS);
    }
    assert_eq!(guest.call("fd_advise", &[fd.into(), 0, 0, 0]), SUCCESS);

    // Append, then renumber: both names are gone after one close.
    assert_eq!(guest.call("fd_fdstat_set_flags", &[fd.into(), 1]), SUCCESS);
    assert_eq!(guest.write(fd, b"!"), Ok(1));
    assert_eq!(std::fs::read(root.join("f")).unwrap(), b"Jello!");
    let other = guest.open(3, "f", 0, READ).unwrap();
    assert_eq!(guest.call("fd_renumber", &[fd.into(), other.into()]), SUCCESS);
    assert_eq!(guest.call("fd_close", &[other.into()]), SUCCESS);
    assert_eq!(guest.call("fd_close", &[fd.into()]), BADF);
    let fd = guest.open(3, "f", O_TRUNC, WRITE).unwrap();
    assert_eq!(size(&mut guest, fd), 0);
    assert_eq!(guest.call("fd_close", &[fd.into()]), SUCCESS);
}

#[test]
fn life_of_a_file() {
    let (dir, guest) = guest(Access::ReadWrite);
    lifecycle(guest, dir.path());
}

#[test]
fn life_of_a_file_on_other_threads() {
    let dir = tempfile::tempdir().unwrap();
    let config = WasiConfig::new().preopen(dir.path(), "/data", Access::ReadWrite);
    lifecycle(Guest::new(config.cancellable_files(true)), dir.path());
}

#[test]
fn directories() {
    let (dir, mut guest) = guest(Access::ReadWrite);
    assert_eq!(guest.path("path_create_directory", 3, "sub"), SUCCESS);
    assert_eq!(guest.path("path_create_directory", 3, "sub"), EXIST);
    let fd = guest.open(3, "sub/a", O_CREAT, WRITE).unwrap();
    assert_eq!(guest.call("fd_close", &[fd.into()]), SUCCESS);

    // Rename, link and symbolic link.
    let a = guest.put(PATH, b"sub/a");
    let b = guest.put(PATH2, b"sub/b");
    assert_eq!(guest.call("path_rename", &[3, PATH as u64, a, 3, PATH2 as u64, b]), SUCCESS);
    assert!(dir.path().join("sub/b").exists() && !dir.path().join("sub/a").exists());
    let b = guest.put(PATH, b"sub/b");
    let c = guest.put(PATH2, b"sub/c");
    assert_eq!(guest.call("path_link", &[3, 0, PATH as u64, b, 3, PATH2 as u64, c]), SUCCESS);
    let target = guest.put(PATH, b"b");
    let link = guest.put(PATH2, b"sub/l");
    assert_eq!(guest.call("path_symlink", &[PATH as u64, target, 3, PATH2 as u64, link]), SUCCESS);
    let args = [3, PATH2 as u64, link, DATA as u64, 10, OUT as u64];
    assert_eq!(guest.call("path_readlink", &args), SUCCESS);
    assert_eq!((guest.u32(OUT), guest.memory[DATA]), (1, b'b'));
    let args = [3, 0, PATH2 as u64, link, OUT as u64];
    assert_eq!(guest.call("path_filestat_get", &args), SUCCESS);
    assert_eq!(guest.memory[OUT + 16], 7, "a symbolic link");
    let args = [3, 0, PATH2 as u64, c, 0, 3_000_000_000, 4];
    guest.put(PATH2, b"sub/c");
    assert_eq!(guest.call("path_filestat_set_times", &args), SUCCESS);

    let sub = guest.open(3, "sub", O_DIRECTORY, READ).unwrap();
    let args = [sub.into(), DATA as u64, 4096, 0, OUT as u64];
    assert_eq!(guest.call("fd_readdir", &args), SUCCESS);
    let mut names = Vec::new();
    let (mut at, end) = (DATA, DATA + guest.u32(OUT) as usize);
    while at < end {
        let length = guest.u32(at + 16) as usize;
        let name = guest.memory[at + 24..at + 24 + length].to_vec();
        names.push(String::from_utf8(name).unwrap());
        at += 24 + length;
    }
    names.sort();
    assert_eq!(names, [".", "..", "b", "c", "l"]);

    assert_eq!(guest.path("path_remove_directory", 3, "sub"), NOTEMPTY);
    for name in ["sub/b", "sub/c", "sub/l"] {
        assert_eq!(guest.path("path_unlink_file", 3, name), SUCCESS);
    }
    assert_eq!(guest.path("path_unlink_file", 3, "sub/b"), NOENT);
    assert_eq!(guest.path("path_remove_directory", 3, "sub"), SUCCESS);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn read_only_grants_refuse_every_change() {
    let (dir, mut guest) = guest(Access::ReadOnly);
    std::fs::write(dir.path().join("f"), "text").unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    let fd = guest.open(3, "f", 0, READ).unwrap();
    assert_eq!(guest.read(fd, 10).unwrap(), b"text");
    assert!(guest.write(fd, b"x").is_err());

    for (oflags, rights) in [(0, WRITE), (0, READ | WRITE), (O_TRUNC, READ), (O_CREAT, READ)] {
        assert_eq!(guest.open(3, "f", oflags, rights), Err(PERM), "{oflags} {rights}");
    }
    assert_eq!(guest.open(3, "new", O_CREAT, WRITE), Err(PERM));
    assert_eq!(guest.path("path_create_directory", 3, "e"), PERM);
    assert_eq!(guest.path("path_remove_directory", 3, "d"), PERM);
    assert_eq!(guest.path("path_unlink_file", 3, "f"), PERM);
    let f = guest.put(PATH, b"f");
    let g = guest.put(PATH2, b"g");
    let (p, q) = (PATH as u64, PATH2 as u64);
    assert_eq!(guest.call("path_rename", &[3, p, f, 3, q, g]), PERM);
    assert_eq!(guest.call("path_link", &[3, 0, p, f, 3, q, g]), PERM);
    assert_eq!(guest.call("path_symlink", &[p, f, 3, q, g]), PERM);
    assert_eq!(guest.call("path_filestat_set_times", &[3, 0, p, f, 0, 0, 5]), PERM);
    assert_ne!(guest.call("fd_filestat_set_size", &[fd.into(), 0]), SUCCESS);
    assert_ne!(guest.call("fd_filestat_set_times", &[fd.into(), 0, 0, 5]), SUCCESS);
    assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"text");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn paths_that_are_denied_are_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "text").unwrap();
    let (send, told) = channel();
    let config = WasiConfig::new().preopen(dir.path(), "/data", Access::ReadOnly);
    let mut guest = Guest::new(config.on_denied(move |denied| {
        assert_eq!(denied.capability, Capability::File);
        send.send(denied.target.to_owned()).unwrap();
    }));
    let fd = guest.open(3, "f", 0, READ).unwrap();
    assert_eq!(guest.open(3, "none", 0, READ), Err(NOENT));
    assert!(told.try_recv().is_err(), "nothing was denied");
    assert_eq!(guest.open(3, "../f", 0, READ), Err(PERM));
    assert_eq!(guest.open(3, "f", O_TRUNC, WRITE), Err(PERM));
    assert_eq!(guest.path("path_unlink_file", 3, &"x".repeat(300)), PERM);
    let (p, q) = (PATH as u64, PATH2 as u64);
    let (f, g) = (guest.put(PATH, b"f"), guest.put(PATH2, b"g"));
    assert_eq!(guest.call("path_rename", &[3, p, f, 3, q, g]), PERM);
    assert_eq!(guest.call("path_symlink", &[p, f, 3, q, g]), PERM);
    assert_eq!(guest.call("fd_filestat_set_size", &[fd.into(), 0]), PERM);
    let told: Vec<_> = told.try_iter().collect();
    let cut = "x".repeat(256) + "...";
    assert_eq!(told, ["../f", "f", &cut, "f, g", "f, g", "a descriptor"]);
}

#[test]
fn no_way_out_of_a_grant() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    std::fs::create_dir_all(inner.join("deep")).unwrap();
    std::fs::write(outer.path().join("secret"), "secret").unwrap();
    symlink("../secret", inner.join("up")).unwrap();
    symlink(outer.path().join("secret"), inner.join("absolute")).unwrap();
    symlink("..", inner.join("parent")).unwrap();
    symlink("../../secret", inner.join("deep/up")).unwrap();
    symlink("loop", inner.join("loop")).unwrap();
    let absolute = outer.path().join("secret");

    for access in [Access::ReadOnly, Access::ReadWrite] {
        let mut guest = Guest::new(WasiConfig::new().preopen(&inner, "/", access));
        for path in [
            "../secret",
            "deep/../../secret",
            "./deep/./../../secret",
            absolute.to_str().unwrap(),
            "/etc/passwd",
            "up",
            "absolute",
            "parent/secret",
            "deep/up",
            "loop",
            "..",
            "deep/../..",
        ] {
            let result = guest.open(3, path, 0, READ);
            assert!(result.is_err(), "{path} opened");
            let length = guest.put(PATH, path.as_bytes());
            let args = [3, 1, PATH as u64, length, OUT as u64];
            assert_ne!(guest.call("path_filestat_get", &args), SUCCESS, "{path} has a stat");
            if path != "up" && path != "absolute" && path != "deep/up" && path != "loop" {
                assert_ne!(guest.path("path_unlink_file", 3, path), SUCCESS, "{path} unlinked");
            }
            assert_ne!(guest.path("path_create_directory", 3, path), SUCCESS);
        }
        // A guest may not make such links either, nor move things out.
        let target = guest.put(PATH, b"/etc/passwd");
        let link = guest.put(PATH2, b"mine");
        let (p, q) = (PATH as u64, PATH2 as u64);
        assert_ne!(guest.call("path_symlink", &[p, target, 3, q, link]), SUCCESS);
        let from = guest.put(PATH, b"deep");
        let to = guest.put(PATH2, b"../deep");
        assert_ne!(guest.call("path_rename", &[3, p, from, 3, q, to]), SUCCESS);
        // Inside of the grant, going up is fine.
        let fd = guest.open(3, "deep/../deep", O_DIRECTORY, READ).unwrap();
        assert!(guest.open(fd, "../../secret", 0, READ).is_err());
        assert!(guest.open(fd, "..", O_DIRECTORY, READ).is_err());
    }
    assert_eq!(std::fs::read(absolute).unwrap(), b"secret");
}

#[test]
fn open_files_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "").unwrap();
    let config = WasiConfig::new().preopen(dir.path(), "/", Access::ReadOnly).max_open_files(6);
    let mut guest = Guest::new(config);
    let fds: Vec<_> = (0..2).map(|_| guest.open(3, "f", 0, READ).unwrap()).collect();
    assert_eq!(guest.call("fd_renumber", &[fds[0].into(), fds[0].into()]), SUCCESS);
    assert_eq!(guest.open(3, "f", 0, READ), Err(MFILE));
    assert_eq!(guest.call("fd_renumber", &[fds[0].into(), fds[1].into()]), SUCCESS);
    guest.open(3, "f", 0, READ).unwrap();
    assert_eq!(guest.open(3, "f", 0, READ), Err(MFILE));
    assert_eq!(guest.call("fd_close", &[fds[1].into()]), SUCCESS);
    guest.open(3, "f", 0, READ).unwrap();
    assert_eq!(guest.open(3, "f", 0, READ), Err(MFILE));
}

#[test]
fn errors_name_the_thing_to_the_guest() {
    let (dir, mut guest) = guest(Access::ReadWrite);
    std::fs::write(dir.path().join("f"), "").unwrap();
    assert_eq!(guest.open(3, "missing", 0, READ), Err(NOENT));
    assert_eq!(guest.open(3, "f", O_DIRECTORY, READ), Err(NOTDIR));
    assert_eq!(guest.open(3, "f/x", 0, READ), Err(NOTDIR));
    assert_eq!(guest.call("fd_seek", &[1, 0, 0, OUT as u64]), SPIPE);
    assert_eq!(guest.try_call("fd_close", &[77]).unwrap(), Reply::Value(BADF));
}
