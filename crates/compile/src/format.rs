//! The artifact's file format, described in the crate's documentation.

use crate::config::ENGINE_VERSION;
use crate::elf::{self, Content, PAGE};
use crate::error::Refusal;
use crate::identify::MAGIC;
use sandgrain_abi::text::printable;
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder, Info};
use std::ops::Range;

/// The version of the format. What its magic and version fields mean never changes.
pub const FORMAT_VERSION: u32 = 2;

/// Magic, format version, length of the header, length of the whole.
const PREFIX: usize = 24;
const DIGEST: usize = 32;

/// What an artifact says of its code.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    /// Always [`ENGINE_VERSION`] of the crate that wrote it.
    pub(crate) engine: String,
    /// What identifies the engine's settings apart from CPU features.
    pub(crate) settings: [u8; 32],
    /// The CPU features that the code may use.
    pub(crate) cpu_features: Vec<String>,
    /// The digest of the module or component in binary format.
    pub(crate) wasm_digest: [u8; 32],
    /// Which of the two it is, and what it imports and exports.
    pub(crate) info: Info,
    /// Bytes of code.
    pub(crate) code_len: u64,
}

fn digest_field(from: &mut Decoder<'_>) -> Result<[u8; 32], DecodeError> {
    let bytes = from.raw(32)?;
    bytes.try_into().map_err(|_| from.error("a digest"))
}

impl Encode for Header {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.str(&self.engine);
        out.raw(&self.settings);
        out.list(&self.cpu_features);
        out.raw(&self.wasm_digest);
        self.info.encode(out);
        out.u64(self.code_len);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            engine: String::decode(from)?,
            settings: digest_field(from)?,
            cpu_features: from.list()?,
            wasm_digest: digest_field(from)?,
            info: Info::decode(from)?,
            code_len: from.u64()?,
        })
    }
}

/// What the code must be compiled from.
fn content_of(info: &Info) -> Content {
    match info {
        Info::Module(_) => Content::Module,
        Info::Component(_) => Content::Component,
    }
}

/// What is known of an artifact's bytes once they have passed every check.
pub(crate) struct Parsed {
    pub(crate) header: Header,
    /// Where the code lies in the bytes.
    pub(crate) code: Range<usize>,
    /// Where the executable pages lie in the code.
    pub(crate) text: Range<usize>,
}

/// Puts an artifact's bytes together; `header.code_len` is taken from `code`.
pub(crate) fn write(mut header: Header, code: &[u8]) -> Result<(Vec<u8>, Parsed), String> {
    let text = elf::text(code, content_of(&header.info))?;
    header.code_len = code.len() as u64;
    let mut head = Vec::new();
    header.encode_to(&mut head);
    let head_len = u32::try_from(head.len()).map_err(|_| "its imports and exports exceed 4 GiB")?;
    let start = (PREFIX + head.len()).next_multiple_of(PAGE);
    let total = start + code.len() + DIGEST;

    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&head_len.to_le_bytes());
    bytes.extend_from_slice(&(total as u64).to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.resize(start, 0);
    bytes.extend_from_slice(code);
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    Ok((bytes, Parsed { header, code: start..start + code.len(), text }))
}

fn malformed(what: impl ToString) -> Refusal {
    Refusal::Malformed { what: what.to_string() }
}

/// Checks and reads an artifact.
///
/// The order matters: what a flipped bit could have caused is reported as damage, so everything
/// behind the first 24 bytes is read only once the digest is known to match.
pub(crate) fn read(
    bytes: &[u8],
    settings: &[u8; 32],
    cpu_features: &[String],
) -> Result<Parsed, Refusal> {
    let actual = bytes.len() as u64;
    if !bytes.starts_with(&MAGIC) {
        return Err(Refusal::NotAnArtifact);
    }
    let least = Refusal::Truncated { expected: (PREFIX + DIGEST) as u64, actual };
    let mut prefix = Decoder::new(&bytes[MAGIC.len()..]);
    let found = prefix.u32().map_err(|_| least.clone())?;
    if found != FORMAT_VERSION {
        return Err(Refusal::FormatVersion { found, expected: FORMAT_VERSION });
    }
    let head_len = prefix.u32().map_err(|_| least.clone())? as usize;
    let expected = prefix.u64().map_err(|_| least.clone())?;
    if actual < expected {
        return Err(Refusal::Truncated { expected, actual });
    }
    if actual > expected {
        return Err(Refusal::TrailingBytes { expected, actual });
    }

    let (content, digest) = bytes.split_last_chunk::<DIGEST>().ok_or(least)?;
    if blake3::hash(content) != *digest {
        return Err(Refusal::Damaged);
    }

    let head = content.get(PREFIX..).and_then(|rest| rest.get(..head_len));
    let head = head.ok_or_else(|| malformed("its header goes past its end"))?;
    // Engine and settings come first, and the rest of the header is theirs to lay out.
    let mut start = Decoder::new(head);
    let engine = start.str().map_err(malformed)?;
    if engine != ENGINE_VERSION {
        // The file's own words, which are not to reach a terminal as they are.
        let (found, expected) = (printable(engine), ENGINE_VERSION.to_owned());
        return Err(Refusal::EngineVersion { found, expected });
    }
    if digest_field(&mut start).map_err(malformed)? != *settings {
        return Err(Refusal::Settings);
    }
    let header = Header::decode_from(head).map_err(malformed)?;
    let wanted = header.cpu_features.iter();
    let missing = wanted.filter(|name| !cpu_features.contains(name));
    let missing: Vec<_> = missing.map(|name| printable(name)).collect();
    if !missing.is_empty() {
        return Err(Refusal::CpuFeatures { missing });
    }

    let start = (PREFIX + head_len).next_multiple_of(PAGE);
    let code = start..content.len();
    let elf = content.get(start..).ok_or_else(|| malformed("its code is missing"))?;
    if elf.len() as u64 != header.code_len {
        return Err(malformed("its code has another length than its header says"));
    }
    let text = elf::text(elf, content_of(&header.info)).map_err(malformed)?;
    Ok(Parsed { header, code, text })
}
