//! What a guest need not ask the host for.

use crate::codec::{DecodeError, Decoder, Encode, Encoder};
use alloc::vec::Vec;

/// Functions of WASI whose answer the guest can tell under some conditions, and so need not wait for: those by which
/// HTTP responses are put together and requests taken apart, those of standard streams, and what was sent ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Promise {
    /// It cannot tell.
    #[default]
    None = 0,
    /// `[constructor]fields`
    NewFields = 1,
    /// `[static]fields.from-list`
    FieldsFromList = 2,
    /// `[method]fields.append`
    FieldsAppend = 3,
    /// `[method]fields.set`
    FieldsSet = 4,
    /// `[constructor]outgoing-response`
    NewResponse = 5,
    /// `[method]outgoing-response.set-status-code`
    ResponseStatus = 6,
    /// `[method]outgoing-response.body`
    ResponseBody = 7,
    /// `[method]outgoing-body.write`
    BodyWrite = 8,
    /// `[static]outgoing-body.finish`
    BodyFinish = 9,
    /// `[static]response-outparam.set`
    OutparamSet = 10,
    /// `[method]output-stream.check-write`
    CheckWrite = 11,
    /// `[method]output-stream.write`
    Write = 12,
    /// `[method]output-stream.blocking-write-and-flush`
    WriteAndFlush = 13,
    /// `[method]output-stream.flush`, and the blocking one
    Flush = 14,
    /// `get-stdin`
    Stdin = 15,
    /// `get-stdout` and `get-stderr`
    Output = 16,
    /// `[method]output-stream.subscribe`
    SubscribeOutput = 17,
    /// `[method]input-stream.subscribe`
    SubscribeInput = 18,
    /// `[method]pollable.ready`
    Ready = 19,
    /// `[method]pollable.block`
    Block = 20,
    /// `poll`
    Poll = 21,
    /// `[method]incoming-request.headers`
    RequestHeaders = 22,
    /// `[method]incoming-request.consume`
    Consume = 23,
    /// `[method]incoming-body.stream`
    BodyStream = 24,
    /// `[static]incoming-body.finish`
    FinishIncoming = 25,
    /// `[method]input-stream.read`, and the blocking one
    Read = 26,
    /// `[method]fields.entries`
    FieldsEntries = 27,
    /// `[method]fields.get`
    FieldsGet = 28,
    /// `[method]fields.has`
    FieldsHas = 29,
    /// `[method]input-stream.skip`, the splicing of one stream into another, and the blocking ones
    Skip = 30,
    /// `[method]fields.clone`
    FieldsClone = 31,
    /// `get-random-bytes`
    RandomBytes = 32,
    /// `get-random-u64`
    RandomNumber = 33,
    /// `now` of the monotonic clock
    Now = 34,
}

impl Promise {
    const ALL: [Self; 35] = [
        Self::None,
        Self::NewFields,
        Self::FieldsFromList,
        Self::FieldsAppend,
        Self::FieldsSet,
        Self::NewResponse,
        Self::ResponseStatus,
        Self::ResponseBody,
        Self::BodyWrite,
        Self::BodyFinish,
        Self::OutparamSet,
        Self::CheckWrite,
        Self::Write,
        Self::WriteAndFlush,
        Self::Flush,
        Self::Stdin,
        Self::Output,
        Self::SubscribeOutput,
        Self::SubscribeInput,
        Self::Ready,
        Self::Block,
        Self::Poll,
        Self::RequestHeaders,
        Self::Consume,
        Self::BodyStream,
        Self::FinishIncoming,
        Self::Read,
        Self::FieldsEntries,
        Self::FieldsGet,
        Self::FieldsHas,
        Self::Skip,
        Self::FieldsClone,
        Self::RandomBytes,
        Self::RandomNumber,
        Self::Now,
    ];

    /// That of a function of WASI 0.2, by its interface without a version, and its name.
    #[must_use]
    pub fn of(interface: &str, name: &str) -> Self {
        match interface {
            "wasi:http/types" => Self::of_http(name),
            "wasi:io/streams" => Self::of_streams(name),
            "wasi:io/poll" => match name {
                "[method]pollable.ready" => Self::Ready,
                "[method]pollable.block" => Self::Block,
                "poll" => Self::Poll,
                _ => Self::None,
            },
            "wasi:random/random" => match name {
                "get-random-bytes" => Self::RandomBytes,
                "get-random-u64" => Self::RandomNumber,
                _ => Self::None,
            },
            "wasi:clocks/monotonic-clock" if name == "now" => Self::Now,
            "wasi:cli/stdin" if name == "get-stdin" => Self::Stdin,
            "wasi:cli/stdout" if name == "get-stdout" => Self::Output,
            "wasi:cli/stderr" if name == "get-stderr" => Self::Output,
            _ => Self::None,
        }
    }

