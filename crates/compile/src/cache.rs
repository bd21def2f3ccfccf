//! The cache of artifacts on disk.

use crate::artifact::Artifact;
use crate::error::Error;
use crate::private_files::{self, Mode, Obstacle, TEMPORARY};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The name's end of an entry.
const ENTRY: &str = ".sgm";

/// Files beyond this many bytes are no artifacts: their code would not fit into a VM.
const MAX_FILE: u64 = 4 << 30;

/// After this time a file that is still being written is what a crash left.
const ABANDONED: Duration = Duration::from_secs(3600);

/// How exactly an entry's last use is known. Writing it down at each use would be a disk access.
const USE_PRECISION: Duration = Duration::from_secs(3600);

/// A directory of artifacts, one file for each module, engine, settings and set of CPU features.
///
/// Any number of threads and processes can use one at the same time: entries appear whole, under
/// their name only once they are on disk, and two that compile the same module at the same time both
/// write the same entry. The directory and its files must belong to this process's user and not be
/// writable for others, because artifacts are machine code; a cache that isn't is bypassed.
///
/// A cache grows until [`trim`](Self::trim) or [`remove`](Self::remove) is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    dir: PathBuf,
}

/// What a cache contributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The artifact came from the cache.
    Hit,
    /// The module was compiled and the artifact put into the cache.
    Stored,
    /// The module was compiled, and the artifact could not be put into the cache.
    Bypassed {
        /// Why, in one line.
        reason: String,
    },
}

/// One file of a cache.
struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    temporary: bool,
}

impl Cache {
    /// The user's cache: `$XDG_CACHE_HOME/sandgrain`, or `~/.cache/sandgrain`. Created on first use.
    ///
    /// # Errors
    /// [`Error::NoCacheDir`] if the environment names neither place by an absolute path.
    pub fn user_default() -> Result<Self, Error> {
        let absolute = |name| {
            std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .ok_or(Error::NoCacheDir)?;
        Ok(Self::at(base.join("sandgrain")))
    }

    /// A cache in a directory of its own, which is created on first use.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many modules it has, and how many bytes they take. A directory that does not exist yet has
    /// none.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn usage(&self) -> Result<(u64, u64), Error> {
        let mut entries = self.checked_entries()?;
        entries.retain(|entry| !entry.temporary);
        Ok((entries.len() as u64, entries.iter().map(|entry| entry.bytes).sum()))
    }

    /// Deletes all entries, and says how many bytes they had. Other files and the directory stay.
    ///
    /// # Errors
    /// [`Error::CacheUntrusted`] if others can write to the directory, [`Error::Io`] if it cannot be
    /// read or an entry not be deleted.
    pub fn remove(&self) -> Result<u64, Error> {
        let mut removed = 0;
        for entry in self.checked_entries()? {
            removed += remove(&entry)?;
        }
        Ok(removed)
    }

    /// Deletes what does not fit into `max_bytes` bytes, keeping what was used last (to within an
    /// hour), and the remains of crashed processes. Says how many bytes were deleted.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn trim(&self, max_bytes: u64) -> Result<u64, Error> {
        let mut entries = self.checked_entries()?;
        let mut removed = 0;
        for entry in entries.extract_if(.., |entry| entry.temporary) {
            if entry.is_abandoned() {
                removed += remove(&entry)?;
            }
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        let mut kept = 0_u64;
        for entry in entries {
            if entry.bytes <= max_bytes - kept {
                kept += entry.bytes;
            } else {
                removed += remove(&entry)?;
            }
        }
        Ok(removed)
    }

