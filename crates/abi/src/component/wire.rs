//! How a component's values travel: each in the shape of its type.
//!
//! | type | bytes |
//! |---|---|
//! | `bool`, numbers | 1, 2, 4 or 8, little-endian; `bool` is 0 or 1 |
//! | `char` | 4: the scalar value |
//! | `string`, `list` of numbers | a run of bytes: `0`, their count in 4 bytes and they themselves, or `1` and in 4 the number of an [attachment](Attachment) that they are |
//! | other `list` | the count in 4 bytes, then the elements |
//! | `list` of fixed length, `record`, `tuple` | the elements |
//! | `variant`, `enum` | the case's number in 4 bytes, then its value if it has one |
//! | `option`, `result` | `0` or `1` (`1`: `some`, `err`), then the value if there is one |
//! | `flags` | a bit for each, the first lowest, in whole bytes |
//! | handle | 4: the host's own number of a resource of the host; for one of the guest the place in the [handles](Payload::resources) |
//!
//! A run of numbers lies as it does in linear memory. Large runs travel beside the message, so that they are
//! copied once: between linear memory and where they are needed.

use crate::codec::{DecodeError, Decoder, Encode, Encoder};
use crate::message::{MemoryRange, PROMISED};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Bytes from which on a run that the host sends is an attachment. Smaller ones fit into the mailbox with
/// the rest.
pub const LARGE_RUN: usize = 16 << 10;

/// A run of bytes beside a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// It is where it was made, in a linear memory of the guest, until the message is answered.
    Memory(MemoryRange),
    /// It is sent by a request of its own.
    Sent {
        /// Bytes.
        len: u64,
    },
}

impl Encode for Attachment {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Memory(range) => {
                out.u8(0);
                range.encode(out);
            }
            Self::Sent { len } => {
                out.u8(1);
                out.u64(*len);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Memory(MemoryRange::decode(from)?),
            1 => Self::Sent { len: from.u64()? },
            _ => return Err(from.error("an attachment")),
        })
    }
}

/// A handle of a resource that the guest defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResourceHandle {
    /// The number under which the guest keeps it for the host.
    pub number: u32,
    /// Whether ownership goes with it.
    pub owned: bool,
}

impl Encode for ResourceHandle {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(self.number);
        out.u8(u8::from(self.owned));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { number: from.u32()?, owned: from.bool()? })
    }
}

/// Arguments or a result, as they travel.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Payload {
    /// The values, one after the other.
    pub body: Vec<u8>,
    /// Runs beside them.
    pub attachments: Vec<Attachment>,
    /// The guest's own resources among them.
    pub resources: Vec<ResourceHandle>,
}

impl Encode for Payload {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.bytes(&self.body);
        out.list(&self.attachments);
        out.list(&self.resources);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let body = from.bytes()?.to_vec();
        Ok(Self { body, attachments: from.list()?, resources: from.list()? })
    }
}

/// Writes values for the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    body: Vec<u8>,
    attachments: Vec<Vec<u8>>,
    resources: Vec<ResourceHandle>,
}

impl Writer {
    /// Nothing written yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What travels, and the bytes of its attachments.
    #[must_use]
    pub fn finish(self) -> (Payload, Vec<Vec<u8>>) {
        let Self { body, attachments, resources } = self;
        let sent = attachments.iter().map(|run| Attachment::Sent { len: run.len() as u64 });
        (Payload { body, attachments: sent.collect(), resources }, attachments)
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.body.push(value);
    }

    /// Appends a number of four bytes.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// Appends a count of elements. No list in linear memory has 2^32.
    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Appends a run of bytes.
    pub fn run(&mut self, bytes: &[u8]) {
        if bytes.len() >= LARGE_RUN {
            return self.owned_run(bytes.to_vec());
        }
        self.u8(0);
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// Appends a run of bytes that nobody else needs.
    pub fn owned_run(&mut self, bytes: Vec<u8>) {
        if bytes.len() < LARGE_RUN {
            return self.run(&bytes);
        }
        self.u8(1);
        self.count(self.attachments.len());
        self.attachments.push(bytes);
    }

    /// Appends a handle of a resource of the guest.
    pub fn resource(&mut self, handle: ResourceHandle) {
        self.count(self.resources.len());
        self.resources.push(handle);
    }
}

/// Reads values that a guest, possibly a hostile one, has written.
#[derive(Debug)]
pub struct Reader<'a> {
    decoder: Decoder<'a>,
    attachments: &'a [&'a [u8]],
    resources: &'a [ResourceHandle],
    promised: Option<&'a BTreeMap<u32, u32>>,
    budget: usize,
    is_over_budget: bool,
}

