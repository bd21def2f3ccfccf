//! From linear memory to the wire.

use super::{Attach, Lifted, Source, is_number, unsupported};
use alloc::format;
use alloc::string::String;
use wasmtime::component::__internal::wasmtime_environ::component::{StringEncoding, VariantInfo};
use wasmtime::component::__internal::{InterfaceType, LiftContext};
use wasmtime::component::{ComponentType, Lift, ResourceAny, ResourceDynamic};
use wasmtime::{Error, Result, ValRaw};

impl<'s> Source<'_, 's> {
    /// The same place, for another value at it.
    fn again(&mut self) -> Source<'_, 's> {
        match self {
            Self::Flat(values) => Source::Flat(values),
            Self::Memory(at) => Source::Memory(*at),
        }
    }

    /// The place of the next field of a record that begins here.
    fn field(&mut self, cx: &LiftContext<'_>, ty: InterfaceType) -> Source<'_, 's> {
        match self {
            Self::Flat(values) => Source::Flat(values),
            Self::Memory(at) => Source::Memory(cx.types.canonical_abi(&ty).next_field32_size(at)),
        }
    }
}

/// A value that is one of WebAssembly's.
fn scalar<T: Lift + ComponentType<Lower = ValRaw>>(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    from: Source<'_, '_>,
) -> Result<T> {
    match from {
        Source::Flat(values) => T::linear_lift_from_flat(cx, ty, next(values)?),
        Source::Memory(at) => T::linear_lift_from_memory(cx, ty, bytes(cx, at, T::SIZE32)?),
    }
}

fn next<'s>(values: &mut core::slice::Iter<'s, ValRaw>) -> Result<&'s ValRaw> {
    values.next().ok_or_else(|| Error::msg("fewer values than the type has"))
}

fn bytes<'m>(cx: &LiftContext<'m>, at: usize, len: usize) -> Result<&'m [u8]> {
    let bytes = cx.memory().get(at..).and_then(|rest| rest.get(..len));
    bytes.ok_or_else(|| Error::msg("pointer out of bounds of memory"))
}

