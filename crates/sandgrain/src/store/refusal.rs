//! Why a saved snapshot is not used.

use crate::error::Error;
use sandgrain_compile::private_files::Obstacle;
use std::io;
use std::path::{Path, PathBuf};

/// What stands in the way of a snapshot, or of a whole store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is none of this name in {}; try: saving it first", dir.display())]
    NotFound { dir: PathBuf },
    #[error("its file is no saved snapshot; try: saving it again")]
    NotASnapshot,
    #[error(
        "its format is version {found}, this library has version {expected}; try: saving it again"
    )]
    FormatVersion { found: u32, expected: u32 },
    #[error("it is cut off: {actual} bytes of {expected}; try: saving it again")]
    Truncated { expected: u64, actual: u64 },
    #[error(
        "something follows its end: {actual} bytes where it has {expected}; try: saving it again"
    )]
    TrailingBytes { expected: u64, actual: u64 },
    #[error(
        "it was saved with another key than this store has, on another host or before the key was \
         replaced; try: saving it again here"
    )]
    OtherKey,
    #[error(
        "it is damaged or forged: its authentication code does not match; try: saving it again"
    )]
    Damaged,
    #[error("it was saved as {found:?}, and its file renamed; try: that name, or saving it again")]
    OtherName { found: String },
    #[error(
        "it was saved by version {found} of this library, this is {expected}; try: saving it again"
    )]
    LibraryVersion { found: String, expected: String },
    #[error("its code is for {found}, this library has {expected}; try: saving it again")]
    EngineVersion { found: String, expected: String },
    #[error(
        "its guest has another runtime than the one in this library; try: saving it again with \
         this build"
    )]
    Runtime,
    #[error(
        "it was taken on the hypervisor {found}, this is {expected}; try: saving it again here"
    )]
    Hypervisor { found: String, expected: String },
    #[error(
        "it was taken where guests have other CPU features ({}); try: saving it again here",
        Difference(missing, more)
    )]
    CpuFeatures { missing: Vec<String>, more: Vec<String> },
    #[error("its part {digest} is missing; try: saving it again")]
    PartMissing { digest: blake3::Hash },
    #[error("its part {digest} has {actual} bytes, not {expected}; try: saving it again")]
    PartSize { digest: blake3::Hash, expected: u64, actual: u64 },
    #[error("its part {digest} is damaged: its content has another digest; try: saving it again")]
    PartDamaged { digest: blake3::Hash },
    #[error("it is authentic but makes no sense: {what}; try: saving it again, and reporting this")]
    Malformed { what: String },
    #[error("not trusted: {}: {reason}; try: chown and chmod, or another directory", path.display())]
    Untrusted { path: PathBuf, reason: String },
    #[error("{} is no key; try: deleting it, and saving all snapshots again", path.display())]
    NoKey { path: PathBuf },
    #[error("the host failed: {0}; try: again when it has more memory")]
    Host(String),
    #[error("cannot {action} {}: {source}; try: {}", path.display(), remedy(source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// What to do about a failure of the file system.
fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind as E;
    match error.kind() {
        E::StorageFull | E::QuotaExceeded | E::FileTooLarge => "freeing room, or another disk",
        E::PermissionDenied | E::ReadOnlyFilesystem => "a directory that this user can write to",
        _ => "another directory",
    }
}

struct Difference<'a>(&'a [String], &'a [String]);

impl std::fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut between = "";
        for (what, names) in [("missing here", self.0), ("only here", self.1)] {
            if !names.is_empty() {
                write!(f, "{between}{what}: {}", names.join(", "))?;
                between = "; ";
            }
        }
        Ok(())
    }
}

impl Refusal {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn obstacle(action: &'static str, path: &Path, obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Untrusted(reason) => Self::Untrusted { path: path.to_owned(), reason },
            Obstacle::Io(source) => Self::io(action, path, source),
        }
    }

    /// Of an image that cannot be made or read.
    pub(crate) fn image(error: &sandgrain_hypervisor::Error) -> Self {
        match error {
            sandgrain_hypervisor::Error::Rejected { .. } => {
                Self::Malformed { what: error.to_string() }
            }
            _ => Self::Host(error.to_string()),
        }
    }

    pub(crate) fn malformed(error: &sandgrain_abi::DecodeError) -> Self {
        Self::Malformed { what: format!("expected {} at byte {}", error.expected, error.offset) }
    }

    /// The error that the library's user gets, of a snapshot.
    pub(crate) fn of(self, name: &str) -> Error {
        Error::Snapshot(format!("the snapshot {name:?}: {self}"))
    }

    /// The error that the library's user gets, of a store.
    pub(crate) fn of_store(self) -> Error {
        Error::Snapshot(format!("the store of snapshots: {self}"))
    }
}
