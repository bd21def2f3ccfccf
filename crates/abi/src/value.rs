//! WebAssembly's values, as they travel between host and guest.

use crate::codec::{DecodeError, Decoder, Encode, Encoder};
use crate::types::{HeapType, ValType};

/// A value. Floats are their bits, so that every NaN arrives as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// 32-bit integer.
    I32(i32),
    /// 64-bit integer.
    I64(i64),
    /// The bits of a 32-bit float.
    F32(u32),
    /// The bits of a 64-bit float.
    F64(u64),
    /// 128-bit vector; lane 0 is lowest.
    V128(u128),
    /// A null reference of the family named.
    Null(HeapType),
    /// A function: the number under which the guest keeps it for the host.
    FuncRef(u32),
    /// A value of the host: the number that the host chose.
    ExternRef(u32),
    /// A 31-bit integer reference.
    I31(i32),
    /// Something that the guest's garbage collector owns, which has no value outside the guest.
    GcRef(HeapType),
}

impl Value {
    /// Whether the value may stand where `ty` is asked for. Subtypes that only the guest's engine can
    /// tell apart are left to it.
    #[must_use]
    pub fn is_a(&self, ty: ValType) -> bool {
        match (self, ty) {
            (Self::I32(_), ValType::I32)
            | (Self::I64(_), ValType::I64)
            | (Self::F32(_), ValType::F32)
            | (Self::F64(_), ValType::F64)
            | (Self::V128(_), ValType::V128) => true,
            (Self::Null(of), ValType::Ref { nullable: true, heap }) => of.top() == heap.top(),
            (Self::FuncRef(_), ValType::Ref { heap, .. }) => {
                matches!(heap, HeapType::Func | HeapType::ConcreteFunc)
            }
            (Self::ExternRef(_), ValType::Ref { heap, .. }) => {
                // An external value may be carried as an internal one.
                matches!(heap, HeapType::Extern | HeapType::Any)
            }
            (Self::I31(_), ValType::Ref { heap, .. }) => {
                matches!(heap, HeapType::I31 | HeapType::Eq | HeapType::Any)
            }
            _ => false,
        }
    }
}

impl Encode for Value {
    fn encode(&self, out: &mut Encoder<'_>) {
        match *self {
            Self::I32(value) => {
                out.u8(0);
                out.u32(value.cast_unsigned());
            }
            Self::I64(value) => {
                out.u8(1);
                out.u64(value.cast_unsigned());
            }
            Self::F32(bits) => {
                out.u8(2);
                out.u32(bits);
            }
            Self::F64(bits) => {
                out.u8(3);
                out.u64(bits);
            }
            Self::V128(bits) => {
                out.u8(4);
                out.raw(&bits.to_le_bytes());
            }
            Self::Null(heap) => {
                out.u8(5);
                ValType::Ref { nullable: true, heap }.encode(out);
            }
            Self::FuncRef(number) => {
                out.u8(6);
                out.u32(number);
            }
            Self::ExternRef(number) => {
                out.u8(7);
                out.u32(number);
            }
            Self::I31(value) => {
                out.u8(8);
                out.u32(value.cast_unsigned());
            }
            Self::GcRef(heap) => {
                out.u8(9);
                ValType::Ref { nullable: false, heap }.encode(out);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        fn heap(from: &mut Decoder<'_>) -> Result<HeapType, DecodeError> {
            match ValType::decode(from)? {
                ValType::Ref { heap, .. } => Ok(heap),
                _ => Err(from.error("a reference type")),
            }
        }
        Ok(match from.u8()? {
            0 => Self::I32(from.u32()?.cast_signed()),
            1 => Self::I64(from.u64()?.cast_signed()),
            2 => Self::F32(from.u32()?),
            3 => Self::F64(from.u64()?),
            4 => {
                let low = from.u64()?;
                let high = from.u64()?;
                Self::V128(u128::from(low) | u128::from(high) << 64)
            }
            5 => Self::Null(heap(from)?),
            6 => Self::FuncRef(from.u32()?),
            7 => Self::ExternRef(from.u32()?),
            8 => Self::I31(from.u32()?.cast_signed()),
            9 => Self::GcRef(heap(from)?),
            _ => return Err(from.error("a value")),
        })
    }
}
