//! WebAssembly's types, as the host knows them from a module's imports and exports.

use crate::codec::{DecodeError, Decoder, Encode, Encoder};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What a reference points at. Types that a module defines itself are known by the family that they
/// belong to: the guest's engine checks them precisely, the host needs only the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeapType {
    /// Any function, of whichever type.
    Func = 0,
    /// A value of the host.
    Extern = 1,
    /// Anything that the garbage collector owns.
    Any = 2,
    /// An exception.
    Exn = 3,
    /// A function of a type that the module defines.
    ConcreteFunc = 4,
    /// A struct or array of a type that the module defines.
    ConcreteAny = 5,
    /// A continuation, which no sandbox runs.
    Cont = 6,
    /// No function at all: only null.
    NoFunc = 7,
    /// No value of the host: only null.
    NoExtern = 8,
    /// Nothing that the garbage collector owns: only null.
    None = 9,
    /// No exception: only null.
    NoExn = 10,
    /// Anything comparable by identity.
    Eq = 11,
    /// A 31-bit integer.
    I31 = 12,
    /// Any struct.
    Struct = 13,
    /// Any array.
    Array = 14,
}

impl HeapType {
    const ALL: [Self; 15] = [
        Self::Func,
        Self::Extern,
        Self::Any,
        Self::Exn,
        Self::ConcreteFunc,
        Self::ConcreteAny,
        Self::Cont,
        Self::NoFunc,
        Self::NoExtern,
        Self::None,
        Self::NoExn,
        Self::Eq,
        Self::I31,
        Self::Struct,
        Self::Array,
    ];

    /// The root of the hierarchy that it belongs to. A reference of one is never one of another.
    #[must_use]
    pub fn top(self) -> Self {
        match self {
            Self::Func | Self::ConcreteFunc | Self::NoFunc => Self::Func,
            Self::Extern | Self::NoExtern => Self::Extern,
            Self::Exn | Self::NoExn => Self::Exn,
            Self::Cont => Self::Cont,
            Self::Any
            | Self::ConcreteAny
            | Self::None
            | Self::Eq
            | Self::I31
            | Self::Struct
            | Self::Array => Self::Any,
        }
    }
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 128-bit vector.
    V128,
    /// Reference.
    Ref {
        /// Whether null is one of its values.
        nullable: bool,
        /// What it points at.
        heap: HeapType,
    },
}

impl fmt::Display for ValType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heap = match self {
            Self::I32 => return f.write_str("i32"),
            Self::I64 => return f.write_str("i64"),
            Self::F32 => return f.write_str("f32"),
            Self::F64 => return f.write_str("f64"),
            Self::V128 => return f.write_str("v128"),
            Self::Ref { heap, .. } => heap,
        };
        let name = match heap {
            HeapType::Func => "func",
            HeapType::Extern => "extern",
            HeapType::Any => "any",
            HeapType::Exn => "exn",
            HeapType::ConcreteFunc => "(func type of the module)",
            HeapType::ConcreteAny => "(type of the module)",
            HeapType::Cont => "cont",
            HeapType::NoFunc => "nofunc",
            HeapType::NoExtern => "noextern",
            HeapType::None => "none",
            HeapType::NoExn => "noexn",
            HeapType::Eq => "eq",
            HeapType::I31 => "i31",
            HeapType::Struct => "struct",
            HeapType::Array => "array",
        };
        match self {
            Self::Ref { nullable: true, .. } => write!(f, "(ref null {name})"),
            _ => write!(f, "(ref {name})"),
        }
    }
}

impl Encode for ValType {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::I32 => out.u8(0),
            Self::I64 => out.u8(1),
            Self::F32 => out.u8(2),
            Self::F64 => out.u8(3),
            Self::V128 => out.u8(4),
            Self::Ref { nullable, heap } => {
                out.u8(5 + u8::from(*nullable));
                out.u8(*heap as u8);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::I32,
            1 => Self::I64,
            2 => Self::F32,
            3 => Self::F64,
            4 => Self::V128,
            tag @ (5 | 6) => {
                let heap = from.u8()?;
                match HeapType::ALL.get(usize::from(heap)) {
                    Some(heap) => Self::Ref { nullable: tag == 6, heap: *heap },
                    None => return Err(from.error("a heap type")),
                }
            }
            _ => return Err(from.error("a value type")),
        })
    }
}

/// The type of a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct FuncType {
    /// Its parameters.
    pub params: Vec<ValType>,
    /// Its results.
    pub results: Vec<ValType>,
}

impl fmt::Display for FuncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, types: &[ValType]| {
            f.write_str("(")?;
            for (i, ty) in types.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{ty}")?;
            }
            f.write_str(")")
        };
        list(f, &self.params)?;
        f.write_str(" -> ")?;
        list(f, &self.results)
    }
}

