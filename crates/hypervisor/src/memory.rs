//! A VM's memory.

use std::{fmt, io, ops::Range};

use crate::{
    Error, MemoryImage, PAGE_SIZE,
    image::{Placed, joined, placed},
    platform::{self, Mapping, Pages, SealedFile},
};

/// What most pages of images are: compared with at once, not byte by byte, whenever a process starts or a snapshot is
/// taken.
pub(crate) static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// Ranges that a captured layer has at most. Each VM takes two mappings of the process for each, of which
/// Linux allows 65,530.
const MAX_LAYER_RANGES: usize = 24;
/// Bytes that a reset copies back at most; what was changed beyond that is given back to the kernel, so
/// that a VM does not keep for ever what it once needed.
const MAX_COPIED: usize = 16 << 20;
/// Ranges below this size are copied in any case: giving them back costs more.
const MIN_DISCARDED: usize = 16 * PAGE_SIZE;

/// A VM's guest-physical memory: one block that starts at address 0.
///
/// The host can borrow it as plain slices, since nothing changes it behind their back: the VM that
/// owns it has a single vCPU, and that runs only inside [`Vm::run`](crate::Vm::run), which borrows the
/// VM and so the memory exclusively.
pub struct GuestMemory {
    mapping: Mapping,
    /// What is mapped there.
    image: MemoryImage,
    /// Bytes from the start that a guest has at first.
    reach: usize,
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
        Ok(GuestMemory { mapping: Mapping::new(len)?, image: MemoryImage::zeros(), reach: len })
    }

    /// As [`new`](Self::new), with a private copy of `image` in place of zeros. Pages are copied when
    /// they are first written.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] when the image is larger than `len`; else as [`new`](Self::new).
    pub fn with_image(image: &MemoryImage, len: usize) -> Result<Self, Error> {
        let mut memory = GuestMemory::new(len)?;
        memory.check_fits(image)?;
        memory.map(image)?;
        Ok(memory)
    }

    /// The same memory, of which a guest has only the first `len` bytes, rounded up to whole pages, until
    /// [`Vm::extend`](crate::Vm::extend) gives it more. Hypervisors keep something for each page that a guest
    /// has, whether it is ever touched or not.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] when there are fewer bytes.
    pub fn with_reach(mut self, len: u64) -> Result<Self, Error> {
        // Whole pages fit too, since the memory is whole pages.
        self.reach = self.check(0..len)?.end.next_multiple_of(PAGE_SIZE).max(PAGE_SIZE);
        Ok(self)
    }

    /// Bytes from the start that a guest has at first.
    pub(crate) fn reach(&self) -> usize {
        self.reach
    }

    /// Maps the image over zeros.
    fn map(&mut self, image: &MemoryImage) -> Result<(), Error> {
        for extent in image.extents() {
            self.mapping.map_file(extent.start, extent.len, &extent.file, extent.offset)?;
        }
        self.image = image.clone();
        Ok(())
    }

    /// What it holds now, as an image: a layer of the pages that differ, over the image it was made with. Of ranges of
    /// guest-physical memory that guests only read, whole large pages that are new are in
    /// [large pages of the host's](MemoryImage::with_large_pages).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Host`].
    pub fn capture(&self, read_only: &[Range<u64>]) -> Result<MemoryImage, Error> {
        let changed = self.changed_pages()?;
        let Placed { ranges, large } = placed(joined(changed, MAX_LAYER_RANGES), read_only);
        let bytes = self.mapping.bytes();
        let parts: Vec<_> =
            ranges.iter().map(|(range, offset)| (*offset, &bytes[range.clone()])).collect();
        let file = SealedFile::new(&parts, &large)?;
        Ok(self.image.with_layer(&ranges, file))
    }

    /// Pages whose content is not the image's: ranges in order, with others between any two.
    fn changed_pages(&self) -> Result<Vec<Range<usize>>, Error> {
        let bytes = self.mapping.bytes();
        let mut changed: Vec<Range<usize>> = Vec::new();
        let mut compare = |start: usize, content: Option<&[u8]>, len: usize| {
            for at in (0..len).step_by(PAGE_SIZE) {
                let page = start + at..start + at + PAGE_SIZE;
                let same = match content {
                    Some(content) => bytes[page.clone()] == content[at..at + PAGE_SIZE],
                    None => bytes[page.clone()] == ZEROS,
                };
                match changed.last_mut() {
                    _ if same => {}
                    Some(last) if last.end == page.start => last.end = page.end,
                    _ => changed.push(page),
                }
            }
        };
        for range in platform::pages(bytes, Pages::Private)? {
            let mut at = range.start;
            for extent in self.image.parts(range.clone()) {
                compare(at, None, extent.start - at);
                compare(extent.start, Some(extent.bytes()?), extent.len);
                at = extent.end();
            }
            compare(at, None, range.end - at);
        }
        Ok(changed)
    }

    /// Puts back the content that [`with_image`](Self::with_image) gave, or makes it that of another image.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] when the image is larger than the memory. After any other error the
    /// content is undefined.
    pub(crate) fn reset(&mut self, image: &MemoryImage) -> Result<(), Error> {
        self.check_fits(image)?;
        if self.image.is(image) {
            return self.put_back();
        }
        self.mapping.map_zeros(0, self.len())?;
        self.map(image)
    }

    /// Makes every page what it is in the image. Pages that were ever written are copied back and stay this
    /// block's own, ready to be written again: that is cheaper for everyone than to let the kernel take
    /// them away and copy them once more.
    fn put_back(&mut self) -> Result<(), Error> {
        let written = platform::pages(self.mapping.bytes(), Pages::Private)?;
        let total: usize = written.iter().map(ExactSizeIterator::len).sum();
        let image = self.image.clone();
        for range in written {
            if total > MAX_COPIED && range.len() >= MIN_DISCARDED {
                self.mapping.discard(range.start, range.len())?;
                continue;
            }
            let bytes = self.mapping.bytes_mut();
            let mut at = range.start;
            for extent in image.parts(range.clone()) {
                bytes[at..extent.start].fill(0);
                bytes[extent.start..extent.end()].copy_from_slice(extent.bytes()?);
                at = extent.end();
            }
            bytes[at..range.end].fill(0);
        }
        Ok(())
    }

    /// Makes a range what it is in the image that this memory was made with, by giving the host's pages back.
    /// The hypervisor forgets that it has mapped them: with [`reset_memory`](crate::Vm::reset_memory), this
    /// is how page-table entries that the host has taken away from the guest take effect.
    ///
    /// The range is widened to whole pages.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Host`].
    pub fn discard(&mut self, range: Range<u64>) -> Result<(), Error> {
        let range = self.check(range)?;
        let start = range.start / PAGE_SIZE * PAGE_SIZE;
        // The block is whole pages, so that this stays within it.
        self.mapping.discard(start, range.end.next_multiple_of(PAGE_SIZE) - start)
    }

    /// Makes this block's own copies of the pages of a range, before anybody writes to them. Many at once are
    /// quicker than one by one, and hypervisors map pages that are there together with their neighbours.
    ///
    /// The range is widened to whole pages.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::OutOfMemory`].
    pub fn populate(&mut self, range: Range<u64>) -> Result<(), Error> {
        let range = self.check(range)?;
        let start = range.start / PAGE_SIZE * PAGE_SIZE;
        self.mapping.populate(start, range.end.next_multiple_of(PAGE_SIZE) - start)
    }

    /// The image that it was made with, or last [reset](crate::Vm::reset_memory) to.
    pub fn image(&self) -> &MemoryImage {
        &self.image
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
        let pages = platform::pages(self.mapping.bytes(), Pages::Private)?;
        Ok(pages.iter().map(|range| (range.len() / PAGE_SIZE) as u64).sum())
    }

    /// Pages that were written to, by the guest or the host, since the memory was made or its pages were
    /// last given back: ranges of guest-physical addresses, in order.
    ///
    /// # Errors
    /// [`Error::Host`] when the kernel does not tell.
    pub fn written_pages(&self) -> Result<Vec<Range<u64>>, Error> {
        self.pages(Pages::Private)
    }

    /// Pages that were only read, and some of an image's around them that the kernel has mapped with them.
    ///
    /// # Errors
    /// [`Error::Host`] when the kernel does not tell.
    pub fn read_pages(&self) -> Result<Vec<Range<u64>>, Error> {
        self.pages(Pages::Shared)
    }

    fn pages(&self, which: Pages) -> Result<Vec<Range<u64>>, Error> {
        let pages = platform::pages(self.mapping.bytes(), which)?;
        Ok(pages.into_iter().map(|range| range.start as u64..range.end as u64).collect())
    }

    /// The host's address of the block, for a backend that hands it to its hypervisor.
    pub(crate) fn host_address(&mut self) -> *mut u8 {
        self.mapping.bytes_mut().as_mut_ptr()
    }

    pub(crate) fn check(&self, range: Range<u64>) -> Result<Range<usize>, Error> {
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
