//! The key with which a store authenticates its snapshots.

use super::refusal::Refusal;
use crate::error::Result;
use sandgrain_compile::private_files::{self, Mode};
use std::path::Path;

const LEN: usize = 32;

/// A secret of one store on one host.
pub(crate) struct HostKey([u8; LEN]);

impl HostKey {
    /// The key in a file that nobody else can read; `None` if there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Refusal> {
        let untrusted = |obstacle| Refusal::obstacle("read", path, obstacle);
        let Some((file, bytes)) = private_files::read(path, LEN as u64).map_err(untrusted)? else {
            return Ok(None);
        };
        private_files::check_secret(&file).map_err(untrusted)?;
        match bytes.try_into() {
            Ok(key) => Ok(Some(Self(key))),
            Err(_) => Err(Refusal::NoKey { path: path.to_owned() }),
        }
    }

    /// Makes a key and writes it to a file, in place of another if there is one.
    pub(crate) fn make(path: &Path) -> Result<Self, Refusal> {
        let mut key = [0; LEN];
        getrandom::fill(&mut key)
            .map_err(|error| Refusal::io("make", path, std::io::Error::other(error)))?;
        private_files::write(path, &key, Mode::ReadWrite)
            .map_err(|error| Refusal::io("write", path, error))?;
        Ok(Self(key))
    }

    /// Tells keys apart, and nothing of the key itself.
    pub(crate) fn id(&self) -> [u8; 16] {
        // Manifests begin otherwise, so that this is no manifest's code.
        let hash = blake3::keyed_hash(&self.0, b"id of the key");
        *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
    }

    /// The code that authenticates these bytes. Hashes are compared in constant time.
    pub(crate) fn code(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, bytes)
    }
}
