//! Types as WIT writes them.

use super::{Case, Field, FunctionType, Type, TypeDef, Types};
use crate::text;
use alloc::string::String;
use core::fmt;

impl Types {
    /// The type as WIT writes it, in full.
    pub fn display(&self, ty: Type) -> impl fmt::Display + '_ {
        Shown { types: self, ty }
    }

    /// The type as WIT writes it, as far as it fits into 200 characters: a type in which others are named over
    /// and over can be very long in full.
    #[must_use]
    pub fn summary(&self, ty: Type) -> String {
        cut(self.display(ty))
    }

    /// The function's type as WIT writes it, as far as it fits into 200 characters.
    #[must_use]
    pub fn summary_of_function(&self, ty: &FunctionType) -> String {
        cut(self.display_function(ty))
    }

    /// The function's type as WIT writes it.
    pub fn display_function<'a>(&'a self, ty: &'a FunctionType) -> impl fmt::Display + 'a {
        ShownFunction { types: self, ty }
    }
}

/// The start of what something is shown as. The rest is not even made.
fn cut(shown: impl fmt::Display) -> String {
    struct Start {
        text: String,
        room: usize,
    }
    impl fmt::Write for Start {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars().flat_map(text::shown) {
                self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
                self.text.push(c);
            }
            Ok(())
        }
    }
    let mut start = Start { text: String::new(), room: 200 };
    if fmt::write(&mut start, format_args!("{shown}")).is_err() {
        start.text.push_str(text::ELLIPSIS);
    }
    start.text
}

struct ShownFunction<'a> {
    types: &'a Types,
    ty: &'a FunctionType,
}

impl fmt::Display for ShownFunction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("func(")?;
        for (i, Field { name, ty }) in self.ty.params.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{name}: {}", self.types.display(*ty))?;
        }
        f.write_str(")")?;
        match self.ty.result {
            Some(ty) => write!(f, " -> {}", self.types.display(ty)),
            None => Ok(()),
        }
    }
}

struct Shown<'a> {
    types: &'a Types,
    ty: Type,
}

impl Shown<'_> {
    fn resource(&self, number: u32) -> &str {
        let resource = self.types.resources.get(number as usize);
        resource.and_then(|resource| resource.path.last()).map_or("resource", String::as_str)
    }

    fn list<T>(
        f: &mut fmt::Formatter<'_>,
        head: &str,
        items: &[T],
        mut show: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
        tail: &str,
    ) -> fmt::Result {
        f.write_str(head)?;
        for (i, item) in items.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            show(f, item)?;
        }
        f.write_str(tail)
    }

    fn def(&self, f: &mut fmt::Formatter<'_>, def: &TypeDef) -> fmt::Result {
        let show = |ty: Type| self.types.display(ty);
        match def {
            TypeDef::List(ty) => write!(f, "list<{}>", show(*ty)),
            TypeDef::FixedList(ty, len) => write!(f, "list<{}, {len}>", show(*ty)),
            TypeDef::Option(ty) => write!(f, "option<{}>", show(*ty)),
            TypeDef::Result { ok: None, err: None } => f.write_str("result"),
            TypeDef::Result { ok: Some(ok), err: None } => write!(f, "result<{}>", show(*ok)),
            TypeDef::Result { ok: None, err: Some(err) } => write!(f, "result<_, {}>", show(*err)),
            TypeDef::Result { ok: Some(ok), err: Some(err) } => {
                write!(f, "result<{}, {}>", show(*ok), show(*err))
            }
            TypeDef::Tuple(types) => {
                Self::list(f, "tuple<", types, |f, ty| write!(f, "{}", show(*ty)), ">")
            }
            TypeDef::Record(fields) => {
                let field = |f: &mut fmt::Formatter<'_>, field: &Field| {
                    write!(f, "{}: {}", field.name, show(field.ty))
                };
                Self::list(f, "record { ", fields, field, " }")
            }
            TypeDef::Variant(cases) => {
                let case = |f: &mut fmt::Formatter<'_>, case: &Case| match case.ty {
                    Some(ty) => write!(f, "{}({})", case.name, show(ty)),
                    None => f.write_str(&case.name),
                };
                Self::list(f, "variant { ", cases, case, " }")
            }
            TypeDef::Enum(names) => {
                Self::list(f, "enum { ", names, |f, name| f.write_str(name), " }")
            }
            TypeDef::Flags(names) => {
                Self::list(f, "flags { ", names, |f, name| f.write_str(name), " }")
            }
        }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.ty {
            Type::Bool => "bool",
            Type::S8 => "s8",
            Type::U8 => "u8",
            Type::S16 => "s16",
            Type::U16 => "u16",
            Type::S32 => "s32",
            Type::U32 => "u32",
            Type::S64 => "s64",
            Type::U64 => "u64",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::Char => "char",
            Type::String => "string",
            Type::Own(number) => return write!(f, "own<{}>", self.resource(number)),
            Type::Borrow(number) => return write!(f, "borrow<{}>", self.resource(number)),
            Type::Defined(_) => {
                return match self.types.def(self.ty) {
                    Some(def) => self.def(f, def),
                    None => f.write_str("(an unknown type)"),
                };
            }
        })
    }
}
