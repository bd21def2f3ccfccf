//! Initial content of memory.

use std::{fmt, fs::File, ops::Range, sync::Arc};

use crate::{Error, LARGE_PAGE, PAGE_SIZE, platform::SealedFile};

/// Immutable initial content of a VM's memory: layers of pages, with zeros wherever there is none. Cheap to
/// clone.
///
/// A layer is a file. Every VM made with the image maps the same pages copy-on-write, so they are in the
/// host's memory once, plus what each VM has changed; images that
/// [were captured](crate::GuestMemory::capture) of VMs of one image share its layers.
#[derive(Clone)]
pub struct MemoryImage(Arc<[Extent]>);

/// Where some pages of an image are. All numbers are bytes, and multiples of the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Guest-physical address of the first byte.
    pub address: u64,
    /// How many.
    pub len: u64,
    /// Which of the layers' files they are in.
    pub layer: usize,
    /// Where they begin in that file.
    pub offset: u64,
}

/// Pages of a layer and where they are in guest-physical memory. All numbers are multiples of the page size.
#[derive(Clone)]
pub(crate) struct Extent {
    /// Guest-physical address of the first page.
    pub(crate) start: usize,
    /// Bytes.
    pub(crate) len: usize,
    pub(crate) file: Arc<SealedFile>,
    /// Where they begin in the file.
    pub(crate) offset: usize,
}

impl Extent {
    pub(crate) fn end(&self) -> usize {
        self.start + self.len
    }

    /// The part of it in a range that overlaps it.
    fn part(&self, range: Range<usize>) -> Self {
        let (start, end) = (range.start.max(self.start), range.end.min(self.end()));
        Extent { start, len: end - start, offset: self.offset + start - self.start, ..self.clone() }
    }

    /// Its content.
    pub(crate) fn bytes(&self) -> Result<&[u8], Error> {
        Ok(&self.file.bytes()?[self.offset..self.offset + self.len])
    }
}

impl MemoryImage {
    /// An image of these bytes, copied, and zeros up to the end of the last page. Nothing in this
    /// process or another can change it afterwards.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or [`Error::Host`] when the host cannot make or seal an anonymous file.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        MemoryImage::with_large_pages(bytes, &[])
    }

    /// As [`new`](Self::new), with ranges of the image that are each in large pages of the host's, if it has such:
    /// two megabytes in one piece. For what guests only read and have mapped so themselves: a VM that is new then
    /// has it with a single fault. A page of it that is written is a copy of the ordinary size.
    ///
    /// Ranges are multiples of a large page, and may end after the bytes: the image is then as long as they are.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_large_pages(bytes: &[u8], large: &[Range<usize>]) -> Result<Self, Error> {
        let file = Arc::new(SealedFile::new(&[(0, bytes)], large)?);
        let len = file.len();
        Ok(MemoryImage::from_extents(vec![Extent { start: 0, len, file, offset: 0 }]))
    }

    /// An image of pages in files, each of them in order of guest-physical addresses and without overlaps. The
    /// files are mapped, not read: see [`MemoryImage::layers`] and [`MemoryImage::files`] for where they come
    /// from. Each must be a regular file of this process's user that its mode lets nobody write to, or one in
    /// memory that is sealed.
    ///
    /// # Errors
    /// [`Error::Rejected`] if a file is not such a one, or a place lies outside of its file or over another.
    pub fn from_layers(files: Vec<File>, places: &[Place]) -> Result<Self, Error> {
        let files: Vec<_> = files
            .into_iter()
            .map(|file| SealedFile::open(file).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let mut extents: Vec<Extent> = Vec::new();
        for place in places {
            let extent = files.get(place.layer).and_then(|file| {
                let [start, len, offset] = [place.address, place.len, place.offset]
                    .map(|number| usize::try_from(number).ok());
                let extent =
                    Extent { start: start?, len: len?, file: Arc::clone(file), offset: offset? };
                let whole = [extent.start, extent.len, extent.offset];
                let fits = extent.start.checked_add(extent.len).is_some()
                    && extent.offset.checked_add(extent.len)? <= file.len()
                    && whole.iter().all(|number| number.is_multiple_of(PAGE_SIZE));
                let after = extents.last().is_none_or(|last| last.end() <= extent.start);
                (fits && after).then_some(extent)
            });
            extents.push(extent.ok_or_else(|| Error::Rejected {
                what: format!("{place:?} of an image"),
                source: std::io::ErrorKind::InvalidData.into(),
            })?);
        }
        Ok(MemoryImage::from_extents(extents))
    }

    /// The content of each of its files, and where which part of which is: all that
    /// [`from_layers`](Self::from_layers) takes to make the same image.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn layers(&self) -> Result<(Vec<&[u8]>, Vec<Place>), Error> {
        let (files, places) = self.sealed_files();
        let contents = files.into_iter().map(|file| file.bytes()).collect::<Result<_, _>>()?;
        Ok((contents, places))
    }

    /// As [`layers`](Self::layers), with the files themselves in place of their content: to be sent to another
    /// process, which makes the same image of the same memory.
    pub fn files(&self) -> (Vec<&File>, Vec<Place>) {
        let (files, places) = self.sealed_files();
        (files.into_iter().map(|file| file.file()).collect(), places)
    }

    fn sealed_files(&self) -> (Vec<&SealedFile>, Vec<Place>) {
        let mut files: Vec<&Arc<SealedFile>> = Vec::new();
        let places = self.0.iter().map(|extent| {
            let known = files.iter().position(|file| Arc::ptr_eq(file, &extent.file));
            let layer = known.unwrap_or_else(|| {
                files.push(&extent.file);
                files.len() - 1
            });
            let [address, len, offset] =
                [extent.start, extent.len, extent.offset].map(|number| number as u64);
            Place { address, len, layer, offset }
        });
        let places = places.collect();
        (files.into_iter().map(|file| &**file).collect(), places)
    }

    /// Nothing but zeros.
    pub(crate) fn zeros() -> Self {
        MemoryImage(Arc::new([]))
    }

    fn from_extents(mut extents: Vec<Extent>) -> Self {
        extents.retain(|extent| extent.len > 0);
        debug_assert!(extents.is_sorted_by(|a, b| a.end() <= b.start));
        MemoryImage(extents.into())
    }

    /// This image with a layer of those pages over it: ranges in order and disjoint, and where each begins in the file.
    pub(crate) fn with_layer(&self, ranges: &[(Range<usize>, usize)], file: SealedFile) -> Self {
        let file = Arc::new(file);
        let mut extents = Vec::new();
        let mut end = 0;
        for (range, offset) in ranges {
            extents.extend(self.parts(end..range.start));
            let file = Arc::clone(&file);
            extents.push(Extent { start: range.start, len: range.len(), file, offset: *offset });
            end = range.end;
        }
        extents.extend(self.parts(end..usize::MAX));
        MemoryImage::from_extents(extents)
    }

    /// Its extents, in order and disjoint.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.0
    }

    /// The parts of its extents that lie in a range, in order.
    pub(crate) fn parts(&self, range: Range<usize>) -> impl Iterator<Item = Extent> {
        let first = self.0.partition_point(|extent| extent.end() <= range.start);
        let end = range.end;
        let overlapping = self.0[first..].iter().take_while(move |extent| extent.start < end);
        overlapping.map(move |extent| extent.part(range.clone()))
    }

    /// Whether it is the very same image, not merely an equal one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Where its content ends, in bytes: a multiple of [`PAGE_SIZE`].
    pub fn len(&self) -> usize {
        self.0.last().map_or(0, Extent::end)
    }

    /// Whether it has no content at all, or nothing but zeros.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of content, those of all layers: what the host's memory holds of it, however many VMs map it.
    pub fn content_len(&self) -> usize {
        self.0.iter().map(|extent| extent.len).sum()
    }

    /// How many ranges its content is in. Each VM takes two of the process's mappings for each.
    pub fn extent_count(&self) -> usize {
        self.0.len()
    }

    /// Bytes of this image's content that are not also `base`'s: what it takes in the host's memory where
    /// `base` is there already.
    pub fn len_over(&self, base: &MemoryImage) -> usize {
        let of_base =
            |extent: &&Extent| base.0.iter().any(|other| Arc::ptr_eq(&other.file, &extent.file));
        self.0.iter().filter(|extent| !of_base(extent)).map(|extent| extent.len).sum()
    }
}

