//! Calls of the host that need not be waited for.
//!
//! Each time that a guest asks the host costs an exit from the VM. Of some calls the guest can tell the answer: those
//! that return nothing, and those by which an HTTP response is put together, step by step, with handles of its own.
//! Such calls are queued, and the host does them all when it is asked the next time, at the latest when the guest is
//! done; it checks that each has returned what was told. Where that is not certain, the host is asked at once.
//!
//! What is written to a standard stream is never queued: it would be lost when the guest is stopped. What leads to the
//! write and follows it is, so that a line costs one exit.

mod fields;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use fields::{is_length, plain};
use sandgrain_abi::component::Reader;
use sandgrain_abi::message::{Ahead, Clock, Known, MAX_NAMES, PROMISED, Promise, Queued, Told};

/// Calls that are queued at the most, and bytes of their arguments.
const MAX_QUEUED: usize = 256;
const MAX_BYTES: usize = 32 << 10;
/// Bytes of all fields together that no host refuses.
const MAX_FIELDS: usize = 4 << 10;
/// Resources that something is known of at a time. The host has to know each, too.
const MAX_MADE: usize = MAX_NAMES / 2;
/// Bytes that a response's stream takes at once: fewer than those that travel beside a message, which are not queued.
const PERMITTED: u64 = (4 << 10) - 1;
/// The same of a standard stream.
const STANDARD_PERMITTED: u64 = 64 << 10;
/// Writes after which a response's stream takes one more at once, whether anybody reads or not.
const CERTAIN_WRITES: u32 = 1;

/// Nanoseconds after which the clock is asked for again.
const MAX_RUNNING: u64 = 50_000_000;

/// What is known of a resource. All but requests have handles of the guest's own.
enum Made {
    Fields {
        bytes: usize,
        has_length: bool,
    },
    Response {
        has_body: bool,
        has_length: bool,
    },
    Body {
        has_stream: bool,
        has_length: bool,
    },
    /// Where a response's body is written to, and how often it has been.
    Stream {
        writes: u32,
    },
    /// Standard output or error.
    Standard,
    /// An incoming request, whose body has been taken.
    Request,
    /// The fields of an incoming request.
    Headers {
        request: u32,
    },
    IncomingBody {
        has_stream: bool,
    },
    Pollable(Awaited),
    /// Of which nothing is known but that it is there.
    Other,
}

/// What a pollable is for.
enum Awaited {
    Output(u32),
    Input(u32),
}

/// What is queued, made and known.
#[derive(Default)]
pub(crate) struct Promises {
    queue: Vec<Queued>,
    bytes: usize,
    made: BTreeMap<u32, Made>,
    /// How many handles have been made.
    count: u32,
    known: Vec<Known>,
    /// The stream that was read last, and what the next reads of it return.
    ahead: Option<(u32, Ahead)>,
    /// Random bytes that nobody has been given.
    random: Vec<u8>,
    clock: Option<Running>,
}

/// A clock that goes on by itself.
struct Running {
    clock: Clock,
    /// The CPU's counter when the host's reply with the clock was here.
    ticks: u64,
    /// What was told last of it.
    last: u64,
}

/// The answer `ok` of a result without a value.
const OK: &[u8] = &[0];
/// The answer that a stream is closed.
const CLOSED: &[u8] = &[1, 1, 0, 0, 0];

impl Promises {
    /// What is queued, to be sent.
    pub(crate) fn take(&mut self) -> Vec<Queued> {
        self.bytes = 0;
        core::mem::take(&mut self.queue)
    }

    /// Whether nothing is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What the host has told before a call. What was known until then.
    pub(crate) fn know(&mut self, known: Vec<Known>) -> Vec<Known> {
        // Between calls others may read, and the guest may be copied: no two may have the same of these.
        self.ahead = None;
        self.clock = None;
        self.random.fill(0);
        self.random.clear();
        core::mem::replace(&mut self.known, known)
    }

