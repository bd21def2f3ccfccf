//! Files and directories.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use sandgrain_abi::DecodeError;
use sandgrain_abi::component::{Lift, Lower, Reader, Type, Types};
use sandgrain_wasi::{Access, Capability, WasiConfig};
use tempfile::TempDir;

use super::denied::heard;
use super::support::{FILES, Guest, IO, StreamError};

// Cases of `error-code`.
const BAD_DESCRIPTOR: u32 = 3;
const EXIST: u32 = 7;
const INVALID: u32 = 12;
const INSUFFICIENT_MEMORY: u32 = 22;
const NAME_TOO_LONG: u32 = 18;
const NO_ENTRY: u32 = 20;
const NOT_EMPTY: u32 = 25;
const NOT_PERMITTED: u32 = 31;
const READ_ONLY_OR_PERMITTED: [u32; 2] = [33, NOT_PERMITTED];
const UNSUPPORTED: u32 = 27;

// Bits of `open-flags`, `descriptor-flags` and `path-flags`.
const CREATE: u8 = 1;
const DIRECTORY: u8 = 2;
const EXCLUSIVE: u8 = 4;
const READ: u8 = 1;
const WRITE: u8 = 2;
const MUTATE_DIRECTORY: u8 = 32;
const FOLLOW: u8 = 1;

/// A case of `new-timestamp`.
const NOW: u32 = 1;

// Cases of `descriptor-type`.
const A_DIRECTORY: u32 = 3;
const A_SYMBOLIC_LINK: u32 = 5;
const A_REGULAR_FILE: u32 = 6;

/// `descriptor-stat`
#[derive(Debug)]
struct Stat {
    kind: u32,
    size: u64,
    modified: Option<(u64, u32)>,
}

impl Lift<'_> for Stat {
    fn is_of(_: Type, _: &Types) -> bool {
        false
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (kind, _, size) = <(u32, u64, u64)>::lift(from)?;
        type Time = Option<(u64, u32)>;
        let (_, modified, _) = <(Time, Time, Time)>::lift(from)?;
        Ok(Self { kind, size, modified })
    }
}

struct Files {
    guest: Guest,
    dir: TempDir,
    root: u32,
}

impl Files {
    fn new(access: Access) -> Self {
        Self::with(access, WasiConfig::new())
    }

    fn with(access: Access, config: WasiConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "content").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let mut guest = Guest::new(config.preopen(dir.path(), "/data", access));
        let preopens: Vec<(u32, String)> =
            guest.call("wasi:filesystem/preopens@0.2.0", "get-directories", ());
        let [(root, name)] = &preopens[..] else { panic!("{preopens:?}") };
        assert_eq!(name, "/data");
        Self { root: *root, guest, dir }
    }

    fn path(&self, name: &str) -> impl AsRef<Path> + use<> {
        self.dir.path().join(name)
    }

    fn open(&mut self, path: &str, how: u8, flags: u8) -> Result<u32, u32> {
        let args = (self.root, FOLLOW, path, how, flags);
        self.guest.call(FILES, "[method]descriptor.open-at", args)
    }

    fn of_path<T: for<'a> Lift<'a>>(&mut self, name: &str, path: &str) -> Result<T, u32> {
        let args = (self.root, path);
        self.guest.call(FILES, &format!("[method]descriptor.{name}"), args)
    }

    /// Makes a call that fails, and returns its error.
    fn failure(&mut self, name: &str, args: impl Lower) -> u32 {
        let done: Result<(), u32> =
            self.guest.call(FILES, &format!("[method]descriptor.{name}"), args);
        done.expect_err(name)
    }

    /// Makes a call that is not permitted.
    fn refused(&mut self, name: &str, args: impl Lower) {
        assert_eq!(self.failure(name, args), NOT_PERMITTED, "{name}");
    }
}

