//! Initial content of memory.

use std::{fmt, sync::Arc};

use crate::{Error, platform::SealedFile};

/// Immutable initial content of a VM's memory. Cheap to clone.
///
/// Every VM made with it maps the same pages copy-on-write: they are in the host's memory once, plus
/// what each VM has changed.
#[derive(Clone)]
pub struct MemoryImage(Arc<SealedFile>);

impl MemoryImage {
    /// An image of these bytes, copied, and zeros up to the end of the last page. Nothing in this
    /// process or another can change it afterwards.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or [`Error::Host`] when the host cannot make or seal an anonymous file.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        Ok(MemoryImage(Arc::new(SealedFile::new(bytes)?)))
    }

    /// Its size in bytes: a multiple of [`PAGE_SIZE`](crate::PAGE_SIZE).
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file behind it.
    pub(crate) fn file(&self) -> &SealedFile {
        &self.0
    }
}

impl fmt::Debug for MemoryImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryImage").field("len", &self.len()).finish_non_exhaustive()
    }
}
