//! Values whose types are known only at run time.

use super::lift::Lift;
use super::lower::Lower;
use super::wire::{Reader, ResourceHandle, Writer};
use super::{ResourceOrigin, Type, TypeDef, Types};
use crate::codec::DecodeError;
use crate::text::printable;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A value of a component.
#[derive(Clone, Debug, PartialEq)]
pub enum Val {
    /// `bool`
    Bool(bool),
    /// `s8`
    S8(i8),
    /// `u8`
    U8(u8),
    /// `s16`
    S16(i16),
    /// `u16`
    U16(u16),
    /// `s32`
    S32(i32),
    /// `u32`
    U32(u32),
    /// `s64`
    S64(i64),
    /// `u64`
    U64(u64),
    /// `f32`. Every NaN is the same to a component.
    F32(f32),
    /// `f64`. Every NaN is the same to a component.
    F64(f64),
    /// `char`
    Char(char),
    /// `string`
    String(String),
    /// `list<u8>`
    Bytes(Vec<u8>),
    /// Any other `list`.
    List(Vec<Val>),
    /// `record`: all fields, in the order of the type.
    Record(Vec<(String, Val)>),
    /// `tuple`
    Tuple(Vec<Val>),
    /// `variant`: the case, and its value if it has one.
    Variant(String, Option<Box<Val>>),
    /// `enum`: the case.
    Enum(String),
    /// `option`
    Option(Option<Box<Val>>),
    /// `result`
    Result(Result<Option<Box<Val>>, Option<Box<Val>>>),
    /// `flags`: those that are set, in the order of the type.
    Flags(Vec<String>),
    /// A handle of a resource of the host: the host's own number of it.
    HostResource(u32),
    /// A handle of a resource of the guest.
    Resource(ResourceHandle),
}

impl Val {
    /// What it is, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::S8(_) => "s8",
            Self::U8(_) => "u8",
            Self::S16(_) => "s16",
            Self::U16(_) => "u16",
            Self::S32(_) => "s32",
            Self::U32(_) => "u32",
            Self::S64(_) => "s64",
            Self::U64(_) => "u64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Char(_) => "char",
            Self::String(_) => "string",
            Self::Bytes(_) => "list of u8",
            Self::List(_) => "list",
            Self::Record(_) => "record",
            Self::Tuple(_) => "tuple",
            Self::Variant(..) => "variant",
            Self::Enum(_) => "enum",
            Self::Option(_) => "option",
            Self::Result(_) => "result",
            Self::Flags(_) => "flags",
            Self::HostResource(_) | Self::Resource(_) => "resource",
        }
    }
}

/// A value that is not of the type that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Mismatch {}

impl Types {
    fn mismatch(&self, ty: Type, val: &Val) -> Mismatch {
        Mismatch(format!(
            "a value of the type {} is asked for, this is a {}",
            self.summary(ty),
            val.kind()
        ))
    }

    /// The origin of a resource type.
    fn origin(&self, number: u32) -> ResourceOrigin {
        let resource = self.resources.get(number as usize);
        resource.map_or(ResourceOrigin::Defined, |resource| resource.origin)
    }

    /// Writes a value for the guest, where `ty` is asked for.
    ///
    /// # Errors
    /// When it is not of that type. What has been written by then is of no use.
    pub fn lower(&self, val: &Val, ty: Type, out: &mut Writer) -> Result<(), Mismatch> {
        match (ty, val) {
            (Type::Bool, Val::Bool(value)) => value.lower(out),
            (Type::S8, Val::S8(value)) => value.lower(out),
            (Type::U8, Val::U8(value)) => value.lower(out),
            (Type::S16, Val::S16(value)) => value.lower(out),
            (Type::U16, Val::U16(value)) => value.lower(out),
            (Type::S32, Val::S32(value)) => value.lower(out),
            (Type::U32, Val::U32(value)) => value.lower(out),
            (Type::S64, Val::S64(value)) => value.lower(out),
            (Type::U64, Val::U64(value)) => value.lower(out),
            (Type::F32, Val::F32(value)) => value.lower(out),
            (Type::F64, Val::F64(value)) => value.lower(out),
            (Type::Char, Val::Char(value)) => value.lower(out),
            (Type::String, Val::String(value)) => value.lower(out),
            (Type::Own(number) | Type::Borrow(number), Val::HostResource(rep))
                if self.origin(number) == ResourceOrigin::Imported =>
            {
                rep.lower(out);
            }
            (Type::Own(number) | Type::Borrow(number), Val::Resource(handle))
                if self.origin(number) == ResourceOrigin::Defined =>
            {
                let owned = matches!(ty, Type::Own(_));
                if owned && !handle.owned {
                    return Err(Mismatch("a borrowed resource cannot be given away".to_owned()));
                }
                out.resource(ResourceHandle { number: handle.number, owned });
            }
            (Type::Defined(_), val) => match self.def(ty) {
                Some(def) => return self.lower_def(val, ty, def, out),
                None => return Err(self.mismatch(ty, val)),
            },
            (_, val) => return Err(self.mismatch(ty, val)),
        }
        Ok(())
    }

