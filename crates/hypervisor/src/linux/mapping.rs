//! A block of address space of our own.

use std::{io, os::fd::AsRawFd, ptr, ptr::NonNull, slice};

use super::SealedFile;
use crate::{Error, LARGE_PAGE, PAGE_SIZE};

/// Private, readable, writable memory between two pages that fault.
///
/// The block is mapped from `new` to `drop`, and only this struct knows where: whatever else is
/// mapped over it in between, it is never unmapped and never shared with another process.
pub(crate) struct Mapping {
    /// First byte of the block. It begins at a large page, so that hypervisors can map large pages of it.
    base: NonNull<u8>,
    /// Bytes of the block.
    len: usize,
    /// First byte of the reservation that the block lies in, with a page or more at either end.
    reservation: NonNull<u8>,
    /// Bytes of the reservation.
    reserved: usize,
}

// SAFETY: it owns its memory as a `Box<[u8]>` does, and no thread has a part in that.
unsafe impl Send for Mapping {}
// SAFETY: as above; through a shared reference it can only be read.
unsafe impl Sync for Mapping {}

const GUARD: usize = PAGE_SIZE;

/// `MADV_COLLAPSE`, since Linux 6.1, which libc does not have for every target.
pub(super) const MADV_COLLAPSE: i32 = 25;

impl Mapping {
    /// `len` bytes of zeros; `len` is a multiple of the page size and not zero.
    pub(crate) fn new(len: usize) -> Result<Self, Error> {
        debug_assert!(len != 0 && len.is_multiple_of(PAGE_SIZE));
        let failed = |source| Error::OutOfMemory { bytes: len, source };
        let reserved = len
            .checked_add(LARGE_PAGE + 2 * GUARD)
            .filter(|reserved| isize::try_from(*reserved).is_ok())
            .ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;

        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, at a place that the kernel chooses, so over nothing of ours.
        let reservation =
            unsafe { libc::mmap(ptr::null_mut(), reserved, libc::PROT_NONE, flags, -1, 0) };
        if reservation == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let reservation =
            NonNull::new(reservation.cast::<u8>()).expect("a mapping is not at address 0");
        let first = reservation.as_ptr().addr();
        let before = (first + GUARD).next_multiple_of(LARGE_PAGE) - first;
        // SAFETY: `before` is at most `LARGE_PAGE + GUARD`, and the reservation is that and a page larger
        // than the block, which is not empty.
        let base = unsafe { reservation.add(before) };
        let mapping = Mapping { base, len, reservation, reserved };

        // SAFETY: the block within the reservation just made, which nothing refers to yet.
        let result = unsafe {
            libc::mprotect(mapping.base.as_ptr().cast(), len, libc::PROT_READ | libc::PROT_WRITE)
        };
        if result != 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        Ok(mapping)
    }

    /// Bytes of the block.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The block.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped readable at `base` until `drop`, initialised by the kernel,
        // and fit an `isize` (checked in `new`). Nothing writes to them while they are borrowed: the
        // host does so through `&mut self`, and a guest only while its vCPU runs, which takes the VM
        // that owns this mapping exclusively (`Vm::run`).
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// The block, to write to.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes it the only access.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }

    /// Puts a private copy of `len` bytes of `file`, from `offset` on, at `start`. All are multiples of the page
    /// size.
    ///
    /// # Panics
    /// When they are not within the file, or do not fit into the block.
    pub(crate) fn map_file(
        &mut self,
        start: usize,
        len: usize,
        file: &SealedFile,
        offset: usize,
    ) -> Result<(), Error> {
        // The file's content and size are sealed, so that pages not yet copied cannot change, and
        // none of them can go away.
        assert!(offset.checked_add(len).is_some_and(|end| end <= file.len()));
        self.replace(start, len, 0, file.file().as_raw_fd(), offset)
    }