    /// The host is asked for what could not be told.
    pub(crate) fn asked(&mut self, promise: Promise, args: &[u8]) {
        match promise {
            // It moves a stream on, or may.
            Promise::Read | Promise::Skip => self.ahead = None,
            Promise::CheckWrite | Promise::Write | Promise::WriteAndFlush => {
                let stream = args.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                if let Some(Made::Stream { writes }) = self.made.get_mut(&stream) {
                    // How full it is then, nobody here knows any more.
                    *writes = u32::MAX;
                }
            }
            _ => {}
        }
    }

    /// What the host has told with its answer to a call.
    pub(crate) fn told(
        &mut self,
        promise: Promise,
        args: &[u8],
        answer: &mut Vec<u8>,
        told: Told,
        ticks: Option<u64>,
    ) {
        self.known.extend(told.known);
        if !told.random.is_empty() {
            self.random = told.random;
        }
        if let (Promise::Now, Some(mut clock)) = (promise, told.clock) {
            // Whatever the counter has said, the clock is not seen to go back.
            let last = self.clock.take().map_or(0, |before| before.last);
            clock.now = clock.now.max(last);
            *answer = clock.now.to_le_bytes().to_vec();
            self.clock = ticks.map(|ticks| Running { last: clock.now, clock, ticks });
        }
        if let (Promise::Read, Some(stream), Some(ahead)) =
            (promise, args.first_chunk(), told.ahead)
        {
            self.ahead = Some((u32::from_le_bytes(*stream), ahead));
        }
    }

    /// Queues the dropping of a resource of the host. `false`: there is no room.
    pub(crate) fn drop_resource(&mut self, function: u32, resource: u32) -> bool {
        if !self.queue(function, &resource.to_le_bytes(), None) {
            return false;
        }
        self.made.remove(&resource);
        self.ahead.take_if(|(stream, _)| *stream == resource);
        true
    }

    fn queue(&mut self, function: u32, args: &[u8], made: Option<u32>) -> bool {
        if self.queue.len() >= MAX_QUEUED || self.bytes + args.len() > MAX_BYTES {
            return false;
        }
        self.bytes += args.len();
        self.queue.push(Queued { function, args: args.to_vec(), made });
        true
    }

