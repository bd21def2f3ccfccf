//! Artifacts with random changes: they are refused, or they are what they were.

use crate::support::{SMALL, SMALL_COMPONENT, compiler};
use proptest::prelude::*;
use sandgrain_compile::{Artifact, Compiler, Error};
use std::sync::LazyLock;

static COMPILER: LazyLock<Compiler> = LazyLock::new(compiler);

/// A module and a component, of which parts can be exchanged.
static ARTIFACTS: LazyLock<[Artifact; 2]> = LazyLock::new(|| {
    [SMALL, SMALL_COMPONENT].map(|text| COMPILER.compile(text.as_bytes()).expect("compiles"))
});

/// Bytes before the header, and those of the digest at the end.
const PREFIX: usize = 24;
const DIGEST: usize = 32;
/// Bytes of a section's header, and of the code's own.
const SECTION: usize = 64;

/// A change; positions are taken modulo the length.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Copy { from: usize, to: usize, len: usize },
    FromOther(usize, usize),
}

impl Change {
    fn apply(&self, of: usize, bytes: &mut Vec<u8>) {
        let size = bytes.len();
        let within = |at: usize, len: usize| {
            let at = at % size;
            at..(at + len).min(size)
        };
        match self {
            Self::Set(at, new) => {
                let range = within(*at, new.len());
                let len = range.len();
                bytes[range].copy_from_slice(&new[..len]);
            }
            Self::Insert(at, new) => {
                bytes.splice(at % size..at % size, new.iter().copied());
            }
            Self::Remove(at, len) => {
                // Something is left to change.
                let range = within(*at, (*len).min(size - 1));
                bytes.drain(range);
            }
            Self::Copy { from, to, len } => {
                let from = within(*from, *len);
                let len = from.len().min(size - to % size);
                bytes.copy_within(from.start..from.start + len, to % size);
            }
            Self::FromOther(at, len) => {
                let other = ARTIFACTS[1 - of].as_bytes();
                let range = within(*at, *len);
                let range = range.start.min(other.len())..range.end.min(other.len());
                bytes[range.clone()].copy_from_slice(&other[range]);
            }
        }
    }
}

/// Where code and the table of its sections begin, and how many sections there are.
fn places(of: usize) -> (usize, usize, usize) {
    let artifact = &ARTIFACTS[of];
    let elf = artifact.code();
    let code = artifact.as_bytes().len() - DIGEST - elf.len();
    let table = u64::from_le_bytes(elf[0x28..0x30].try_into().expect("8 bytes"));
    let count = u16::from_le_bytes(elf[0x3c..0x3e].try_into().expect("2 bytes"));
    (code, code + table as usize, count.into())
}

/// Where there is something to break: the fields, the header, the headers of the code and its sections.
fn position(of: usize) -> impl Strategy<Value = usize> {
    let size = ARTIFACTS[of].as_bytes().len();
    let (code, table, count) = places(of);
    prop_oneof![
        2 => 0..PREFIX,
        3 => PREFIX..400_usize,
        2 => code..code + SECTION,
        3 => table..table + count * SECTION,
        1 => 0..size,
    ]
}

/// A number with another value: the file's length, where the code's sections are, their ranges.
fn number(of: usize) -> impl Strategy<Value = Change> {
    let (code, table, count) = places(of);
    let section = (0..count, prop::sample::select(vec![0x18, 0x20]));
    let position = prop_oneof![
        1 => prop::sample::select(vec![16, code + 0x28]),
        5 => section.prop_map(move |(index, field)| table + index * SECTION + field),
    ];
    let value = prop_oneof![
        0..0x8000_u64,
        (0..8_u64).prop_map(|page| page * 4096),
        prop::sample::select(vec![1 << 32, 1 << 63, u64::MAX - 4095, u64::MAX]),
    ];
    (position, value).prop_map(|(at, value)| Change::Set(at, value.to_le_bytes().to_vec()))
}

