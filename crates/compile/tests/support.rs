//! What several test files need.

use sandgrain_abi::component::ComponentInfo;
use sandgrain_compile::{Compiler, Error, Settings};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A small module with a function, a memory and data.
pub const SMALL: &str = r#"(module $small
  (memory (export "memory") 1)
  (data (i32.const 8) "sandgrain")
  (func (export "add") (param i32 i32) (result i32)
    local.get 0
    local.get 1
    i32.add))"#;

/// A small component with a function, a memory and data.
pub const SMALL_COMPONENT: &str = r#"(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 8) "sandgrain")
    (func (export "add") (param i32 i32) (result i32)
      local.get 0
      local.get 1
      i32.add))
  (core instance $i (instantiate $m))
  (func (export "add") (param "a" u32) (param "b" u32) (result u32)
    (canon lift (core func $i "add"))))"#;

pub fn names(features: &[&str]) -> Vec<String> {
    features.iter().map(|name| (*name).to_owned()).collect()
}

pub fn compiler_for(features: &[&str]) -> Compiler {
    Compiler::new(&Settings { cpu_features: names(features) }).expect("compiler")
}

pub fn compiler() -> Compiler {
    compiler_for(&["sse3", "ssse3", "sse41", "sse42"])
}

/// CPU features that code may use on this machine.
pub fn features_here() -> Vec<String> {
    let newer = std::is_x86_feature_detected!("sse4.2");
    names(if newer { &["sse3", "ssse3", "sse41", "sse42"] } else { &[] })
}

/// What the host learns of a component, which it must also learn of the artifact when that is read again.
pub fn component_info(text: &str) -> ComponentInfo {
    let artifact = compiler().compile(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(&compiler().check(text.as_bytes()).expect("valid"), artifact.info());
    let read = compiler().load(artifact.to_bytes()).expect("loads");
    assert_eq!(read.info(), artifact.info());
    assert!(matches!(artifact.module_info(), Err(Error::IsComponent)));
    artifact.component_info().expect("a component").clone()
}

/// A directory that lasts as long as the value.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sandgrain-compile-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("temporary directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The names of the files in a directory inside.
    pub fn list(&self, dir: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join(dir)).expect("directory");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("entry").file_name().into_string().expect("UTF-8")
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
