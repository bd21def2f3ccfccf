//! Files in a directory that only we can write to.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The name's end of a file that is being written.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Files beyond this many bytes are no artifacts: their code would not fit into a VM.
const MAX_FILE: u64 = 4 << 30;

/// Why something in the file system is not used.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// Others could have written it.
    Untrusted(String),
    /// The file system failed.
    Io(io::Error),
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Checks that a directory is really one, is ours, and that nobody else can write to it.
pub(crate) fn check_directory(path: &Path) -> Result<(), Obstacle> {
    // Not following a link here; what a link could be exchanged for between this check and a use,
    // the check of each file's owner catches.
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Err(Obstacle::Untrusted("it is a symbolic link".to_owned()));
    }
    if !metadata.is_dir() {
        return Err(Obstacle::Untrusted("it is not a directory".to_owned()));
    }
    platform::check_owner(&metadata)
}

/// Creates a directory, and those above it, for us alone. One that exists stays as it is.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    platform::private_directory(&mut builder);
    builder.create(path)
}

/// Reads a file that must be ours alone; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<(File, Vec<u8>)>, Obstacle> {
    let mut options = OpenOptions::new();
    options.read(true);
    platform::without_links(&mut options);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if platform::is_link_error(&error) => {
            return Err(Obstacle::Untrusted("it is a symbolic link".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    // Of the open file, so that it cannot be exchanged afterwards.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Obstacle::Untrusted("it is not a regular file".to_owned()));
    }
    platform::check_owner(&metadata)?;
    let mut bytes = Vec::new();
    if metadata.len() <= MAX_FILE {
        let len = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        (&mut file).take(metadata.len()).read_to_end(&mut bytes)?;
    }
    Ok(Some((file, bytes)))
}

/// Writes a file so that under its name there is, at every moment, all of it or none of it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (mut file, temporary) = create_temporary(path)?;
    let written = file
        .write_all(bytes)
        // The content must be on disk before the name is, or a crash could leave a torn file.
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The error counts, not whether its remains can be removed; cleaning removes them later.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn create_temporary(path: &Path) -> io::Result<(File, PathBuf)> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    platform::private_file(&mut options);
    // Process and counter are unique on one machine; the time tells machines and containers with a
    // common directory apart, and a collision only costs another attempt.
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..16 {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}-{count}-{time:x}{TEMPORARY}", std::process::id()));
        let temporary = PathBuf::from(name);
        match options.open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

#[cfg(unix)]
mod platform {
    use super::{File, Metadata, Obstacle, OpenOptions};
    use std::fs::DirBuilder;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};

    /// Our user, as the kernel sees it: the owner of what we create. A pipe needs no place in a
    /// file system that we might not be able to write to.
    fn own_user() -> io::Result<u32> {
        let (reader, _writer) = io::pipe()?;
        Ok(File::from(OwnedFd::from(reader)).metadata()?.uid())
    }

    pub(super) fn check_owner(metadata: &Metadata) -> Result<(), Obstacle> {
        let (owner, own) = (metadata.uid(), own_user()?);
        if owner != own {
            return Err(Obstacle::Untrusted(format!("it belongs to user {owner}, we are {own}")));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(Obstacle::Untrusted(format!("others can write to it (mode {mode:03o})")));
        }
        Ok(())
    }

    pub(super) fn private_directory(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    pub(super) fn private_file(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub(super) fn without_links(options: &mut OpenOptions) {
        // The second flag: opening a pipe that someone put there must not wait for a writer.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }

    pub(super) fn is_link_error(error: &io::Error) -> bool {
        error.raw_os_error() == Some(libc::ELOOP)
    }
}

#[cfg(not(unix))]
mod platform {
    //! Elsewhere the user's directories are private by inherited access rules.
    use super::{Metadata, Obstacle, OpenOptions};
    use std::fs::DirBuilder;
    use std::io;

    pub(super) fn check_owner(_metadata: &Metadata) -> Result<(), Obstacle> {
        Ok(())
    }

    pub(super) fn private_directory(_builder: &mut DirBuilder) {}

    pub(super) fn private_file(_options: &mut OpenOptions) {}

    pub(super) fn without_links(_options: &mut OpenOptions) {}

    pub(super) fn is_link_error(_error: &io::Error) -> bool {
        false
    }
}
