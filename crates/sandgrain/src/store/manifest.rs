//! What a store keeps of a snapshot beside its memory: the format is docs/snapshot-format.md's.

use super::key::HostKey;
use super::refusal::Refusal;
use crate::engine::Engine;
use crate::error::Result;
use crate::machine::program;
use crate::snapshot::State;
use sandgrain_abi::text::printable;
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder};
use sandgrain_compile::ENGINE_VERSION;
use sandgrain_hypervisor::{Hypervisor, MemoryImage, Place};

pub(crate) const MAGIC: [u8; 8] = *b"SGS\0\r\n\x1a\n";
/// The version of the format. What its magic and version fields mean never changes.
pub(crate) const FORMAT_VERSION: u32 = 3;
/// Magic, format version, length of the whole.
pub(crate) const PREFIX: usize = 20;
/// Bytes of the authentication code at the end.
pub(crate) const CODE: usize = 32;

/// One file of a snapshot's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) digest: blake3::Hash,
    pub(crate) len: u64,
}

impl Encode for Part {
    fn encode(&self, out: &mut Encoder<'_>) {
        self.digest.as_bytes().encode(out);
        out.u64(self.len);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let digest = <[u8; blake3::OUT_LEN]>::decode(from)?;
        Ok(Self { digest: digest.into(), len: from.u64()? })
    }
}

/// What a snapshot was taken with. All of it must be the same where it is loaded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) library: String,
    pub(crate) engine: String,
    pub(crate) runtime: [u8; 32],
    pub(crate) hypervisor: String,
    pub(crate) cpu_features: Vec<String>,
}

impl Origin {
    pub(crate) fn here(hypervisor: &dyn Hypervisor) -> Self {
        Self {
            library: env!("CARGO_PKG_VERSION").to_owned(),
            engine: ENGINE_VERSION.to_owned(),
            runtime: *program::digest(),
            hypervisor: hypervisor.kind().name().to_owned(),
            cpu_features: hypervisor.cpu_features().names().into_iter().map(Into::into).collect(),
        }
    }

    /// Refuses another one's.
    fn check(&self, here: &Self) -> Result<(), Refusal> {
        // The file's own words, which are not to reach a terminal as they are.
        let pair = |found: &str, expected: &String| (printable(found), expected.clone());
        if self.library != here.library {
            let (found, expected) = pair(&self.library, &here.library);
            return Err(Refusal::LibraryVersion { found, expected });
        }
        if self.engine != here.engine {
            let (found, expected) = pair(&self.engine, &here.engine);
            return Err(Refusal::EngineVersion { found, expected });
        }
        if self.runtime != here.runtime {
            return Err(Refusal::Runtime);
        }
        if self.hypervisor != here.hypervisor {
            let (found, expected) = pair(&self.hypervisor, &here.hypervisor);
            return Err(Refusal::Hypervisor { found, expected });
        }
        let without = |all: &[String], known: &[String]| {
            let others = all.iter().filter(|name| !known.contains(name));
            others.map(|name| printable(name)).collect::<Vec<_>>()
        };
        let missing = without(&self.cpu_features, &here.cpu_features);
        let more = without(&here.cpu_features, &self.cpu_features);
        if missing.is_empty() && more.is_empty() {
            return Ok(());
        }
        Err(Refusal::CpuFeatures { missing, more })
    }
}

impl Encode for Origin {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.str(&self.library);
        out.str(&self.engine);
        self.runtime.encode(out);
        out.str(&self.hypervisor);
        out.list(&self.cpu_features);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            library: String::decode(from)?,
            engine: String::decode(from)?,
            runtime: Encode::decode(from)?,
            hypervisor: String::decode(from)?,
            cpu_features: from.list()?,
        })
    }
}

/// The bytes of a manifest.
pub(crate) fn write(
    key: &HostKey,
    name: &str,
    origin: &Origin,
    parts: &[Part],
    places: &[Place],
    state: &State,
) -> Vec<u8> {
    let mut content = Vec::new();
    let mut out = Encoder::new(&mut content);
    out.str(name);
    out.list(parts);
    origin.encode(&mut out);
    encode_places(&mut out, places);
    state.encode(&mut out);
    seal(key, &content)
}

