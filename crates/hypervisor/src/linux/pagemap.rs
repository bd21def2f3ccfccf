//! Which pages of an address range this process has to itself.

use std::{fs::File, io, ops::Range, os::fd::AsRawFd, os::unix::fs::FileExt};

use crate::{Error, PAGE_SIZE};

/// Pages in `range`, whose ends are multiples of the page size, that are private to this process and
/// in memory or swapped out.
pub(crate) fn private_pages(range: Range<*const u8>) -> Result<u64, Error> {
    let call = "open(/proc/self/pagemap)";
    let pagemap =
        File::open("/proc/self/pagemap").map_err(|source| Error::Host { call, source })?;
    let range = range.start as u64..range.end as u64;
    match scan(&pagemap, range.clone()) {
        // Linux before 6.7.
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => read(&pagemap, range)
            .map_err(|source| Error::Host { call: "read(/proc/self/pagemap)", source }),
        result => result.map_err(|source| Error::Host { call: "ioctl(PAGEMAP_SCAN)", source }),
    }
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong =
    3 << 30 | (size_of::<PmScanArg>() as u64) << 16 | 0x66 << 8 | 16;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

fn scan(pagemap: &File, range: Range<u64>) -> io::Result<u64> {
    let mut regions = [PageRegion::default(); 256];
    let mut pages = 0;
    let mut start = range.start;
    while start < range.end {
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            start,
            end: range.end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ..PmScanArg::default()
        };
        // SAFETY: the kernel reads and writes `arg`, which has the layout and size it expects, and
        // writes at most `vec_len` regions to `regions`. Both outlive the call.
        let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        pages += regions[..count].iter().map(|r| (r.end - r.start) / PAGE_SIZE as u64).sum::<u64>();
        if arg.walk_end <= start {
            return Err(io::Error::other("the scan does not get ahead"));
        }
        start = arg.walk_end;
    }
    Ok(pages)
}

const ENTRY_PRESENT: u64 = 1 << 63;
const ENTRY_SWAPPED: u64 = 1 << 62;
const ENTRY_FILE: u64 = 1 << 61;
/// Mapped here only; not set for the shared page of zeros.
const ENTRY_EXCLUSIVE: u64 = 1 << 56;

fn read(pagemap: &File, range: Range<u64>) -> io::Result<u64> {
    let mut buffer = [0; 4096];
    let mut pages = 0;
    let entry_at = |address: u64| address / PAGE_SIZE as u64 * 8;
    let (mut at, end) = (entry_at(range.start), entry_at(range.end));
    while at < end {
        let want = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        pagemap.read_exact_at(&mut buffer[..want], at)?;
        let (entries, _) = buffer[..want].as_chunks::<8>();
        let entries = entries.iter().map(|entry| u64::from_le_bytes(*entry));
        pages += entries.filter(|entry| is_private(*entry)).count() as u64;
        at += want as u64;
    }
    Ok(pages)
}

fn is_private(entry: u64) -> bool {
    let own_page = ENTRY_PRESENT | ENTRY_EXCLUSIVE;
    entry & ENTRY_FILE == 0 && (entry & own_page == own_page || entry & ENTRY_SWAPPED != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{private_pages, read};
    use crate::{GuestMemory, MemoryImage, PAGE_SIZE};

    #[test]
    fn only_written_pages_count() {
        let image = MemoryImage::new(&[7; 8 * PAGE_SIZE]).unwrap();
        let mut memory = GuestMemory::with_image(&image, 64 << 20).unwrap();
        let count = |memory: &GuestMemory| {
            let range = memory.slice(0..memory.len() as u64).unwrap().as_ptr_range();
            let pagemap = File::open("/proc/self/pagemap").unwrap();
            let from_entries = read(&pagemap, range.start as u64..range.end as u64).unwrap();
            let scanned = private_pages(range).unwrap();
            assert_eq!(scanned, from_entries);
            scanned
        };
        assert_eq!(count(&memory), 0);

        // Reading shares: the image's page, and the kernel's page of zeros.
        assert_eq!(memory.read_u64(0).unwrap(), 0x0707_0707_0707_0707);
        assert_eq!(memory.read_u64(32 << 20).unwrap(), 0);
        assert_eq!(count(&memory), 0);

        memory.write_u64(PAGE_SIZE as u64, 1).unwrap();
        assert_eq!(count(&memory), 1);
        for page in 0..600 {
            memory.write_u64((16 << 20) + page * 2 * PAGE_SIZE as u64, 1).unwrap();
        }
        // Where the host backs memory with huge pages, a written page brings its neighbours along.
        let written = count(&memory);
        assert!((601..=1 + 3 * 512).contains(&written), "{written}");
        assert_eq!(memory.resident_pages().unwrap(), written);
    }
}
