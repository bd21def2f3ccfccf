//! The memory functions that the compiler calls by name; a machine without a C library brings its own.
//!
//! Copies and fills use the string instructions, which current CPUs run at the width of their caches;
//! they are written in assembly so that the compiler cannot turn them into calls of themselves.

use core::arch::asm;

/// Copies `len` bytes forwards.
///
/// # Safety
/// `to` and `from` are valid for `len` bytes, and `to` does not begin within `from`'s bytes.
unsafe fn copy_forwards(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
}

/// Copies `len` bytes backwards, 16 at a time where there are so many.
///
/// # Safety
/// `to` and `from` are valid for `len` bytes.
unsafe fn copy_backwards(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: both pointers stay within the caller's ranges: `len` counts down what is left of them.
    unsafe {
        asm!(
            "2: cmp {len}, 16",
            "jb 3f",
            "movups {block}, [{from} + {len} - 16]",
            "movups [{to} + {len} - 16], {block}",
            "sub {len}, 16",
            "jmp 2b",
            "3: test {len}, {len}",
            "jz 4f",
            "mov {byte}, [{from} + {len} - 1]",
            "mov [{to} + {len} - 1], {byte}",
            "dec {len}",
            "jmp 3b",
            "4:",
            len = inout(reg) len => _,
            from = in(reg) from,
            to = in(reg) to,
            byte = out(reg_byte) _,
            block = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// C's `memcpy`.
///
/// # Safety
/// As in C: both ranges are valid and do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { copy_forwards(to, from, len) };
    to
}

/// C's `memmove`.
///
/// # Safety
/// As in C: both ranges are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise; a target that begins within the source is filled from its end.
    unsafe {
        if to.addr().wrapping_sub(from.addr()) >= len {
            copy_forwards(to, from, len);
        } else {
            copy_backwards(to, from, len);
        }
    }
    to
}

/// C's `memset`.
///
/// # Safety
/// As in C: the range is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    to
}

/// C's `memcmp`.
///
/// # Safety
/// As in C: both ranges are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut at = 0;
    while at < len {
        // SAFETY: `at` is below `len`, for which the caller promises both.
        let (a, b) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        at += 1;
    }
    0
}

/// C's older `bcmp`.
///
/// # Safety
/// As in C: both ranges are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, len) }
}

/// C's `strlen`.
///
/// # Safety
/// As in C: a zero ends the string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: no byte before this one was zero, so this one is still the string's.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

/// The personality of unwinding, which precompiled crates name and a program that aborts never runs.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

/// The rest of unwinding, likewise.
#[unsafe(no_mangle)]
pub extern "C" fn _Unwind_Resume() -> ! {
    crate::channel::give_up(format_args!("unwinding in a program that cannot"))
}