    /// The answer to a call, if it can be told.
    pub(crate) fn answer(
        &mut self,
        function: u32,
        promise: Promise,
        args: &[u8],
        ticks: fn() -> Option<u64>,
    ) -> Option<Vec<u8>> {
        let known =
            self.known.iter().position(|known| known.function == function && known.args == args);
        if let Some(at) = known {
            return Some(self.known[at].result.clone());
        }
        let from = &mut Reader::new(args, &[], &[], MAX_BYTES);
        match promise {
            Promise::None => None,
            Promise::NewFields => {
                self.make(function, args, Made::Fields { bytes: 0, has_length: false }, false)
            }
            Promise::FieldsFromList => {
                let (mut bytes, mut has_length) = (0, false);
                for _ in 0..from.u32().ok()? {
                    let (name, value) = (from.run().ok()?, from.run().ok()?);
                    bytes += plain(name, value)?;
                    has_length |= is_length(name);
                }
                let made = Made::Fields { bytes, has_length };
                (bytes <= MAX_FIELDS).then_some(())?;
                self.make(function, args, made, true)
            }
            Promise::FieldsAppend => {
                let handle = from.u32().ok()?;
                let (name, value) = (from.run().ok()?, from.run().ok()?);
                self.add(handle, &[(name, value)])?;
                self.queue(function, args, None).then(|| OK.to_vec())
            }
            Promise::FieldsSet => {
                let (handle, name) = (from.u32().ok()?, from.run().ok()?);
                let mut fields = Vec::new();
                for _ in 0..from.u32().ok()? {
                    fields.push((name, from.run().ok()?));
                }
                self.add(handle, &fields)?;
                self.queue(function, args, None).then(|| OK.to_vec())
            }
            Promise::NewResponse => {
                let handle = from.u32().ok()?;
                let Some(Made::Fields { has_length, .. }) = self.made.get(&handle) else {
                    return None;
                };
                let made = Made::Response { has_body: false, has_length: *has_length };
                let answer = self.make(function, args, made, false)?;
                self.made.remove(&handle);
                Some(answer)
            }
            Promise::ResponseStatus => {
                let (handle, status) = (from.u32().ok()?, u16::from_le_bytes(from.array().ok()?));
                let is_response = matches!(self.made.get(&handle), Some(Made::Response { .. }));
                let is_known = is_response && (200..600).contains(&status);
                (is_known && self.queue(function, args, None)).then(|| OK.to_vec())
            }
            Promise::ResponseBody => {
                let handle = from.u32().ok()?;
                let Some(Made::Response { has_body: false, has_length }) = self.made.get(&handle)
                else {
                    return None;
                };
                let has_length = *has_length;
                let made = Made::Body { has_stream: false, has_length };
                let answer = self.make(function, args, made, true)?;
                self.made.insert(handle, Made::Response { has_body: true, has_length });
                Some(answer)
            }
            Promise::OutparamSet => {
                // A handle of the host's, `ok`, and one of the guest's own.
                let (_, is_error, handle) = (from.u32().ok()?, from.bool().ok()?, from.u32());
                let handle = handle.ok().filter(|_| !is_error)?;
                matches!(self.made.get(&handle), Some(Made::Response { .. })).then_some(())?;
                self.queue(function, args, None).then(|| {
                    self.made.remove(&handle);
                    Vec::new()
                })
            }
            Promise::BodyWrite => {
                let handle = from.u32().ok()?;
                let Some(Made::Body { has_stream: false, has_length }) = self.made.get(&handle)
                else {
                    return None;
                };
                let has_length = *has_length;
                let answer = self.make(function, args, Made::Stream { writes: 0 }, true)?;
                self.made.insert(handle, Made::Body { has_stream: true, has_length });
                Some(answer)
            }
            Promise::BodyFinish => {
                let (handle, has_trailers) = (from.u32().ok()?, from.bool().ok()?);
                // Of a body whose length was said it may turn out that it is another.
                let is_free =
                    matches!(self.made.get(&handle), Some(Made::Body { has_length: false, .. }));
                (is_free && !has_trailers).then_some(())?;
                self.queue(function, args, None).then(|| {
                    self.made.remove(&handle);
                    OK.to_vec()
                })
            }
            Promise::CheckWrite => {
                let permitted = match self.made.get(&from.u32().ok()?)? {
                    Made::Stream { .. } => PERMITTED,
                    Made::Standard => STANDARD_PERMITTED,
                    _ => return None,
                };
                let room = MAX_BYTES - self.bytes;
                (permitted == STANDARD_PERMITTED || room as u64 > 2 * PERMITTED).then(|| {
                    let mut answer = OK.to_vec();
                    answer.extend(permitted.to_le_bytes());
                    answer
                })
            }
            Promise::Write | Promise::WriteAndFlush => {
                let handle = from.u32().ok()?;
                let Some(Made::Stream { writes }) = self.made.get(&handle) else { return None };
                let writes = writes.saturating_add(1);
                (from.run().ok()?.len() as u64 <= PERMITTED).then_some(())?;
                self.queue(function, args, None).then(|| {
                    self.made.insert(handle, Made::Stream { writes });
                    OK.to_vec()
                })
            }
            Promise::Flush => {
                let stream = self.made.get(&from.u32().ok()?)?;
                matches!(stream, Made::Stream { .. } | Made::Standard).then_some(())?;
                self.queue(function, args, None).then(|| OK.to_vec())
            }
            Promise::Output => self.make(function, args, Made::Standard, false),
            Promise::Stdin => self.make(function, args, Made::Other, false),
            Promise::SubscribeOutput => {
                let made = Made::Pollable(Awaited::Output(from.u32().ok()?));
                self.make(function, args, made, false)
            }
            Promise::SubscribeInput => {
                let made = Made::Pollable(Awaited::Input(from.u32().ok()?));
                self.make(function, args, made, false)
            }
            Promise::Ready => self.is_ready(from.u32().ok()?).then(|| [1].to_vec()),
            Promise::Block => self.is_ready(from.u32().ok()?).then(Vec::new),
            Promise::Poll => {
                let count = from.u32().ok()?;
                // Of others the guest may want to know as well whether they are ready.
                for _ in 0..count {
                    self.is_ready(from.u32().ok()?).then_some(())?;
                }
                (count > 0).then_some(())?;
                let indices: Vec<u8> = (0..count).flat_map(u32::to_le_bytes).collect();
                Some(run(&[], &indices))
            }
            Promise::RequestHeaders => {
                let request = from.u32().ok()?;
                self.make(function, args, Made::Headers { request }, false)
            }
            Promise::FieldsEntries => self.entries(from).map(<[u8]>::to_vec),
            Promise::FieldsGet => {
                let entries = self.entries(from)?;
                Some(fields::list(&fields::values(entries, from.run().ok()?)?))
            }
            Promise::FieldsHas => {
                let entries = self.entries(from)?;
                let values = fields::values(entries, from.run().ok()?)?;
                Some([u8::from(!values.is_empty())].to_vec())
            }
            Promise::Consume => {
                let handle = from.u32().ok()?;
                if self.made.contains_key(&handle) {
                    return None;
                }
                let made = Made::IncomingBody { has_stream: false };
                let answer = self.make(function, args, made, true)?;
                self.made.insert(handle, Made::Request);
                Some(answer)
            }
            Promise::BodyStream => {
                let handle = from.u32().ok()?;
                let Some(Made::IncomingBody { has_stream: false }) = self.made.get(&handle) else {
                    return None;
                };
                let answer = self.make(function, args, Made::Other, true)?;
                self.made.insert(handle, Made::IncomingBody { has_stream: true });
                Some(answer)
            }
            Promise::FinishIncoming => {
                let handle = from.u32().ok()?;
                matches!(self.made.get(&handle), Some(Made::IncomingBody { .. })).then_some(())?;
                let answer = self.make(function, args, Made::Other, false)?;
                self.made.remove(&handle);
                Some(answer)
            }
            Promise::Read => self.read(function, from),
            Promise::Skip => None,
            Promise::FieldsClone => {
                let made = match self.made.get(&from.u32().ok()?) {
                    Some(Made::Fields { bytes, has_length }) => {
                        Made::Fields { bytes: *bytes, has_length: *has_length }
                    }
                    _ => Made::Other,
                };
                self.make(function, args, made, false)
            }
            Promise::RandomBytes => {
                let bytes = self.random(u64::from_le_bytes(from.array().ok()?))?;
                Some(run(&[], &bytes))
            }
            Promise::RandomNumber => self.random(8),
            Promise::Now => {
                let Running { clock, ticks: since, last } = self.clock.as_mut()?;
                let ticks = ticks()?.checked_sub(*since)?;
                let passed =
                    u64::try_from((u128::from(ticks) * u128::from(clock.rate)) >> 32).ok()?;
                (passed <= MAX_RUNNING).then_some(())?;
                *last = clock.now.saturating_add(passed).max(*last);
                Some(last.to_le_bytes().to_vec())
            }
        }
    }

