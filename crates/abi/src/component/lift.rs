//! A component's values for Rust: lifting.

use super::lower::{HostHandle, NOTHING, is_host_handle, is_list, is_payload, tuple};
use super::wire::Reader;
use super::{Type, TypeDef, Types};
use crate::codec::DecodeError;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// A Rust type whose values a component gives. Those that borrow do so from the guest's memory, while it stands
/// still.
pub trait Lift<'a>: Sized {
    /// Whether a component's type is the same.
    fn is_of(ty: Type, types: &Types) -> bool;

    /// Reads a value.
    ///
    /// # Errors
    /// When the guest has written something else.
    fn lift(from: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Reads a list's elements, their count included.
    ///
    /// # Errors
    /// As [`lift`](Self::lift).
    fn lift_list(from: &mut Reader<'a>) -> Result<Vec<Self>, DecodeError> {
        let count = from.count(size_of::<Self>())?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(Self::lift(from)?);
        }
        Ok(items)
    }
}

macro_rules! numbers {
    ($($rust:ty => $ty:ident;)*) => {$(
        impl Lift<'_> for $rust {
            fn is_of(ty: Type, _: &Types) -> bool {
                ty == Type::$ty
            }

            fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                from.array().map(<$rust>::from_le_bytes)
            }

            fn lift_list(from: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
                let bytes = from.run()?;
                from.charge(bytes.len())?;
                let (numbers, rest) = bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(from.error("whole numbers"));
                }
                Ok(numbers.iter().map(|number| <$rust>::from_le_bytes(*number)).collect())
            }
        }
    )*};
}

numbers! {
    i8 => S8;
    u16 => U16;
    i16 => S16;
    u32 => U32;
    i32 => S32;
    u64 => U64;
    i64 => S64;
    f32 => F32;
    f64 => F64;
}

impl Lift<'_> for u8 {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == Type::U8
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.u8()
    }

    fn lift_list(from: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let bytes = from.run()?;
        from.charge(bytes.len())?;
        Ok(bytes.to_vec())
    }
}

impl<'a> Lift<'a> for &'a [u8] {
    fn is_of(ty: Type, types: &Types) -> bool {
        is_list(ty, types, |element| element == Type::U8)
    }

    fn lift(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        from.run()
    }
}

impl Lift<'_> for bool {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == Type::Bool
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.bool()
    }
}

impl Lift<'_> for char {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == Type::Char
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = from.u32()?;
        char::from_u32(value).ok_or(from.error("a character"))
    }
}

impl<'a> Lift<'a> for &'a str {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == Type::String
    }

    fn lift(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let bytes = from.run()?;
        core::str::from_utf8(bytes).map_err(|_| from.error("UTF-8"))
    }
}

impl Lift<'_> for String {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == Type::String
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = <&str>::lift(from)?;
        from.charge(text.len())?;
        Ok(text.to_owned())
    }
}

impl<'a, T: Lift<'a>> Lift<'a> for Vec<T> {
    fn is_of(ty: Type, types: &Types) -> bool {
        is_list(ty, types, |element| T::is_of(element, types))
    }

    fn lift(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        T::lift_list(from)
    }
}

impl<'a, T: Lift<'a>> Lift<'a> for Box<T> {
    fn is_of(ty: Type, types: &Types) -> bool {
        T::is_of(ty, types)
    }

    fn lift(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        from.charge(size_of::<T>())?;
        T::lift(from).map(Box::new)
    }
}

impl Lift<'_> for HostHandle {
    fn is_of(ty: Type, types: &Types) -> bool {
        is_host_handle(ty, types)
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.handle().map(Self)
    }
}

impl<'a, T: Lift<'a>> Lift<'a> for Option<T> {
    fn is_of(ty: Type, types: &Types) -> bool {
        matches!(types.def(ty), Some(TypeDef::Option(of)) if T::is_of(*of, types))
    }

    fn lift(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(if from.bool()? { Some(T::lift(from)?) } else { None })
    }
}

impl Lift<'_> for () {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == NOTHING
    }

    fn lift(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl<'a, T: Lift<'a>, E: Lift<'a>> Lift<'a> for Result<T, E> {
    fn is_of(ty: Type, types: &Types) -> bool {
        let Some(TypeDef::Result { ok, err }) = types.def(ty) else { return false };
        is_payload::<T>(*ok, |ty| T::is_of(ty, types))
            && is_payload::<E>(*err, |ty| E::is_of(ty, types))
    }

    fn lift(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(if from.bool()? { Err(E::lift(from)?) } else { Ok(T::lift(from)?) })
    }
}

macro_rules! tuples {
    ($(($count:literal $($name:ident)*))*) => {$(
        #[allow(non_snake_case, reason = "the type's name serves for its value")]
        impl<'a, $($name: Lift<'a>),*> Lift<'a> for ($($name,)*) {
            fn is_of(ty: Type, types: &Types) -> bool {
                match tuple::<$count>(ty, types) {
                    Some([$($name),*]) => true $(&& <$name as Lift>::is_of(*$name, types))*,
                    None => false,
                }
            }

            fn lift(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
                Ok(($($name::lift(from)?,)*))
            }
        }
    )*};
}

tuples! {
    (1 A)
    (2 A B)
    (3 A B C)
    (4 A B C D)
    (5 A B C D E)
    (6 A B C D E F)
    (7 A B C D E F G)
    (8 A B C D E F G H)
}