    /// Makes `len` bytes at `start` zeros; both are multiples of the page size.
    ///
    /// # Panics
    /// When they are not within the block.
    pub(crate) fn map_zeros(&mut self, start: usize, len: usize) -> Result<(), Error> {
        self.replace(start, len, libc::MAP_ANONYMOUS, -1, 0)
    }

    /// Replaces `len` bytes at `start` by a fresh private mapping.
    fn replace(
        &mut self,
        start: usize,
        len: usize,
        flags: i32,
        fd: i32,
        offset: usize,
    ) -> Result<(), Error> {
        self.check(start, len);
        if len == 0 {
            return Ok(());
        }
        let out_of_memory = |source| Error::OutOfMemory { bytes: len, source };
        let offset = libc::off_t::try_from(offset)
            .map_err(|_| out_of_memory(io::ErrorKind::OutOfMemory.into()))?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: `start` and `len` are within the block (`check`), which is ours, and which `&mut self`
        // keeps anyone from borrowing. The result is mapped just as `bytes` needs: of a file, no more
        // than it has (`map_file`).
        let result = unsafe {
            libc::mmap(self.base.as_ptr().add(start).cast(), len, protection, flags, fd, offset)
        };
        if result == libc::MAP_FAILED {
            return Err(out_of_memory(io::Error::last_os_error()));
        }
        Ok(())
    }

    /// Gives the process's own copies of `len` bytes at `start` back to the kernel: what is mapped there
    /// shows again, a file's content or zeros. Both are multiples of the page size.
    ///
    /// # Panics
    /// When they are not within the block.
    pub(crate) fn discard(&mut self, start: usize, len: usize) -> Result<(), Error> {
        self.check(start, len);
        // SAFETY: within the block (`check`), which `&mut self` keeps anyone from borrowing; it stays mapped,
        // privately, so that it is readable as before, with other content.
        let result = unsafe {
            libc::madvise(self.base.as_ptr().add(start).cast(), len, libc::MADV_DONTNEED)
        };
        if result != 0 {
            return Err(Error::last_os_error("madvise(MADV_DONTNEED)"));
        }
        Ok(())
    }

    /// Makes the process's own copies of `len` bytes at `start`, as if each page had been written to. Both are
    /// multiples of the page size. Kernels before 5.14 do nothing.
    ///
    /// # Panics
    /// When they are not within the block.
    pub(crate) fn populate(&mut self, start: usize, len: usize) -> Result<(), Error> {
        self.check(start, len);
        // SAFETY: within the block (`check`); the content stays as it is.
        let result = unsafe {
            libc::madvise(self.base.as_ptr().add(start).cast(), len, libc::MADV_POPULATE_WRITE)
        };
        match (result, io::Error::last_os_error()) {
            (0, _) => Ok(()),
            (_, error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            (_, source) => Err(Error::OutOfMemory { bytes: len, source }),
        }
    }

    /// Has the kernel put the first large page, to which a file is mapped, into one piece of memory, so that it can be
    /// mapped as one by everybody. Without memory in one piece, on kernels before 6.1, and where huge pages are forbidden,
    /// it stays as it is, which is right but slower: so there is nothing to be done about it.
    pub(crate) fn collapse(&mut self) {
        self.check(0, LARGE_PAGE);
        // SAFETY: within the block (`check`); the content stays as it is.
        let result = unsafe { libc::madvise(self.base.as_ptr().cast(), LARGE_PAGE, MADV_COLLAPSE) };
        if result != 0 {
            let error = io::Error::last_os_error();
            tracing::debug!(%error, "an image's large page is not in one piece");
        }
    }

    fn check(&self, start: usize, len: usize) {
        let whole = start.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
        let within = start.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(whole && within, "{len} bytes at {start} of a block of {}", self.len);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the whole reservation, which `new` made and nothing has unmapped since; nobody can
        // borrow it any more. It fails only for a range that is not one.
        unsafe { libc::munmap(self.reservation.as_ptr().cast(), self.reserved) };
    }
}
