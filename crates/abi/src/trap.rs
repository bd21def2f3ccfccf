//! How a call of the guest's ended that did not return.

use crate::codec::{DecodeError, Decoder, Encode, Encoder};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Why WebAssembly stopped, in its own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TrapCode {
    /// The stack limit was reached.
    StackOverflow = 0,
    /// An access outside a linear memory.
    MemoryOutOfBounds = 1,
    /// An atomic access that is not aligned.
    HeapMisaligned = 2,
    /// An access outside a table.
    TableOutOfBounds = 3,
    /// An indirect call through an empty element.
    IndirectCallToNull = 4,
    /// An indirect call to a function of another type.
    BadSignature = 5,
    /// A result that does not fit.
    IntegerOverflow = 6,
    /// A division by zero.
    IntegerDivisionByZero = 7,
    /// A float that no integer of the type can hold.
    BadConversionToInteger = 8,
    /// An `unreachable` was reached.
    Unreachable = 9,
    /// A null reference was used.
    NullReference = 10,
    /// An access outside an array.
    ArrayOutOfBounds = 11,
    /// An allocation beyond what can be addressed.
    AllocationTooLarge = 12,
    /// A cast to a type that the value is not of.
    CastFailure = 13,
    /// An exception that nothing caught.
    UncaughtException = 14,
    /// The heap had no room.
    OutOfMemory = 15,
    /// Anything else; the message says what.
    Other = 16,
}

impl TrapCode {
    const ALL: [Self; 17] = [
        Self::StackOverflow,
        Self::MemoryOutOfBounds,
        Self::HeapMisaligned,
        Self::TableOutOfBounds,
        Self::IndirectCallToNull,
        Self::BadSignature,
        Self::IntegerOverflow,
        Self::IntegerDivisionByZero,
        Self::BadConversionToInteger,
        Self::Unreachable,
        Self::NullReference,
        Self::ArrayOutOfBounds,
        Self::AllocationTooLarge,
        Self::CastFailure,
        Self::UncaughtException,
        Self::OutOfMemory,
        Self::Other,
    ];
}

impl fmt::Display for TrapCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StackOverflow => "call stack exhausted",
            Self::MemoryOutOfBounds => "out of bounds memory access",
            Self::HeapMisaligned => "unaligned atomic",
            Self::TableOutOfBounds => "undefined element: out of bounds table access",
            Self::IndirectCallToNull => "uninitialized element",
            Self::BadSignature => "indirect call type mismatch",
            Self::IntegerOverflow => "integer overflow",
            Self::IntegerDivisionByZero => "integer divide by zero",
            Self::BadConversionToInteger => "invalid conversion to integer",
            Self::Unreachable => "unreachable instruction executed",
            Self::NullReference => "null reference",
            Self::ArrayOutOfBounds => "out of bounds array access",
            Self::AllocationTooLarge => "allocation size too large",
            Self::CastFailure => "cast failure",
            Self::UncaughtException => "uncaught exception",
            Self::OutOfMemory => "out of memory",
            Self::Other => "trap",
        })
    }
}

/// One frame of a WebAssembly backtrace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The module's name, if it has one.
    pub module: Option<String>,
    /// The function's index in its module.
    pub function: u32,
    /// The function's name, if the module's name section has it.
    pub name: Option<String>,
    /// Byte offset of the instruction in the module, if known.
    pub offset: Option<u32>,
}

impl Encode for Frame {
    fn encode(&self, out: &mut Encoder<'_>) {
        self.module.encode(out);
        out.u32(self.function);
        self.name.encode(out);
        self.offset.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            module: Option::decode(from)?,
            function: from.u32()?,
            name: Option::decode(from)?,
            offset: Option::decode(from)?,
        })
    }
}

/// How a call that did not return ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// What stopped it.
    pub fault: Fault,
    /// Where, innermost first; cut at [`Trap::MAX_FRAMES`].
    pub frames: Vec<Frame>,
}

impl Trap {
    /// Frames that are reported at the most.
    pub const MAX_FRAMES: usize = 64;
}

/// What stopped a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// WebAssembly's own rules.
    Wasm {
        /// Which of them.
        code: TrapCode,
        /// More, where the code does not say it all.
        message: String,
    },
    /// A host function's error, sent back by the guest as it came.
    Host,
}

impl Encode for Trap {
    fn encode(&self, out: &mut Encoder<'_>) {
        match &self.fault {
            Fault::Wasm { code, message } => {
                out.u8(0);
                out.u8(*code as u8);
                out.str(message);
            }
            Fault::Host => out.u8(1),
        }
        out.list(&self.frames);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let fault = match from.u8()? {
            0 => {
                let code = usize::from(from.u8()?);
                let code = *TrapCode::ALL.get(code).ok_or(from.error("a trap code"))?;
                Fault::Wasm { code, message: String::decode(from)? }
            }
            1 => Fault::Host,
            _ => return Err(from.error("a fault")),
        };
        Ok(Self { fault, frames: from.list()? })
    }
}
