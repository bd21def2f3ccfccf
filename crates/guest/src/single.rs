//! A place for state in a program that has one thread and no interrupts.

use core::cell::UnsafeCell;

/// A static that only ever one piece of code uses at a time.
pub struct Single<T>(UnsafeCell<T>);

// SAFETY: a guest has one vCPU and takes no interrupts, so there is no second thread to share with.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    /// Holds `value`.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Puts `value` in and gives back what was there.
    pub fn replace(&self, value: T) -> T {
        // SAFETY: the reference lives for this one move, which calls nothing, and nothing else can run
        // meanwhile: a trap during it would end the guest, since no WebAssembly is running.
        unsafe { core::mem::replace(&mut *self.0.get(), value) }
    }

    /// The value's address, for callers that keep the rule themselves.
    pub const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }
}

impl<T: Copy> Single<T> {
    /// The value.
    pub fn get(&self) -> T {
        // SAFETY: as in `replace`: one read, and nothing else runs meanwhile.
        unsafe { *self.0.get() }
    }
}
