//! Files in a directory that only this process's user can write to.
//!
//! For what is trusted because of where it is: compiled modules, saved snapshots. A file is taken only if
//! it is a regular one of this user's that nobody else can write to, which is looked at on the open
//! descriptor; and under a name there is, at every moment, a whole file or none.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The name's end of a file that is being written. It begins with the name that the file is to have.
pub const TEMPORARY: &str = ".tmp";

/// Why something in the file system is not used.
#[derive(Debug)]
pub enum Obstacle {
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
///
/// # Errors
/// [`Obstacle::Untrusted`] if not; [`Obstacle::Io`], also if there is none.
pub fn check_directory(path: &Path) -> Result<(), Obstacle> {
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
///
/// # Errors
/// The file system's.
pub fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    platform::private_directory(&mut builder);
    builder.create(path)
}

/// Opens a file that must be ours alone, to read it; `None` if there is none.
///
/// # Errors
/// [`Obstacle::Untrusted`] if it is a link, something else than a file, or not ours alone.
pub fn open(path: &Path) -> Result<Option<File>, Obstacle> {
    let mut options = OpenOptions::new();
    options.read(true);
    platform::without_links(&mut options);
    let file = match options.open(path) {
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
    Ok(Some(file))
}

/// Reads a file that must be ours alone; `None` if there is none. Of one beyond `most` bytes, which is none
/// that the caller can have written, nothing is read.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, most: u64) -> Result<Option<(File, Vec<u8>)>, Obstacle> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    if size <= most {
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        (&mut file).take(size).read_to_end(&mut bytes)?;
    }
    Ok(Some((file, bytes)))
}

/// Checks that nobody else can even read an open file.
///
/// # Errors
/// [`Obstacle::Untrusted`] if others can.
pub fn check_secret(file: &File) -> Result<(), Obstacle> {
    platform::check_secret(&file.metadata()?)
}

/// What a file's own user may do with it, by its mode. Others may do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Read it and write to it.
    ReadWrite,
    /// Read it.
    ReadOnly,
}

/// Writes a file so that under its name there is, at every moment, all of it or none of it.
///
/// # Errors
/// The file system's. What was there under the name is still there then.
pub fn write(path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    let (mut file, temporary) = create_temporary(path, mode)?;
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

/// Waits until the names in a directory are on disk, of files that were written or renamed in it.
///
/// # Errors
/// The file system's.
pub fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Opens a file without content to [lock](File::lock), and creates it if there is none.
///
/// # Errors
/// The file system's.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    platform::without_links(&mut options);
    platform::private_file(&mut options, Mode::ReadWrite);
    options.open(path)
}

fn create_temporary(path: &Path, mode: Mode) -> io::Result<(File, PathBuf)> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    platform::private_file(&mut options, mode);
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
    use super::{File, Metadata, Mode, Obstacle, OpenOptions};
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

    pub(super) fn private_file(options: &mut OpenOptions, mode: Mode) {
        options.mode(match mode {
            Mode::ReadWrite => 0o600,
            Mode::ReadOnly => 0o400,
        });
    }

    pub(super) fn check_secret(metadata: &Metadata) -> Result<(), Obstacle> {
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(Obstacle::Untrusted(format!("others can read it (mode {mode:03o})")));
        }
        Ok(())
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
    use super::{Metadata, Mode, Obstacle, OpenOptions};
    use std::fs::DirBuilder;
    use std::io;

    pub(super) fn check_owner(_metadata: &Metadata) -> Result<(), Obstacle> {
        Ok(())
    }

    pub(super) fn private_directory(_builder: &mut DirBuilder) {}

    pub(super) fn private_file(_options: &mut OpenOptions, _mode: Mode) {}

    pub(super) fn check_secret(_metadata: &Metadata) -> Result<(), Obstacle> {
        Ok(())
    }

    pub(super) fn without_links(_options: &mut OpenOptions) {}

    pub(super) fn is_link_error(_error: &io::Error) -> bool {
        false
    }
}
