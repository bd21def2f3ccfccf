//! The heap: what the host gave from the start and what it gives on request, and dlmalloc over both.

use crate::channel;
use crate::single::Single;
use core::alloc::{GlobalAlloc, Layout};
use dlmalloc::Dlmalloc;
use sandgrain_abi::layout;

/// What the allocator takes from: addresses not handed out yet.
struct Ranges;

/// Addresses from `next` to `end`.
#[derive(Clone, Copy)]
struct Part {
    next: u64,
    end: u64,
}

static FIRST: Single<Part> = Single::new(Part { next: layout::HEAP, end: layout::HEAP });
static MORE: Single<Part> = Single::new(Part { next: layout::MORE_HEAP, end: layout::MORE_HEAP });

/// The allocator asks in steps of this many bytes at the least.
const STEP: u64 = 64 << 10;

/// The first address of `len` bytes of a part that were not handed out, and are now.
fn take(part: &Single<Part>, len: u64) -> Option<u64> {
    let Part { next: start, end } = part.get();
    let next = start.checked_add(len).filter(|next| *next <= end)?;
    part.replace(Part { next, end });
    Some(start)
}

/// The same, of what the host gives for it.
fn take_more(len: u64) -> Option<u64> {
    let Part { next, .. } = MORE.get();
    let given = channel::grow_heap((next - layout::MORE_HEAP).checked_add(len)?)?;
    MORE.replace(Part { next, end: layout::MORE_HEAP + given });
    take(&MORE, len)
}

// SAFETY: each range lies in the heap, which the host maps for the guest's life, and is handed out once;
// fresh memory of a VM is zero, and nothing is ever taken back.
unsafe impl dlmalloc::Allocator for Ranges {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let len = (size as u64).checked_next_multiple_of(STEP);
        let start = len.and_then(|len| {
            take(&FIRST, len).or_else(|| take(&MORE, len)).or_else(|| take_more(len))
        });
        match (start, len) {
            (Some(start), Some(len)) => (start as *mut u8, len as usize, 0),
            _ => (core::ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        layout::PAGE_SIZE as usize
    }
}

struct Heap(Single<Dlmalloc<Ranges>>);

#[global_allocator]
static HEAP: Heap = Heap(Single::new(Dlmalloc::new_with_allocator(Ranges)));

/// Bytes of heap that are there before the host has said how many: enough to read its message.
const LEAST: u64 = 256 << 10;

pub(crate) fn start() {
    extend(LEAST);
}

/// The first part has `size` bytes.
pub(crate) fn extend(size: u64) {
    FIRST.replace(Part { end: layout::HEAP + size, ..FIRST.get() });
}

// SAFETY: dlmalloc keeps the contract of `GlobalAlloc`; the allocator is used by one call at a time, since
// there is one thread and dlmalloc calls nothing that allocates: asking the host for more does not.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that dlmalloc asks for.
        unsafe { (*self.0.as_ptr()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.as_ptr()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { (*self.0.as_ptr()).free(memory, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.as_ptr()).realloc(memory, layout.size(), layout.align(), size) }
    }
}