#[test]
fn files_are_written_and_read_at_places() {
    let mut files = Files::new(Access::ReadWrite);
    let file = files.open("new", CREATE, READ | WRITE).unwrap();
    let guest = &mut files.guest;
    let written: Result<u64, u32> =
        guest.call(FILES, "[method]descriptor.write", (file, &b"hello world"[..], 0_u64));
    assert_eq!(written, Ok(11));
    let read: Result<(Vec<u8>, bool), u32> =
        guest.call(FILES, "[method]descriptor.read", (file, 5_u64, 6_u64));
    assert_eq!(read, Ok((b"world".to_vec(), false)));
    let end: Result<(Vec<u8>, bool), u32> =
        guest.call(FILES, "[method]descriptor.read", (file, 5_u64, 11_u64));
    assert_eq!(end, Ok((Vec::new(), true)));
    guest.drop_handle(FILES, "descriptor", file);
    assert_eq!(fs::read(files.path("new")).unwrap(), b"hello world");
}

#[test]
fn files_are_streams_too() {
    let mut files = Files::new(Access::ReadWrite);
    let file = files.open("file", 0, READ | WRITE).unwrap();
    let guest = &mut files.guest;
    let stream: Result<u32, u32> =
        guest.call(FILES, "[method]descriptor.read-via-stream", (file, 3_u64));
    let stream = stream.unwrap();
    assert_eq!(guest.read(stream, 100).unwrap(), b"tent");
    assert_eq!(guest.read(stream, 100), Err(StreamError::Closed));
    guest.drop_handle(IO, "input-stream", stream);
    let stream: Result<u32, u32> = guest.call(FILES, "[method]descriptor.append-via-stream", file);
    guest.write(stream.unwrap(), b" and more").unwrap();
    let stream: Result<u32, u32> =
        guest.call(FILES, "[method]descriptor.write-via-stream", (file, 0_u64));
    guest.write(stream.unwrap(), b"CON").unwrap();
    assert_eq!(fs::read(files.path("file")).unwrap(), b"CONtent and more");
}

#[test]
fn directories_are_listed() {
    let mut files = Files::new(Access::ReadOnly);
    let guest = &mut files.guest;
    let stream: Result<u32, u32> =
        guest.call(FILES, "[method]descriptor.read-directory", files.root);
    let stream = stream.unwrap();
    let mut found = Vec::new();
    loop {
        let name = "[method]directory-entry-stream.read-directory-entry";
        let entry: Result<Option<(u32, String)>, u32> = guest.call(FILES, name, stream);
        let Some(entry) = entry.unwrap() else { break };
        found.push(entry);
    }
    guest.drop_handle(FILES, "directory-entry-stream", stream);
    found.sort();
    let expected = [(A_DIRECTORY, "sub"), (A_SYMBOLIC_LINK, "link"), (A_REGULAR_FILE, "file")];
    assert_eq!(found, expected.map(|(kind, name)| (kind, name.to_owned())));
}

#[test]
fn files_are_looked_at() {
    let mut files = Files::new(Access::ReadOnly);
    let args = (files.root, 0_u8, "link");
    let stat: Result<Stat, u32> = files.guest.call(FILES, "[method]descriptor.stat-at", args);
    assert_eq!(stat.unwrap().kind, A_SYMBOLIC_LINK);
    let args = (files.root, FOLLOW, "link");
    let stat: Result<Stat, u32> = files.guest.call(FILES, "[method]descriptor.stat-at", args);
    let stat = stat.unwrap();
    assert_eq!((stat.kind, stat.size), (A_REGULAR_FILE, 7));
    let modified = fs::metadata(files.path("file")).unwrap().modified().unwrap();
    let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(stat.modified, Some((modified.as_secs(), modified.subsec_nanos())));
    assert_eq!(files.of_path::<String>("readlink-at", "link"), Ok("file".to_owned()));
}

