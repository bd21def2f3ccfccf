//! Rust's values for a component: lowering.

use super::wire::Writer;
use super::{ResourceOrigin, Type, TypeDef, Types};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// A Rust type whose values a component takes.
pub trait Lower {
    /// Whether a component's type is the same.
    fn is_of(ty: Type, types: &Types) -> bool;

    /// Appends the value.
    fn lower(&self, out: &mut Writer);

    /// Appends a list's elements, their count included.
    fn lower_list(items: &[Self], out: &mut Writer)
    where
        Self: Sized,
    {
        out.count(items.len());
        for item in items {
            item.lower(out);
        }
    }
}

/// Whether a type is a list, of elements that pass a check.
pub(super) fn is_list(ty: Type, types: &Types, element: impl Fn(Type) -> bool) -> bool {
    matches!(types.def(ty), Some(TypeDef::List(of)) if element(*of))
}

macro_rules! numbers {
    ($($rust:ty => $ty:ident;)*) => {$(
        impl Lower for $rust {
            fn is_of(ty: Type, _: &Types) -> bool {
                ty == Type::$ty
            }

            fn lower(&self, out: &mut Writer) {
                out.raw(&self.to_le_bytes());
            }

            fn lower_list(items: &[Self], out: &mut Writer) {
                let mut bytes = Vec::with_capacity(size_of_val(items));
                for item in items {
                    bytes.extend_from_slice(&item.to_le_bytes());
                }
                out.owned_run(bytes);
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

impl Lower for u8 {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == Type::U8
    }

    fn lower(&self, out: &mut Writer) {
        out.u8(*self);
    }

    fn lower_list(items: &[Self], out: &mut Writer) {
        out.run(items);
    }
}

impl Lower for bool {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == Type::Bool
    }

    fn lower(&self, out: &mut Writer) {
        out.u8(u8::from(*self));
    }
}

impl Lower for char {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == Type::Char
    }

    fn lower(&self, out: &mut Writer) {
        out.u32(u32::from(*self));
    }
}

impl Lower for str {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == Type::String
    }

    fn lower(&self, out: &mut Writer) {
        out.run(self.as_bytes());
    }
}

impl<T: Lower> Lower for [T] {
    fn is_of(ty: Type, types: &Types) -> bool {
        is_list(ty, types, |element| T::is_of(element, types))
    }

    fn lower(&self, out: &mut Writer) {
        T::lower_list(self, out);
    }
}

macro_rules! forward {
    ($([$($generics:tt)*] $rust:ty => $other:ty;)*) => {$(
        impl<$($generics)*> Lower for $rust {
            fn is_of(ty: Type, types: &Types) -> bool {
                <$other>::is_of(ty, types)
            }

            fn lower(&self, out: &mut Writer) {
                <$other>::lower(self, out);
            }
        }
    )*};
}

forward! {
    [] String => str;
    [T: Lower] Vec<T> => [T];
    [T: Lower + ?Sized] &T => T;
    [T: Lower + ?Sized] Box<T> => T;
    [] Cow<'_, str> => str;
}

/// A handle of a resource of the host: the host's own number of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostHandle(pub u32);

/// Whether a type is that of handles of the host's resources.
pub(super) fn is_host_handle(ty: Type, types: &Types) -> bool {
    let (Type::Own(number) | Type::Borrow(number)) = ty else { return false };
    let resource = types.resources.get(number as usize);
    resource.is_some_and(|resource| resource.origin == ResourceOrigin::Imported)
}

impl Lower for HostHandle {
    fn is_of(ty: Type, types: &Types) -> bool {
        is_host_handle(ty, types)
    }

    fn lower(&self, out: &mut Writer) {
        out.u32(self.0);
    }
}

impl<T: Lower> Lower for Option<T> {
    fn is_of(ty: Type, types: &Types) -> bool {
        matches!(types.def(ty), Some(TypeDef::Option(of)) if T::is_of(*of, types))
    }

    fn lower(&self, out: &mut Writer) {
        out.u8(u8::from(self.is_some()));
        if let Some(value) = self {
            value.lower(out);
        }
    }
}

/// What a case of a result may hold: a value, or for `()` none.
pub(super) fn is_payload<T>(ty: Option<Type>, is_of: impl Fn(Type) -> bool) -> bool {
    match ty {
        Some(ty) => is_of(ty),
        // The type `()` stands for no value.
        None => size_of::<T>() == 0 && is_of(NOTHING),
    }
}

/// A number that no type has: what `()` answers to in place of the type of a value that there is not.
pub(super) const NOTHING: Type = Type::Defined(u32::MAX);

impl Lower for () {
    fn is_of(ty: Type, _: &Types) -> bool {
        ty == NOTHING
    }

    fn lower(&self, _: &mut Writer) {}
}

impl<T: Lower, E: Lower> Lower for Result<T, E> {
    fn is_of(ty: Type, types: &Types) -> bool {
        let Some(TypeDef::Result { ok, err }) = types.def(ty) else { return false };
        is_payload::<T>(*ok, |ty| T::is_of(ty, types))
            && is_payload::<E>(*err, |ty| E::is_of(ty, types))
    }

    fn lower(&self, out: &mut Writer) {
        out.u8(u8::from(self.is_err()));
        match self {
            Ok(value) => value.lower(out),
            Err(error) => error.lower(out),
        }
    }
}

/// The types of a tuple's elements, if it is one of so many.
pub(super) fn tuple<const N: usize>(ty: Type, types: &Types) -> Option<&[Type; N]> {
    match types.def(ty) {
        Some(TypeDef::Tuple(elements)) => elements.as_slice().try_into().ok(),
        _ => None,
    }
}

macro_rules! tuples {
    ($(($count:literal $($name:ident)*))*) => {$(
        #[allow(non_snake_case, reason = "the type's name serves for its value")]
        impl<$($name: Lower),*> Lower for ($($name,)*) {
            fn is_of(ty: Type, types: &Types) -> bool {
                match tuple::<$count>(ty, types) {
                    Some([$($name),*]) => true $(&& <$name as Lower>::is_of(*$name, types))*,
                    None => false,
                }
            }

            fn lower(&self, out: &mut Writer) {
                let ($($name,)*) = self;
                $($name.lower(out);)*
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