    fn lower_def(
        &self,
        val: &Val,
        ty: Type,
        def: &TypeDef,
        out: &mut Writer,
    ) -> Result<(), Mismatch> {
        let mismatch = || Err(self.mismatch(ty, val));
        match (def, val) {
            (TypeDef::List(Type::U8), Val::Bytes(bytes)) => out.run(bytes),
            (TypeDef::List(element), Val::List(items)) => {
                return self.lower_list(items, *element, out);
            }
            (TypeDef::FixedList(Type::U8, len), Val::Bytes(bytes))
                if bytes.len() == *len as usize =>
            {
                out.raw(bytes);
            }
            (TypeDef::FixedList(element, len), Val::List(items))
                if items.len() == *len as usize =>
            {
                for (at, item) in items.iter().enumerate() {
                    self.lower(item, *element, out).map_err(|error| self.in_list(at, error))?;
                }
            }
            (TypeDef::Record(fields), Val::Record(values)) => {
                let names = values.iter().map(|(name, _)| name);
                if !names.eq(fields.iter().map(|field| &field.name)) {
                    return Err(Mismatch(format!(
                        "the fields of {} are asked for, each once and in this order",
                        self.summary(ty)
                    )));
                }
                for (field, (name, value)) in fields.iter().zip(values) {
                    let inside =
                        |error| Mismatch(format!("field \"{}\": {error}", printable(name)));
                    self.lower(value, field.ty, out).map_err(inside)?;
                }
            }
            (TypeDef::Tuple(types), Val::Tuple(values)) if types.len() == values.len() => {
                for (at, (ty, value)) in types.iter().zip(values).enumerate() {
                    self.lower(value, *ty, out).map_err(|error| self.in_list(at, error))?;
                }
            }
            (TypeDef::Variant(cases), Val::Variant(name, value)) => {
                let Some(at) = cases.iter().position(|case| case.name == *name) else {
                    return Err(self.no_case(ty, name));
                };
                out.count(at);
                return self.lower_payload(value.as_deref(), cases[at].ty, name, out);
            }
            (TypeDef::Enum(names), Val::Enum(name)) => match names.iter().position(|n| n == name) {
                Some(at) => out.count(at),
                None => return Err(self.no_case(ty, name)),
            },
            (TypeDef::Option(of), Val::Option(value)) => {
                out.u8(u8::from(value.is_some()));
                if let Some(value) = value {
                    return self.lower(value, *of, out);
                }
            }
            (TypeDef::Result { ok, err }, Val::Result(value)) => {
                out.u8(u8::from(value.is_err()));
                return match value {
                    Ok(value) => self.lower_payload(value.as_deref(), *ok, "ok", out),
                    Err(value) => self.lower_payload(value.as_deref(), *err, "err", out),
                };
            }
            (TypeDef::Flags(names), Val::Flags(set)) => {
                if let Some(unknown) = set.iter().find(|flag| !names.contains(flag)) {
                    return Err(self.no_case(ty, unknown));
                }
                for names in names.chunks(8) {
                    let bit = |(at, name)| u8::from(set.contains(name)) << at;
                    out.u8(names.iter().enumerate().map(bit).sum());
                }
            }
            _ => return mismatch(),
        }
        Ok(())
    }

