//! The tokio runtimes of this crate: one for timers and threads that may block, and one for sockets too.

use std::future::pending;
use std::io;
use std::sync::OnceLock;
use std::thread;

use tokio::runtime::{Builder, Handle};

use crate::Error;

/// Threads that may block at once, in all sandboxes. A thread stays blocked when its call was
/// cancelled but the pipe behind it never answers, so there must be plenty.
const MAX_BLOCKING_THREADS: usize = 16 * 1024;

/// Threads that turn sockets, for all sandboxes.
const MAX_NETWORK_THREADS: usize = 4;

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

/// The runtime for guests that have network, started when it is first needed.
///
/// It has threads of its own, on which what goes on between a guest's calls is done: connections, and their
/// encryption.
pub(crate) fn network_handle() -> Result<Handle, Error> {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads.min(MAX_NETWORK_THREADS))
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name("sandgrain-wasi-network")
        .build()
        .map_err(|source| Error::Host { what: "start the WASI network", source })?;
    let handle = runtime.handle().clone();
    let first = HANDLE.set(handle).is_ok();
    if first {
        // It runs until the process ends.
        std::mem::forget(runtime);
    } else {
        runtime.shutdown_background();
    }
    Ok(HANDLE.get().expect("set above").clone())
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