impl<'a> Reader<'a> {
    /// Reads a body; `attachments` are the bytes of its attachments. What is read may take `budget` bytes of
    /// the host's memory.
    #[must_use]
    pub fn new(
        body: &'a [u8],
        attachments: &'a [&'a [u8]],
        resources: &'a [ResourceHandle],
        budget: usize,
    ) -> Self {
        let decoder = Decoder::new(body);
        Self { decoder, attachments, resources, promised: None, budget, is_over_budget: false }
    }

    /// The same, with what the guest's own names of resources of the host stand for.
    #[must_use]
    pub fn with_promised(mut self, promised: &'a BTreeMap<u32, u32>) -> Self {
        self.promised = Some(promised);
        self
    }

    /// Reads a handle of a resource of the host.
    ///
    /// # Errors
    /// When there are fewer bytes, or it is a name that stands for nothing.
    pub fn handle(&mut self) -> Result<u32, DecodeError> {
        let handle = self.u32()?;
        match self.promised {
            Some(promised) if handle >= PROMISED => {
                promised.get(&handle).copied().ok_or(self.error("a resource that was returned"))
            }
            _ => Ok(handle),
        }
    }

    /// Whether reading has failed because the budget was used up.
    #[must_use]
    pub fn is_over_budget(&self) -> bool {
        self.is_over_budget
    }

    /// An error at the present place.
    #[must_use]
    pub fn error(&self, expected: &'static str) -> DecodeError {
        self.decoder.error(expected)
    }

    /// Takes `bytes` from the budget.
    ///
    /// # Errors
    /// When they are more than is left of it.
    pub fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => {
                self.is_over_budget = true;
                Err(self.error("less data than the limit of one call"))
            }
        }
    }

    /// Reads so many bytes as they are.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.decoder.raw(N)?;
        bytes.first_chunk().copied().ok_or(self.error("a number"))
    }

    /// Reads so many bytes as they are.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        self.decoder.raw(len)
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// When there is none.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.decoder.u8()
    }

    /// Reads a number of four bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.decoder.u32()
    }

    /// Reads a byte that is 0 or 1.
    ///
    /// # Errors
    /// When it is another, or there is none.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        self.decoder.bool()
    }

    /// Reads a count of elements, of which each takes a byte at the least, and `size` bytes of the host's memory.
    ///
    /// # Errors
    /// When there are fewer bytes, or it is too much for the budget.
    pub fn count(&mut self, size: usize) -> Result<usize, DecodeError> {
        let count = self.decoder.u32()? as usize;
        if count > self.decoder.rest().len() {
            return Err(self.error("a list that fits into its message"));
        }
        self.charge(count.saturating_mul(size))?;
        Ok(count)
    }

    /// Reads a run of bytes, which takes nothing from the budget: nothing has been copied.
    ///
    /// # Errors
    /// When it goes past the end, or is an attachment that there is not.
    pub fn run(&mut self) -> Result<&'a [u8], DecodeError> {
        if !self.bool()? {
            return self.decoder.bytes();
        }
        let number = self.u32()? as usize;
        self.attachments.get(number).copied().ok_or(self.error("an attachment that there is"))
    }

    /// Reads a handle of a resource of the guest.
    ///
    /// # Errors
    /// When it is not in the list of them.
    pub fn resource(&mut self) -> Result<ResourceHandle, DecodeError> {
        let place = self.u32()? as usize;
        self.resources.get(place).copied().ok_or(self.error("a resource that there is"))
    }

    /// Ends reading.
    ///
    /// # Errors
    /// When something is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.decoder.rest().is_empty() {
            Ok(())
        } else {
            Err(self.error("the end of the values"))
        }
    }
}