    fn no_case(&self, ty: Type, name: &str) -> Mismatch {
        Mismatch(format!("\"{}\" is none of {}", printable(name), self.summary(ty)))
    }

    fn lower_payload(
        &self,
        value: Option<&Val>,
        ty: Option<Type>,
        case: &str,
        out: &mut Writer,
    ) -> Result<(), Mismatch> {
        match (value, ty) {
            (None, None) => Ok(()),
            (Some(value), Some(ty)) => {
                let inside = |error| Mismatch(format!("case \"{}\": {error}", printable(case)));
                self.lower(value, ty, out).map_err(inside)
            }
            (None, Some(ty)) => Err(Mismatch(format!(
                "the case \"{}\" has a value, of the type {}, which is missing",
                printable(case),
                self.summary(ty)
            ))),
            (Some(_), None) => {
                Err(Mismatch(format!("the case \"{}\" has no value", printable(case))))
            }
        }
    }

    /// Lists of numbers are runs of bytes, as Rust's own are.
    fn lower_list(&self, items: &[Val], element: Type, out: &mut Writer) -> Result<(), Mismatch> {
        macro_rules! run {
            ($($ty:ident: $rust:ty),*) => {
                match element {
                    $(Type::$ty => {
                        let mut run: Vec<$rust> = Vec::with_capacity(items.len());
                        for (at, item) in items.iter().enumerate() {
                            match item {
                                Val::$ty(value) => run.push(*value),
                                other => return Err(self.in_list(at, self.mismatch(element, other))),
                            }
                        }
                        run.lower(out);
                    })*
                    _ => {
                        out.count(items.len());
                        for (at, item) in items.iter().enumerate() {
                            self.lower(item, element, out).map_err(|error| self.in_list(at, error))?;
                        }
                    }
                }
            };
        }
        run!(S8: i8, U8: u8, S16: i16, U16: u16, S32: i32, U32: u32, S64: i64, U64: u64, F32: f32, F64: f64);
        Ok(())
    }

    fn in_list(&self, at: usize, error: Mismatch) -> Mismatch {
        Mismatch(format!("element {at}: {error}"))
    }

    /// Reads a value of the type `ty` that the guest has written.
    ///
    /// # Errors
    /// When it has written something else, or more than the reader's budget allows.
    pub fn lift(&self, ty: Type, from: &mut Reader<'_>) -> Result<Val, DecodeError> {
        Ok(match ty {
            Type::Bool => Val::Bool(Lift::lift(from)?),
            Type::S8 => Val::S8(Lift::lift(from)?),
            Type::U8 => Val::U8(Lift::lift(from)?),
            Type::S16 => Val::S16(Lift::lift(from)?),
            Type::U16 => Val::U16(Lift::lift(from)?),
            Type::S32 => Val::S32(Lift::lift(from)?),
            Type::U32 => Val::U32(Lift::lift(from)?),
            Type::S64 => Val::S64(Lift::lift(from)?),
            Type::U64 => Val::U64(Lift::lift(from)?),
            Type::F32 => Val::F32(Lift::lift(from)?),
            Type::F64 => Val::F64(Lift::lift(from)?),
            Type::Char => Val::Char(Lift::lift(from)?),
            Type::String => Val::String(Lift::lift(from)?),
            Type::Own(number) | Type::Borrow(number) => match self.origin(number) {
                ResourceOrigin::Imported => Val::HostResource(from.handle()?),
                ResourceOrigin::Defined => Val::Resource(from.resource()?),
            },
            Type::Defined(_) => match self.def(ty) {
                Some(def) => self.lift_def(def, from)?,
                None => return Err(from.error("a value of a type that there is")),
            },
        })
    }

