//! Which pages of an address range this process has to itself.

use std::{fs::File, io, ops::Range, os::fd::AsRawFd, os::unix::fs::FileExt, sync::OnceLock};

use crate::{Error, PAGE_SIZE};

/// Which pages are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Those that this process has to itself, in memory or swapped out: pages that were written to.
    Private,
    /// Those that are mapped and shared, with a file or with all that is zero: pages that were read, and with
    /// them some of a file's that are near.
    Shared,
}

/// Pages of `block`, which begins at a page: ranges of bytes within it, in order, with something else between
/// any two.
pub(crate) fn pages(block: &[u8], which: Pages) -> Result<Vec<Range<usize>>, Error> {
    let start = block.as_ptr().addr() as u64;
    let range = start..start + block.len() as u64;
    let mut pages = Vec::new();
    // What is not in the block the kernel does not report.
    let mut found = |region: Range<u64>| {
        let region = (region.start - start) as usize..(region.end - start) as usize;
        match pages.last_mut() {
            Some(Range { end, .. }) if *end == region.start => *end = region.end,
            _ => pages.push(region),
        }
    };
    let pagemap = pagemap()?;
    match scan(pagemap, range.clone(), which, &mut found) {
        // Linux before 6.7.
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
            read(pagemap, range, which, &mut found)
                .map_err(|source| Error::Host { call: "read(/proc/self/pagemap)", source })
        }
        result => result.map_err(|source| Error::Host { call: "ioctl(PAGEMAP_SCAN)", source }),
    }?;
    Ok(pages)
}

/// The file that tells; opened once.
pub(super) fn pagemap() -> Result<&'static File, Error> {
    static PAGEMAP: OnceLock<File> = OnceLock::new();
    if let Some(file) = PAGEMAP.get() {
        return Ok(file);
    }
    let file = File::open("/proc/self/pagemap")
        .map_err(|source| Error::of_call("open(/proc/self/pagemap)", source))?;
    Ok(PAGEMAP.get_or_init(|| file))
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
pub(super) const PAGEMAP_SCAN: libc::c_ulong =
    3 << 30 | (size_of::<PmScanArg>() as u64) << 16 | 0x66 << 8 | 16;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

fn scan(
    pagemap: &File,
    range: Range<u64>,
    which: Pages,
    found: &mut impl FnMut(Range<u64>),
) -> io::Result<()> {
    let shared = PAGE_IS_FILE | PAGE_IS_PFNZERO;
    // All categories of the mask, some of the other one; inverted ones must not be there.
    let (inverted, all, any) = match which {
        Pages::Private => (shared, shared, PAGE_IS_PRESENT | PAGE_IS_SWAPPED),
        Pages::Shared => (0, PAGE_IS_PRESENT, shared),
    };
    let mut regions = [PageRegion::default(); 256];
    let mut start = range.start;
    while start < range.end {
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            start,
            end: range.end,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            category_inverted: inverted,
            category_mask: all,
            category_anyof_mask: any,
            return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ..PmScanArg::default()
        };
        // SAFETY: the kernel reads and writes `arg`, which has the layout and size it expects, and
        // writes at most `vec_len` regions to `regions`. Both outlive the call.
        let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        regions[..count].iter().for_each(|region| found(region.start..region.end));
        if arg.walk_end <= start {
            return Err(io::Error::other("the scan does not get ahead"));
        }
        start = arg.walk_end;
    }
    Ok(())
}

const ENTRY_PRESENT: u64 = 1 << 63;
const ENTRY_SWAPPED: u64 = 1 << 62;
const ENTRY_FILE: u64 = 1 << 61;
/// Mapped here only; not set for the shared page of zeros.
const ENTRY_EXCLUSIVE: u64 = 1 << 56;

