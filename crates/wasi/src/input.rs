//! What a guest reads from its standard input.

use std::fmt;
use std::io::{self, Read};
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError};

use crate::cancel::lock;
use crate::runtime;

/// The largest piece that is read from a pipe at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Where a guest's standard input comes from.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Input {
    /// Nothing: reads are at the end at once.
    #[default]
    Null,
    /// The standard input of this process, a terminal included.
    ///
    /// It is read on a thread of its own and only when a guest asks. A cancelled read leaves that
    /// thread waiting; what it gets goes to the next read, of any guest.
    Inherit,
    /// These bytes, then the end.
    Bytes(Bytes),
    /// A reader, see [`Input::pipe`].
    Pipe(PipeReader),
}

impl Input {
    /// Standard input that comes from `reader`, which may block.
    ///
    /// It is read on another thread, in pieces of up to 64 KiB, and only when the guest asks. A
    /// cancelled read leaves that thread waiting until the reader returns; what it returned goes
    /// to the next read.
    pub fn pipe(reader: impl Read + Send + 'static) -> Self {
        Input::Pipe(PipeReader(Arc::new(Shared {
            state: Mutex::new(State::Idle(Box::new(reader))),
            changed: Notify::new(),
        })))
    }

    pub(crate) fn is_terminal(&self) -> bool {
        // A pipe may be one behind its reader, which its guest is not told.
        matches!(self, Input::Inherit) && std::io::IsTerminal::is_terminal(&std::io::stdin())
    }

    pub(crate) fn install(&self, builder: &mut WasiCtxBuilder) {
        match self {
            Input::Null => {}
            Input::Inherit => {
                builder.inherit_stdin();
            }
            Input::Bytes(bytes) => {
                builder.stdin(MemoryInputPipe::new(bytes.clone()));
            }
            Input::Pipe(pipe) => {
                builder.stdin(pipe.clone());
            }
        }
    }
}

/// The reader behind [`Input::Pipe`]. Clones share it.
#[derive(Clone)]
pub struct PipeReader(Arc<Shared>);

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeReader").finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

enum State {
    /// Nobody has asked for more yet.
    Idle(Box<dyn Read + Send>),
    /// Another thread is reading.
    Reading,
    /// These bytes are ready.
    Ready(Bytes, Box<dyn Read + Send>),
    /// The reader failed, which the guest has not been told yet.
    Failed(io::Error),
    /// The end.
    Closed,
}

impl PipeReader {
    /// Starts a read if nothing is ready and none runs. Returns whether there is an answer.
    fn request(&self, size: usize) -> Result<bool, StreamError> {
        let mut state = lock(&self.0.state);
        match mem::replace(&mut *state, State::Reading) {
            State::Idle(reader) => {
                let handle = match runtime::handle() {
                    Ok(handle) => handle,
                    Err(error) => {
                        *state = State::Idle(reader);
                        return Err(StreamError::Trap(error.into()));
                    }
                };
                let shared = Arc::clone(&self.0);
                handle.spawn_blocking(move || read_piece(shared, reader, size));
                Ok(false)
            }
            State::Reading => Ok(false),
            answer => {
                *state = answer;
                Ok(true)
            }
        }
    }
}

fn read_piece(shared: Arc<Shared>, mut reader: Box<dyn Read + Send>, size: usize) {
    /// Publishes the answer, also when the reader panics.
    struct Publish(Arc<Shared>, Option<State>);
    impl Drop for Publish {
        fn drop(&mut self) {
            let panicked = || State::Failed(io::Error::other("the reader of stdin panicked"));
            *lock(&self.0.state) = self.1.take().unwrap_or_else(panicked);
            self.0.changed.notify_waiters();
        }
    }
    let mut publish = Publish(shared, None);
    let mut piece = BytesMut::zeroed(size.clamp(1, PIECE_BYTES));
    let read = loop {
        match reader.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    publish.1 = Some(match read {
        Ok(0) => State::Closed,
        Ok(length) => {
            piece.truncate(length);
            State::Ready(piece.freeze(), reader)
        }
        Err(error) => State::Failed(error),
    });
}

#[async_trait]
impl Pollable for PipeReader {
    async fn ready(&mut self) {
        loop {
            let mut changed = pin!(self.0.changed.notified());
            // From here on no change is missed, also not one before the wait.
            changed.as_mut().enable();
            // A host that cannot read is reported by the read that follows.
            if self.request(PIECE_BYTES).unwrap_or(true) {
                return;
            }
            changed.await;
        }
    }
}

#[async_trait]
impl InputStream for PipeReader {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        if size == 0 || !self.request(size)? {
            return Ok(Bytes::new());
        }
        let mut state = lock(&self.0.state);
        match mem::replace(&mut *state, State::Closed) {
            State::Ready(mut bytes, reader) => {
                let piece = bytes.split_to(size.min(bytes.len()));
                *state = match bytes.is_empty() {
                    true => State::Idle(reader),
                    false => State::Ready(bytes, reader),
                };
                Ok(piece)
            }
            State::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
            State::Closed => Err(StreamError::Closed),
            // Another guest that shares the pipe took the bytes in between.
            other => {
                *state = other;
                Ok(Bytes::new())
            }
        }
    }

    async fn blocking_read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        // A reader that is slow or shared may come up empty any number of times.
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let bytes = self.clone().read(size)?;
            if !bytes.is_empty() || size == 0 {
                return Ok(bytes);
            }
            changed.await;
        }
    }
}

impl IsTerminal for PipeReader {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for PipeReader {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncRead + Send + Sync> {
        // Only preview 3 asks for this, which this crate does not offer.
        Box::new(MemoryInputPipe::new(Bytes::new()))
    }
}
