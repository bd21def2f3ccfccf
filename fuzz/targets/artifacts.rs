//! Reading artifacts and the cache's entries: files that pass for whole, since their digest is right,
//! with anything in them. What is refused is refused with a reason; of what is taken, all ranges are
//! within the file, and it is taken again.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use sandgrain_compile::{Artifact, Cache, CacheOutcome, Compiler, FORMAT_VERSION, Settings};
use sandgrain_fuzz::write_seeds;
use std::path::PathBuf;
use std::sync::LazyLock;

const MODULE: &[u8] = br#"(module (import "a" "b" (func (param i32)))
    (memory (export "memory") 1) (func (export "run") (call 0 (i32.const 1))))"#;
/// Bytes before the header, and those of the settings' fingerprint.
const PREFIX: usize = 24;
const FINGERPRINT: usize = 32;

struct Loader {
    compiler: Compiler,
    /// The start of every header: engine version and settings.
    start: Vec<u8>,
    /// A cache, and the file in it where the module's artifact is.
    cache: Cache,
    entry: PathBuf,
    digest: [u8; 32],
    _directory: tempfile::TempDir,
}

static LOADER: LazyLock<Loader> = LazyLock::new(|| {
    let compiler = Compiler::new(&Settings::default()).expect("a compiler");
    let directory = tempfile::tempdir().expect("a directory");
    let cache = Cache::at(directory.path());
    let (artifact, _) = compiler.compile_cached(MODULE, &cache).expect("a module");
    let file = std::fs::read_dir(directory.path()).expect("the cache").next().expect("an entry");
    let entry = file.expect("an entry").path();
    let engine = u32::from_le_bytes(artifact.as_bytes()[PREFIX..][..4].try_into().expect("four"));
    let start = artifact.as_bytes()[PREFIX..][..4 + engine as usize + FINGERPRINT].to_vec();
    let digest = artifact.digest();
    Loader { compiler, start, cache, entry, digest, _directory: directory }
});

/// A file whose digest and length are right, made of the rest of a header, and code.
fn file(loader: &Loader, header: &[u8], code: &[u8], honest: bool) -> Vec<u8> {
    let mut head = [&loader.start, header].concat();
    if let Some(len) = head.last_chunk_mut::<8>()
        && honest
    {
        *len = (code.len() as u64).to_le_bytes();
    }
    let start = (PREFIX + head.len()).next_multiple_of(4096);
    let mut bytes = b"SGM\0\r\n\x1a\n".to_vec();
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(((start + code.len() + 32) as u64).to_le_bytes());
    bytes.extend(&head);
    bytes.resize(start, 0);
    bytes.extend(code);
    let digest = blake3::hash(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

fn check(artifact: &Artifact) {
    let (code, text) = (artifact.code(), artifact.text());
    assert!(text.start <= text.end && text.end <= code.len(), "{artifact:?}");
    assert!(text.start.is_multiple_of(4096) && text.end.is_multiple_of(4096), "{artifact:?}");
    let again = LOADER.compiler.load(artifact.to_bytes()).expect("what was taken before");
    assert_eq!((again.info(), again.text()), (artifact.info(), text));
}

/// The same file where the cache looks: it is used only if it says that it is of this module.
fn check_cache(loader: &Loader, bytes: &[u8], loaded: Option<&Artifact>) {
    std::fs::write(&loader.entry, bytes).expect("the cache");
    let (artifact, outcome) =
        loader.compiler.compile_cached(MODULE, &loader.cache).expect("a module");
    let ours = loaded
        .is_some_and(|loaded| loaded.digest() == loader.digest && loaded.cpu_features().is_empty());
    let expected = if ours { CacheOutcome::Hit } else { CacheOutcome::Stored };
    assert_eq!(outcome, expected);
    assert_eq!(artifact.digest(), loader.digest);
}

/// Real artifacts, taken apart.
fn seeds() -> Vec<Vec<u8>> {
    let modules: [&[u8]; 3] = [
        MODULE,
        b"(module)",
        br#"(module (global (export "g") i32 (i32.const 1))
        (table (export "t") 1 funcref) (func (export "f") (result f64) (f64.const 1)))"#,
    ];
    let mut seeds = Vec::new();
    for module in modules {
        let artifact = LOADER.compiler.compile(module).expect("a module");
        let bytes = artifact.as_bytes();
        let len = u32::from_le_bytes(bytes[12..16].try_into().expect("four")) as usize;
        let header = &bytes[PREFIX + LOADER.start.len()..PREFIX + len];
        let [low, high] = (header.len() as u16).to_le_bytes();
        for flags in [1, 2, 63] {
            seeds.push([&[flags, low, high], header, artifact.code()].concat());
        }
        seeds.push([&[0, 0, 0], bytes].concat());
    }
    seeds
}

fuzz_target!(init: write_seeds(seeds), |data: &[u8]| -> Corpus {
    // How to put it together, and how long the header is.
    let Some(([flags, low, high], rest)) = data.split_first_chunk() else { return Corpus::Reject };
    let len = usize::from(u16::from_le_bytes([*low, *high]));
    let Some((header, code)) = rest.split_at_checked(len) else { return Corpus::Reject };
    let loader = &*LOADER;
    let bytes = match flags % 4 {
        0 => rest.to_vec(),
        1 => file(loader, header, code, false),
        _ => file(loader, header, code, true),
    };
    let loaded = loader.compiler.load(bytes.clone());
    match &loaded {
        Ok(artifact) => check(artifact),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
    // Seldom: it compiles a module, and waits for a disk.
    if flags % 64 == 63 {
        check_cache(loader, &bytes, loaded.as_ref().ok());
    }
    Corpus::Keep
});