fn read(
    pagemap: &File,
    range: Range<u64>,
    which: Pages,
    found: &mut impl FnMut(Range<u64>),
) -> io::Result<()> {
    const PAGE: u64 = PAGE_SIZE as u64;
    let mut buffer = [0; 4096];
    let entry_at = |address: u64| address / PAGE * 8;
    let (mut at, end) = (entry_at(range.start), entry_at(range.end));
    while at < end {
        let want = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        pagemap.read_exact_at(&mut buffer[..want], at)?;
        let (entries, _) = buffer[..want].as_chunks::<8>();
        for (n, entry) in entries.iter().enumerate() {
            let entry = u64::from_le_bytes(*entry);
            let asked_for = match which {
                Pages::Private => is_private(entry),
                Pages::Shared => entry & ENTRY_PRESENT != 0 && !is_private(entry),
            };
            if asked_for {
                let page = (at / 8 + n as u64) * PAGE;
                found(page..page + PAGE);
            }
        }
        at += want as u64;
    }
    Ok(())
}

fn is_private(entry: u64) -> bool {
    let own_page = ENTRY_PRESENT | ENTRY_EXCLUSIVE;
    entry & ENTRY_FILE == 0 && (entry & own_page == own_page || entry & ENTRY_SWAPPED != 0)
}

#[cfg(test)]
mod tests {
    use super::{Pages, pagemap, read};
    use crate::{GuestMemory, MemoryImage, PAGE_SIZE};

    /// Pages from either source, which must agree.
    fn pages(memory: &GuestMemory, which: Pages) -> Vec<usize> {
        let block = memory.slice(0..memory.len() as u64).unwrap();
        let start = block.as_ptr().addr();
        let mut from_entries = Vec::new();
        let range = start as u64..(start + block.len()) as u64;
        let page = |at: usize| at / PAGE_SIZE;
        let mut found = |region: std::ops::Range<u64>| {
            from_entries.push(page(region.start as usize - start));
        };
        read(pagemap().unwrap(), range, which, &mut found).unwrap();
        let scanned = super::pages(block, which).unwrap();
        assert!(scanned.windows(2).all(|pair| pair[0].end < pair[1].start), "{scanned:?}");
        let scanned: Vec<_> =
            scanned.into_iter().flat_map(|range| page(range.start)..page(range.end)).collect();
        assert_eq!(scanned, from_entries);
        scanned
    }

    #[test]
    fn only_written_pages_are_private() {
        let image = MemoryImage::new(&[7; 8 * PAGE_SIZE]).unwrap();
        let mut memory = GuestMemory::with_image(&image, 64 << 20).unwrap();
        assert_eq!(pages(&memory, Pages::Private), [0; 0]);

        // Reading shares: the image's page, and the kernel's page of zeros.
        assert_eq!(memory.read_u64(0).unwrap(), 0x0707_0707_0707_0707);
        assert_eq!(memory.read_u64(32 << 20).unwrap(), 0);
        assert_eq!(pages(&memory, Pages::Private), [0; 0]);
        let read = pages(&memory, Pages::Shared);
        assert!(read.contains(&0) && read.contains(&((32 << 20) / PAGE_SIZE)), "{read:?}");
        assert!(read.iter().all(|page| *page < 8 || *page == (32 << 20) / PAGE_SIZE), "{read:?}");

        memory.write_u64(PAGE_SIZE as u64, 1).unwrap();
        memory.write_u64(2 * PAGE_SIZE as u64, 1).unwrap();
        assert_eq!(pages(&memory, Pages::Private), [1, 2]);
        // More than one call's worth of regions.
        for page in 0..600 {
            memory.write_u64((16 << 20) + page * 2 * PAGE_SIZE as u64, 1).unwrap();
        }
        // Where the host backs memory with huge pages, a written page brings its neighbours along.
        let written = pages(&memory, Pages::Private);
        assert!((602..=2 + 4 * 512).contains(&written.len()), "{}", written.len());
        let every = |page| written.binary_search(&page).is_ok();
        assert!((0..600).all(|n| every((16 << 20) / PAGE_SIZE + 2 * n)));
        assert_eq!(memory.resident_pages().unwrap(), written.len() as u64);
    }
}
