//! The runtime's large pages: what is learned of them, touched and copied ahead.

use super::resets::busy;
use crate::learned::PageSet;
use crate::machine::address_space::LARGE_PAGE;
use sandgrain_abi::layout::{self, PAGE_SIZE};
use std::ops::Range;

#[test]
fn a_large_page_is_touched_by_one_page_and_never_copied_ahead() {
    let (_module, image) = busy();
    let large: Vec<Range<u64>> = image.space.large(0..u64::MAX).collect();
    let [code, constants, ..] = &large[..] else { panic!("{large:?}") };
    for range in [code, constants] {
        assert!(range.start.is_multiple_of(LARGE_PAGE) && range.end.is_multiple_of(LARGE_PAGE));
    }
    // As where the host has large pages: all of them were read, though only some were touched.
    let whole = code.start - PAGE_SIZE..code.end;
    let touched = PageSet { read: vec![whole], ..PageSet::default() };
    let known = image.known_pages(touched);
    assert_eq!(known.large, std::slice::from_ref(code));
    assert!(known.read.iter().all(|range| range.end <= code.start));
    let ranges = image.page_ranges(&known);
    let of_code: Vec<_> = ranges.iter().filter(|range| range.address >= layout::RUNTIME).collect();
    assert!(of_code.iter().any(|range| range.pages == 1 && !range.write), "{ranges:?}");
    assert!(of_code.iter().all(|range| range.pages < 512), "{ranges:?}");
    assert!(image.to_populate(&known).iter().all(|range| range.end <= code.start));

    // As where it has none: what was touched is copied ahead, with its neighbours.
    let some = code.start + 3 * PAGE_SIZE..code.start + 4 * PAGE_SIZE;
    let known = image.known_pages(PageSet { read: vec![some.clone()], ..PageSet::default() });
    assert_eq!((&known.read, known.large.len()), (&vec![some], 0));
    let group = code.start..code.start + 8 * PAGE_SIZE;
    assert_eq!(image.to_populate(&known), std::slice::from_ref(&group));
}
