//! From the wire to linear memory.

use super::erased::written;
use super::{Lowered, Target, is_number, unsupported};
use crate::Embedder;
use crate::report::Misused;
use sandgrain_abi::DecodeError;
use sandgrain_abi::component::{Attachment, Reader};
use wasmtime::component::__internal::wasmtime_environ::component::VariantInfo;
use wasmtime::component::__internal::{InterfaceType, LowerContext};
use wasmtime::component::{ComponentType, Lower, ResourceAny, ResourceDynamic};
use wasmtime::{Error, Result, ValRaw};

/// What the host has sent, as it is read.
pub(super) struct Input<'a> {
    reader: Reader<'a>,
    attachments: &'a [Attachment],
    resources: &'a [ResourceAny],
}

impl<'a> Input<'a> {
    pub(super) fn new(lowered: &'a Lowered) -> Self {
        // The host is trusted, and nothing is copied: there is no budget to keep.
        Self {
            reader: Reader::new(&lowered.payload.body, &[], &[], usize::MAX),
            attachments: &lowered.payload.attachments,
            resources: &lowered.resources,
        }
    }
}

fn malformed(error: DecodeError) -> Error {
    Error::new(Misused(alloc::format!("what the host has sent: {error}")))
}

impl<'s> Target<'_, 's> {
    /// The place of the next field of a record that begins here.
    fn field<T>(&mut self, cx: &LowerContext<'_, T>, ty: InterfaceType) -> Target<'_, 's> {
        match self {
            Self::Flat(values) => Target::Flat(values),
            Self::Memory(at) => Target::Memory(cx.types.canonical_abi(&ty).next_field32_size(at)),
        }
    }
}

fn put(values: &mut core::slice::IterMut<'_, ValRaw>, value: ValRaw) -> Result<()> {
    let slot = values.next().ok_or_else(|| Error::msg("fewer places than the type has values"))?;
    *slot = value;
    Ok(())
}

fn write<T>(cx: &mut LowerContext<'_, T>, at: usize, bytes: &[u8]) -> Result<()> {
    let place = cx.as_slice_mut().get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len()));
    place.ok_or_else(|| Error::msg("pointer out of bounds of memory"))?.copy_from_slice(bytes);
    Ok(())
}

