//! The heap: one range of memory that the host gave, and dlmalloc over it.

use crate::single::Single;
use core::alloc::{GlobalAlloc, Layout};
use dlmalloc::Dlmalloc;
use sandgrain_abi::layout;

/// What the allocator takes from: addresses not handed out yet.
struct Range;

static NEXT: Single<u64> = Single::new(layout::HEAP);
static END: Single<u64> = Single::new(layout::HEAP);

/// The allocator asks in steps of this many bytes at the least.
const STEP: u64 = 64 << 10;

// SAFETY: each range lies in the heap, which the host maps for the guest's life, and is handed out once;
// fresh memory of a VM is zero, and nothing is ever taken back.
unsafe impl dlmalloc::Allocator for Range {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let start = NEXT.get();
        let taken = (size as u64).checked_next_multiple_of(STEP);
        match taken.and_then(|taken| start.checked_add(taken)) {
            Some(next) if next <= END.get() => {
                NEXT.replace(next);
                (start as *mut u8, (next - start) as usize, 0)
            }
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

struct Heap(Single<Dlmalloc<Range>>);

#[global_allocator]
static HEAP: Heap = Heap(Single::new(Dlmalloc::new_with_allocator(Range)));

/// Bytes of heap that are there before the host has said how many: enough to read its message.
const FIRST: u64 = 256 << 10;

pub(crate) fn start() {
    END.replace(layout::HEAP + FIRST);
}

pub(crate) fn extend(size: u64) {
    END.replace(layout::HEAP + size);
}

// SAFETY: dlmalloc keeps the contract of `GlobalAlloc`; the allocator is used by one call at a time, since
// there is one thread and dlmalloc calls nothing that allocates.
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
