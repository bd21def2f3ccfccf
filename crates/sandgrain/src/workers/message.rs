//! What this process and a worker tell each other. The worker is trusted with nothing: what it says is checked
//! as what a guest says is.

use super::worker::Device;
use crate::error::Error;
use crate::guest::{ComponentCall, NO_ROOM_FOR_CODE};
use crate::learned::PageSet;
use crate::limits::Limits;
use crate::stats::Stats;
use crate::store::{Origin, decode_places, encode_places};
use sandgrain_abi::component::Payload;
use sandgrain_abi::message::{Command, HostReply, Outcome};
use sandgrain_abi::text::printable;
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder, Value};
use sandgrain_hypervisor::Place;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Bytes of a message of a worker's at the most, but for what a component's call passes.
pub(super) const MAX_TOLD: usize = 4 << 20;
/// Bytes of a message to a worker at the most, which holds a module's code, or the changes of a memory.
pub(super) const MAX_ASKED: usize = u32::MAX as usize;
/// Bytes of memory that a worker is asked for at once, or sends along unasked.
pub(super) const PIECE: usize = 1 << 20;
/// Bytes of a message on a control socket at the most.
pub(super) const MAX_CONTROL: usize = 16 << 10;

/// Messages on the control socket, to the worker.
#[derive(Debug)]
pub(super) enum Control {
    /// The first one: what to open, and how many descriptors to have at the most.
    Begin { origin: Origin, device: Device, descriptors: u64 },
    /// A line comes with it: for what somebody waits for, or for what may take its time.
    Line { background: bool },
    /// A guest is to stop if this is its turn.
    Stop { guest: u64, turn: u64 },
}

/// How a worker has begun: its only message there.
#[derive(Debug)]
pub(super) enum Beginning {
    /// It has opened what it needs, and confined itself.
    Ready(Origin),
    /// It could not.
    Failed(String),
}

/// Some bytes of a linear memory.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) address: u64,
    pub(super) bytes: Vec<u8>,
}

/// What is asked of a worker on a line. Guests and images have numbers that are given here.
#[derive(Debug)]
pub(super) enum Ask {
    /// To know an image, whose memory's files come with it.
    Image { number: u64, places: Vec<Place>, limits: Limits, guest: Vec<u8> },
    /// To forget an image.
    Forget(u64),
    /// To make a guest, with copies of these pages.
    Make { guest: u64, image: u64, pages: PageSet },
    /// To have a guest do something, or go on if there is no command.
    /// The command's attachments come with it. Once it is done it is to be made what it is in its image, if so said.
    Step { guest: u64, turn: u64, command: Option<Command>, attachments: Vec<Run>, reset: bool },
    /// To put code into a guest.
    Load { guest: u64, code: Vec<u8>, text: Range<u64> },
    /// To make a guest what it is in its image.
    Reset(u64),
    /// Which pages a guest has touched.
    Touched(u64),
    /// How many pages a guest has to itself.
    Resident(u64),
    /// How large a guest's linear memory is.
    Size { guest: u64, memory: u32 },
    /// Bytes of a guest's linear memory.
    Read { guest: u64, memory: u32, range: Range<u64> },
    /// To change a guest's linear memory.
    Write { guest: u64, memory: u32, parts: Vec<Part> },
    /// To drop a guest.
    Close(u64),
}

/// What answers a guest's call, in the middle of a step.
#[derive(Debug)]
pub(super) enum Reply {
    /// First some bytes of the caller's memory.
    Fetch(Range<u64>),
    /// The answer, and changes of the caller's memory.
    Answer { reply: HostReply, parts: Vec<Part>, attachments: Vec<Run> },
    /// The guest is to do this first, with its attachments, after changes of the caller's memory.
    Execute { command: Command, parts: Vec<Part>, attachments: Vec<Run> },
    /// The guest is to wait.
    Later,
    /// There is no answer: the guest has come to its end.
    Over,
}