/// What makes a manifest of its content.
pub(crate) fn seal(key: &HostKey, content: &[u8]) -> Vec<u8> {
    let id = key.id();
    let total = PREFIX + id.len() + content.len() + CODE;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(total as u64).to_le_bytes());
    bytes.extend_from_slice(&id);
    bytes.extend_from_slice(content);
    let code = key.code(&bytes);
    bytes.extend_from_slice(code.as_bytes());
    bytes
}

/// A manifest that this store has written.
pub(crate) struct Manifest<'a> {
    pub(crate) parts: Vec<Part>,
    /// All that is authenticated.
    content: &'a [u8],
    /// Where in it begins what only the library that wrote it can read.
    rest: usize,
}

impl<'a> Manifest<'a> {
    /// Checks the bytes of a manifest and reads what all versions of the library have in it.
    ///
    /// The order matters: everything behind the key's mark is read only once it is known to be what was
    /// written.
    pub(crate) fn read(bytes: &'a [u8], key: &HostKey, name: &str) -> Result<Self, Refusal> {
        let actual = bytes.len() as u64;
        if !bytes.starts_with(&MAGIC) {
            return Err(Refusal::NotASnapshot);
        }
        let mut prefix = Decoder::new(&bytes[MAGIC.len()..]);
        let least = |_| Refusal::Truncated { expected: (PREFIX + CODE) as u64, actual };
        let found = prefix.u32().map_err(least)?;
        if found != FORMAT_VERSION {
            return Err(Refusal::FormatVersion { found, expected: FORMAT_VERSION });
        }
        let expected = prefix.u64().map_err(least)?;
        if actual < expected {
            return Err(Refusal::Truncated { expected, actual });
        }
        if actual > expected {
            return Err(Refusal::TrailingBytes { expected, actual });
        }
        if <[u8; 16]>::decode(&mut prefix).map_err(least)? != key.id() {
            return Err(Refusal::OtherKey);
        }
        let (authentic, code) = bytes.split_last_chunk::<CODE>().ok_or(Refusal::Damaged)?;
        if key.code(authentic) != *code {
            return Err(Refusal::Damaged);
        }

        let content = authentic.get(PREFIX + key.id().len()..).ok_or(Refusal::Damaged)?;
        let mut from = Decoder::new(content);
        let malformed = |error| Refusal::malformed(&error);
        let found = from.str().map_err(malformed)?;
        if found != name {
            return Err(Refusal::OtherName { found: printable(found) });
        }
        let parts = from.list().map_err(malformed)?;
        let rest = content.len() - from.rest().len();
        Ok(Self { parts, content, rest })
    }

    /// Where the rest begins in what is authenticated.
    #[cfg(test)]
    pub(super) fn rest_at(&self) -> usize {
        self.rest
    }

    /// Reads the rest, which must fit the engine. `memory` makes an image of the parts, once that is known.
    pub(crate) fn state(
        &self,
        engine: &Engine,
        hypervisor: &dyn Hypervisor,
        memory: impl FnOnce(&[Part], &[Place]) -> Result<MemoryImage, Refusal>,
    ) -> Result<State, Refusal> {
        let malformed = |error| Refusal::malformed(&error);
        let mut from = Decoder::new(self.content.get(self.rest..).unwrap_or_default());
        Origin::decode(&mut from).map_err(malformed)?.check(&Origin::here(hypervisor))?;
        let places = decode_places(&mut from).map_err(malformed)?;
        let memory = memory(&self.parts, &places)?;
        State::decode(&mut from, engine, hypervisor.kind(), memory).map_err(malformed)
    }
}

/// Appends where pages of an image's files are.
pub(crate) fn encode_places(out: &mut Encoder<'_>, places: &[Place]) {
    out.len(places.len());
    for Place { address, len, layer, offset } in places {
        out.u64(*address);
        out.u64(*len);
        out.len(*layer);
        out.u64(*offset);
    }
}

/// Reads them. Whether they can be there is for the image to say.
pub(crate) fn decode_places(from: &mut Decoder<'_>) -> Result<Vec<Place>, DecodeError> {
    let count = from.u32()?;
    let mut places = Vec::new();
    // It ends at the end of the bytes at the latest.
    for _ in 0..count {
        let (address, len, layer) = (from.u64()?, from.u64()?, from.u32()? as usize);
        places.push(Place { address, len, layer, offset: from.u64()? });
    }
    Ok(places)
}
