//! Where a guest's standard output and error go.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

use crate::cancel::lock;
use crate::{Error, Stream, WasiConfig, runtime};

/// The most that is taken at once, in bytes. Preview 1 writes pieces of 4 KiB.
const PIECE_BYTES: usize = 64 * 1024;

/// Where a guest's standard output or error goes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Output {
    /// Nowhere.
    #[default]
    Null,
    /// The same stream of this process. The guest sees a terminal if it is one.
    ///
    /// Each write is flushed before the guest goes on. It is made on another thread, so that a
    /// full pipe or a stopped terminal cannot hold up a call that is cancelled, unless the stream
    /// is a regular file, which is faster.
    Inherit,
    /// Into memory, see [`Streams`].
    Capture,
    /// A writer, see [`Output::pipe`].
    Pipe(PipeWriter),
}

impl Output {
    /// Output that goes to `writer`, which may block.
    ///
    /// It is written and flushed on another thread, in the order in which the guest writes to both its streams. A
    /// cancelled write leaves that thread waiting until the writer returns, and later writes wait for it.
    pub fn pipe(writer: impl Write + Send + 'static) -> Self {
        Output::Pipe(PipeWriter(Arc::new(Mutex::new(writer))))
    }
}

/// The writer behind [`Output::Pipe`]. Clones share it.
#[derive(Clone)]
pub struct PipeWriter(Arc<Mutex<dyn Write + Send>>);

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeWriter").finish_non_exhaustive()
    }
}

/// What a guest wrote. Clones share it.
#[derive(Clone)]
pub struct Streams {
    stdout: Sink,
    stderr: Sink,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("stdout_bytes", &self.written(Stream::Stdout))
            .field("stderr_bytes", &self.written(Stream::Stderr))
            .finish()
    }
}

impl Streams {
    pub(crate) fn new(config: &WasiConfig) -> Self {
        let order = Arc::<Order>::default();
        let sink = |stream, output, limit| Sink::new(stream, output, limit, Arc::clone(&order));
        Self {
            stdout: sink(Stream::Stdout, &config.stdout, config.stdout_limit),
            stderr: sink(Stream::Stderr, &config.stderr, config.stderr_limit),
        }
    }

    pub(crate) fn sink(&self, stream: Stream) -> &Sink {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// The standard output captured so far; empty if it is not captured.
    pub fn stdout(&self) -> Bytes {
        self.captured(Stream::Stdout)
    }

    /// The standard error captured so far; empty if it is not captured.
    pub fn stderr(&self) -> Bytes {
        self.captured(Stream::Stderr)
    }

    /// The captured bytes of a stream.
    pub fn captured(&self, stream: Stream) -> Bytes {
        Bytes::copy_from_slice(&lock(&self.sink(stream).0.state).captured)
    }

    /// The captured bytes of a stream, which are then forgotten. They still count for the limit.
    pub fn take(&self, stream: Stream) -> Bytes {
        lock(&self.sink(stream).0.state).captured.split().freeze()
    }

    /// How many bytes were written to a stream, captured or not.
    pub fn written(&self, stream: Stream) -> u64 {
        lock(&self.sink(stream).0.state).written
    }

    /// Whether the guest tried to exceed the limit of a stream.
    pub fn limit_exceeded(&self, stream: Stream) -> bool {
        lock(&self.sink(stream).0.state).exceeded
    }
}

/// One output stream with its limit.
#[derive(Clone)]
pub(crate) struct Sink(Arc<Shared>);

struct Shared {
    stream: Stream,
    limit: u64,
    terminal: bool,
    target: Target,
    state: Mutex<State>,
    changed: Notify,
    order: Arc<Order>,
}

/// The order in which both streams were written to, which is that in which their bytes come out: they may have one
/// writer, such as a terminal.
#[derive(Default)]
struct Order(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// Of each stream one at the most.
    pieces: VecDeque<Piece>,
    /// Whether a thread is at it.
    is_served: bool,
}

/// What a thread that may block is to write.
struct Piece {
    shared: Arc<Shared>,
    writer: PipeWriter,
    bytes: Bytes,
}

impl Order {
    /// Has a thread write a piece, after those before it.
    fn add(self: &Arc<Self>, piece: Piece) -> Result<(), Error> {
        let handle = runtime::handle()?;
        let mut queue = lock(&self.0);
        queue.pieces.push_back(piece);
        if !mem::replace(&mut queue.is_served, true) {
            let order = Arc::clone(self);
            handle.spawn_blocking(move || order.serve());
        }
        Ok(())
    }

    /// Writes what there is to write.
    fn serve(&self) {
        while let Some(piece) = self.next() {
            // A writer's panic has been reported by the panic hook, and is that stream's failure.
            let _ = catch_unwind(AssertUnwindSafe(|| piece.write()));
        }
    }