/// Appends a value of the type `ty`.
pub(super) fn lift<A: Attach>(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    mut from: Source<'_, '_>,
    out: &mut Lifted,
) -> Result<()> {
    use InterfaceType as I;
    match ty {
        I::Bool => out.raw(&[u8::from(scalar::<bool>(cx, ty, from)?)]),
        I::S8 => out.raw(&scalar::<i8>(cx, ty, from)?.to_le_bytes()),
        I::U8 => out.raw(&scalar::<u8>(cx, ty, from)?.to_le_bytes()),
        I::S16 => out.raw(&scalar::<i16>(cx, ty, from)?.to_le_bytes()),
        I::U16 => out.raw(&scalar::<u16>(cx, ty, from)?.to_le_bytes()),
        I::S32 => out.raw(&scalar::<i32>(cx, ty, from)?.to_le_bytes()),
        I::U32 => out.raw(&scalar::<u32>(cx, ty, from)?.to_le_bytes()),
        I::S64 => out.raw(&scalar::<i64>(cx, ty, from)?.to_le_bytes()),
        I::U64 => out.raw(&scalar::<u64>(cx, ty, from)?.to_le_bytes()),
        I::Float32 => out.raw(&scalar::<f32>(cx, ty, from)?.to_le_bytes()),
        I::Float64 => out.raw(&scalar::<f64>(cx, ty, from)?.to_le_bytes()),
        I::Char => out.u32(u32::from(scalar::<char>(cx, ty, from)?)),
        I::String => string::<A>(cx, ty, from, out),
        I::List(list) => {
            let element = cx.types[list].element;
            let (at, count) = pair(cx, from)?;
            elements::<A>(cx, element, at, count, out)
        }
        I::FixedLengthList(list) => {
            let (element, size) = (cx.types[list].element, cx.types[list].size);
            for _ in 0..size {
                let place = from.field(cx, element);
                lift::<A>(cx, element, place, out)?;
            }
            Ok(())
        }
        I::Record(record) => {
            let types = cx.types.clone();
            for field in types[record].fields.iter() {
                let place = from.field(cx, field.ty);
                lift::<A>(cx, field.ty, place, out)?;
            }
            Ok(())
        }
        I::Tuple(tuple) => {
            let types = cx.types.clone();
            for element in types[tuple].types.iter() {
                let place = from.field(cx, *element);
                lift::<A>(cx, *element, place, out)?;
            }
            Ok(())
        }
        I::Variant(variant) => {
            let types = cx.types.clone();
            let variant = &types[variant];
            let number = discriminant(cx, &variant.info, from.again(), variant.cases.len())?;
            out.u32(number)?;
            let case = variant.cases.get_index(number as usize).and_then(|(_, ty)| *ty);
            payload::<A>(cx, ty, &variant.info, case, from, out)
        }
        I::Enum(list) => {
            let types = cx.types.clone();
            let names = &types[list];
            let number = discriminant(cx, &names.info, from, names.names.len())?;
            out.u32(number)
        }
        I::Option(option) => {
            let types = cx.types.clone();
            let option = &types[option];
            let number = discriminant(cx, &option.info, from.again(), 2)?;
            out.raw(&[number as u8])?;
            let some = (number == 1).then_some(option.ty);
            payload::<A>(cx, ty, &option.info, some, from, out)
        }
        I::Result(result) => {
            let types = cx.types.clone();
            let result = &types[result];
            let number = discriminant(cx, &result.info, from.again(), 2)?;
            out.raw(&[number as u8])?;
            let case = if number == 0 { result.ok } else { result.err };
            payload::<A>(cx, ty, &result.info, case, from, out)
        }
        I::Flags(flags) => {
            let count = cx.types[flags].names.len();
            let mut left = count;
            while left > 0 {
                let word = flags_word(cx, count, &mut from)?;
                let bits = left.min(32);
                let mask = u32::MAX >> (32 - bits);
                let word = (word & mask).to_le_bytes();
                out.raw(&word[..bits.div_ceil(8)])?;
                left -= bits;
            }
            Ok(())
        }
        I::Own(_) | I::Borrow(_) => {
            if ResourceDynamic::typecheck(&ty, &cx.instance_type()).is_ok() {
                let handle: ResourceDynamic = scalar(cx, ty, from)?;
                return out.u32(handle.rep());
            }
            let handle: ResourceAny = scalar(cx, ty, from)?;
            out.u32(out.resources.len() as u32)?;
            out.resources.push(handle);
            Ok(())
        }
        I::Map(_) | I::Future(_) | I::Stream(_) | I::ErrorContext(_) => unsupported(ty),
    }
}

/// The next up to 32 flags.
fn flags_word(cx: &mut LiftContext<'_>, count: usize, from: &mut Source<'_, '_>) -> Result<u32> {
    match from {
        Source::Flat(values) => Ok(next(values)?.get_u32()),
        Source::Memory(at) => {
            let size = match count {
                0..=8 => 1,
                9..=16 => 2,
                _ => 4,
            };
            let mut word = [0; 4];
            word[..size].copy_from_slice(bytes(cx, *at, size)?);
            *at += size;
            Ok(u32::from_le_bytes(word))
        }
    }
}

/// The number of a variant's case.
fn discriminant(
    cx: &mut LiftContext<'_>,
    info: &VariantInfo,
    from: Source<'_, '_>,
    cases: usize,
) -> Result<u32> {
    let number = match from {
        Source::Flat(values) => next(values)?.get_u32(),
        Source::Memory(at) => {
            let size = u32::from(info.size) as usize;
            let mut number = [0; 4];
            number[..size].copy_from_slice(bytes(cx, at, size)?);
            u32::from_le_bytes(number)
        }
    };
    if (number as usize) < cases {
        Ok(number)
    } else {
        Err(Error::msg(format!("discriminant {number} out of range [0..{cases})")))
    }
}

