//! A component's value for WAVE's writer.

use sandgrain_abi::component::Val;
use std::borrow::Cow;
use wasm_wave::wasm::{WasmTypeKind, WasmValue};

/// A value to be written. It is never made from text, and so needs none of the functions for that.
#[derive(Clone)]
pub(super) enum Shown<'a> {
    Val(&'a Val),
    /// One of a list of bytes.
    Byte(u8),
}

type Values<'s, T> = Box<dyn Iterator<Item = T> + 's>;

impl<'a> Shown<'a> {
    fn payload<'s>(value: Option<&'a Val>) -> Option<Cow<'s, Self>>
    where
        'a: 's,
    {
        value.map(|value| Cow::Owned(Self::Val(value)))
    }
}

/// A function of the trait for a kind of value, which the writer calls for that kind only.
macro_rules! unwrap {
    ($($name:ident: $variant:ident => $ty:ty;)*) => {$(
        fn $name(&self) -> $ty {
            match self {
                Self::Val(Val::$variant(value)) => *value,
                _ => Default::default(),
            }
        }
    )*};
}

impl<'a> WasmValue for Shown<'a> {
    type Type = wasm_wave::value::Type;

    fn kind(&self) -> WasmTypeKind {
        let Self::Val(val) = self else { return WasmTypeKind::U8 };
        match val {
            Val::Bool(_) => WasmTypeKind::Bool,
            Val::S8(_) => WasmTypeKind::S8,
            Val::U8(_) => WasmTypeKind::U8,
            Val::S16(_) => WasmTypeKind::S16,
            Val::U16(_) => WasmTypeKind::U16,
            Val::S32(_) => WasmTypeKind::S32,
            Val::U32(_) => WasmTypeKind::U32,
            Val::S64(_) => WasmTypeKind::S64,
            Val::U64(_) => WasmTypeKind::U64,
            Val::F32(_) => WasmTypeKind::F32,
            Val::F64(_) => WasmTypeKind::F64,
            Val::Char(_) => WasmTypeKind::Char,
            Val::String(_) => WasmTypeKind::String,
            Val::Bytes(_) | Val::List(_) => WasmTypeKind::List,
            Val::Record(_) => WasmTypeKind::Record,
            Val::Tuple(_) => WasmTypeKind::Tuple,
            Val::Variant(..) => WasmTypeKind::Variant,
            // A handle is written like a name.
            Val::Enum(_) | Val::HostResource(_) | Val::Resource(_) => WasmTypeKind::Enum,
            Val::Option(_) => WasmTypeKind::Option,
            Val::Result(_) => WasmTypeKind::Result,
            Val::Flags(_) => WasmTypeKind::Flags,
        }
    }

    unwrap! {
        unwrap_bool: Bool => bool;
        unwrap_s8: S8 => i8;
        unwrap_s16: S16 => i16;
        unwrap_s32: S32 => i32;
        unwrap_s64: S64 => i64;
        unwrap_u16: U16 => u16;
        unwrap_u32: U32 => u32;
        unwrap_u64: U64 => u64;
        unwrap_f32: F32 => f32;
        unwrap_f64: F64 => f64;
        unwrap_char: Char => char;
    }

    fn unwrap_u8(&self) -> u8 {
        match self {
            Self::Val(Val::U8(value)) | Self::Byte(value) => *value,
            Self::Val(_) => 0,
        }
    }

    fn unwrap_string(&self) -> Cow<'_, str> {
        match self {
            Self::Val(Val::String(text)) => Cow::Borrowed(text),
            _ => Cow::Borrowed(""),
        }
    }

    fn unwrap_list(&self) -> Values<'_, Cow<'_, Self>> {
        match self {
            Self::Val(Val::Bytes(bytes)) => {
                Box::new(bytes.iter().map(|byte| Cow::Owned(Self::Byte(*byte))))
            }
            Self::Val(Val::List(items) | Val::Tuple(items)) => {
                Box::new(items.iter().map(|item| Cow::Owned(Self::Val(item))))
            }
            _ => Box::new(std::iter::empty()),
        }
    }

    fn unwrap_tuple(&self) -> Values<'_, Cow<'_, Self>> {
        self.unwrap_list()
    }

    fn unwrap_record(&self) -> Values<'_, (Cow<'_, str>, Cow<'_, Self>)> {
        match self {
            Self::Val(Val::Record(fields)) => {
                Box::new(fields.iter().map(|(name, value)| {
                    (Cow::Borrowed(name.as_str()), Cow::Owned(Self::Val(value)))
                }))
            }
            _ => Box::new(std::iter::empty()),
        }
    }

    fn unwrap_variant(&self) -> (Cow<'_, str>, Option<Cow<'_, Self>>) {
        match self {
            Self::Val(Val::Variant(name, value)) => {
                (Cow::Borrowed(name), Self::payload(value.as_deref()))
            }
            _ => (Cow::Borrowed(""), None),
        }
    }

    fn unwrap_enum(&self) -> Cow<'_, str> {
        match self {
            Self::Val(Val::Enum(name)) => Cow::Borrowed(name),
            Self::Val(Val::HostResource(number)) => Cow::Owned(format!("<resource {number}>")),
            Self::Val(Val::Resource(handle)) => Cow::Owned(format!("<resource {}>", handle.number)),
            _ => Cow::Borrowed(""),
        }
    }

    fn unwrap_option(&self) -> Option<Cow<'_, Self>> {
        match self {
            Self::Val(Val::Option(value)) => Self::payload(value.as_deref()),
            _ => None,
        }
    }

    fn unwrap_result(&self) -> Result<Option<Cow<'_, Self>>, Option<Cow<'_, Self>>> {
        match self {
            Self::Val(Val::Result(Ok(value))) => Ok(Self::payload(value.as_deref())),
            Self::Val(Val::Result(Err(value))) => Err(Self::payload(value.as_deref())),
            _ => Ok(None),
        }
    }

    fn unwrap_flags(&self) -> Values<'_, Cow<'_, str>> {
        match self {
            Self::Val(Val::Flags(names)) => {
                Box::new(names.iter().map(|name| Cow::Borrowed(name.as_str())))
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}