    fn next(&self) -> Option<Piece> {
        let mut queue = lock(&self.0);
        let piece = queue.pieces.pop_front();
        queue.is_served = piece.is_some();
        piece
    }
}

enum Target {
    Null,
    Capture,
    /// A regular file, which does not make a writer wait.
    File(PipeWriter),
    /// Anything that may block.
    Writer(PipeWriter),
}

#[derive(Default)]
struct State {
    captured: BytesMut,
    written: u64,
    exceeded: bool,
    /// Another thread is writing.
    busy: bool,
    /// The writer failed, which the guest has not been told yet.
    failed: Option<io::Error>,
}

impl Sink {
    fn new(stream: Stream, output: &Output, limit: u64, order: Arc<Order>) -> Self {
        let (terminal, target) = match (output, stream) {
            (Output::Null, _) => (false, Target::Null),
            (Output::Capture, _) => (false, Target::Capture),
            (Output::Pipe(writer), _) => (false, Target::Writer(writer.clone())),
            (Output::Inherit, Stream::Stdout) => inherit(io::stdout()),
            (Output::Inherit, Stream::Stderr) => inherit(io::stderr()),
        };
        let (state, changed) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { stream, limit, terminal, target, state, changed, order }))
    }

    /// Hands bytes to a thread that may block.
    fn start(&self, state: &mut State, writer: &PipeWriter, bytes: Bytes) -> Result<(), Error> {
        let piece = Piece { shared: Arc::clone(&self.0), writer: writer.clone(), bytes };
        self.0.order.add(piece)?;
        state.busy = true;
        Ok(())
    }
}

/// A stream of this process, and whether it is a terminal.
fn inherit(stream: impl Write + AsFd + IsTerminal + Send + 'static) -> (bool, Target) {
    let terminal = stream.is_terminal();
    let copy = stream.as_fd().try_clone_to_owned().map(File::from);
    let regular = copy.and_then(|file| file.metadata()).is_ok_and(|data| data.is_file());
    let writer = PipeWriter(Arc::new(Mutex::new(stream)));
    (terminal, if regular { Target::File(writer) } else { Target::Writer(writer) })
}

impl Piece {
    fn write(self) {
        /// Publishes the outcome, also when the writer panics.
        struct Publish(Arc<Shared>, Option<io::Result<()>>);
        impl Drop for Publish {
            fn drop(&mut self) {
                let panicked = || Err(io::Error::other("the writer of this stream panicked"));
                let outcome = self.1.take().unwrap_or_else(panicked);
                let mut state = lock(&self.0.state);
                state.busy = false;
                state.failed = outcome.err();
                drop(state);
                self.0.changed.notify_waiters();
            }
        }
        let mut publish = Publish(self.shared, None);
        let mut writer = lock(&self.writer.0);
        publish.1 = Some(writer.write_all(&self.bytes).and_then(|()| writer.flush()));
    }
}

#[async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {
        loop {
            let mut changed = pin!(self.0.changed.notified());
            // From here on no change is missed, also not one before the wait.
            changed.as_mut().enable();
            if !lock(&self.0.state).busy {
                return;
            }
            changed.await;
        }
    }
}

impl OutputStream for Sink {
    fn write(&mut self, mut bytes: Bytes) -> Result<(), StreamError> {
        let mut state = lock(&self.0.state);
        if state.busy {
            // Nobody who has asked first gets here. Each such write would take a thread.
            return Err(StreamError::trap("written to before it was ready for it"));
        }
        let room = self.0.limit.saturating_sub(state.written);
        if bytes.len() as u64 > room {
            // What fits is still written. `check_write` reports the rest when that is done.
            state.exceeded = true;
            bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        state.written += bytes.len() as u64;
        match &self.0.target {
            Target::Null => {}
            Target::Capture => state.captured.extend_from_slice(&bytes),
            Target::File(writer) => {
                let mut writer = lock(&writer.0);
                let outcome = writer.write_all(&bytes).and_then(|()| writer.flush());
                state.failed = outcome.err();
            }
            Target::Writer(writer) => {
                self.start(&mut state, writer, bytes).map_err(|e| StreamError::Trap(e.into()))?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        let mut state = lock(&self.0.state);
        if state.busy {
            return Ok(0);
        }
        if let Some(error) = state.failed.take() {
            return Err(StreamError::LastOperationFailed(error.into()));
        }
        if state.exceeded {
            let error = Error::OutputLimit { stream: self.0.stream, limit: self.0.limit };
            return Err(StreamError::Trap(error.into()));
        }
        Ok(PIECE_BYTES)
    }
}

impl IsTerminal for Sink {
    fn is_terminal(&self) -> bool {
        self.0.terminal
    }
}

impl StdoutStream for Sink {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only preview 3 asks for this, which this crate does not offer.
        Box::new(MemoryOutputPipe::new(0))
    }
}