#[test]
fn directories_and_names_are_changed() {
    let mut files = Files::new(Access::ReadWrite);
    files.of_path::<()>("create-directory-at", "made").unwrap();
    assert_eq!(files.of_path::<()>("create-directory-at", "made"), Err(EXIST));
    let args = (files.root, "file", files.root, "made/moved");
    let renamed: Result<(), u32> = files.guest.call(FILES, "[method]descriptor.rename-at", args);
    renamed.unwrap();
    assert_eq!(fs::read(files.path("made/moved")).unwrap(), b"content");
    let args = (files.root, "made/moved", "points");
    let linked: Result<(), u32> = files.guest.call(FILES, "[method]descriptor.symlink-at", args);
    linked.unwrap();
    files.of_path::<()>("unlink-file-at", "made/moved").unwrap();
    files.of_path::<()>("remove-directory-at", "made").unwrap();
    assert!(!files.path("made").as_ref().exists());
}

#[test]
fn a_directory_that_is_read_only_is_not_written() {
    let mut files = Files::new(Access::ReadOnly);
    for path in ["new", "file"] {
        let error = files.open(path, CREATE, WRITE).unwrap_err();
        assert!(READ_ONLY_OR_PERMITTED.contains(&error), "{path}: {error}");
    }
    let file = files.open("file", 0, READ).unwrap();
    let written: Result<u64, u32> =
        files.guest.call(FILES, "[method]descriptor.write", (file, &b"x"[..], 0_u64));
    assert!(written.is_err());
    for name in ["create-directory-at", "unlink-file-at", "remove-directory-at"] {
        assert_eq!(files.of_path::<()>(name, "sub"), Err(NOT_PERMITTED), "{name}");
    }
    assert_eq!(fs::read(files.path("file")).unwrap(), b"content");
    assert!(files.path("sub").as_ref().exists());
}

#[test]
fn nothing_outside_of_a_granted_directory_is_reached() {
    let mut files = Files::new(Access::ReadWrite);
    symlink("/etc/passwd", files.path("out")).unwrap();
    for path in ["../x", "/etc/passwd", "out", "sub/../../x"] {
        let error = files.open(path, 0, READ).unwrap_err();
        assert_eq!(error, NOT_PERMITTED, "{path}");
    }
    assert_eq!(files.open("none", 0, READ), Err(NO_ENTRY));
    assert_eq!(files.open("file", CREATE | EXCLUSIVE, WRITE), Err(EXIST));
}

#[test]
fn what_is_not_granted_is_told_by_its_paths() {
    let (config, told) = heard(WasiConfig::new());
    let mut files = Files::with(Access::ReadOnly, config);
    let (root, file) = (files.root, files.open("file", 0, READ).unwrap());
    let is_told = |expected: &[&str]| {
        for path in expected {
            assert_eq!(told.try_recv().unwrap(), (Capability::File, (*path).to_owned(), None));
        }
        assert!(told.try_recv().is_err(), "each once");
    };
    is_told(&[]);
    // Changes.
    files.refused("open-at", (root, FOLLOW, "sub/new", CREATE, WRITE));
    files.refused("create-directory-at", (root, "new"));
    files.refused("remove-directory-at", (root, "sub"));
    files.refused("unlink-file-at", (root, "file"));
    files.refused("set-times-at", (root, FOLLOW, "file", NOW, NOW));
    is_told(&["sub/new", "new", "sub", "file", "file"]);
    files.refused("rename-at", (root, "file", root, "moved"));
    files.refused("symlink-at", (root, "file", "points"));
    files.refused("link-at", (root, 0_u8, "file", root, "also"));
    is_told(&["file, moved", "file, points", "file, also"]);
    // What is open has no path.
    files.refused("write", (file, &b"x"[..], 0_u64));
    files.refused("write-via-stream", (file, 0_u64));
    files.refused("append-via-stream", file);
    files.refused("set-size", (file, 0_u64));
    files.refused("set-times", (root, NOW, NOW));
    is_told(&["a descriptor"; 5]);
    // What is outside.
    files.refused("open-at", (root, FOLLOW, "../x", 0_u8, READ));
    files.refused("stat-at", (root, 0_u8, "../x"));
    files.refused("metadata-hash-at", (root, FOLLOW, "sub/../../x"));
    files.refused("readlink-at", (root, "../x"));
    is_told(&["../x", "../x", "sub/../../x", "../x"]);
}