impl fmt::Debug for MemoryImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryImage")
            .field("len", &self.len())
            .field("extents", &self.0.len())
            .finish_non_exhaustive()
    }
}

/// Where ranges of memory go in a layer's file.
#[derive(Default)]
pub(crate) struct Placed {
    /// The ranges, and where each begins in the file.
    pub(crate) ranges: Vec<(Range<usize>, usize)>,
    /// What of the file is to be large pages.
    pub(crate) large: Vec<Range<usize>>,
}

/// Places ranges one after the other. Those with whole large pages of `read_only` memory have these where large pages of the
/// file are, too.
pub(crate) fn placed(ranges: Vec<Range<usize>>, read_only: &[Range<u64>]) -> Placed {
    let mut placed = Placed::default();
    let mut end = 0_usize;
    for range in ranges {
        let whole = |part: &Range<u64>| {
            // What is beyond this machine's addresses no range has.
            let [start, stop] =
                [part.start, part.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            let start = start.max(range.start).next_multiple_of(LARGE_PAGE);
            let stop = stop.min(range.end) / LARGE_PAGE * LARGE_PAGE;
            (start < stop).then_some(start..stop)
        };
        let whole: Vec<Range<usize>> = read_only.iter().filter_map(whole).collect();
        let mut offset = end;
        if !whole.is_empty() {
            // Where large pages of both begin at once. The gap is a hole, which takes no memory.
            offset += (range.start % LARGE_PAGE + LARGE_PAGE - end % LARGE_PAGE) % LARGE_PAGE;
        }
        end = offset + range.len();
        let in_file = |part: Range<usize>| {
            offset + (part.start - range.start)..offset + (part.end - range.start)
        };
        placed.large.extend(whole.into_iter().map(in_file));
        placed.ranges.push((range, offset));
    }
    placed
}

/// Ranges of pages made fewer than `most` by filling the smallest gaps between them. They are in order and
/// disjoint, before and after.
pub(crate) fn joined(ranges: Vec<Range<usize>>, most: usize) -> Vec<Range<usize>> {
    let mut gaps: Vec<usize> = ranges.windows(2).map(|pair| pair[1].start - pair[0].end).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    // Gaps of this size and below are filled; at least those of a single page are.
    let filled = gaps.get(most.saturating_sub(1)).copied().unwrap_or(0).max(PAGE_SIZE);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start - last.end <= filled => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