    /// So many random bytes, which nobody is given again.
    fn random(&mut self, len: u64) -> Option<Vec<u8>> {
        let rest = self.random.len().checked_sub(usize::try_from(len).ok()?)?;
        let bytes = self.random[rest..].to_vec();
        self.random[rest..].fill(0);
        self.random.truncate(rest);
        Some(bytes)
    }

    /// Reads from what was sent ahead of it, which the host still has: it reads the same when it is told.
    fn read(&mut self, function: u32, from: &mut Reader<'_>) -> Option<Vec<u8>> {
        let handle = from.u32().ok()?;
        let len = u64::from_le_bytes(from.array().ok()?);
        let (stream, ahead) = self.ahead.as_ref()?;
        (*stream == handle && len > 0).then_some(())?;
        let is_all = len >= ahead.bytes.len() as u64;
        if len > ahead.bytes.len() as u64 && !ahead.is_closed {
            // There may be more.
            return None;
        }
        if ahead.bytes.is_empty() {
            return Some(CLOSED.to_vec());
        }
        let len = if is_all { ahead.bytes.len() } else { len as usize };
        let answer = run(OK, &ahead.bytes[..len]);
        // One after the other they are one.
        let before = self.queue.pop_if(|last| {
            last.function == function && last.args.starts_with(&handle.to_le_bytes())
        });
        let before = before.and_then(|last| last.args.last_chunk().copied());
        let sum = before.map_or(0, u64::from_le_bytes) + len as u64;
        let mut args = handle.to_le_bytes().to_vec();
        args.extend(sum.to_le_bytes());
        if before.is_some() {
            self.bytes -= args.len();
        }
        if !self.queue(function, &args, None) {
            return None;
        }
        let (_, ahead) = self.ahead.as_mut()?;
        ahead.bytes.drain(..len);
        Some(answer)
    }

