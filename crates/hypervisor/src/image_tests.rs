//! Layers over layers, against what they should add up to.

use std::ops::Range;

use super::*;
use crate::GuestMemory;

const PAGES: usize = 64;

/// A page's content: a byte that is nowhere zero.
fn page(value: u8) -> Vec<u8> {
    vec![value; PAGE_SIZE]
}

/// The first byte of each page.
fn first_bytes(memory: &GuestMemory) -> Vec<u8> {
    let bytes = memory.slice(0..memory.len() as u64).unwrap();
    bytes.iter().step_by(PAGE_SIZE).copied().collect()
}

fn write(memory: &mut GuestMemory, at: usize, value: u8) {
    memory.write((at * PAGE_SIZE) as u64, &page(value)).unwrap();
}

#[test]
fn a_captured_memory_is_the_same_in_the_next() {
    let base = MemoryImage::new(&[page(1), page(2), page(3)].concat()).unwrap();
    let mut memory = GuestMemory::with_image(&base, PAGES * PAGE_SIZE).unwrap();
    for (at, value) in [(1, 9), (5, 4), (6, 5), (40, 6)] {
        write(&mut memory, at, value);
    }
    let image = memory.capture(&[]).unwrap();
    let mut second = GuestMemory::with_image(&image, PAGES * PAGE_SIZE).unwrap();
    assert_eq!(first_bytes(&second), first_bytes(&memory));
    assert_eq!(second.resident_pages().unwrap(), 0, "all of it is shared");
    assert_eq!(image.len(), 41 * PAGE_SIZE);

    // And once more, on top: what goes back to zero, and what was of the base.
    write(&mut second, 40, 0);
    write(&mut second, 2, 7);
    let image = second.capture(&[]).unwrap();
    let third = GuestMemory::with_image(&image, PAGES * PAGE_SIZE).unwrap();
    assert_eq!(first_bytes(&third), first_bytes(&second));
    assert_eq!(&first_bytes(&third)[..7], [1, 9, 7, 0, 0, 4, 5]);
}

#[test]
fn a_layer_holds_only_what_differs() {
    let base = MemoryImage::new(&vec![1; 32 * PAGE_SIZE]).unwrap();
    let mut memory = GuestMemory::with_image(&base, PAGES * PAGE_SIZE).unwrap();
    write(&mut memory, 3, 9);
    // Written, but as it was; and zeros where there were zeros.
    write(&mut memory, 20, 1);
    write(&mut memory, 50, 0);
    let image = memory.capture(&[]).unwrap();
    assert_eq!(image.len_over(&base), PAGE_SIZE);
    assert_eq!(image.content_len(), 32 * PAGE_SIZE);
    assert_eq!(image.extent_count(), 3);
    let unchanged =
        GuestMemory::with_image(&image, PAGES * PAGE_SIZE).unwrap().capture(&[]).unwrap();
    assert_eq!(unchanged.len_over(&image), 0);
}

#[test]
fn many_changes_make_few_ranges() {
    let base = MemoryImage::new(&vec![1; PAGES * PAGE_SIZE]).unwrap();
    let mut memory = GuestMemory::with_image(&base, 400 * PAGE_SIZE).unwrap();
    for at in (0..400).step_by(3) {
        write(&mut memory, at, 2);
    }
    let image = memory.capture(&[]).unwrap();
    assert!(image.extent_count() <= 2 * 24 + 1, "{}", image.extent_count());
    let second = GuestMemory::with_image(&image, 400 * PAGE_SIZE).unwrap();
    assert_eq!(first_bytes(&second), first_bytes(&memory));
}

fn ranges(pages: &[(usize, usize)]) -> Vec<Range<usize>> {
    pages.iter().map(|(start, end)| start * PAGE_SIZE..end * PAGE_SIZE).collect()
}