#[test]
fn a_way_out_is_told_also_where_everything_is_granted() {
    let (config, told) = heard(WasiConfig::new());
    let mut files = Files::with(Access::ReadWrite, config);
    let root = files.root;
    files.refused("rename-at", (root, "file", root, "../moved"));
    files.refused("symlink-at", (root, "/etc/passwd", "mine"));
    let told: Vec<_> = told.try_iter().map(|(_, target, _)| target).collect();
    assert_eq!(told, ["file, ../moved", "/etc/passwd, mine"]);
}

#[test]
fn what_fails_for_another_reason_is_not_told() {
    let (config, told) = heard(WasiConfig::new());
    let mut files = Files::with(Access::ReadWrite, config);
    let (root, file) = (files.root, files.open("file", 0, READ).unwrap());
    fs::write(files.path("sub/inner"), "").unwrap();
    assert_eq!(files.open("none", 0, READ), Err(NO_ENTRY));
    assert_eq!(files.open("file", CREATE | EXCLUSIVE, WRITE), Err(EXIST));
    assert_eq!(files.failure("create-directory-at", (root, "sub")), EXIST);
    assert_eq!(files.failure("remove-directory-at", (root, "sub")), NOT_EMPTY);
    assert_eq!(files.failure("unlink-file-at", (root, "none")), NO_ENTRY);
    assert_eq!(files.failure("rename-at", (root, "none", root, "moved")), NO_ENTRY);
    assert_eq!(files.failure("stat-at", (root, FOLLOW, "none")), NO_ENTRY);
    assert_eq!(files.failure("readlink-at", (root, "file")), INVALID);
    // It was opened to be read, by a guest that may write it.
    assert_eq!(files.failure("write", (file, &b"x"[..], 0_u64)), BAD_DESCRIPTOR);
    assert!(told.try_recv().is_err(), "nothing was denied");
}

#[test]
fn named_pipes_and_devices_are_not_opened() {
    let mut files = Files::new(Access::ReadWrite);
    let pipe = files.path("pipe");
    assert!(Command::new("mkfifo").arg(pipe.as_ref()).status().unwrap().success());
    // The calling thread would wait here for ever.
    assert_eq!(files.open("pipe", 0, READ), Err(UNSUPPORTED));
    symlink("pipe", files.path("to-pipe")).unwrap();
    assert_eq!(files.open("to-pipe", 0, READ), Err(UNSUPPORTED));
    assert_eq!(files.open(&"x".repeat(5000), 0, READ), Err(NAME_TOO_LONG));
}

#[test]
fn there_is_a_limit_of_open_files() {
    let mut files = Files::with(Access::ReadWrite, WasiConfig::new().max_open_files(2));
    let (a, _) = (files.open("file", 0, READ).unwrap(), files.open("file", 0, READ).unwrap());
    assert_eq!(files.open("file", 0, READ), Err(INSUFFICIENT_MEMORY));
    files.guest.drop_handle(FILES, "descriptor", a);
    files.open("sub", DIRECTORY, READ | MUTATE_DIRECTORY).unwrap();
    assert_eq!(files.open("file", 0, READ), Err(INSUFFICIENT_MEMORY));
}

#[test]
fn files_that_can_be_cancelled_are_read_the_same() {
    let config = WasiConfig::new().cancellable_files(true);
    let mut files = Files::with(Access::ReadWrite, config);
    let file = files.open("file", 0, READ).unwrap();
    let read: Result<(Vec<u8>, bool), u32> =
        files.guest.call(FILES, "[method]descriptor.read", (file, 100_u64, 0_u64));
    assert_eq!(read.unwrap().0, b"content");
}