/// A call of a guest.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: u32,
    pub(super) args: Vec<Value>,
    /// Bytes of the caller's memory, if it has one.
    pub(super) size: Option<u64>,
    /// Bytes of it that will be needed.
    pub(super) parts: Vec<Part>,
    /// Whether it may not be put off any more.
    pub(super) again: bool,
}

/// What a worker says on a line.
#[derive(Debug)]
pub(super) enum Told {
    Done,
    Failed(Failure),
    /// Where code is, and how much.
    Loaded(u64, u64),
    Flag(bool),
    Pages(PageSet),
    Number(u64),
    Bytes(Vec<u8>),
    /// A guest has left its turn; without an outcome it waits for the answer to a call.
    Left {
        stats: Stats,
        outcome: Option<Outcome>,
        /// The outcome's attachments.
        attachments: Vec<Run>,
        /// Whether it is what it is in its image again.
        is_reset: bool,
    },
    /// A guest has done what it was told in the middle of a call, whose answer it waits for.
    Within {
        outcome: Outcome,
        /// The outcome's attachments.
        attachments: Vec<Run>,
        /// Bytes of the caller's memory now.
        size: Option<u64>,
    },
    /// A guest calls: to be answered by [`Reply`]s.
    Call(Call),
    /// A component calls: to be answered by one [`Reply`].
    ComponentCall {
        call: ComponentCall,
        attachments: Vec<Run>,
        /// Whether it may not be put off any more.
        again: bool,
    },
}

/// A run of bytes beside a message of a guest's.
#[derive(Debug)]
pub(super) struct Run(pub(super) Vec<u8>);

impl Encode for Run {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.bytes(&self.0);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self(from.bytes()?.to_vec()))
    }
}

/// Runs as they are in messages.
pub(super) fn runs(attachments: Vec<Vec<u8>>) -> Vec<Run> {
    attachments.into_iter().map(Run).collect()
}

/// Runs out of messages.
pub(super) fn bytes_of(runs: Vec<Run>) -> Vec<Vec<u8>> {
    runs.into_iter().map(|Run(bytes)| bytes).collect()
}

/// Why a worker has not done what it was asked for.
#[derive(Debug)]
pub(super) struct Failure {
    kind: u8,
    text: String,
    limit: String,
}

const GUEST: u8 = 0;
const HOST: u8 = 1;
const STOPPED: u8 = 2;
const LIMIT: u8 = 3;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (kind, text, limit) = match error {
            Error::Guest(text) => (GUEST, text, String::new()),
            Error::Interrupted => (STOPPED, String::new(), String::new()),
            Error::Limit { limit, detail, .. } => (LIMIT, detail, limit),
            Error::Host(text) => (HOST, text, String::new()),
            other => (HOST, other.to_string(), String::new()),
        };
        Self { kind, text, limit }
    }
}

impl From<Failure> for Error {
    fn from(Failure { kind, text, limit }: Failure) -> Self {
        let text = printable(&text);
        match kind {
            GUEST => Self::Guest(text),
            STOPPED => Self::Interrupted,
            // The only one that is not the runtime's own.
            LIMIT => Self::Limit { what: NO_ROOM_FOR_CODE, limit: printable(&limit), detail: text },
            _ => Self::Host(text),
        }
    }
}

impl Encode for Failure {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u8(self.kind);
        out.str(&self.text);
        out.str(&self.limit);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let kind = from.u8()?;
        if kind > LIMIT {
            return Err(from.error("a kind of failure"));
        }
        Ok(Self { kind, text: Encode::decode(from)?, limit: Encode::decode(from)? })
    }
}

impl Encode for Part {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.address);
        out.bytes(&self.bytes);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { address: from.u64()?, bytes: from.bytes()?.to_vec() })
    }
}