#[test]
fn the_smallest_gaps_are_filled_first() {
    let before = ranges(&[(0, 1), (2, 3), (10, 11), (13, 14), (50, 51)]);
    // A gap of a page is filled in any case.
    assert_eq!(joined(before.clone(), 10), ranges(&[(0, 3), (10, 11), (13, 14), (50, 51)]));
    assert_eq!(joined(before.clone(), 3), ranges(&[(0, 3), (10, 14), (50, 51)]));
    assert_eq!(joined(before.clone(), 2), ranges(&[(0, 14), (50, 51)]));
    assert_eq!(joined(before, 1), ranges(&[(0, 51)]));
    assert_eq!(joined(Vec::new(), 1), ranges(&[]));
}

#[test]
fn any_layers_and_resets_give_what_a_plain_copy_gives() {
    // A small generator: the same numbers in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut images = vec![(MemoryImage::new(&[]).unwrap(), vec![0; PAGES])];
    for round in 0..200 {
        let (image, content) = images[next(images.len())].clone();
        let mut memory = GuestMemory::with_image(&image, PAGES * PAGE_SIZE).unwrap();
        let mut model = content.clone();
        for _ in 0..next(20) {
            let (at, value) = (next(PAGES), next(4) as u8);
            write(&mut memory, at, value);
            model[at] = value;
        }
        assert_eq!(first_bytes(&memory), model, "round {round}");
        images.push((memory.capture(&[]).unwrap(), model));
        if next(4) == 0 {
            let (start, end) = (next(PAGES), PAGES);
            memory.discard((start * PAGE_SIZE) as u64..(end * PAGE_SIZE) as u64).unwrap();
            assert_eq!(first_bytes(&memory)[start..], content[start..], "round {round}");
        }
        let (other, other_content) = images[next(images.len())].clone();
        for (image, content) in [(&image, &content), (&other, &other_content), (&image, &content)] {
            memory.reset(image).unwrap();
            assert_eq!(&first_bytes(&memory), content, "round {round}");
            write(&mut memory, 0, 99);
            write(&mut memory, PAGES - 1, 98);
        }
    }
}

#[test]
fn a_large_change_is_given_back() {
    let base = MemoryImage::new(&vec![1; 512 * PAGE_SIZE]).unwrap();
    let mut memory = GuestMemory::with_image(&base, 8192 * PAGE_SIZE).unwrap();
    let count = |memory: &GuestMemory| memory.resident_pages().unwrap();
    memory.write(0, &vec![2; 200 * PAGE_SIZE]).unwrap();
    memory.reset(&base).unwrap();
    assert_eq!(count(&memory), 200, "copied back, and kept");
    memory.write((600 * PAGE_SIZE) as u64, &vec![2; 5000 * PAGE_SIZE]).unwrap();
    write(&mut memory, 8000, 3);
    memory.reset(&base).unwrap();
    assert!(count(&memory) <= 1, "{}", count(&memory));
    let bytes = memory.slice(0..memory.len() as u64).unwrap();
    assert!(bytes[..512 * PAGE_SIZE].iter().all(|byte| *byte == 1));
    assert!(bytes[512 * PAGE_SIZE..].iter().all(|byte| *byte == 0));
}

/// Layers as files on disk that nobody may write to.
fn on_disk(directory: &std::path::Path, layers: &[&[u8]]) -> Vec<File> {
    let file = |(n, layer): (usize, &&[u8])| {
        let path = directory.join(n.to_string());
        std::fs::write(&path, layer).unwrap();
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&path, permissions).unwrap();
        File::open(&path).unwrap()
    };
    layers.iter().enumerate().map(file).collect()
}

#[test]
fn an_image_of_files_is_the_one_that_the_files_were_made_of() {
    let base = MemoryImage::new(&[page(1), page(2), page(3)].concat()).unwrap();
    let mut memory = GuestMemory::with_image(&base, PAGES * PAGE_SIZE).unwrap();
    for at in [1, 9, 10, 40] {
        write(&mut memory, at, 7);
    }
    let image = memory.capture(&[]).unwrap();
    let (layers, places) = image.layers().unwrap();
    assert_eq!(layers.len(), 2);
    let directory = tempfile::tempdir().unwrap();
    let loaded = MemoryImage::from_layers(on_disk(directory.path(), &layers), &places).unwrap();
    assert_eq!(loaded.layers().unwrap(), (layers, places));
    let second = GuestMemory::with_image(&loaded, PAGES * PAGE_SIZE).unwrap();
    assert_eq!(first_bytes(&second), first_bytes(&memory));
}

