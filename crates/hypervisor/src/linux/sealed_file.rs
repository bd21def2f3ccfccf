//! Files that nobody changes: anonymous ones that are sealed, and this user's own.

use std::{
    fs::File,
    io, mem,
    ops::Range,
    os::fd::{AsRawFd, FromRawFd},
    os::unix::fs::FileExt,
    ptr,
    ptr::NonNull,
    slice,
    sync::OnceLock,
};

use super::Mapping;
use crate::{Error, LARGE_PAGE, PAGE_SIZE, memory::ZEROS};

/// A file whose content and size do not change: an anonymous one in memory that is sealed, or one on disk
/// that nobody may write to.
pub(crate) struct SealedFile {
    file: File,
    len: usize,
    /// The file mapped for reading, once somebody has asked for its bytes.
    view: OnceLock<View>,
}

impl SealedFile {
    /// A file of these parts, each at a multiple of the page size and without overlaps, and zeros elsewhere and up to a
    /// whole number of pages. Parts of `large`, multiples of a large page, are in one piece of the host's memory each,
    /// where it has such.
    pub(crate) fn new(parts: &[(usize, &[u8])], large: &[Range<usize>]) -> Result<Self, Error> {
        let file = create()?;
        let out_of_memory = |bytes| move |source| Error::OutOfMemory { bytes, source };
        let ends = parts.iter().map(|(offset, part)| offset.saturating_add(part.len()));
        let written = ends.chain(large.iter().map(|range| range.end)).max().unwrap_or(0);
        let len = written
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or_else(|| out_of_memory(written)(io::ErrorKind::OutOfMemory.into()))?;
        file.set_len(len as u64).map_err(out_of_memory(len))?;
        let sealed = SealedFile { file, len, view: OnceLock::new() };
        for (offset, part) in parts {
            debug_assert!(offset.is_multiple_of(PAGE_SIZE));
            sealed.write(*offset, part).map_err(out_of_memory(part.len()))?;
        }
        // Not before: the kernel makes nothing of a large page without content.
        sealed.collapse(large)?;
        seal(&sealed.file)?;
        Ok(sealed)
    }

    /// Writes a part, but for its pages of zeros.
    fn write(&self, offset: usize, part: &[u8]) -> io::Result<()> {
        let write = |run: Range<usize>| {
            if run.is_empty() {
                return Ok(());
            }
            let at = (offset + run.start) as u64;
            self.file.write_all_at(&part[run], at)
        };
        let mut start = 0;
        for (number, page) in part.chunks(PAGE_SIZE).enumerate() {
            if *page == ZEROS[..page.len()] {
                let at = number * PAGE_SIZE;
                write(start..at)?;
                start = at + page.len();
            }
        }
        write(start..part.len())
    }

    fn collapse(&self, large: &[Range<usize>]) -> Result<(), Error> {
        if large.is_empty() {
            return Ok(());
        }
        let mut mapping = Mapping::new(LARGE_PAGE)?;
        for range in large {
            for offset in range.clone().step_by(LARGE_PAGE) {
                mapping.map_file(0, LARGE_PAGE, self, offset)?;
                mapping.collapse();
            }
        }
        Ok(())
    }

    /// A file whose size is a whole number of pages: one in memory that is sealed, of whichever process; or a
    /// regular file of this process's user that nobody may write to, by its mode: whoever can change it all
    /// the same, root and programs of this very user, can change this process's memory too. Deleting it does
    /// no harm.
    pub(crate) fn open(file: File) -> Result<Self, Error> {
        let status = status(&file)?;
        // SAFETY: it has no requirements.
        let user = unsafe { libc::geteuid() };
        let len = usize::try_from(status.st_size).unwrap_or(usize::MAX);
        let sealed = is_sealed(&file);
        let what = if status.st_mode & libc::S_IFMT != libc::S_IFREG {
            "it is no regular file"
        } else if sealed && len.is_multiple_of(PAGE_SIZE) {
            return Ok(SealedFile { file, len, view: OnceLock::new() });
        } else if status.st_uid != user {
            "it belongs to another user"
        } else if status.st_mode & 0o222 != 0 {
            "it can be written to"
        } else if !len.is_multiple_of(PAGE_SIZE) {
            "its size is no multiple of a page"
        } else {
            return Ok(SealedFile { file, len, view: OnceLock::new() });
        };
        Err(Error::Rejected {
            what: format!("a file as a layer of memory: {what}"),
            source: io::ErrorKind::PermissionDenied.into(),
        })
    }