    /// Whether a pollable is certain to be ready.
    fn is_ready(&self, pollable: u32) -> bool {
        match self.made.get(&pollable) {
            Some(Made::Pollable(Awaited::Output(stream))) => match self.made.get(stream) {
                Some(Made::Stream { writes }) => *writes <= CERTAIN_WRITES,
                // The host waits for it, where it has to.
                Some(Made::Standard) => true,
                _ => false,
            },
            Some(Made::Pollable(Awaited::Input(stream))) => match &self.ahead {
                Some((read, ahead)) => {
                    read == stream && (ahead.is_closed || !ahead.bytes.is_empty())
                }
                None => false,
            },
            _ => false,
        }
    }

    /// The entries of fields, if they are those of a request that the host has told of.
    fn entries(&self, from: &mut Reader<'_>) -> Option<&[u8]> {
        let Some(Made::Headers { request }) = self.made.get(&from.u32().ok()?) else {
            return None;
        };
        let key = Known::entries_of(*request);
        let known = self.known.iter().find(|known| known.args == key)?;
        Some(&known.result)
    }

    /// Queues a call that returns a resource: as such, or in a result.
    fn make(&mut self, function: u32, args: &[u8], made: Made, in_result: bool) -> Option<Vec<u8>> {
        if self.made.len() >= MAX_MADE || self.count == u32::MAX - PROMISED {
            return None;
        }
        let handle = PROMISED + self.count;
        if !self.queue(function, args, Some(handle)) {
            return None;
        }
        self.count += 1;
        self.made.insert(handle, made);
        let mut answer = if in_result { OK.to_vec() } else { Vec::new() };
        answer.extend(handle.to_le_bytes());
        Some(answer)
    }

    /// Adds fields that no host refuses to those of a handle.
    fn add(&mut self, handle: u32, fields: &[(&[u8], &[u8])]) -> Option<()> {
        let mut sum = 0;
        for (name, value) in fields {
            sum += plain(name, value)?;
        }
        match self.made.get_mut(&handle) {
            Some(Made::Fields { bytes, has_length }) if *bytes + sum <= MAX_FIELDS => {
                *bytes += sum;
                *has_length |= fields.iter().any(|(name, _)| is_length(name));
                Some(())
            }
            _ => None,
        }
    }
}

/// A run of bytes as it travels, after something else.
fn run(before: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut answer = before.to_vec();
    answer.push(0);
    answer.extend((bytes.len() as u32).to_le_bytes());
    answer.extend_from_slice(bytes);
    answer
}
