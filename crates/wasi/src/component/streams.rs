//! What guests need not ask for each time: that a standard stream has room, and what a stream has to read.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sandgrain_abi::message::Ahead;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::WasiCliView as _;
use wasmtime_wasi::p2::bindings::cli::{stderr, stdin, stdout};
use wasmtime_wasi::p2::bindings::io::streams;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, InputStream, Pollable, StreamError};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::HostIncomingBody as _;
use wasmtime_wasi_http::p2::body::HostIncomingBody;

use super::state::State;
use crate::cancel::lock;
use crate::{Input, Wasi};

/// The streams that something is known of, by their handles.
#[derive(Default)]
pub(super) struct Books {
    /// Standard output and error.
    standard: BTreeSet<u32>,
    /// Those that can be looked into.
    buffered: BTreeMap<u32, Shared>,
    /// What was looked at of standard input, which all its handles share; if nobody else reads it.
    stdin: Option<Shared>,
}

impl Books {
    pub(super) fn new(stdin: &Input) -> Self {
        let is_ours = matches!(stdin, Input::Bytes(_));
        Self { stdin: is_ours.then(Shared::default), ..Self::default() }
    }
}

type Shared = Arc<Mutex<Buffer>>;

/// What was read of a stream before the guest has read it.
#[derive(Default)]
struct Buffer {
    bytes: Bytes,
    /// How it goes on after them; not known yet, if nothing is here.
    end: Option<StreamError>,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.end.is_none()
    }

    /// The next bytes, or the end, as the stream would have them that this is in front of.
    fn read(&mut self, size: usize, stream: &mut DynInputStream) -> Result<Bytes, StreamError> {
        let bytes = self.bytes.split_to(size.min(self.bytes.len()));
        if bytes.len() == size && (size > 0 || !self.bytes.is_empty()) {
            return Ok(bytes);
        }
        let more = match &self.end {
            None => stream.read(size - bytes.len()),
            Some(_) if !bytes.is_empty() => return Ok(bytes),
            Some(StreamError::Closed) => return Err(StreamError::Closed),
            // An error is told once.
            Some(_) => self.end.take().map_or(Ok(Bytes::new()), Err),
        };
        match more {
            more if bytes.is_empty() => more,
            Ok(more) if more.is_empty() => Ok(bytes),
            Ok(more) => Ok([bytes, more].concat().into()),
            Err(end) => {
                self.end = Some(end);
                Ok(bytes)
            }
        }
    }
}

/// A stream that can be looked into.
struct Buffered {
    stream: DynInputStream,
    buffer: Shared,
}

#[async_trait]
impl Pollable for Buffered {
    async fn ready(&mut self) {
        if lock(&self.buffer).is_empty() {
            self.stream.ready().await;
        }
    }
}

#[async_trait]
impl InputStream for Buffered {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        let mut buffer = lock(&self.buffer);
        buffer.read(size, &mut self.stream)
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

/// Has a stream be one that can be looked into.
fn buffer(
    state: &mut State,
    stream: &Resource<DynInputStream>,
    buffer: Shared,
) -> wasmtime::Result<()> {
    let place = state.table.get_mut(stream)?;
    let none: DynInputStream = Box::new(wasmtime_wasi::p2::pipe::ClosedInputStream);
    let inner = mem::replace(place, none);
    *place = Box::new(Buffered { stream: inner, buffer: Arc::clone(&buffer) });
    state.books.streams.buffered.insert(stream.rep(), buffer);
    Ok(())
}

pub(super) async fn get_stdin(state: &mut State) -> wasmtime::Result<Resource<DynInputStream>> {
    let stream = stdin::Host::get_stdin(&mut state.cli())?;
    if let Some(shared) = state.books.streams.stdin.clone() {
        buffer(state, &stream, shared)?;
    }
    Ok(stream)
}

pub(super) async fn incoming_body_stream(
    state: &mut State,
    body: Resource<HostIncomingBody>,
) -> wasmtime::Result<Result<Resource<DynInputStream>, ()>> {
    let stream = state.http().stream(body)?;
    if let Ok(stream) = &stream {
        buffer(state, stream, Shared::default())?;
    }
    Ok(stream)
}

pub(super) async fn input_stream_drop(
    state: &mut State,
    stream: Resource<DynInputStream>,
) -> wasmtime::Result<()> {
    let rep = stream.rep();
    streams::HostInputStream::drop(&mut state.table, stream).await?;
    state.books.streams.buffered.remove(&rep);
    Ok(())
}

pub(super) async fn get_stdout(state: &mut State) -> wasmtime::Result<Resource<DynOutputStream>> {
    let stream = stdout::Host::get_stdout(&mut state.cli())?;
    state.books.streams.standard.insert(stream.rep());
    Ok(stream)
}

pub(super) async fn get_stderr(state: &mut State) -> wasmtime::Result<Resource<DynOutputStream>> {
    let stream = stderr::Host::get_stderr(&mut state.cli())?;
    state.books.streams.standard.insert(stream.rep());
    Ok(stream)
}

pub(super) async fn output_stream_drop(
    state: &mut State,
    stream: Resource<DynOutputStream>,
) -> wasmtime::Result<()> {
    let rep = stream.rep();
    streams::HostOutputStream::drop(&mut state.table, stream).await?;
    state.books.streams.standard.remove(&rep);
    Ok(())
}

/// Writes to a stream. A standard one may not have the room now that the guest counts on, and is waited for.
pub(super) async fn output_stream_write(
    state: &mut State,
    stream: Resource<DynOutputStream>,
    bytes: Vec<u8>,
) -> Result<(), StreamError> {
    if !state.books.streams.standard.contains(&stream.rep()) {
        return streams::HostOutputStream::write(&mut state.table, stream, bytes);
    }
    let output = state.table.get_mut(&stream)?;
    let mut bytes = Bytes::from(bytes);
    loop {
        let room = output.write_ready().await?;
        output.write(bytes.split_to(room.min(bytes.len())))?;
        if bytes.is_empty() {
            return Ok(());
        }
    }
}

impl Wasi {
    /// Looks at what the next reads of an input stream will return, without waiting, and without taking it: a request's
    /// or response's body, or bytes as standard input. At most so many bytes. `None` of any other stream.
    pub fn look_ahead(&mut self, stream: u32, most: usize) -> Option<Ahead> {
        let mut lent = self.lend().ok()?;
        let buffer = Arc::clone(lent.books.streams.buffered.get(&stream)?);
        if lock(&buffer).is_empty() {
            let handle = lent.handle.clone();
            let _entered = handle.enter();
            let input: Resource<DynInputStream> = Resource::new_borrow(stream);
            let input = lent.table.get_mut(&input).ok()?;
            let mut seen = Buffer::default();
            // A second time, to see whether it ends there.
            for _ in 0..2 {
                match input.read(most.saturating_add(1)) {
                    Ok(bytes) if bytes.is_empty() => break,
                    Ok(bytes) if seen.bytes.is_empty() => seen.bytes = bytes,
                    Ok(bytes) => seen.bytes = [&seen.bytes[..], &bytes[..]].concat().into(),
                    Err(end) => {
                        seen.end = Some(end);
                        break;
                    }
                }
                if seen.bytes.len() > most {
                    break;
                }
            }
            *lock(&buffer) = seen;
        }
        let buffer = lock(&buffer);
        let bytes = buffer.bytes.slice(..most.min(buffer.bytes.len())).to_vec();
        let is_closed =
            buffer.bytes.len() <= most && matches!(buffer.end, Some(StreamError::Closed));
        Some(Ahead { bytes, is_closed })
    }
}
