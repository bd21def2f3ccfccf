//! A VM's memory.

use std::{fmt, io, ops::Range};

use crate::{Error, MemoryImage, PAGE_SIZE, platform, platform::Mapping};

/// A VM's guest-physical memory: one block that starts at address 0.
///
/// The host can borrow it as plain slices, since nothing changes it behind their back: the VM that
/// owns it has a single vCPU, and that runs only inside [`Vm::run`](crate::Vm::run), which borrows the
/// VM and so the memory exclusively.
pub struct GuestMemory {
    mapping: Mapping,
}

impl GuestMemory {
    /// `len` bytes of zeros, rounded up to whole pages and to one page at least. The host's memory is
    /// taken a page at a time, when a page is first touched.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is no such room in the address space.
    pub fn new(len: usize) -> Result<Self, Error> {
        let len = len.max(1).checked_next_multiple_of(PAGE_SIZE).ok_or_else(|| {
            Error::OutOfMemory { bytes: len, source: io::ErrorKind::OutOfMemory.into() }
        })?;
        Ok(GuestMemory { mapping: Mapping::new(len)? })
    }

    /// As [`new`](Self::new), with a private copy of `image` at address 0 in place of zeros.
    /// Pages are copied when they are first written.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] when the image is larger than `len`; else as [`new`](Self::new).
    pub fn with_image(image: &MemoryImage, len: usize) -> Result<Self, Error> {
        let mut memory = GuestMemory::new(len)?;
        memory.check_fits(image)?;
        memory.mapping.map_file(image.file())?;
        Ok(memory)
    }

    /// Puts back the content that [`with_image`](Self::with_image) gave.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] when the image is larger than the memory. After any other error the
    /// content is undefined.
    pub(crate) fn reset(&mut self, image: &MemoryImage) -> Result<(), Error> {
        self.check_fits(image)?;
        self.mapping.map_zeros(image.len())?;
        self.mapping.map_file(image.file())
    }

    fn check_fits(&self, image: &MemoryImage) -> Result<(), Error> {
        if image.len() > self.len() {
            return Err(self.out_of_bounds(0, image.len() as u64));
        }
        Ok(())
    }

    /// Its size in bytes: a multiple of [`PAGE_SIZE`].
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Never: there is one page at least.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a range of guest-physical addresses.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] when the range is not within the memory, or ends before it starts.
    pub fn slice(&self, range: Range<u64>) -> Result<&[u8], Error> {
        let range = self.check(range)?;
        Ok(&self.mapping.bytes()[range])
    }

    /// The bytes of a range of guest-physical addresses, to write to.
    ///
    /// # Errors
    /// As [`slice`](Self::slice).
    pub fn slice_mut(&mut self, range: Range<u64>) -> Result<&mut [u8], Error> {
        let range = self.check(range)?;
        Ok(&mut self.mapping.bytes_mut()[range])
    }

    /// Fills `buf` from guest-physical address `addr` on.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]; `buf` is untouched then.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Error> {
        buf.copy_from_slice(self.slice(addr..self.end(addr, buf.len())?)?);
        Ok(())
    }

    /// Writes `bytes` from guest-physical address `addr` on.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]; nothing is written then.
    pub fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Error> {
        let end = self.end(addr, bytes.len())?;
        self.slice_mut(addr..end)?.copy_from_slice(bytes);
        Ok(())
    }

    /// The 64-bit little-endian value at `addr`, which need not be aligned.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`].
    pub fn read_u64(&self, addr: u64) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The 32-bit little-endian value at `addr`, which need not be aligned.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`].
    pub fn read_u32(&self, addr: u64) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.read(addr, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes a 64-bit little-endian value at `addr`, which need not be aligned.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`].
    pub fn write_u64(&mut self, addr: u64, value: u64) -> Result<(), Error> {
        self.write(addr, &value.to_le_bytes())
    }

    /// Writes a 32-bit little-endian value at `addr`, which need not be aligned.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`].
    pub fn write_u32(&mut self, addr: u64, value: u32) -> Result<(), Error> {
        self.write(addr, &value.to_le_bytes())
    }

    /// How many pages of the host's memory this block has to itself: those that were written, by the
    /// guest or the host. Pages still shared with an image, and pages never written, do not count.
    ///
    /// # Errors
    /// [`Error::Host`] when the kernel does not tell.
    pub fn resident_pages(&self) -> Result<u64, Error> {
        platform::private_pages(self.mapping.bytes().as_ptr_range())
    }

    /// The host's address of the block, for a backend that hands it to its hypervisor.
    pub(crate) fn host_address(&mut self) -> *mut u8 {
        self.mapping.bytes_mut().as_mut_ptr()
    }

    fn check(&self, range: Range<u64>) -> Result<Range<usize>, Error> {
        if range.start <= range.end && range.end <= self.len() as u64 {
            // Lossless: both are at most `len`, a `usize`.
            Ok(range.start as usize..range.end as usize)
        } else {
            Err(self.out_of_bounds(range.start, range.end))
        }
    }

    fn end(&self, addr: u64, len: usize) -> Result<u64, Error> {
        addr.checked_add(len as u64).ok_or_else(|| self.out_of_bounds(addr, u64::MAX))
    }

    fn out_of_bounds(&self, start: u64, end: u64) -> Error {
        Error::OutOfBounds { start, end, len: self.len() as u64 }
    }
}

impl fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemory").field("len", &self.len()).finish_non_exhaustive()
    }
}
