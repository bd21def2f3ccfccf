//! Directories that are granted, and ways out of them.

use crate::support::{module, on_both};
use sandgrain::wasi::{Access, WasiConfig};
use sandgrain::{Error, Sandbox};
use std::fs;
use std::os::unix::fs::symlink;

const PROGRAM: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_symlink"
        (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_unlink_file"
        (func $unlink (param i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    ;; The path is at 1024. Follows links; the rights to read and write.
    (func (export "open") (param $fd i32) (param $len i32) (param $flags i32) (result i32)
        (call $open (local.get $fd) (i32.const 1) (i32.const 1024) (local.get $len)
            (local.get $flags) (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 0)))
    (func (export "read") (param $fd i32) (param $len i32) (result i32)
        (call $open (local.get $fd) (i32.const 1) (i32.const 1024) (local.get $len)
            (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 0)))
    (func (export "unlink") (param $len i32) (result i32)
        (call $unlink (i32.const 3) (i32.const 1024) (local.get $len)))
    ;; A link named by the path, to what is at 512.
    (func (export "symlink") (param $target i32) (param $len i32) (result i32)
        (call $symlink (i32.const 512) (local.get $target) (i32.const 3)
            (i32.const 1024) (local.get $len))))"#;

struct Guest(Sandbox);

impl Guest {
    fn put(&mut self, address: u64, text: &str) -> u32 {
        let main = self.0.main();
        self.0.write_memory(main, "memory", address, text.as_bytes()).expect("memory");
        text.len() as u32
    }

    fn open(&mut self, path: &str, flags: u32) -> u32 {
        let len = self.put(1024, path);
        self.0.call("open", (3_u32, len, flags)).expect("a call")
    }

    fn read(&mut self, path: &str) -> u32 {
        let len = self.put(1024, path);
        self.0.call("read", (3_u32, len)).expect("a call")
    }

    fn unlink(&mut self, path: &str) -> u32 {
        let len = self.put(1024, path);
        self.0.call("unlink", len).expect("a call")
    }
}

/// Runs a test with a directory `inside` that is granted, next to a file `secret` that is not.
fn with_directory(access: Access, test: impl Fn(&std::path::Path, &mut Guest)) {
    on_both(|engine| {
        let root = tempfile::tempdir().expect("a directory");
        let inside = root.path().join("inside");
        fs::create_dir_all(inside.join("deeper")).expect("a directory");
        fs::write(root.path().join("secret"), "secret").expect("a file");
        fs::write(inside.join("file"), "content").expect("a file");
        symlink("../secret", inside.join("link")).expect("a link");
        symlink(root.path().join("secret"), inside.join("absolute")).expect("a link");
        symlink("..", inside.join("up")).expect("a link");
        symlink("link", inside.join("twice")).expect("a link");
        symlink("file", inside.join("honest")).expect("a link");
        symlink("loop", inside.join("loop")).expect("a link");
        let sandbox = Sandbox::builder(&module(engine, PROGRAM))
            .wasi(WasiConfig::new().preopen(&inside, "/data", access))
            .build()
            .expect("a sandbox");
        test(root.path(), &mut Guest(sandbox));
    });
}

/// `path_open`'s flag to create a file.
const CREATE: u32 = 1;

#[test]
fn what_is_inside_can_be_opened() {
    with_directory(Access::ReadWrite, |root, guest| {
        for path in ["file", "./file", "deeper/../file", "honest"] {
            assert_eq!(guest.open(path, 0), 0, "{path}");
        }
        assert_eq!(guest.open("new", CREATE), 0);
        assert!(root.join("inside/new").exists());
    });
}

#[test]
fn no_path_leads_out() {
    with_directory(Access::ReadWrite, |root, guest| {
        for path in [
            "../secret",
            "./../secret",
            "deeper/../../secret",
            "link",
            "absolute",
            "up/secret",
            "twice",
            "deeper/../link",
            "/etc/passwd",
            "//etc/passwd",
            "..",
            "up",
            "loop",
        ] {
            assert_ne!(guest.read(path), 0, "{path}");
            assert_ne!(guest.open(path, 0), 0, "{path}");
        }
        for path in ["../new", "up/new", "deeper/../../new", "/tmp/sandgrain-new"] {
            assert_ne!(guest.open(path, CREATE), 0, "{path}");
        }
        for path in ["../secret", "up/secret"] {
            assert_ne!(guest.unlink(path), 0, "{path}");
        }
        assert_eq!(fs::read_to_string(root.join("secret")).expect("a file"), "secret");
        assert!(!root.join("new").exists());
    });
}

#[test]
fn a_link_that_the_guest_makes_does_not_lead_out_either() {
    with_directory(Access::ReadWrite, |root, guest| {
        for (n, target) in ["../secret", "..", "/etc/passwd", "link"].iter().enumerate() {
            let target_len = guest.put(512, target);
            let path = format!("made{n}");
            let len = guest.put(1024, &path);
            // It may be refused at once, or be of no use.
            let _: u32 = guest.0.call("symlink", (target_len, len)).expect("a call");
            assert_ne!(guest.read(&path), 0, "{target}");
            assert_ne!(guest.read(&format!("{path}/secret")), 0, "{target}");
        }
        assert!(root.join("secret").exists());
    });
}

#[test]
fn a_read_only_directory_cannot_be_changed() {
    with_directory(Access::ReadOnly, |root, guest| {
        assert_eq!(guest.read("file"), 0);
        assert_ne!(guest.open("new", CREATE), 0);
        assert_ne!(guest.unlink("file"), 0);
        assert!(root.join("inside/file").exists() && !root.join("inside/new").exists());
    });
}

#[test]
fn a_directory_that_is_none_is_found_when_the_sandbox_is_made() {
    on_both(|engine| {
        for path in ["/nonexistent/directory", "/dev/null"] {
            let config = WasiConfig::new().preopen(path, "/data", Access::ReadOnly);
            let result = Sandbox::builder(&module(engine, PROGRAM)).wasi(config).build();
            match result {
                Err(error @ Error::Grant(_)) => {
                    assert!(error.to_string().contains(path), "{error}")
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn without_a_grant_there_is_no_directory() {
    on_both(|engine| {
        let sandbox = Sandbox::builder(&module(engine, PROGRAM))
            .wasi(WasiConfig::new())
            .build()
            .expect("a sandbox");
        let mut guest = Guest(sandbox);
        for path in ["file", "/", ".", "/etc/passwd"] {
            assert_ne!(guest.read(path), 0, "{path}");
        }
    });
}