fn change(of: usize) -> impl Strategy<Value = Change> {
    let position = || position(of);
    let byte = || prop_oneof![prop::sample::select(vec![0, 1, 0x7f, 0x80, 0xff]), any::<u8>()];
    let bytes = || prop::collection::vec(byte(), 1..9);
    let len = || prop_oneof![4 => 1..40_usize, 1 => 1..5000_usize, 1 => Just(4096)];
    prop_oneof![
        4 => (position(), bytes()).prop_map(|(at, bytes)| Change::Set(at, bytes)),
        4 => number(of),
        1 => (position(), bytes()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (position(), len()).prop_map(|(at, len)| Change::Remove(at, len)),
        1 => (position(), position(), len())
            .prop_map(|(from, to, len)| Change::Copy { from, to, len }),
        1 => (position(), len()).prop_map(|(at, len)| Change::FromOther(at, len)),
    ]
}

fn changed(of: usize, changes: &[Change]) -> Vec<u8> {
    let mut bytes = ARTIFACTS[of].to_bytes();
    for change in changes {
        change.apply(of, &mut bytes);
    }
    bytes
}

/// Which artifact, and what is changed in it.
fn changes() -> impl Strategy<Value = (usize, Vec<Change>)> {
    (0..2_usize).prop_flat_map(|of| (Just(of), prop::collection::vec(change(of), 1..4)))
}

/// Makes the digest right again, and the length too.
fn seal(bytes: &mut Vec<u8>, length: bool) {
    bytes.resize(bytes.len().max(PREFIX + DIGEST), 0);
    if length {
        let len = bytes.len() as u64;
        bytes[16..24].copy_from_slice(&len.to_le_bytes());
    }
    let content = bytes.len() - DIGEST;
    let digest = blake3::hash(&bytes[..content]);
    bytes[content..].copy_from_slice(digest.as_bytes());
}

/// An artifact, or nothing; whatever else is an error of the loader's.
fn load(bytes: Vec<u8>) -> Option<Artifact> {
    match COMPILER.load(bytes) {
        Ok(artifact) => Some(artifact),
        Err(Error::Refused { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_changed_artifact_is_refused((of, changes) in changes()) {
        let bytes = changed(of, &changes);
        let same = bytes == ARTIFACTS[of].as_bytes();
        prop_assert_eq!(load(bytes).is_some(), same);
    }

    /// Whoever changes it can also make the digest right: then what is taken makes sense.
    #[test]
    fn a_changed_artifact_with_the_right_digest_is_refused_or_whole(
        (of, changes) in changes(),
        length: bool,
    ) {
        let mut bytes = changed(of, &changes);
        seal(&mut bytes, length);
        let Some(artifact) = load(bytes.clone()) else { return Ok(()) };
        prop_assert_eq!(artifact.as_bytes(), &bytes);
        let (code, text) = (artifact.code(), artifact.text());
        let start = code.as_ptr() as usize - artifact.as_bytes().as_ptr() as usize;
        prop_assert!(start.is_multiple_of(4096));
        prop_assert_eq!(start + code.len() + DIGEST, bytes.len());
        // What it says of itself.
        let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let header = PREFIX + (field(8) >> 32) as usize;
        prop_assert_eq!(field(16), bytes.len() as u64);
        prop_assert_eq!(header.next_multiple_of(4096), start);
        prop_assert_eq!(field(header - 8), code.len() as u64);
        prop_assert!(text.start <= text.end && text.end <= code.len(), "{:?}", text);
        prop_assert!(text.start.is_multiple_of(4096) && text.end.is_multiple_of(4096), "{:?}", text);
        // What the host was told of it is no other thing the next time.
        let again = load(bytes).expect("what was taken before");
        prop_assert_eq!(again.info(), artifact.info());
        prop_assert_eq!((again.text(), again.digest()), (text, artifact.digest()));
    }
}
