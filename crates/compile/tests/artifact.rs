//! Artifacts: round trips, and every reason to refuse one.

use crate::support::{
    SMALL, SMALL_COMPONENT, compiler, compiler_for, component_info, features_here, names,
};
use sandgrain_compile::{Artifact, ENGINE_VERSION, Error, FORMAT_VERSION, Refusal, engine_config};
use wasmtime::{Engine, Instance, Module, Store};

fn small() -> Artifact {
    compiler().compile(SMALL.as_bytes()).expect("compiles")
}

fn refusal(bytes: Vec<u8>) -> Refusal {
    match compiler().load(bytes) {
        Err(Error::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Makes the digest at the end match what precedes it again.
fn seal(bytes: &mut [u8]) {
    let content = bytes.len() - 32;
    let digest = blake3::hash(&bytes[..content]);
    bytes[content..].copy_from_slice(digest.as_bytes());
}

fn position(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("contained")
}

#[test]
fn round_trip_keeps_everything() {
    let written = small();
    let read = compiler().load(written.to_bytes()).expect("loads");
    assert_eq!(read.as_bytes(), written.as_bytes());
    assert_eq!(read.code(), written.code());
    assert_eq!(read.text(), written.text());
    assert_eq!(read.info(), written.info());
    assert_eq!(read.digest(), written.digest());
    assert_eq!(read.cpu_features(), ["sse3", "ssse3", "sse41", "sse42"]);
    assert_eq!(read.compile_time(), None);
    assert_eq!(read.module_info().expect("a module").name.as_deref(), Some("small"));
}

#[test]
fn code_is_page_aligned_everywhere() {
    let data = "(module (memory 1) (data (i32.const 0) \"x\"))";
    for text in [SMALL, "(module)", data, SMALL_COMPONENT, "(component)"] {
        let artifact = compiler().compile(text.as_bytes()).expect("compiles");
        let offset = artifact.code().as_ptr() as usize - artifact.as_bytes().as_ptr() as usize;
        assert_eq!(offset % 4096, 0);
        let range = artifact.text();
        assert_eq!((range.start % 4096, range.end % 4096), (0, 0), "{text}");
        assert!(range.end <= artifact.code().len());
        // A module without functions can have code too, which fills its memory.
        let none = text == "(module)" || text == "(component)";
        assert_eq!(range.is_empty(), none, "{text}: {range:?}");
    }
}

#[test]
fn a_module_is_no_component_and_a_component_no_module() {
    let component = compiler().compile(SMALL_COMPONENT.as_bytes()).expect("compiles");
    assert!(matches!(component.module_info(), Err(Error::IsComponent)));
    assert!(component.component_info().is_ok());
    assert!(small().module_info().is_ok());
    assert!(matches!(small().component_info(), Err(Error::IsModule)));
    assert_eq!(component_info(SMALL_COMPONENT).memories.len(), 1);
}

/// What the header says it is, the code is.
#[test]
fn a_component_s_code_under_a_module_s_header_is_refused() {
    for text in [SMALL, SMALL_COMPONENT] {
        let original = compiler().compile(text.as_bytes()).expect("compiles");
        let mut bytes = original.to_bytes();
        let code = bytes.len() - 32 - original.code().len();
        // The flags of the ELF file: of a module, of a component, or of neither or both.
        let flags = bytes[code + 0x30];
        for other in [0, 1, 2, 3] {
            bytes[code + 0x30] = flags & !3 | other;
            seal(&mut bytes);
            assert_eq!(compiler().load(bytes.clone()).is_ok(), other == flags & 3, "{other}");
        }
    }
}

#[test]
fn the_same_module_gives_the_same_bytes() {
    assert_eq!(small().as_bytes(), small().as_bytes());
}

#[test]
fn every_flipped_bit_is_refused() {
    let compiler = compiler();
    let mut bytes = small().to_bytes();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let reason = match compiler.load(bytes.clone()) {
            Err(Error::Refused { reason }) => reason,
            other => panic!("bit {bit}: {other:?}"),
        };
        let fits = match bit / 8 {
            0..8 => reason == Refusal::NotAnArtifact,
            8..12 => matches!(reason, Refusal::FormatVersion { .. }),
            16..24 => matches!(reason, Refusal::Truncated { .. } | Refusal::TrailingBytes { .. }),
            _ => reason == Refusal::Damaged,
        };
        assert!(fits, "bit {bit}: {reason}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    compiler.load(bytes).expect("all flips undone");
}

#[test]
fn every_truncation_is_refused() {
    let compiler = compiler();
    let bytes = small().to_bytes();
    for len in 0..bytes.len() {
        let reason = match compiler.load(bytes[..len].to_vec()) {
            Err(Error::Refused { reason }) => reason,
            other => panic!("{len}: {other:?}"),
        };
        let fits = match (len, reason) {
            (0..8, reason) => reason == Refusal::NotAnArtifact,
            (_, Refusal::Truncated { actual, expected }) => {
                actual == len as u64 && expected > actual
            }
            _ => false,
        };
        assert!(fits, "cut at {len}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    let (expected, actual) = (bytes.len() as u64, longer.len() as u64);
    assert_eq!(refusal(longer), Refusal::TrailingBytes { expected, actual });
}

#[test]
fn other_data_is_refused() {
    assert_eq!(refusal(Vec::new()), Refusal::NotAnArtifact);
    assert_eq!(refusal(SMALL.as_bytes().to_vec()), Refusal::NotAnArtifact);
    assert_eq!(refusal(small().code().to_vec()), Refusal::NotAnArtifact);
}

#[test]
fn an_artifact_of_another_format_version_is_refused() {
    let mut bytes = small().to_bytes();
    bytes[8] += 1;
    seal(&mut bytes);
    let expected = FORMAT_VERSION;
    assert_eq!(refusal(bytes), Refusal::FormatVersion { found: expected + 1, expected });
}

#[test]
fn an_artifact_of_another_engine_version_is_refused() {
    let mut bytes = small().to_bytes();
    let at = position(&bytes, ENGINE_VERSION.as_bytes());
    bytes[at + ENGINE_VERSION.len() - 1] = b'7';
    seal(&mut bytes);
    match refusal(bytes) {
        Refusal::EngineVersion { found, expected } => {
            assert_eq!((found.as_str(), expected.as_str()), ("wasmtime 48.0.7", ENGINE_VERSION));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn no_text_of_an_artifact_reaches_a_terminal_as_it_is() {
    for (text, evil) in
        [(ENGINE_VERSION.as_bytes(), &b"\x1b[2Jwas"[..]), (b"ssse3", b"\x1b[2J\x07")]
    {
        let mut bytes = small().to_bytes();
        let at = position(&bytes, text);
        let len = evil.len().min(text.len());
        bytes[at..at + len].copy_from_slice(&evil[..len]);
        seal(&mut bytes);
        let words = refusal(bytes).to_string();
        assert!(words.contains("\\u{1b}[2J") && !words.contains('\x1b'), "{words:?}");
    }
}

#[test]
fn an_artifact_of_other_settings_is_refused() {
    let mut bytes = small().to_bytes();
    let at = position(&bytes, ENGINE_VERSION.as_bytes()) + ENGINE_VERSION.len();
    bytes[at] ^= 1;
    seal(&mut bytes);
    assert_eq!(refusal(bytes), Refusal::Settings);
}

#[test]
fn an_artifact_for_another_cpu_is_refused() {
    let more = compiler_for(&["avx2", "sse3", "avx", "ssse3", "sse41", "sse42", "made-up", "sse3"]);
    assert_eq!(more.cpu_features(), ["sse3", "ssse3", "sse41", "sse42", "avx", "avx2"]);
    let artifact = more.compile(SMALL.as_bytes()).expect("compiles");
    assert_eq!(
        refusal(artifact.to_bytes()),
        Refusal::CpuFeatures { missing: names(&["avx", "avx2"]) }
    );
    // A CPU that can do more runs code for one that can do less.
    more.load(small().to_bytes()).expect("loads");
}

#[test]
fn a_well_sealed_but_wrong_artifact_is_refused() {
    let original = small();
    let code = original.code().as_ptr() as usize - original.as_bytes().as_ptr() as usize;
    let feature = position(original.as_bytes(), b"ssse3");
    let change = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = original.to_bytes();
        edit(&mut bytes);
        seal(&mut bytes);
        match refusal(bytes) {
            Refusal::Malformed { .. } => {}
            other => panic!("{other}"),
        }
    };
    // The header's length: nothing, too little, and beyond the end.
    for len in [0_u32, 1, 40, 5000, u32::MAX] {
        change(&|bytes| bytes[12..16].copy_from_slice(&len.to_le_bytes()));
    }
    // The length of a string, and bytes that are no text.
    change(&|bytes| bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes()));
    change(&|bytes| bytes[feature] = 0xff);
    // The code: its kind, its section table, its size.
    for at in [0, 4, 7, 0x30] {
        change(&|bytes| bytes[code + at] ^= 1);
    }
    for at in [0x28, 0x2d, 0x3a, 0x3d, 0x3e] {
        change(&|bytes| bytes[code + at] = 0xff);
    }
    change(&|bytes| {
        bytes.drain(code + 4096..code + 4097);
        let total = bytes.len() as u64;
        bytes[16..24].copy_from_slice(&total.to_le_bytes());
    });
}

/// Whatever bytes a well-sealed file has in its header and the code's headers, there is an answer.
#[test]
fn sealed_nonsense_never_panics() {
    let compiler = compiler();
    let original = small();
    let code = original.code().as_ptr() as usize - original.as_bytes().as_ptr() as usize;
    let table = u64::from_le_bytes(original.code()[0x28..0x30].try_into().expect("8 bytes"));
    let table = code + table as usize;
    let places = (12..400).chain(code..code + 64).chain(table..original.as_bytes().len() - 32);
    for at in places {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut bytes = original.to_bytes();
            bytes[at] = value;
            seal(&mut bytes);
            if let Ok(artifact) = compiler.load(bytes) {
                assert!(artifact.text().end <= artifact.code().len());
            }
        }
    }
}

#[test]
fn an_engine_with_the_same_settings_runs_the_code() {
    let engine = Engine::new(&engine_config(&features_here())).expect("engine");
    let artifact = small();
    // SAFETY: the compiler has just made this code.
    let loaded = unsafe { Module::deserialize(&engine, artifact.code()) }.expect("loads");
    let direct = Module::new(&engine, wat::parse_str(SMALL).expect("text")).expect("compiles");
    for module in [loaded, direct] {
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("instance");
        let add = instance.get_typed_func::<(i32, i32), i32>(&mut store, "add").expect("add");
        assert_eq!(add.call(&mut store, (40, 2)).expect("call"), 42);
    }
}

#[test]
fn the_named_engine_version_is_the_one_that_is_built() {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
    let lock = std::fs::read_to_string(lock).expect("Cargo.lock");
    let version = ENGINE_VERSION.strip_prefix("wasmtime ").expect("name");
    assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{version}\"\n")));
}
