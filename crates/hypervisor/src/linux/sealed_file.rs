//! Anonymous files that nobody can change.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, FromRawFd},
};

use crate::{Error, PAGE_SIZE};

/// An anonymous file in memory whose content and size are sealed.
pub(crate) struct SealedFile {
    file: File,
    len: usize,
}

impl SealedFile {
    /// A file of these bytes and zeros up to a whole number of pages.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, Error> {
        let out_of_memory = |source| Error::OutOfMemory { bytes: bytes.len(), source };
        let len = bytes
            .len()
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or_else(|| out_of_memory(io::ErrorKind::OutOfMemory.into()))?;
        let mut file = create()?;
        file.set_len(len as u64).map_err(out_of_memory)?;
        file.write_all(bytes).map_err(out_of_memory)?;
        seal(&file)?;
        Ok(SealedFile { file, len })
    }

    /// Its size in bytes: a multiple of the page size.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The file, to map it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

fn create() -> Result<File, Error> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Without being told, newer kernels warn about, or refuse, a file that could be executed.
    // Older ones do not know the flag.
    for flags in [flags | libc::MFD_NOEXEC_SEAL, flags] {
        // SAFETY: the name is a C string, and the call reads nothing else of ours.
        let fd = unsafe { libc::memfd_create(c"sandgrain-image".as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: the call has just made this descriptor, and nothing else knows of it.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
    }
    Err(Error::last_os_error("memfd_create"))
}

fn seal(file: &File) -> Result<(), Error> {
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the descriptor is open, and the command takes an integer.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(Error::last_os_error("fcntl(F_ADD_SEALS)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsRawFd, ptr};

    use super::SealedFile;

    #[test]
    fn content_and_size_are_sealed() {
        let sealed = SealedFile::new(b"immutable").unwrap();
        let mut file = sealed.file().try_clone().unwrap();
        let denied = std::io::ErrorKind::PermissionDenied;
        assert_eq!(file.write(b"x").unwrap_err().kind(), denied);
        assert_eq!(file.set_len(0).unwrap_err().kind(), denied);
        assert_eq!(file.set_len(1 << 20).unwrap_err().kind(), denied);

        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        // SAFETY: a new mapping at a place that the kernel chooses; if it were made, it would stay.
        let shared = unsafe {
            libc::mmap(ptr::null_mut(), sealed.len(), protection, libc::MAP_SHARED, fd, 0)
        };
        assert_eq!(shared, libc::MAP_FAILED, "a writable shared mapping could change the image");
    }

    #[test]
    fn size_is_rounded_up_to_pages() {
        for (bytes, len) in [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(SealedFile::new(&vec![1; bytes]).unwrap().len(), len);
        }
    }
}