    /// An artifact from the cache if there is one that `accept` takes, or else the result of
    /// `compile`, put into the cache if possible.
    pub(crate) fn get_or_store(
        &self,
        key: &blake3::Hash,
        accept: impl FnOnce(Vec<u8>) -> Result<Artifact, Error>,
        compile: impl FnOnce() -> Result<Artifact, Error>,
    ) -> Result<(Artifact, CacheOutcome), Error> {
        let path = self.dir.join(format!("{}{ENTRY}", key.to_hex()));
        let usable = match self.look_up(&path, accept) {
            Ok(Some(artifact)) => return Ok((artifact, CacheOutcome::Hit)),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let artifact = compile()?;
        match usable.and_then(|()| self.store(&path, &artifact)) {
            Ok(()) => Ok((artifact, CacheOutcome::Stored)),
            Err(error) => {
                let reason = error.to_string();
                tracing::warn!(%reason, "compiled without the cache");
                Ok((artifact, CacheOutcome::Bypassed { reason }))
            }
        }
    }

    fn look_up(
        &self,
        path: &Path,
        accept: impl FnOnce(Vec<u8>) -> Result<Artifact, Error>,
    ) -> Result<Option<Artifact>, Error> {
        match private_files::check_directory(&self.dir) {
            Ok(()) => {}
            Err(Obstacle::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(obstacle) => return Err(to_error("use", &self.dir, obstacle)),
        }
        let found = private_files::read(path, MAX_FILE)
            .map_err(|obstacle| to_error("read", path, obstacle))?;
        let Some((file, bytes)) = found else {
            return Ok(None);
        };
        match accept(bytes) {
            Ok(artifact) => {
                note_use(&file);
                Ok(Some(artifact))
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "removed a bad cache entry");
                // If this fails, so does replacing it, which is reported.
                let _ = std::fs::remove_file(path);
                Ok(None)
            }
        }
    }

    fn store(&self, path: &Path, artifact: &Artifact) -> Result<(), Error> {
        private_files::create_directory(&self.dir)
            .map_err(|error| Error::io("create", &self.dir, error))?;
        // Again, because whoever created it may not have been us.
        private_files::check_directory(&self.dir)
            .map_err(|obstacle| to_error("use", &self.dir, obstacle))?;
        private_files::write(path, artifact.as_bytes(), Mode::ReadWrite)
            .map_err(|error| Error::io("write", path, error))?;
        self.remove_abandoned();
        Ok(())
    }

    /// Removes what crashed processes left. Nobody waits for it, so its failure is no error.
    fn remove_abandoned(&self) {
        let entries = self.entries().unwrap_or_default();
        for entry in entries.iter().filter(|entry| entry.temporary && entry.is_abandoned()) {
            let _ = std::fs::remove_file(&entry.path);
        }
    }

    /// The entries of a directory that is safe to change; none if there is no directory.
    fn checked_entries(&self) -> Result<Vec<Entry>, Error> {
        match private_files::check_directory(&self.dir) {
            Ok(()) => self.entries().map_err(|error| Error::io("read", &self.dir, error)),
            Err(Obstacle::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(obstacle) => Err(to_error("use", &self.dir, obstacle)),
        }
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for item in std::fs::read_dir(&self.dir)? {
            let item = item?;
            let name = item.file_name();
            let Some(temporary) = name.to_str().and_then(is_ours) else {
                continue;
            };
            match item.metadata() {
                Ok(metadata) => entries.push(Entry {
                    path: item.path(),
                    bytes: metadata.len(),
                    used: metadata.modified()?,
                    temporary,
                }),
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }
}

impl Entry {
    fn is_abandoned(&self) -> bool {
        // A time in the future is a changed clock, not a long wait.
        self.used.elapsed().is_ok_and(|age| age > ABANDONED)
    }
}

/// Whether a file name is one that a cache gives, and if so, whether to a file being written.
fn is_ours(name: &str) -> Option<bool> {
    let (key, rest) = name.split_at_checked(64)?;
    let temporary = rest.strip_prefix(ENTRY)?;
    let known = temporary.is_empty() || temporary.ends_with(TEMPORARY);
    (known && key.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(!temporary.is_empty())
}

fn remove(entry: &Entry) -> Result<u64, Error> {
    match std::fs::remove_file(&entry.path) {
        Ok(()) => Ok(entry.bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io("delete", &entry.path, error)),
    }
}

/// Writes down that an entry was used, for [`Cache::trim`]. Best effort: the directory may be
/// read-only.
fn note_use(file: &File) {
    let used = file.metadata().and_then(|metadata| metadata.modified());
    let recent = used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age < USE_PRECISION));
    if !recent {
        let _ = file.set_modified(SystemTime::now());
    }
}

fn to_error(action: &'static str, path: &Path, obstacle: Obstacle) -> Error {
    match obstacle {
        Obstacle::Untrusted(reason) => Error::CacheUntrusted { path: path.to_owned(), reason },
        Obstacle::Io(source) => Error::io(action, path, source),
    }
}
