//! What is looked at before a guest opens a file.

use wasmtime_wasi::p1::types::{Errno, Filetype};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as p1};
use wiggle::GuestMemory;

use crate::{Cancel, Error};

/// The longest path that Linux takes, in bytes.
const PATH_BYTES: usize = 4096;

/// The size of a `filestat` in guest memory, and where its file type is.
const STAT_BYTES: usize = 64;
const STAT_TYPE: usize = 16;

/// Why a `path_open` with these arguments must not be tried on the calling thread, if so.
///
/// To open a named pipe can take for ever, as can to read a device, and nothing could stop that.
/// A guest cannot make either of them, so what is looked at here is what gets opened, unless
/// somebody else changes the directory at the same time.
pub(crate) fn refuse(
    context: &mut WasiP1Ctx,
    args: &[u64],
    memory: &[u8],
    cancel: &Cancel,
) -> Result<Option<Errno>, Error> {
    let &[fd, flags, path, length, ..] = args else { return Ok(None) };
    let (path, length) = (path as u32 as usize, length as u32 as usize);
    if length > PATH_BYTES {
        return Ok(Some(Errno::Nametoolong));
    }
    // The library reports what is outside of memory.
    let Some(path) = path.checked_add(length).and_then(|end| memory.get(path..end)) else {
        return Ok(None);
    };
    // The guest has lent no memory for the answer, so the question is asked in some of the host's,
    // which must be aligned for the library.
    let mut scratch = vec![0; 8 + STAT_BYTES + length];
    let aligned = scratch.as_ptr().align_offset(8).min(8);
    let scratch = &mut scratch[aligned..];
    scratch[STAT_BYTES..STAT_BYTES + length].copy_from_slice(path);
    let mut lent = GuestMemory::Unshared(scratch);
    let (fd, flags) = (fd as u32 as i32, flags as u32 as i32);
    let stat =
        p1::path_filestat_get(context, &mut lent, fd, flags, STAT_BYTES as i32, length as i32, 0);
    match cancel.block_on(stat)? {
        Ok(0) => {}
        // What cannot be looked at cannot be opened, or does not exist yet.
        Ok(_) => return Ok(None),
        // The library has no file type for a socket.
        Err(_) => return Ok(Some(Errno::Notsup)),
    }
    let harmless = [Filetype::Directory, Filetype::RegularFile, Filetype::SymbolicLink];
    let found = scratch[STAT_TYPE];
    Ok((!harmless.iter().any(|&kind| kind as u8 == found)).then_some(Errno::Notsup))
}