/// A case's value, after its number.
fn payload<A: Attach>(
    cx: &mut LiftContext<'_>,
    variant: InterfaceType,
    info: &VariantInfo,
    ty: Option<InterfaceType>,
    from: Source<'_, '_>,
    out: &mut Lifted,
) -> Result<()> {
    match from {
        Source::Memory(at) => match ty {
            Some(ty) => lift::<A>(cx, ty, Source::Memory(at + info.payload_offset32 as usize), out),
            None => Ok(()),
        },
        Source::Flat(values) => {
            let all = flat_count(cx, variant) - 1;
            let taken = ty.map_or(0, |ty| flat_count(cx, ty));
            if let Some(ty) = ty {
                lift::<A>(cx, ty, Source::Flat(values), out)?;
            }
            // What other cases would have used.
            for _ in taken..all {
                next(values)?;
            }
            Ok(())
        }
    }
}

fn flat_count(cx: &LiftContext<'_>, ty: InterfaceType) -> usize {
    cx.types.canonical_abi(&ty).flat_count(usize::MAX).unwrap_or(0)
}

/// A pointer and a count.
fn pair(cx: &LiftContext<'_>, from: Source<'_, '_>) -> Result<(usize, usize)> {
    Ok(match from {
        Source::Flat(values) => {
            (next(values)?.get_u32() as usize, next(values)?.get_u32() as usize)
        }
        Source::Memory(at) => {
            let word = |at| -> Result<usize> {
                let word = bytes(cx, at, 4)?.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
                Ok(word as usize)
            };
            (word(at)?, word(at + 4)?)
        }
    })
}

fn string<A: Attach>(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    from: Source<'_, '_>,
    out: &mut Lifted,
) -> Result<()> {
    if cx.options().string_encoding == StringEncoding::Utf8 {
        let (at, len) = pair(cx, from)?;
        let text = bytes(cx, at, len)
            .map_err(|_| Error::msg("string pointer/length out of bounds of memory"))?;
        core::str::from_utf8(text)?;
        return run::<A>(text, out);
    }
    let text = match from {
        Source::Flat(values) => {
            let pair = [*next(values)?, *next(values)?];
            String::linear_lift_from_flat(cx, ty, &pair)?
        }
        Source::Memory(at) => String::linear_lift_from_memory(cx, ty, bytes(cx, at, 8)?)?,
    };
    inline(text.as_bytes(), out)
}

/// A list's elements.
fn elements<A: Attach>(
    cx: &mut LiftContext<'_>,
    element: InterfaceType,
    at: usize,
    count: usize,
    out: &mut Lifted,
) -> Result<()> {
    let abi = cx.types.canonical_abi(&element);
    let (size, align) = (abi.size32 as usize, abi.align32 as usize);
    let len = count.checked_mul(size);
    let Some(all) = len.and_then(|len| cx.memory().get(at..)?.get(..len)) else {
        return Err(Error::msg("list pointer/length out of bounds of memory"));
    };
    if !at.is_multiple_of(align) {
        return Err(Error::msg("list pointer is not aligned"));
    }
    if is_number(element) {
        return run::<A>(all, out);
    }
    out.u32(count as u32)?;
    for number in 0..count {
        lift::<A>(cx, element, Source::Memory(at + number * size), out)?;
    }
    Ok(())
}

/// A run of bytes of linear memory: beside the message if it is large, and the host can reach it there.
fn run<A: Attach>(bytes: &[u8], out: &mut Lifted) -> Result<()> {
    if bytes.len() >= A::LARGE_RUN
        && let Some(attachment) = A::attach(bytes).map_err(Error::msg)?
    {
        out.raw(&[1])?;
        out.u32(out.attachments.len() as u32)?;
        out.attachments.push(attachment);
        return Ok(());
    }
    inline(bytes, out)
}

fn inline(bytes: &[u8], out: &mut Lifted) -> Result<()> {
    out.raw(&[0])?;
    out.u32(bytes.len() as u32)?;
    out.raw(bytes)
}