impl Encode for FuncType {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.list(&self.params);
        out.list(&self.results);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { params: from.list()?, results: from.list()? })
    }
}

/// The type of a linear memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryType {
    /// Pages that it has at first.
    pub minimum: u64,
    /// Pages that it may grow to.
    pub maximum: Option<u64>,
    /// Bytes of a page: 65,536 unless the module says otherwise.
    pub page_size: u64,
    /// Whether its addresses are 64 bits wide.
    pub memory64: bool,
    /// Whether threads may share it, which no sandbox grants.
    pub shared: bool,
}

impl Encode for MemoryType {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.minimum);
        self.maximum.encode(out);
        out.u64(self.page_size);
        out.u8(u8::from(self.memory64));
        out.u8(u8::from(self.shared));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            minimum: from.u64()?,
            maximum: Option::decode(from)?,
            page_size: from.u64()?,
            memory64: from.bool()?,
            shared: from.bool()?,
        })
    }
}

/// The type of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableType {
    /// The type of its elements.
    pub element: ValType,
    /// Elements that it has at first.
    pub minimum: u64,
    /// Elements that it may grow to.
    pub maximum: Option<u64>,
}

impl Encode for TableType {
    fn encode(&self, out: &mut Encoder<'_>) {
        self.element.encode(out);
        out.u64(self.minimum);
        self.maximum.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            element: ValType::decode(from)?,
            minimum: from.u64()?,
            maximum: Option::decode(from)?,
        })
    }
}

/// The type of a global.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GlobalType {
    /// The type of its value.
    pub value: ValType,
    /// Whether it can be set.
    pub mutable: bool,
}

impl Encode for GlobalType {
    fn encode(&self, out: &mut Encoder<'_>) {
        self.value.encode(out);
        out.u8(u8::from(self.mutable));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { value: ValType::decode(from)?, mutable: from.bool()? })
    }
}

/// The type of something that a module imports or exports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExternType {
    /// A function.
    Func(FuncType),
    /// A linear memory.
    Memory(MemoryType),
    /// A table.
    Table(TableType),
    /// A global.
    Global(GlobalType),
    /// An exception tag with its payload.
    Tag(FuncType),
}

impl ExternType {
    /// What it is, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Func(_) => "function",
            Self::Memory(_) => "memory",
            Self::Table(_) => "table",
            Self::Global(_) => "global",
            Self::Tag(_) => "tag",
        }
    }
}

impl Encode for ExternType {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Func(ty) => {
                out.u8(0);
                ty.encode(out);
            }
            Self::Memory(ty) => {
                out.u8(1);
                ty.encode(out);
            }
            Self::Table(ty) => {
                out.u8(2);
                ty.encode(out);
            }
            Self::Global(ty) => {
                out.u8(3);
                ty.encode(out);
            }
            Self::Tag(ty) => {
                out.u8(4);
                ty.encode(out);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Func(FuncType::decode(from)?),
            1 => Self::Memory(MemoryType::decode(from)?),
            2 => Self::Table(TableType::decode(from)?),
            3 => Self::Global(GlobalType::decode(from)?),
            4 => Self::Tag(FuncType::decode(from)?),
            _ => return Err(from.error("the kind of an import or export")),
        })
    }
}

/// One import of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The module name that it asks for.
    pub module: String,
    /// The name in that module.
    pub name: String,
    /// What it must be.
    pub ty: ExternType,
}

impl Encode for Import {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.str(&self.module);
        out.str(&self.name);
        self.ty.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            module: String::decode(from)?,
            name: String::decode(from)?,
            ty: ExternType::decode(from)?,
        })
    }
}

/// One export of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// What it is.
    pub ty: ExternType,
}

impl Encode for Export {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.str(&self.name);
        self.ty.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: String::decode(from)?, ty: ExternType::decode(from)? })
    }
}

/// What the host knows of a module without running it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ModuleInfo {
    /// The name that its name section gives it.
    pub name: Option<String>,
    /// What it imports, in order.
    pub imports: Vec<Import>,
    /// What it exports, in order.
    pub exports: Vec<Export>,
    /// The linear memories that it defines itself, exported or not.
    pub memories: Vec<MemoryType>,
    /// Whether it has a start function.
    pub has_start: bool,
}

impl ModuleInfo {
    /// The type of an export.
    #[must_use]
    pub fn export(&self, name: &str) -> Option<&ExternType> {
        self.exports.iter().find(|export| export.name == name).map(|export| &export.ty)
    }
}

impl Encode for ModuleInfo {
    fn encode(&self, out: &mut Encoder<'_>) {
        self.name.encode(out);
        out.list(&self.imports);
        out.list(&self.exports);
        out.list(&self.memories);
        out.u8(u8::from(self.has_start));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: Option::decode(from)?,
            imports: from.list()?,
            exports: from.list()?,
            memories: from.list()?,
            has_start: from.bool()?,
        })
    }
}