/// Reads a value of the type `ty` and puts it where the component wants it.
pub(super) fn lower<E: Embedder, T>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    from: &mut Input<'_>,
    mut to: Target<'_, '_>,
) -> Result<()> {
    use InterfaceType as I;
    /// A value that is one of WebAssembly's: how many bytes it has on the wire, and so in memory, and as which of
    /// WebAssembly's values it is passed.
    macro_rules! scalar {
        ($rust:ty, $flat:expr) => {{
            let bytes = from.reader.array().map_err(malformed)?;
            match to {
                Target::Flat(values) => put(values, $flat(<$rust>::from_le_bytes(bytes))),
                Target::Memory(at) => write(cx, at, &bytes),
            }
        }};
    }
    match ty {
        I::Bool => scalar!(u8, |value| ValRaw::u32(u32::from(value))),
        I::S8 => scalar!(i8, |value| ValRaw::i32(i32::from(value))),
        I::U8 => scalar!(u8, |value| ValRaw::u32(u32::from(value))),
        I::S16 => scalar!(i16, |value| ValRaw::i32(i32::from(value))),
        I::U16 => scalar!(u16, |value| ValRaw::u32(u32::from(value))),
        I::S32 => scalar!(i32, ValRaw::i32),
        I::U32 | I::Char => scalar!(u32, ValRaw::u32),
        I::S64 => scalar!(i64, ValRaw::i64),
        I::U64 => scalar!(u64, ValRaw::u64),
        I::Float32 => scalar!(u32, ValRaw::f32),
        I::Float64 => scalar!(u64, ValRaw::f64),
        I::String => {
            let (at, len) = string::<E, T>(cx, from)?;
            pair(cx, at, len, to)
        }
        I::List(list) => {
            let element = cx.types[list].element;
            let (at, count) = elements::<E, T>(cx, element, from)?;
            pair(cx, at, count, to)
        }
        I::FixedLengthList(list) => {
            let (element, size) = (cx.types[list].element, cx.types[list].size);
            for _ in 0..size {
                let place = to.field(cx, element);
                lower::<E, T>(cx, element, from, place)?;
            }
            Ok(())
        }
        I::Record(record) => {
            for field in cx.types[record].fields.iter() {
                let place = to.field(cx, field.ty);
                lower::<E, T>(cx, field.ty, from, place)?;
            }
            Ok(())
        }
        I::Tuple(tuple) => {
            for element in cx.types[tuple].types.iter() {
                let place = to.field(cx, *element);
                lower::<E, T>(cx, *element, from, place)?;
            }
            Ok(())
        }
        I::Variant(variant) => {
            let variant = &cx.types[variant];
            let number = from.reader.u32().map_err(malformed)?;
            let case = variant.cases.get_index(number as usize);
            let (_, case) = case.ok_or_else(|| Error::msg("a case that there is not"))?;
            payload::<E, T>(cx, ty, &variant.info, (number, *case), from, to)
        }
        I::Enum(list) => {
            let names = &cx.types[list];
            let number = from.reader.u32().map_err(malformed)?;
            if number as usize >= names.names.len() {
                return Err(Error::msg("a case that there is not"));
            }
            payload::<E, T>(cx, ty, &names.info, (number, None), from, to)
        }
        I::Option(option) => {
            let option = &cx.types[option];
            let is_some = from.reader.bool().map_err(malformed)?;
            let case = (u32::from(is_some), is_some.then_some(option.ty));
            payload::<E, T>(cx, ty, &option.info, case, from, to)
        }
        I::Result(result) => {
            let result = &cx.types[result];
            let is_err = from.reader.bool().map_err(malformed)?;
            let case = (u32::from(is_err), if is_err { result.err } else { result.ok });
            payload::<E, T>(cx, ty, &result.info, case, from, to)
        }
        I::Flags(flags) => {
            let count = cx.types[flags].names.len();
            let mut left = count;
            while left > 0 {
                let bits = left.min(32);
                let mut word = [0; 4];
                let bytes = from.reader.raw(bits.div_ceil(8)).map_err(malformed)?;
                word[..bytes.len()].copy_from_slice(bytes);
                match &mut to {
                    Target::Flat(values) => put(values, ValRaw::u32(u32::from_le_bytes(word)))?,
                    Target::Memory(at) => {
                        let size = match count {
                            0..=8 => 1,
                            9..=16 => 2,
                            _ => 4,
                        };
                        write(cx, *at, &word[..size])?;
                        *at += size;
                    }
                }
                left -= bits;
            }
            Ok(())
        }
        I::Own(_) | I::Borrow(_) => {
            let number = from.reader.u32().map_err(malformed)?;
            if ResourceDynamic::typecheck(&ty, &cx.instance_type()).is_ok() {
                // The type's own number is in the type, which this is of by the check above.
                let payload = host_type(cx, ty)?;
                let handle = if matches!(ty, I::Own(_)) {
                    ResourceDynamic::new_own(number, payload)
                } else {
                    ResourceDynamic::new_borrow(number, payload)
                };
                return place(cx, ty, &handle, to);
            }
            let handle = from.resources.get(number as usize);
            let handle = handle.ok_or_else(|| Error::msg("a resource that there is not"))?;
            place(cx, ty, handle, to)
        }
        I::Map(_) | I::Future(_) | I::Stream(_) | I::ErrorContext(_) => unsupported(ty),
    }
}

/// The number of the host's type that a handle's resource has.
fn host_type<T>(cx: &LowerContext<'_, T>, ty: InterfaceType) -> Result<u32> {
    let (InterfaceType::Own(table) | InterfaceType::Borrow(table)) = ty else {
        return unsupported(ty);
    };
    let ty = cx.resource_type(table);
    let numbers = 0..crate::components::MAX_HOST_TYPES;
    let number =
        numbers.into_iter().find(|n| ty == wasmtime::component::ResourceType::host_dynamic(*n));
    number.ok_or_else(|| Error::msg("a resource type that the host did not define"))
}

/// Puts a handle into the component's table, and its number there where the component wants it.
fn place<T, H: Lower + ComponentType<Lower = ValRaw>>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    handle: &H,
    to: Target<'_, '_>,
) -> Result<()> {
    // It is the host that has chosen the resource.
    let misused = |error: Error| Error::new(Misused(alloc::format!("{error:#}")));
    match to {
        Target::Flat(values) => {
            let value = written(ValRaw::u32(0), |value| handle.linear_lower_to_flat(cx, ty, value));
            put(values, value.map_err(misused)?)
        }
        Target::Memory(at) => handle.linear_lower_to_memory(cx, ty, at).map_err(misused),
    }
}

/// A case: its number, and its value if it has one.
fn payload<E: Embedder, T>(
    cx: &mut LowerContext<'_, T>,
    variant: InterfaceType,
    info: &VariantInfo,
    (number, ty): (u32, Option<InterfaceType>),
    from: &mut Input<'_>,
    to: Target<'_, '_>,
) -> Result<()> {
    match to {
        Target::Memory(at) => {
            let size = u32::from(info.size) as usize;
            write(cx, at, &number.to_le_bytes()[..size])?;
            match ty {
                Some(ty) => {
                    let place = Target::Memory(at + info.payload_offset32 as usize);
                    lower::<E, T>(cx, ty, from, place)
                }
                None => Ok(()),
            }
        }
        Target::Flat(values) => {
            put(values, ValRaw::u32(number))?;
            let count = |ty| cx.types.canonical_abi(&ty).flat_count(usize::MAX).unwrap_or(0);
            let (all, taken) = (count(variant) - 1, ty.map_or(0, count));
            if let Some(ty) = ty {
                lower::<E, T>(cx, ty, from, Target::Flat(values))?;
            }
            // What other cases would use.
            for _ in taken..all {
                put(values, ValRaw::u64(0))?;
            }
            Ok(())
        }
    }
}

