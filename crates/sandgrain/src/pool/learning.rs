//! Which pages calls touch: learned from the first few, for all that come after.

use sandgrain_abi::message::PageRange;
use std::sync::Arc;

/// Sandboxes that are looked at after they have served a caller.
const LOOKS: u32 = 4;
/// Pages that are touched ahead at the most: what a VM takes while it waits. Written ones come first.
const MAX_PAGES: u32 = 1024;

/// What has been learned.
#[derive(Default)]
pub(super) struct Learning {
    looks: u32,
    /// How often the set has changed.
    generation: u32,
    set: Arc<[PageRange]>,
}

impl Learning {
    /// Whether another look helps.
    pub(super) fn is_curious(&self) -> bool {
        self.looks < LOOKS
    }

    /// The pages known so far, and a number that tells whether they are the same as before.
    pub(super) fn set(&self) -> (Arc<[PageRange]>, u32) {
        (Arc::clone(&self.set), self.generation)
    }

    /// Adds the pages that one sandbox has touched.
    pub(super) fn add(&mut self, touched: &[PageRange]) {
        self.looks += 1;
        let all = self.set.iter().chain(touched);
        let (written, read): (Vec<_>, Vec<_>) = all.partition(|range| range.write);
        let written = united(written, u64::from(MAX_PAGES), true);
        let left =
            u64::from(MAX_PAGES) - written.iter().map(|range| u64::from(range.pages)).sum::<u64>();
        let read = united(read, left, false);
        let set: Vec<PageRange> = written.into_iter().chain(read).collect();
        if *set != *self.set {
            self.set = set.into();
            self.generation += 1;
        }
    }
}

const PAGE: u64 = sandgrain_abi::layout::PAGE_SIZE;

/// The pages of all ranges, each once and in order, at most so many.
fn united(mut ranges: Vec<&PageRange>, most: u64, write: bool) -> Vec<PageRange> {
    ranges.sort_by_key(|range| range.address);
    let mut united: Vec<PageRange> = Vec::new();
    let mut left = most;
    // Where the last one ends.
    let mut end = 0;
    for range in ranges {
        let start = range.address.max(end);
        let pages = (range.address + u64::from(range.pages) * PAGE).saturating_sub(start) / PAGE;
        let pages = pages.min(left);
        if pages == 0 {
            continue;
        }
        left -= pages;
        end = start + pages * PAGE;
        match united.last_mut() {
            Some(last) if last.address + u64::from(last.pages) * PAGE == start => {
                last.pages += pages as u32;
            }
            _ => united.push(PageRange { address: start, pages: pages as u32, write }),
        }
    }
    united
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(page: u64, pages: u32, write: bool) -> PageRange {
        PageRange { address: page * PAGE, pages, write }
    }

    #[test]
    fn what_several_calls_touch_is_united() {
        let mut learning = Learning::default();
        learning.add(&[range(10, 2, true), range(1, 4, false)]);
        learning.add(&[range(11, 3, true), range(3, 9, false), range(40, 1, false)]);
        let (set, generation) = learning.set();
        assert_eq!(*set, [range(10, 4, true), range(1, 11, false), range(40, 1, false)]);
        assert_eq!(generation, 2);
        learning.add(&[range(13, 1, true)]);
        assert_eq!(learning.set().1, 2, "nothing new");
        assert!(learning.is_curious());
        learning.add(&[]);
        assert!(!learning.is_curious());
    }

    #[test]
    fn there_is_a_bound_and_written_pages_come_first() {
        let mut learning = Learning::default();
        learning.add(&[range(5000, 1_000_000, false), range(0, 1000, true)]);
        assert_eq!(*learning.set().0, [range(0, 1000, true), range(5000, 24, false)]);
        learning.add(&[range(2000, u32::MAX, true)]);
        assert_eq!(*learning.set().0, [range(0, 1000, true), range(2000, 24, true)]);
    }
}