    fn of_http(name: &str) -> Self {
        match name {
            "[constructor]fields" => Self::NewFields,
            "[static]fields.from-list" => Self::FieldsFromList,
            "[method]fields.append" => Self::FieldsAppend,
            "[method]fields.set" => Self::FieldsSet,
            "[method]fields.entries" => Self::FieldsEntries,
            "[method]fields.clone" => Self::FieldsClone,
            "[method]fields.get" => Self::FieldsGet,
            "[method]fields.has" => Self::FieldsHas,
            "[constructor]outgoing-response" => Self::NewResponse,
            "[method]outgoing-response.set-status-code" => Self::ResponseStatus,
            "[method]outgoing-response.body" => Self::ResponseBody,
            "[method]outgoing-body.write" => Self::BodyWrite,
            "[static]outgoing-body.finish" => Self::BodyFinish,
            "[static]response-outparam.set" => Self::OutparamSet,
            "[method]incoming-request.headers" => Self::RequestHeaders,
            "[method]incoming-request.consume" => Self::Consume,
            "[method]incoming-body.stream" => Self::BodyStream,
            "[static]incoming-body.finish" => Self::FinishIncoming,
            _ => Self::None,
        }
    }

    fn of_streams(name: &str) -> Self {
        match name {
            "[method]output-stream.check-write" => Self::CheckWrite,
            "[method]output-stream.write" => Self::Write,
            "[method]output-stream.blocking-write-and-flush" => Self::WriteAndFlush,
            "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => Self::Flush,
            "[method]output-stream.subscribe" => Self::SubscribeOutput,
            "[method]input-stream.subscribe" => Self::SubscribeInput,
            "[method]input-stream.read" | "[method]input-stream.blocking-read" => Self::Read,
            "[method]input-stream.skip"
            | "[method]input-stream.blocking-skip"
            | "[method]output-stream.splice"
            | "[method]output-stream.blocking-splice" => Self::Skip,
            _ => Self::None,
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let number = usize::from(from.u8()?);
        Self::ALL.get(number).copied().ok_or(from.error("what the guest can tell"))
    }
}

/// What a call of a host function would return, told before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The function's number.
    pub function: u32,
    /// Its arguments.
    pub args: Vec<u8>,
    /// Its result.
    pub result: Vec<u8>,
}

impl Known {
    /// In place of arguments: the result is that of `[method]fields.entries` for the headers of an incoming request,
    /// whose handle nobody has yet. No function has such arguments.
    #[must_use]
    pub fn entries_of(request: u32) -> Vec<u8> {
        let mut key = request.to_le_bytes().to_vec();
        key.extend(b"headers");
        key
    }
}

impl Encode for Known {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(self.function);
        out.bytes(&self.args);
        out.bytes(&self.result);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (function, args) = (from.u32()?, from.bytes()?.to_vec());
        Ok(Self { function, args, result: from.bytes()?.to_vec() })
    }
}

/// What the next reads of a stream return. The stream still has it: each read is to be made there, too.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ahead {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the stream is closed after them.
    pub is_closed: bool,
}

impl Encode for Ahead {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.bytes(&self.bytes);
        out.u8(u8::from(self.is_closed));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { bytes: from.bytes()?.to_vec(), is_closed: from.bool()? })
    }
}

/// How the monotonic clock goes on from the moment at which it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The clock's nanoseconds.
    pub now: u64,
    /// Nanoseconds that a tick of the CPU's counter takes, times 2^32.
    pub rate: u64,
}

impl Encode for Clock {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.now);
        out.u64(self.rate);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { now: from.u64()?, rate: from.u64()? })
    }
}

/// What a guest is told with the answer to a call, so that it need not ask for that, too.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Told {
    /// What other calls would return.
    pub known: Vec<Known>,
    /// What the next reads return of the stream that was read.
    pub ahead: Option<Ahead>,
    /// Random bytes, for this call only.
    pub random: Vec<u8>,
    /// The clock that was read, for this call only.
    pub clock: Option<Clock>,
}

impl Told {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Encode for Told {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.list(&self.known);
        self.ahead.encode(out);
        out.bytes(&self.random);
        self.clock.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            known: from.list()?,
            ahead: Option::decode(from)?,
            random: from.bytes()?.to_vec(),
            clock: Option::decode(from)?,
        })
    }
}