    /// Its content. Mapped at the first call, for as long as the file lives.
    pub(crate) fn bytes(&self) -> Result<&[u8], Error> {
        if let Some(view) = self.view.get() {
            return Ok(view.bytes());
        }
        let view = View::new(&self.file, self.len)?;
        // Another thread may have been faster; then this one's goes.
        Ok(self.view.get_or_init(|| view).bytes())
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

/// All of a sealed file, mapped for reading.
struct View {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns a mapping that is only ever read, of a file that does not change.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// `file` has `len` bytes, a multiple of the page size, and does not change.
    fn new(file: &File, len: usize) -> Result<Self, Error> {
        if len == 0 {
            return Ok(View { start: NonNull::dangling(), len });
        }
        // Private, since Linux before 6.7 shares no mapping of a file that is sealed against writing; the
        // pages are the file's all the same.
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::OutOfMemory { bytes: len, source: io::Error::last_os_error() });
        }
        let start = NonNull::new(start.cast()).expect("a mapping is not at address 0");
        Ok(View { start, len })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped readable until `drop`, or it is an empty slice. Nobody writes to them
        // or takes them away: see `SealedFile::new` and `open`, of one of which the file is.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.len != 0 {
            // SAFETY: the whole mapping that `new` made, which nobody can borrow any more.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

/// What the kernel knows of a file.
///
/// Not through `File::metadata` or libc's `fstat`: they ask with calls that take a path too, which a confined
/// process must not be able to make (`confine.rs`).
fn status(file: &File) -> Result<libc::stat, Error> {
    // SAFETY: all zeros is a value of this plain C struct.
    let mut status: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: the descriptor is open, and the kernel writes a `struct stat`, which on 64-bit machines is libc's,
    // to one that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_fstat, file.as_raw_fd(), &raw mut status) };
    if result != 0 {
        return Err(Error::last_os_error("fstat"));
    }
    Ok(status)
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

/// Those that keep content and size as they are.
const SEALS: i32 = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// Whether a file is one in memory whose content and size cannot be changed any more.
fn is_sealed(file: &File) -> bool {
    // SAFETY: the descriptor is open, and the command takes nothing.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    // Of files that cannot be sealed it is an error, -1, which has every bit.
    seals >= 0 && seals & SEALS == SEALS
}

fn seal(file: &File) -> Result<(), Error> {
    // SAFETY: the descriptor is open, and the command takes an integer.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } != 0 {
        return Err(Error::last_os_error("fcntl(F_ADD_SEALS)"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsRawFd, ptr};

    use super::{LARGE_PAGE, PAGE_SIZE, SealedFile};

    #[test]
    fn content_and_size_are_sealed() {
        let sealed = SealedFile::new(&[(0, b"immutable")], &[]).unwrap();
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
    fn its_bytes_are_its_parts_and_zeros() {
        let mut second = vec![0; 3 * PAGE_SIZE + 2];
        second[PAGE_SIZE] = 2;
        second[3 * PAGE_SIZE] = 3;
        let parts: [(usize, &[u8]); 3] =
            [(0, b"one"), (PAGE_SIZE, b""), (2 * PAGE_SIZE, second.as_slice())];
        let sealed = SealedFile::new(&parts, &[]).unwrap();
        let mut expected = vec![0; 6 * PAGE_SIZE];
        expected[..3].copy_from_slice(b"one");
        expected[2 * PAGE_SIZE..][..second.len()].copy_from_slice(&second);
        assert!(sealed.bytes().unwrap() == expected);
        assert!(SealedFile::new(&[], &[]).unwrap().bytes().unwrap().is_empty());
    }

    #[test]
    fn a_file_on_disk_must_be_this_users_and_read_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer");
        std::fs::write(&path, vec![7; 8192]).unwrap();
        let open = || SealedFile::open(std::fs::File::open(&path).unwrap());
        let refused =
            |result: Result<SealedFile, crate::Error>| result.map(|_| ()).unwrap_err().to_string();
        assert!(refused(open()).contains("can be written to"));
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&path, permissions.clone()).unwrap();
        let file = open().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.bytes().unwrap(), [7; 8192], "deleted or not");
        std::fs::write(&path, [7; 100]).unwrap();
        std::fs::set_permissions(&path, permissions).unwrap();
        assert!(refused(open()).contains("multiple"));
        let other = SealedFile::open(std::fs::File::open(directory.path()).unwrap());
        assert!(refused(other).contains("regular file"));
    }

    #[test]
    fn a_sealed_file_of_another_process_is_taken_and_one_that_is_not_sealed_is_not() {
        let sealed = SealedFile::new(&[(0, b"theirs")], &[]).unwrap();
        let theirs = SealedFile::open(sealed.file().try_clone().unwrap()).unwrap();
        assert_eq!(&theirs.bytes().unwrap()[..6], b"theirs");
        let open = super::create().unwrap();
        open.set_len(4096).unwrap();
        assert!(SealedFile::open(open).is_err(), "its content could change");
    }

    #[test]
    fn size_is_rounded_up_to_pages() {
        for (bytes, len) in [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(SealedFile::new(&[(0, &vec![1; bytes])], &[]).unwrap().len(), len);
        }
    }
    #[test]
    fn large_pages_have_the_same_content() {
        let content: Vec<u8> = (0..LARGE_PAGE + 100).map(|at| (at / 7) as u8).collect();
        let large = LARGE_PAGE..3 * LARGE_PAGE;
        let parts: [(usize, &[u8]); 2] = [(0, b"small"), (LARGE_PAGE, &content)];
        let sealed = SealedFile::new(&parts, std::slice::from_ref(&large)).unwrap();
        let bytes = sealed.bytes().unwrap();
        assert_eq!((bytes.len(), &bytes[..5]), (3 * LARGE_PAGE, &b"small"[..]));
        assert!(bytes[LARGE_PAGE..][..content.len()] == content);
        assert!(bytes[LARGE_PAGE + content.len()..].iter().all(|byte| *byte == 0));
    }
}