impl Encode for Control {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Begin { origin, device: Device { path, available_tss }, descriptors } => {
                out.u8(0);
                origin.encode(out);
                out.bytes(path.as_os_str().as_bytes());
                out.u8(u8::from(*available_tss));
                out.u64(*descriptors);
            }
            Self::Line { background } => {
                out.u8(1);
                out.u8(u8::from(*background));
            }
            Self::Stop { guest, turn } => {
                out.u8(2);
                out.u64(*guest);
                out.u64(*turn);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => {
                let origin = Origin::decode(from)?;
                let path = OsStr::from_bytes(from.bytes()?).into();
                let device = Device { path, available_tss: from.bool()? };
                Self::Begin { origin, device, descriptors: from.u64()? }
            }
            1 => Self::Line { background: from.bool()? },
            2 => Self::Stop { guest: from.u64()?, turn: from.u64()? },
            _ => return Err(from.error("a message of a control socket")),
        })
    }
}

impl Encode for Beginning {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Ready(origin) => {
                out.u8(0);
                origin.encode(out);
            }
            Self::Failed(why) => {
                out.u8(1);
                out.str(why);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Ready(Origin::decode(from)?),
            1 => Self::Failed(Encode::decode(from)?),
            _ => return Err(from.error("a worker's beginning")),
        })
    }
}

impl Encode for Ask {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Image { number, places, limits, guest } => {
                out.u8(0);
                out.u64(*number);
                encode_places(out, places);
                limits.encode(out);
                out.bytes(guest);
            }
            Self::Forget(image) => {
                out.u8(1);
                out.u64(*image);
            }
            Self::Make { guest, image, pages } => {
                out.u8(2);
                out.u64(*guest);
                out.u64(*image);
                pages.encode(out);
            }
            Self::Step { guest, turn, command, attachments, reset } => {
                out.u8(3);
                out.u64(*guest);
                out.u64(*turn);
                command.encode(out);
                out.list(attachments);
                out.u8(u8::from(*reset));
            }
            Self::Load { guest, code, text } => {
                out.u8(4);
                out.u64(*guest);
                out.bytes(code);
                text.encode(out);
            }
            Self::Reset(guest) => {
                out.u8(5);
                out.u64(*guest);
            }
            Self::Touched(guest) => {
                out.u8(6);
                out.u64(*guest);
            }
            Self::Resident(guest) => {
                out.u8(7);
                out.u64(*guest);
            }
            Self::Size { guest, memory } => {
                out.u8(8);
                out.u64(*guest);
                out.u32(*memory);
            }
            Self::Read { guest, memory, range } => {
                out.u8(9);
                out.u64(*guest);
                out.u32(*memory);
                range.encode(out);
            }
            Self::Write { guest, memory, parts } => {
                out.u8(10);
                out.u64(*guest);
                out.u32(*memory);
                out.list(parts);
            }
            Self::Close(guest) => {
                out.u8(11);
                out.u64(*guest);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Image {
                number: from.u64()?,
                places: decode_places(from)?,
                limits: Limits::decode(from)?,
                guest: from.bytes()?.to_vec(),
            },
            1 => Self::Forget(from.u64()?),
            2 => {
                Self::Make { guest: from.u64()?, image: from.u64()?, pages: PageSet::decode(from)? }
            }
            3 => Self::Step {
                guest: from.u64()?,
                turn: from.u64()?,
                command: Option::decode(from)?,
                attachments: from.list()?,
                reset: from.bool()?,
            },
            4 => Self::Load {
                guest: from.u64()?,
                code: from.bytes()?.to_vec(),
                text: Range::decode(from)?,
            },
            5 => Self::Reset(from.u64()?),
            6 => Self::Touched(from.u64()?),
            7 => Self::Resident(from.u64()?),
            8 => Self::Size { guest: from.u64()?, memory: from.u32()? },
            9 => {
                Self::Read { guest: from.u64()?, memory: from.u32()?, range: Range::decode(from)? }
            }
            10 => Self::Write { guest: from.u64()?, memory: from.u32()?, parts: from.list()? },
            11 => Self::Close(from.u64()?),
            _ => return Err(from.error("something to ask of a worker")),
        })
    }
}

