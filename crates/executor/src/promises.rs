//! Calls of the host that need not be waited for.
//!
//! Each time that a guest asks the host costs an exit from the VM. Of some calls the guest can tell the answer: those
//! that return nothing, and those by which an HTTP response is put together, step by step, with handles of its own.
//! Such calls are queued, and the host does them all when it is asked the next time, at the latest when the guest is
//! done; it checks that each has returned what was told. Where that is not certain, the host is asked at once.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use sandgrain_abi::component::Reader;
use sandgrain_abi::message::{Known, PROMISED, Promise, Queued};

/// Calls that are queued at the most, and bytes of their arguments.
const MAX_QUEUED: usize = 256;
const MAX_BYTES: usize = 32 << 10;
/// Bytes of a field's value, and of all fields together, that no host refuses.
const MAX_FIELD: usize = 1 << 10;
const MAX_FIELDS: usize = 4 << 10;
/// Handles that a guest makes in its life, of which the host has to know each.
const MAX_MADE: u32 = 1 << 16;
/// Bytes that a stream takes at once.
const PERMITTED: u64 = 4096;

/// What is known of a resource with a handle of the guest's own.
enum Made {
    Fields { bytes: usize, has_length: bool },
    Response { has_body: bool, has_length: bool },
    Body { has_stream: bool, has_length: bool },
    Stream,
}

/// What is queued, made and known.
#[derive(Default)]
pub(crate) struct Promises {
    queue: Vec<Queued>,
    bytes: usize,
    made: BTreeMap<u32, Made>,
    count: u32,
    known: Vec<Known>,
}

/// The answer `ok` of a result without a value.
const OK: &[u8] = &[0];

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
        core::mem::replace(&mut self.known, known)
    }

    /// Queues the dropping of a resource of the host. `false`: there is no room.
    pub(crate) fn drop_resource(&mut self, function: u32, resource: u32) -> bool {
        self.made.remove(&resource);
        self.queue(function, &resource.to_le_bytes(), None)
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
                let answer = self.make(function, args, Made::Stream, true)?;
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
                self.stream(from)?;
                let room = MAX_BYTES - self.bytes;
                (room as u64 > 2 * PERMITTED).then(|| {
                    let mut answer = OK.to_vec();
                    answer.extend(PERMITTED.to_le_bytes());
                    answer
                })
            }
            Promise::Write | Promise::WriteAndFlush => {
                self.stream(from)?;
                (from.run().ok()?.len() as u64 <= PERMITTED).then_some(())?;
                self.queue(function, args, None).then(|| OK.to_vec())
            }
            Promise::Flush => {
                self.stream(from)?;
                self.queue(function, args, None).then(|| OK.to_vec())
            }
        }
    }

    /// Queues a call that returns a resource: as such, or in a result.
    fn make(&mut self, function: u32, args: &[u8], made: Made, in_result: bool) -> Option<Vec<u8>> {
        if self.count >= MAX_MADE {
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

    /// Whether the call is for a stream of the guest's own.
    fn stream(&self, from: &mut Reader<'_>) -> Option<()> {
        let handle = from.u32().ok()?;
        matches!(self.made.get(&handle), Some(Made::Stream)).then_some(())
    }
}

fn is_length(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-length")
}

/// Fields that hosts do not let a guest set.
const REFUSED: [&[u8]; 10] = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
    b"host",
    b"http2-settings",
    b"te",
];

/// Bytes that a field takes, if no host refuses it.
fn plain(name: &[u8], value: &[u8]) -> Option<usize> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_value = |byte: &u8| matches!(byte, 0x20..=0x7e);
    let is_plain = !name.is_empty()
        && name.iter().all(is_name)
        && !REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused))
        && value.len() <= MAX_FIELD
        && value.iter().all(is_value);
    is_plain.then_some(name.len() + value.len() + 64)
}
