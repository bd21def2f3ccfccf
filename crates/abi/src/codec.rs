//! The one wire format: little-endian fixed-width integers, and lengths before what they count.
//!
//! A message is at most a few hundred bytes for nearly every call, so the format favours decoding
//! with one bounds check per field over compactness. Decoding never allocates more than the bytes
//! that are really there can fill, whatever lengths they claim.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Byte offset in the message at which decoding stopped.
    pub offset: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed message: expected {} at byte {}", self.expected, self.offset)
    }
}

impl core::error::Error for DecodeError {}

/// A value with a place in the wire format.
pub trait Encode: Sized {
    /// Appends the value's bytes.
    fn encode(&self, out: &mut Encoder<'_>);

    /// Reads a value.
    ///
    /// # Errors
    /// When the bytes end early or are not such a value.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// Appends the value's bytes to a buffer.
    fn encode_to(&self, buffer: &mut Vec<u8>) {
        self.encode(&mut Encoder { buffer });
    }

    /// Reads a value that must take up all of `bytes`.
    ///
    /// # Errors
    /// When `bytes` end early, are not such a value, or go on after it.
    fn decode_from(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let value = Self::decode(&mut decoder)?;
        if decoder.rest().is_empty() { Ok(value) } else { Err(decoder.error("end of message")) }
    }
}

/// Appends values to a byte buffer.
pub struct Encoder<'a> {
    buffer: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Appends to what the buffer holds.
    #[must_use]
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self { buffer }
    }

    /// Appends raw bytes without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }

    /// Appends a 32-bit number.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// Appends a 64-bit number.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// Appends a length. Nothing that is sent is 4 GiB long; what would be is cut by its owner.
    pub fn len(&mut self, len: usize) {
        self.u32(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// Appends a length and bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.raw(bytes);
    }

    /// Appends a length and a string's UTF-8.
    pub fn str(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Appends a length and values.
    pub fn list<T: Encode>(&mut self, items: &[T]) {
        self.len(items.len());
        for item in items {
            item.encode(self);
        }
    }
}

/// Reads values from bytes that may be hostile.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Decoder<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    /// An error at the present offset.
    #[must_use]
    pub fn error(&self, expected: &'static str) -> DecodeError {
        DecodeError { offset: self.offset, expected }
    }

    /// Reads `len` raw bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest().get(..len) {
            Some(bytes) => {
                self.offset += len;
                Ok(bytes)
            }
            None => Err(self.error("more bytes")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest().first_chunk::<N>() {
            Some(bytes) => {
                self.offset += N;
                Ok(*bytes)
            }
            None => Err(self.error("a number")),
        }
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads a 32-bit number.
    ///
    /// # Errors
    /// When fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a 64-bit number.
    ///
    /// # Errors
    /// When fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// When no byte is left or it is neither 0 nor 1.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a boolean")),
        }
    }

    /// Reads a length and bytes.
    ///
    /// # Errors
    /// When the length goes past the end.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u32()? as usize;
        self.raw(len)
    }

    /// Reads a length and a string.
    ///
    /// # Errors
    /// When the length goes past the end or the bytes are not UTF-8.
    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        let error = self.error("UTF-8");
        core::str::from_utf8(self.bytes()?).map_err(|_| error)
    }

    /// Reads a length and values.
    ///
    /// # Errors
    /// When a value is malformed or missing.
    pub fn list<T: Encode>(&mut self) -> Result<Vec<T>, DecodeError> {
        let count = self.u32()? as usize;
        // Every value takes at least one byte, so a count beyond the rest is a lie; and room is made
        // for what has been decoded, not for what has been announced.
        if count > self.rest().len() {
            return Err(self.error("a list that fits into its message"));
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(T::decode(self)?);
        }
        Ok(items)
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.str(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.str().map(String::from)
    }
}

impl Encode for u32 {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(*self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.u32()
    }
}

impl Encode for u64 {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(*self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.u64()
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u8(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(if from.bool()? { Some(T::decode(from)?) } else { None })
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Encoder<'_>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(from)?, B::decode(from)?))
    }
}

/// Bytes without a length, such as those of a digest.
impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.raw(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.array()
    }
}

impl Encode for Range<u64> {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.start);
        out.u64(self.end);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let range = from.u64()?..from.u64()?;
        if range.start <= range.end { Ok(range) } else { Err(from.error("a range")) }
    }
}
