//! The files of a store: where they are, and which of them nobody needs.

use super::key::HostKey;
use super::manifest::{Manifest, Part};
use super::refusal::Refusal;
use crate::error::Result;
use sandgrain_compile::private_files::{self, Mode, TEMPORARY};
use std::collections::HashSet;
use std::fs::{DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};

/// The name's end of a manifest.
const MANIFEST: &str = ".snapshot";
const PARTS: &str = "parts";
const KEY: &str = "key";
/// Locked for itself by whoever removes files, and shared by those who save. Those who load need no lock.
const LOCK: &str = "lock";

/// Bytes of a name at the most.
const MAX_NAME: usize = 100;
/// Files beyond this many bytes are no manifests.
const MAX_MANIFEST: u64 = 256 << 20;

/// Whether a snapshot can have this name: nothing in it means anything to a file system.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= MAX_NAME
        && name.bytes().all(plain)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// A store's directory.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directories that there are not, and checks them.
    pub(crate) fn create(&self) -> Result<(), Refusal> {
        let parts = self.parts();
        private_files::create_directory(&parts)
            .map_err(|error| Refusal::io("create", &parts, error))?;
        self.check()
    }

    /// Checks that nobody else can write here.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        for dir in [&self.dir, &self.parts()] {
            private_files::check_directory(dir)
                .map_err(|obstacle| Refusal::obstacle("use", dir, obstacle))?;
        }
        Ok(())
    }

    fn parts(&self) -> PathBuf {
        self.dir.join(PARTS)
    }

    fn part(&self, part: &Part) -> PathBuf {
        self.parts().join(part.digest.to_hex().as_str())
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{MANIFEST}"))
    }

    /// The lock, which is nobody's yet.
    pub(crate) fn lock(&self) -> Result<File, Refusal> {
        let path = self.dir.join(LOCK);
        private_files::open_lock(&path).map_err(|error| Refusal::io("open", &path, error))
    }

    /// Says what went wrong with the lock.
    pub(crate) fn lock_error(&self, error: io::Error) -> Refusal {
        Refusal::io("lock", &self.dir.join(LOCK), error)
    }

    /// The key; [`Refusal::OtherKey`] if there is none, since then nothing here was saved with it.
    pub(crate) fn key(&self) -> Result<HostKey, Refusal> {
        HostKey::read(&self.dir.join(KEY))?.ok_or(Refusal::OtherKey)
    }

    /// The key, which is made if there is none. The lock must not be held.
    pub(crate) fn key_or_new(&self, lock: &File) -> Result<HostKey, Refusal> {
        let path = self.dir.join(KEY);
        if let Some(key) = HostKey::read(&path)? {
            return Ok(key);
        }
        lock.lock().map_err(|error| self.lock_error(error))?;
        // Another process may have been faster.
        let key = HostKey::read(&path).and_then(|key| key.map_or_else(|| HostKey::make(&path), Ok));
        lock.unlock().map_err(|error| self.lock_error(error))?;
        key
    }

    /// The bytes of a manifest.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>, Refusal> {
        let path = self.manifest(name);
        match private_files::read(&path, MAX_MANIFEST) {
            Ok(Some((_, bytes))) => Ok(bytes),
            Ok(None) => Err(Refusal::NotFound { dir: self.dir.clone() }),
            Err(obstacle) => Err(Refusal::obstacle("read", &path, obstacle)),
        }
    }

    /// Writes a manifest, in place of an earlier one. What it names must be there.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let path = self.manifest(name);
        let sync = |dir: &Path| {
            private_files::sync_names(dir).map_err(|error| Refusal::io("write", dir, error))
        };
        // The parts' names must be on disk before the one that leads to them.
        sync(&self.parts())?;
        private_files::write(&path, bytes, Mode::ReadWrite)
            .map_err(|error| Refusal::io("write", &path, error))?;
        sync(&self.dir)
    }

    /// Opens a part: one that nobody can write to, of the right size. It is not read.
    pub(crate) fn open_part(&self, part: &Part) -> Result<File, Refusal> {
        let (path, digest) = (self.part(part), part.digest);
        let untrusted = |obstacle| Refusal::obstacle("open", &path, obstacle);
        let file = private_files::open(&path).map_err(untrusted)?;
        let file = file.ok_or(Refusal::PartMissing { digest })?;
        let metadata = file.metadata().map_err(|error| Refusal::io("open", &path, error))?;
        if !metadata.permissions().readonly() {
            let reason = "it can be written to; a part must be read-only".to_owned();
            return Err(Refusal::Untrusted { path, reason });
        }
        let (expected, actual) = (part.len, metadata.len());
        if actual != expected {
            return Err(Refusal::PartSize { digest, expected, actual });
        }
        Ok(file)
    }

    /// Reads a part and checks that it holds what was saved.
    pub(crate) fn verify_part(&self, part: &Part) -> Result<(), Refusal> {
        let file = self.open_part(part)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map_err(|error| Refusal::io("read", &self.part(part), error))?;
        if hasher.finalize() == part.digest {
            return Ok(());
        }
        Err(Refusal::PartDamaged { digest: part.digest })
    }

    /// Writes a part, unless it is there and whole.
    pub(crate) fn write_part(&self, part: &Part, content: &[u8]) -> Result<(), Refusal> {
        if self.verify_part(part).is_ok() {
            return Ok(());
        }
        let path = self.part(part);
        private_files::write(&path, content, Mode::ReadOnly)
            .map_err(|error| Refusal::io("write", &path, error))
    }

    /// The names of the snapshots.
    pub(crate) fn names(&self) -> Result<Vec<String>, Refusal> {
        let mut names = Vec::new();
        for item in items(&self.dir)? {
            let name = item.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(MANIFEST));
            names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes a manifest.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Refusal> {
        let path = self.manifest(name);
        std::fs::remove_file(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::NotFound { dir: self.dir.clone() },
            _ => Refusal::io("delete", &path, error),
        })
    }

    /// Deletes what saves have left that did not come to their end, and parts that no manifest names. Says how
    /// many bytes they had. Whoever calls it holds the lock alone, so that no save is under way.
    ///
    /// If it cannot be known which parts a snapshot has, which is named then, all parts stay.
    pub(crate) fn remove_unused(&self) -> Result<u64, (Option<String>, Refusal)> {
        let of_store = |refusal| (None, refusal);
        let mut removed = 0;
        let mut parts = Vec::new();
        for dir in [&self.dir, &self.parts()] {
            for item in items(dir).map_err(of_store)? {
                let name = item.file_name();
                let Some(name) = name.to_str() else { continue };
                if name.strip_suffix(TEMPORARY).is_some_and(is_ours) {
                    removed += delete(&item).map_err(of_store)?;
                } else if blake3::Hash::from_hex(name).is_ok() {
                    parts.push(item);
                }
            }
        }
        let mut used = HashSet::new();
        for name in self.names().map_err(of_store)? {
            let named = self.key().and_then(|key| {
                let bytes = self.read(&name)?;
                Ok(Manifest::read(&bytes, &key, &name)?.parts)
            });
            let named = named.map_err(|refusal| (Some(name), refusal))?;
            used.extend(named.iter().map(|part| part.digest.to_hex().to_string()));
        }
        for item in parts {
            if !item.file_name().to_str().is_some_and(|name| used.contains(name)) {
                removed += delete(&item).map_err(of_store)?;
            }
        }
        Ok(removed)
    }
}

/// Whether a file that is being written is one of ours, by its name so far.
fn is_ours(name: &str) -> bool {
    let to_be = name.split_once(&format!("{MANIFEST}.")).map(|(name, _)| name);
    let part =
        name.get(..2 * blake3::OUT_LEN).is_some_and(|hex| blake3::Hash::from_hex(hex).is_ok());
    part || to_be.is_some_and(is_name) || name.starts_with(&format!("{KEY}."))
}

fn items(dir: &Path) -> Result<Vec<DirEntry>, Refusal> {
    let items = std::fs::read_dir(dir).and_then(Iterator::collect);
    items.map_err(|error| Refusal::io("read", dir, error))
}

fn delete(item: &DirEntry) -> Result<u64, Refusal> {
    let deleted = item.metadata().and_then(|metadata| {
        std::fs::remove_file(item.path())?;
        Ok(metadata.len())
    });
    deleted.map_err(|error| Refusal::io("delete", &item.path(), error))
}