fn pair<T>(
    cx: &mut LowerContext<'_, T>,
    at: usize,
    count: usize,
    to: Target<'_, '_>,
) -> Result<()> {
    let (at, count) = (u32::try_from(at)?, u32::try_from(count)?);
    match to {
        Target::Flat(values) => {
            put(values, ValRaw::i64(i64::from(at)))?;
            put(values, ValRaw::i64(i64::from(count)))
        }
        Target::Memory(place) => {
            write(cx, place, &at.to_le_bytes())?;
            write(cx, place + 4, &count.to_le_bytes())
        }
    }
}

/// Puts a run of bytes into memory that the component gives for it. Its address and length.
fn run<E: Embedder, T>(
    cx: &mut LowerContext<'_, T>,
    from: &mut Input<'_>,
    align: u32,
) -> Result<(usize, usize)> {
    if !from.reader.bool().map_err(malformed)? {
        let len = from.reader.u32().map_err(malformed)? as usize;
        let bytes = from.reader.raw(len).map_err(malformed)?;
        let at = cx.realloc(0, 0, align, len)?;
        write(cx, at, bytes)?;
        return Ok((at, len));
    }
    let number = from.reader.u32().map_err(malformed)?;
    let Some(Attachment::Sent { len }) = from.attachments.get(number as usize) else {
        return Err(Error::msg("an attachment that there is not"));
    };
    let len = usize::try_from(*len)?;
    let at = cx.realloc(0, 0, align, len)?;
    let place = cx.as_slice_mut().get_mut(at..).and_then(|rest| rest.get_mut(..len));
    let place = place.ok_or_else(|| Error::msg("realloc return: beyond end of memory"))?;
    E::receive(number, place).map_err(Error::msg)?;
    Ok((at, len))
}

fn string<E: Embedder, T>(
    cx: &mut LowerContext<'_, T>,
    from: &mut Input<'_>,
) -> Result<(usize, usize)> {
    use wasmtime::component::__internal::wasmtime_environ::component::StringEncoding;
    if cx.options().string_encoding == StringEncoding::Utf8 {
        return run::<E, T>(cx, from, 1);
    }
    // The engine knows how to write other encodings.
    let text = if from.reader.bool().map_err(malformed)? {
        let number = from.reader.u32().map_err(malformed)?;
        let Some(Attachment::Sent { len }) = from.attachments.get(number as usize) else {
            return Err(Error::msg("an attachment that there is not"));
        };
        let mut text = alloc::vec::Vec::new();
        let len = usize::try_from(*len)?;
        if text.try_reserve_exact(len).is_err() {
            return Err(Error::msg("limit: the heap has no room for a string in transit"));
        }
        text.resize(len, 0);
        E::receive(number, &mut text).map_err(Error::msg)?;
        alloc::borrow::Cow::Owned(text)
    } else {
        let len = from.reader.u32().map_err(malformed)? as usize;
        alloc::borrow::Cow::Borrowed(from.reader.raw(len).map_err(malformed)?)
    };
    let text = core::str::from_utf8(&text)?;
    let [at, len] = written([ValRaw::u32(0); 2], |pair| {
        text.linear_lower_to_flat(cx, InterfaceType::String, pair)
    })?;
    Ok((at.get_u32() as usize, len.get_u32() as usize))
}

/// Puts a list's elements into memory that the component gives for them. Its address and their count.
fn elements<E: Embedder, T>(
    cx: &mut LowerContext<'_, T>,
    element: InterfaceType,
    from: &mut Input<'_>,
) -> Result<(usize, usize)> {
    let abi = cx.types.canonical_abi(&element);
    let (size, align) = (abi.size32 as usize, abi.align32);
    if is_number(element) {
        let (at, len) = run::<E, T>(cx, from, align)?;
        return Ok((at, len / size));
    }
    let count = from.reader.u32().map_err(malformed)? as usize;
    let len = count.checked_mul(size).ok_or_else(|| Error::msg("size overflow copying a list"))?;
    let start = cx.realloc(0, 0, align, len)?;
    for number in 0..count {
        lower::<E, T>(cx, element, from, Target::Memory(start + number * size))?;
    }
    Ok((start, count))
}