#[test]
fn places_that_make_no_image_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let layer = [page(1), page(2)].concat();
    let size = PAGE_SIZE as u64;
    let good = Place { address: 4 * size, len: size, layer: 0, offset: size };
    let load = |places: &[Place]| {
        let files = on_disk(directory.path(), &[&layer]);
        std::fs::remove_file(directory.path().join("0")).unwrap();
        MemoryImage::from_layers(files, places)
    };
    assert_eq!(load(&[good]).unwrap().len(), 5 * PAGE_SIZE);
    for bad in [
        Place { layer: 1, ..good },
        Place { offset: 2 * size, ..good },
        Place { len: 2 * size, ..good },
        Place { offset: 1, ..good },
        Place { address: 1, ..good },
        Place { len: 1, ..good },
        Place { address: u64::MAX - size + 1, ..good },
        Place { offset: u64::MAX - size + 1, ..good },
    ] {
        let error = load(&[bad]).unwrap_err();
        assert!(matches!(error, Error::Rejected { .. }), "{bad:?}: {error}");
    }
    let after = Place { address: 5 * size, ..good };
    load(&[good, after]).unwrap();
    for order in [[after, good], [good, good]] {
        assert!(load(&order).is_err(), "{order:?}");
    }
}

#[test]
fn large_pages_of_read_only_memory_begin_where_those_of_their_file_do() {
    let large = LARGE_PAGE;
    // A small range; one with two large pages, and some before and after; one that could be written to.
    let ranges = vec![
        PAGE_SIZE..3 * PAGE_SIZE,
        2 * large - PAGE_SIZE..4 * large + PAGE_SIZE,
        8 * large..9 * large,
    ];
    let read_only = (large as u64)..(6 * large as u64);
    let placed = placed(ranges.clone(), std::slice::from_ref(&read_only));
    let offsets: Vec<usize> = placed.ranges.iter().map(|(_, offset)| *offset).collect();
    assert!(placed.ranges.iter().map(|(range, _)| range).eq(&ranges));
    // Two pages, a gap; the last one just goes on.
    assert_eq!(offsets, [0, large - PAGE_SIZE, 3 * large + PAGE_SIZE]);
    assert_eq!(placed.large, std::slice::from_ref(&(large..3 * large)));
}

#[test]
fn an_image_with_large_pages_is_the_same_in_the_next() {
    let len = 4 * LARGE_PAGE;
    let base =
        MemoryImage::with_large_pages(&[1; PAGE_SIZE], std::slice::from_ref(&(0..LARGE_PAGE)))
            .unwrap();
    assert_eq!(base.len(), LARGE_PAGE);
    let mut memory = GuestMemory::with_image(&base, len).unwrap();
    for at in 0..LARGE_PAGE / PAGE_SIZE {
        write(&mut memory, LARGE_PAGE / PAGE_SIZE + at, 1 + (at % 200) as u8);
    }
    write(&mut memory, 3, 7);
    let read_only = LARGE_PAGE as u64..2 * LARGE_PAGE as u64;
    let image = memory.capture(std::slice::from_ref(&read_only)).unwrap();
    let mut second = GuestMemory::with_image(&image, len).unwrap();
    assert!(second.slice(0..len as u64).unwrap() == memory.slice(0..len as u64).unwrap());
    // A page within a large one is written to, and put back.
    write(&mut second, LARGE_PAGE / PAGE_SIZE + 9, 99);
    second.reset(&image).unwrap();
    assert!(second.slice(0..len as u64).unwrap() == memory.slice(0..len as u64).unwrap());
}