    fn lift_def(&self, def: &TypeDef, from: &mut Reader<'_>) -> Result<Val, DecodeError> {
        Ok(match def {
            TypeDef::List(Type::U8) => Val::Bytes(Lift::lift(from)?),
            TypeDef::List(element) => Val::List(self.lift_list(*element, from)?),
            TypeDef::FixedList(Type::U8, len) => {
                from.charge(*len as usize)?;
                Val::Bytes(from.raw(*len as usize)?.to_vec())
            }
            TypeDef::FixedList(element, len) => {
                let len = *len as usize;
                from.charge(len.saturating_mul(size_of::<Val>()))?;
                Val::List(self.lift_each(core::iter::repeat_n(*element, len), from)?)
            }
            TypeDef::Record(fields) => {
                from.charge(fields.len() * size_of::<(String, Val)>())?;
                let mut values = Vec::with_capacity(fields.len());
                for field in fields {
                    from.charge(field.name.len())?;
                    values.push((field.name.clone(), self.lift(field.ty, from)?));
                }
                Val::Record(values)
            }
            TypeDef::Tuple(types) => {
                from.charge(types.len() * size_of::<Val>())?;
                Val::Tuple(self.lift_each(types.iter().copied(), from)?)
            }
            TypeDef::Variant(cases) => {
                let case = from.u32()? as usize;
                let case = cases.get(case).ok_or(from.error("a case of a variant"))?;
                from.charge(case.name.len())?;
                Val::Variant(case.name.to_string(), self.lift_payload(case.ty, from)?)
            }
            TypeDef::Enum(names) => {
                let case = from.u32()? as usize;
                let name = names.get(case).ok_or(from.error("a case of an enum"))?;
                from.charge(name.len())?;
                Val::Enum(name.clone())
            }
            TypeDef::Option(of) => {
                let of = from.bool()?.then_some(*of);
                Val::Option(self.lift_payload(of, from)?)
            }
            TypeDef::Result { ok, err } => Val::Result(if from.bool()? {
                Err(self.lift_payload(*err, from)?)
            } else {
                Ok(self.lift_payload(*ok, from)?)
            }),
            TypeDef::Flags(names) => {
                let bytes = from.raw(names.len().div_ceil(8))?;
                let count = bytes.iter().map(|bits| bits.count_ones() as usize).sum::<usize>();
                from.charge(count * size_of::<String>())?;
                let mut set = Vec::with_capacity(count);
                for (bits, names) in bytes.iter().zip(names.chunks(8)) {
                    if u32::from(*bits) >> names.len() != 0 {
                        return Err(from.error("flags that there are"));
                    }
                    for (at, name) in names.iter().enumerate() {
                        if bits >> at & 1 == 1 {
                            from.charge(name.len())?;
                            set.push(name.clone());
                        }
                    }
                }
                Val::Flags(set)
            }
        })
    }

    fn lift_payload(
        &self,
        ty: Option<Type>,
        from: &mut Reader<'_>,
    ) -> Result<Option<Box<Val>>, DecodeError> {
        let Some(ty) = ty else { return Ok(None) };
        from.charge(size_of::<Val>())?;
        self.lift(ty, from).map(|value| Some(Box::new(value)))
    }

    /// Reads a value of each type, which the budget has been charged for. Collecting them would take up to
    /// twice as much, as their number is not known where each can fail.
    fn lift_each(
        &self,
        types: impl ExactSizeIterator<Item = Type>,
        from: &mut Reader<'_>,
    ) -> Result<Vec<Val>, DecodeError> {
        let mut values = Vec::with_capacity(types.len());
        for ty in types {
            values.push(self.lift(ty, from)?);
        }
        Ok(values)
    }

    fn lift_list(&self, element: Type, from: &mut Reader<'_>) -> Result<Vec<Val>, DecodeError> {
        macro_rules! run {
            ($($ty:ident: $rust:ty),*) => {
                match element {
                    $(Type::$ty => {
                        let (numbers, rest) = from.run()?.as_chunks::<{ size_of::<$rust>() }>();
                        from.charge(numbers.len().saturating_mul(size_of::<Val>()))?;
                        if !rest.is_empty() {
                            return Err(from.error("whole numbers"));
                        }
                        let value = |bytes: &[u8; size_of::<$rust>()]| Val::$ty(<$rust>::from_le_bytes(*bytes));
                        Ok(numbers.iter().map(value).collect())
                    })*
                    _ => {
                        let count = from.count(size_of::<Val>())?;
                        self.lift_each(core::iter::repeat_n(element, count), from)
                    }
                }
            };
        }
        run!(S8: i8, S16: i16, U16: u16, S32: i32, U32: u32, S64: i64, U64: u64, F32: f32, F64: f64)
    }
}
