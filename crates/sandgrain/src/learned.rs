//! Which pages calls touch: learned from the first few sandboxes of a snapshot, for all that come after.

use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Sandboxes that are looked at.
const LOOKS: u32 = 4;
/// Pages that are kept at the most, which is what is made ready ahead of calls. Written ones come first.
const MAX_PAGES: u64 = 1024;

/// Bytes of large pages that are kept at the most.
const MAX_LARGE_BYTES: u64 = 128 << 20;

const PAGE: u64 = sandgrain_abi::layout::PAGE_SIZE;

/// Pages of guest-physical memory: ranges in order, without overlaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageSet {
    /// Those that were written to.
    pub(crate) written: Vec<Range<u64>>,
    /// Those that were only read.
    pub(crate) read: Vec<Range<u64>>,
    /// Large pages that were read and are mapped as such, which are not among the others: touching one page maps all.
    pub(crate) large: Vec<Range<u64>>,
}

impl Encode for PageSet {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.list(&self.written);
        out.list(&self.read);
        out.list(&self.large);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { written: from.list()?, read: from.list()?, large: from.list()? })
    }
}

/// Pages between two ranges that cost less to have than to ask for the ranges one by one.
const MAX_GAP: u64 = 3 * PAGE;

/// Those of ranges that are near to each other made one.
pub(crate) fn joined(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in united(&[ranges], u64::MAX / PAGE) {
        match joined.last_mut() {
            Some(last) if range.start - last.end <= MAX_GAP => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

/// What is known of a snapshot's calls.
#[derive(Default)]
pub(crate) struct Learned {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looks: u32,
    /// How often the set has changed.
    generation: u32,
    set: Arc<PageSet>,
}

impl Learned {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // No panic can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another look helps.
    pub(crate) fn is_curious(&self) -> bool {
        self.state().looks < LOOKS
    }

    /// The pages known so far, and a number that tells whether they are the same as before.
    pub(crate) fn set(&self) -> (Arc<PageSet>, u32) {
        let state = self.state();
        (Arc::clone(&state.set), state.generation)
    }

    /// Adds the pages that one sandbox has touched.
    pub(crate) fn add(&self, touched: &PageSet) {
        let mut state = self.state();
        state.looks += 1;
        let written = united(&[&state.set.written, &touched.written], MAX_PAGES);
        let left = MAX_PAGES - pages(&written);
        let read = united(&[&state.set.read, &touched.read], left);
        let large = united(&[&state.set.large, &touched.large], MAX_LARGE_BYTES / PAGE);
        let set = PageSet { written, read, large };
        if set != *state.set {
            state.set = Arc::new(set);
            state.generation += 1;
        }
    }
}

fn pages(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| (range.end - range.start) / PAGE).sum()
}

/// The pages of all ranges, each once and in order, at most so many.
fn united(lists: &[&[Range<u64>]], most: u64) -> Vec<Range<u64>> {
    let mut ranges: Vec<&Range<u64>> = lists.iter().copied().flatten().collect();
    ranges.sort_by_key(|range| range.start);
    let mut united: Vec<Range<u64>> = Vec::new();
    let mut left = most * PAGE;
    for range in ranges {
        let start = range.start.max(united.last().map_or(0, |last| last.end));
        let len = range.end.saturating_sub(start).min(left);
        if len == 0 {
            continue;
        }
        left -= len;
        match united.last_mut() {
            Some(last) if last.end == start => last.end += len,
            _ => united.push(start..start + len),
        }
    }
    united
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pages: &[(u64, u64)]) -> Vec<Range<u64>> {
        pages.iter().map(|(start, end)| start * PAGE..end * PAGE).collect()
    }

    fn set(written: &[(u64, u64)], read: &[(u64, u64)]) -> PageSet {
        PageSet { written: ranges(written), read: ranges(read), large: Vec::new() }
    }

    #[test]
    fn what_several_calls_touch_is_united() {
        let learned = Learned::default();
        learned.add(&set(&[(10, 12)], &[(1, 5)]));
        learned.add(&set(&[(11, 14)], &[(3, 12), (40, 41)]));
        assert_eq!(learned.set(), (set(&[(10, 14)], &[(1, 12), (40, 41)]).into(), 2));
        learned.add(&set(&[(13, 14)], &[]));
        assert_eq!(learned.set().1, 2, "nothing new");
        assert!(learned.is_curious());
        learned.add(&PageSet::default());
        assert!(!learned.is_curious());
    }

    #[test]
    fn ranges_are_asked_for_once_and_small_gaps_are_filled() {
        let lists = ranges(&[(10, 12), (40, 41), (8, 11), (15, 16), (20, 21), (40, 42)]);
        assert_eq!(joined(&lists), ranges(&[(8, 16), (20, 21), (40, 42)]));
        assert!(joined(&[]).is_empty());
    }

    #[test]
    fn large_pages_do_not_count() {
        let learned = Learned::default();
        let large = ranges(&[(512, 1536)]);
        learned.add(&PageSet { large: large.clone(), ..set(&[(0, 500)], &[(2000, 2524)]) });
        assert_eq!(*learned.set().0, PageSet { large, ..set(&[(0, 500)], &[(2000, 2524)]) });
    }

    #[test]
    fn there_is_a_bound_and_written_pages_come_first() {
        let learned = Learned::default();
        learned.add(&set(&[(0, 1000)], &[(5000, 1_000_000)]));
        assert_eq!(*learned.set().0, set(&[(0, 1000)], &[(5000, 5024)]));
        learned.add(&set(&[(2000, 9000)], &[]));
        assert_eq!(*learned.set().0, set(&[(0, 1000), (2000, 2024)], &[]));
    }
}
