//! The one tokio runtime of this crate: timers and threads that may block.

use std::future::pending;
use std::io;
use std::sync::OnceLock;
use std::thread;

use tokio::runtime::{Builder, Handle};

use crate::Error;

/// Threads that may block at once, in all sandboxes. A thread stays blocked when its call was
/// cancelled but the pipe behind it never answers, so there must be plenty.
const MAX_BLOCKING_THREADS: usize = 16 * 1024;

/// Pipes and files need little stack.
const STACK_BYTES: usize = 256 * 1024;

/// The runtime, started when it is first needed.
///
/// One thread turns its timers. Callers only enter it and poll their futures themselves, hence
/// they may be inside of another tokio runtime.
pub(crate) fn handle() -> Result<Handle, Error> {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let started =
        start().map_err(|source| Error::Host { what: "start the WASI timers", source })?;
    // A second runtime from a race would go unused but do no harm.
    Ok(HANDLE.get_or_init(|| started).clone())
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_stack_size(STACK_BYTES)
        .thread_name("sandgrain-wasi-io")
        .build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("sandgrain-wasi-timers".into())
        .spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}
