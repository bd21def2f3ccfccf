//! A guest's linear memory, as the host sees it while the guest stands still.

use crate::error::{Error, Result};
use std::ops::Range;

/// A linear memory: in this process, as what is not said otherwise is for, or a window on one in another.
pub(crate) trait LinearMemory {
    /// Its size in bytes.
    fn size(&self) -> usize;

    /// The bytes of a range, to read and to change.
    ///
    /// # Errors
    /// [`Error::BadCall`] for a range outside of the memory; whatever stands in the way of getting them.
    fn bytes(&mut self, range: Range<usize>) -> Result<&mut [u8]>;

    /// All of it. In a window only those bytes are right that [`bytes`](Self::bytes) has been asked for; the others
    /// are zeros, and changes of them are lost but for those that are [announced](Self::filled).
    fn whole(&mut self) -> &mut [u8];

    /// Whether all of [`whole`](Self::whole) is right.
    fn is_here(&self) -> bool {
        true
    }

    /// Says which ranges within the memory have been written to of which nobody asked for the bytes, and which
    /// may have been without it being meant to count.
    fn filled(&mut self, _ranges: Vec<Range<u64>>, _perhaps: Vec<Range<u64>>) {}

    /// Makes changes the guest's.
    ///
    /// # Errors
    /// Where the guest is in another process: whatever stands in the way.
    fn give_back(&mut self) -> Result<()> {
        Ok(())
    }
}

impl LinearMemory for &mut [u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn bytes(&mut self, range: Range<usize>) -> Result<&mut [u8]> {
        let size = self.len();
        self.get_mut(range.clone()).ok_or_else(|| outside(&range, size))
    }

    fn whole(&mut self) -> &mut [u8] {
        self
    }
}

/// A range that is not within a memory of this size.
pub(crate) fn outside(range: &Range<usize>, size: usize) -> Error {
    Error::BadCall(format!("bytes {range:?} are not within a memory of {size} bytes"))
}