impl Encode for Reply {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Fetch(range) => {
                out.u8(0);
                range.encode(out);
            }
            Self::Answer { reply, parts, attachments } => {
                out.u8(1);
                reply.encode(out);
                out.list(parts);
                out.list(attachments);
            }
            Self::Later => out.u8(2),
            Self::Over => out.u8(3),
            Self::Execute { command, parts, attachments } => {
                out.u8(4);
                command.encode(out);
                out.list(parts);
                out.list(attachments);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Fetch(Range::decode(from)?),
            1 => Self::Answer {
                reply: HostReply::decode(from)?,
                parts: from.list()?,
                attachments: from.list()?,
            },
            2 => Self::Later,
            3 => Self::Over,
            4 => Self::Execute {
                command: Command::decode(from)?,
                parts: from.list()?,
                attachments: from.list()?,
            },
            _ => return Err(from.error("an answer to a guest's call")),
        })
    }
}

impl Encode for Told {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Done => out.u8(0),
            Self::Failed(failure) => {
                out.u8(1);
                failure.encode(out);
            }
            Self::Loaded(address, len) => {
                out.u8(2);
                out.u64(*address);
                out.u64(*len);
            }
            Self::Flag(flag) => {
                out.u8(3);
                out.u8(u8::from(*flag));
            }
            Self::Pages(pages) => {
                out.u8(4);
                pages.encode(out);
            }
            Self::Number(number) => {
                out.u8(5);
                out.u64(*number);
            }
            Self::Bytes(bytes) => {
                out.u8(6);
                out.bytes(bytes);
            }
            Self::Left { stats, outcome, attachments, is_reset } => {
                out.u8(7);
                for time in [stats.guest, stats.host] {
                    out.u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
                }
                for count in [stats.exits, stats.hypercalls, stats.host_calls] {
                    out.u64(count);
                }
                outcome.encode(out);
                out.list(attachments);
                out.u8(u8::from(*is_reset));
            }
            Self::Within { outcome, attachments, size } => {
                out.u8(10);
                outcome.encode(out);
                out.list(attachments);
                size.encode(out);
            }
            Self::ComponentCall { call, attachments, again } => {
                out.u8(9);
                out.u32(call.function);
                call.args.encode(out);
                out.list(&call.queued);
                out.list(attachments);
                out.u8(u8::from(*again));
            }
            Self::Call(Call { function, args, size, parts, again }) => {
                out.u8(8);
                out.u32(*function);
                out.list(args);
                size.encode(out);
                out.list(parts);
                out.u8(u8::from(*again));
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Done,
            1 => Self::Failed(Failure::decode(from)?),
            2 => Self::Loaded(from.u64()?, from.u64()?),
            3 => Self::Flag(from.bool()?),
            4 => Self::Pages(PageSet::decode(from)?),
            5 => Self::Number(from.u64()?),
            6 => Self::Bytes(from.bytes()?.to_vec()),
            7 => {
                // Figures that can be added up without end, whatever a worker says.
                let mut figure = || from.u64().map(|figure| figure.min(1 << 48));
                let (guest, host) = (figure()?, figure()?);
                let stats = Stats {
                    guest: Duration::from_nanos(guest),
                    host: Duration::from_nanos(host),
                    exits: figure()?,
                    hypercalls: figure()?,
                    host_calls: figure()?,
                    pages_touched: None,
                };
                Self::Left {
                    stats,
                    outcome: Option::decode(from)?,
                    attachments: from.list()?,
                    is_reset: from.bool()?,
                }
            }
            8 => Self::Call(Call {
                function: from.u32()?,
                args: from.list()?,
                size: Option::decode(from)?,
                parts: from.list()?,
                again: from.bool()?,
            }),
            9 => Self::ComponentCall {
                call: ComponentCall {
                    function: from.u32()?,
                    args: Payload::decode(from)?,
                    queued: from.list()?,
                },
                attachments: from.list()?,
                again: from.bool()?,
            },
            10 => Self::Within {
                outcome: Outcome::decode(from)?,
                attachments: from.list()?,
                size: Option::decode(from)?,
            },
            _ => return Err(from.error("something that a worker says")),
        })
    }
}
