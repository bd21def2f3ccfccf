//! The types of a component's functions and values.

use crate::codec::{DecodeError, Decoder, Encode, Encoder};
use crate::types::MemoryType;
use alloc::string::String;
use alloc::vec::Vec;

/// A type. What is not a plain one is looked up in the component's [`Types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `bool`
    Bool,
    /// `s8`
    S8,
    /// `u8`
    U8,
    /// `s16`
    S16,
    /// `u16`
    U16,
    /// `s32`
    S32,
    /// `u32`
    U32,
    /// `s64`
    S64,
    /// `u64`
    U64,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`: a Unicode scalar value
    Char,
    /// `string`
    String,
    /// A handle that owns its resource: the number of the resource's type.
    Own(u32),
    /// A handle that borrows its resource: the number of the resource's type.
    Borrow(u32),
    /// Any other: the number of its definition.
    Defined(u32),
}

/// The definition of a type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypeDef {
    /// `list<T>`
    List(Type),
    /// `list<T, N>`: a list of fixed length.
    FixedList(Type, u32),
    /// `record`: named fields.
    Record(Vec<Field>),
    /// `tuple`
    Tuple(Vec<Type>),
    /// `variant`: named cases, some with a value.
    Variant(Vec<Case>),
    /// `enum`: named cases without values.
    Enum(Vec<String>),
    /// `option<T>`
    Option(Type),
    /// `result<T, E>`
    Result {
        /// The type of the value of `ok`, if it has one.
        ok: Option<Type>,
        /// The type of the value of `err`, if it has one.
        err: Option<Type>,
    },
    /// `flags`: named bits.
    Flags(Vec<String>),
}

/// A field of a record, or a parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// A case of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The type of its value, if it has one.
    pub ty: Option<Type>,
}

/// Where a resource type comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceOrigin {
    /// The component imports it: the host makes its resources.
    Imported,
    /// The component defines it.
    Defined,
}

/// A resource type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// The path of names under which the component imports or exports it: an instance and a name, or only a
    /// name. Empty for one that it defines and does not export.
    pub path: Vec<String>,
    /// Where it comes from.
    pub origin: ResourceOrigin,
}

/// The types that a component defines.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Types {
    /// By the numbers in [`Type::Defined`]. A definition only names ones before it, so that no type contains
    /// itself.
    pub defs: Vec<TypeDef>,
    /// By the numbers in [`Type::Own`] and [`Type::Borrow`].
    pub resources: Vec<Resource>,
}

/// The type of a component's function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct FunctionType {
    /// Its parameters.
    pub params: Vec<Field>,
    /// The type of its result, if it has one.
    pub result: Option<Type>,
}

/// A function that a component imports or exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The path of names to it: an instance such as `wasi:cli/environment@0.2.3` and its name in that, or only
    /// its name.
    pub path: Vec<String>,
    /// Its type.
    pub ty: FunctionType,
}

/// What the host knows of a component without running it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ComponentInfo {
    /// The types that the functions below are made of.
    pub types: Types,
    /// The functions that it imports. The resource types that it imports are among the types.
    pub imports: Vec<Function>,
    /// The functions that it exports.
    pub exports: Vec<Function>,
    /// The linear memories that its modules define, for each time that they are instantiated.
    pub memories: Vec<MemoryType>,
}

impl ComponentInfo {
    /// The function that is exported under a path.
    #[must_use]
    pub fn export(&self, path: &[&str]) -> Option<&Function> {
        self.exports
            .iter()
            .find(|function| function.path.iter().map(String::as_str).eq(path.iter().copied()))
    }
}

impl Types {
    /// The definition of a type that has one.
    #[must_use]
    pub fn def(&self, ty: Type) -> Option<&TypeDef> {
        match ty {
            Type::Defined(number) => self.defs.get(number as usize),
            _ => None,
        }
    }
}

/// Types without a number, by their tags.
const PLAIN: [Type; 13] = [
    Type::Bool,
    Type::S8,
    Type::U8,
    Type::S16,
    Type::U16,
    Type::S32,
    Type::U32,
    Type::S64,
    Type::U64,
    Type::F32,
    Type::F64,
    Type::Char,
    Type::String,
];

impl Encode for Type {
    fn encode(&self, out: &mut Encoder<'_>) {
        let (tag, number) = match *self {
            Self::Own(number) => (13, number),
            Self::Borrow(number) => (14, number),
            Self::Defined(number) => (15, number),
            plain => {
                let tag = PLAIN.iter().position(|ty| *ty == plain).unwrap_or(0);
                return out.u8(tag as u8);
            }
        };
        out.u8(tag);
        out.u32(number);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            13 => Self::Own(from.u32()?),
            14 => Self::Borrow(from.u32()?),
            15 => Self::Defined(from.u32()?),
            tag => *PLAIN.get(usize::from(tag)).ok_or(from.error("a component's type"))?,
        })
    }
}

impl Encode for Field {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.str(&self.name);
        self.ty.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: String::decode(from)?, ty: Type::decode(from)? })
    }
}

impl Encode for Case {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.str(&self.name);
        self.ty.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: String::decode(from)?, ty: Option::decode(from)? })
    }
}

impl Encode for TypeDef {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::List(ty) => {
                out.u8(0);
                ty.encode(out);
            }
            Self::FixedList(ty, len) => {
                out.u8(1);
                ty.encode(out);
                out.u32(*len);
            }
            Self::Record(fields) => {
                out.u8(2);
                out.list(fields);
            }
            Self::Tuple(types) => {
                out.u8(3);
                out.list(types);
            }
            Self::Variant(cases) => {
                out.u8(4);
                out.list(cases);
            }
            Self::Enum(names) => {
                out.u8(5);
                out.list(names);
            }
            Self::Option(ty) => {
                out.u8(6);
                ty.encode(out);
            }
            Self::Result { ok, err } => {
                out.u8(7);
                ok.encode(out);
                err.encode(out);
            }
            Self::Flags(names) => {
                out.u8(8);
                out.list(names);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::List(Type::decode(from)?),
            1 => Self::FixedList(Type::decode(from)?, from.u32()?),
            2 => Self::Record(from.list()?),
            3 => Self::Tuple(from.list()?),
            4 => Self::Variant(from.list()?),
            5 => Self::Enum(from.list()?),
            6 => Self::Option(Type::decode(from)?),
            7 => Self::Result { ok: Option::decode(from)?, err: Option::decode(from)? },
            8 => Self::Flags(from.list()?),
            _ => return Err(from.error("a type's definition")),
        })
    }
}

impl Encode for Resource {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.list(&self.path);
        out.u8(u8::from(self.origin == ResourceOrigin::Defined));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let path = from.list()?;
        let origin = if from.bool()? { ResourceOrigin::Defined } else { ResourceOrigin::Imported };
        Ok(Self { path, origin })
    }
}

impl Encode for FunctionType {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.list(&self.params);
        self.result.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { params: from.list()?, result: Option::decode(from)? })
    }
}

impl Encode for Function {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.list(&self.path);
        self.ty.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { path: from.list()?, ty: FunctionType::decode(from)? })
    }
}

impl Encode for Types {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.list(&self.defs);
        out.list(&self.resources);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let types = Self { defs: from.list()?, resources: from.list()? };
        // What goes through types by recursion counts on these to come to an end.
        if types.are_sound() { Ok(types) } else { Err(from.error("sound types")) }
    }
}

/// The most of WebAssembly's values that a function is passed as such; more lie in linear memory.
const MAX_FLAT_PARAMS: usize = 16;
/// The same of what it returns.
const MAX_FLAT_RESULTS: usize = 1;

impl Types {
    /// How many of WebAssembly's values a function is passed, and returns; 0 for those that lie in linear memory.
    #[must_use]
    pub fn flat_counts(&self, ty: &FunctionType) -> (u8, u8) {
        let params = self.flat_count(ty.params.iter().map(|param| param.ty), MAX_FLAT_PARAMS);
        let results = self.flat_count(ty.result, MAX_FLAT_RESULTS);
        let known = |count: Option<usize>| count.map_or(0, |count| count as u8);
        (known(params), known(results))
    }

    /// How many of WebAssembly's values some values are, unless they are more than `most`.
    fn flat_count(&self, types: impl IntoIterator<Item = Type>, most: usize) -> Option<usize> {
        let mut count: usize = 0;
        for ty in types {
            count += self.flat_count_of(ty, most)?;
            if count > most {
                return None;
            }
        }
        Some(count)
    }

    fn flat_count_of(&self, ty: Type, most: usize) -> Option<usize> {
        // A case's number, and what the case with the most values has.
        let cases = |cases: &mut dyn Iterator<Item = Option<Type>>| {
            let mut largest = 0;
            for case in cases {
                largest = largest.max(self.flat_count(case, most)?);
            }
            Some(largest + 1)
        };
        match self.def(ty) {
            None if ty == Type::String => Some(2),
            None => Some(1),
            Some(TypeDef::List(_)) => Some(2),
            Some(TypeDef::FixedList(element, len)) => {
                let each = self.flat_count_of(*element, most)?;
                each.checked_mul(*len as usize).filter(|count| *count <= most)
            }
            Some(TypeDef::Record(fields)) => {
                self.flat_count(fields.iter().map(|field| field.ty), most)
            }
            Some(TypeDef::Tuple(types)) => self.flat_count(types.iter().copied(), most),
            Some(TypeDef::Variant(list)) => cases(&mut list.iter().map(|case| case.ty)),
            Some(TypeDef::Enum(_)) => Some(1),
            Some(TypeDef::Option(of)) => cases(&mut [None, Some(*of)].into_iter()),
            Some(TypeDef::Result { ok, err }) => cases(&mut [*ok, *err].into_iter()),
            Some(TypeDef::Flags(names)) => Some(names.len().div_ceil(32)),
        }
    }
}

/// How deep a type can be nested, as wasmparser has it.
const MAX_DEPTH: u32 = 100;

/// How many parts a type can have, those of its parts included, as wasmparser has it.
const MAX_SIZE: u32 = 1_000_000;

impl Types {
    /// Whether each definition names only what there is before it, and none is too deep or too large.
    fn are_sound(&self) -> bool {
        let mut extents: Vec<(u32, u32)> = Vec::with_capacity(self.defs.len());
        for (at, def) in self.defs.iter().enumerate() {
            let (mut depth, mut size) = (1, 1_u32);
            for ty in parts(def) {
                if !self.is_sound(ty, at) {
                    return false;
                }
                let of = match ty {
                    Type::Defined(number) => extents.get(number as usize).copied(),
                    _ => None,
                };
                let (of_depth, of_size) = of.unwrap_or((1, 1));
                depth = depth.max(1 + of_depth);
                size = size.saturating_add(of_size);
            }
            if depth > MAX_DEPTH || size > MAX_SIZE {
                return false;
            }
            extents.push((depth, size));
        }
        true
    }

    /// Whether a type names only resources that there are, and definitions before the one with this number.
    fn is_sound(&self, ty: Type, before: usize) -> bool {
        match ty {
            Type::Own(number) | Type::Borrow(number) => (number as usize) < self.resources.len(),
            Type::Defined(number) => (number as usize) < before,
            _ => true,
        }
    }

    fn is_sound_function(&self, function: &Function) -> bool {
        let FunctionType { params, result } = &function.ty;
        let mut types = params.iter().map(|param| param.ty).chain(*result);
        types.all(|ty| self.is_sound(ty, self.defs.len()))
    }
}

/// The types that a definition names.
fn parts(def: &TypeDef) -> impl Iterator<Item = Type> + '_ {
    let single = match def {
        TypeDef::List(ty) | TypeDef::FixedList(ty, _) | TypeDef::Option(ty) => [Some(*ty), None],
        TypeDef::Result { ok, err } => [*ok, *err],
        _ => [None, None],
    };
    let fields = if let TypeDef::Record(fields) = def { fields.as_slice() } else { &[] };
    let cases = if let TypeDef::Variant(cases) = def { cases.as_slice() } else { &[] };
    let types = if let TypeDef::Tuple(types) = def { types.as_slice() } else { &[] };
    let fields = fields.iter().map(|field| field.ty);
    let cases = cases.iter().filter_map(|case| case.ty);
    let single = single.into_iter().flatten();
    single.chain(fields).chain(cases).chain(types.iter().copied())
}

impl Encode for ComponentInfo {
    fn encode(&self, out: &mut Encoder<'_>) {
        self.types.encode(out);
        out.list(&self.imports);
        out.list(&self.exports);
        out.list(&self.memories);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let info = Self {
            types: Types::decode(from)?,
            imports: from.list()?,
            exports: from.list()?,
            memories: from.list()?,
        };
        let mut functions = info.imports.iter().chain(&info.exports);
        if functions.all(|function| info.types.is_sound_function(function)) {
            Ok(info)
        } else {
            Err(from.error("functions of types that there are"))
        }
    }
}
