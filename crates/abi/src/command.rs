//! What the host tells a guest that waits for it.

use crate::codec::{DecodeError, Decoder, Encode, Encoder};
use crate::component::Payload;
use crate::promise::{Known, Promise};
use crate::value::Value;
use alloc::string::String;
use alloc::vec::Vec;

/// What satisfies one import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportSource {
    /// A host function, by the host's number.
    Host(u32),
    /// An export of an instance made before.
    Instance {
        /// The instance's number.
        instance: u32,
        /// The export's name.
        export: String,
    },
}

impl Encode for ImportSource {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Host(function) => {
                out.u8(0);
                out.u32(*function);
            }
            Self::Instance { instance, export } => {
                out.u8(1);
                out.u32(*instance);
                out.str(export);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Host(from.u32()?),
            1 => Self::Instance { instance: from.u32()?, export: String::decode(from)? },
            _ => return Err(from.error("an import's source")),
        })
    }
}

/// What the host offers a component under a path of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentImport {
    /// The path: instances, and the name in the last of them.
    pub path: Vec<String>,
    /// What is there.
    pub item: ImportedItem,
}

/// What satisfies one import of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportedItem {
    /// A function of the host.
    Function {
        /// The host's number of it.
        number: u32,
        /// How many of WebAssembly's values its parameters are; any, if they lie in linear memory.
        params: u8,
        /// How many of WebAssembly's values its result is; any, if it lies in linear memory.
        results: u8,
        /// What the guest can tell of its answer.
        promise: Promise,
    },
    /// A resource type of the host.
    Resource {
        /// The host's number of it, among the types that it offers the guest.
        ty: u32,
        /// The number of the function that a resource is dropped by.
        drop: u32,
    },
    /// An instance of which nothing is asked.
    Instance,
}

impl Encode for ComponentImport {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.list(&self.path);
        match self.item {
            ImportedItem::Function { number, params, results, promise } => {
                out.u8(0);
                out.u32(number);
                out.u8(params);
                out.u8(results);
                out.u8(promise as u8);
            }
            ImportedItem::Resource { ty, drop } => {
                out.u8(1);
                out.u32(ty);
                out.u32(drop);
            }
            ImportedItem::Instance => out.u8(2),
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let path = from.list()?;
        let item = match from.u8()? {
            0 => ImportedItem::Function {
                number: from.u32()?,
                params: from.u8()?,
                results: from.u8()?,
                promise: Promise::decode(from)?,
            },
            1 => ImportedItem::Resource { ty: from.u32()?, drop: from.u32()? },
            2 => ImportedItem::Instance,
            _ => return Err(from.error("what a component imports")),
        };
        Ok(Self { path, item })
    }
}

/// What the host tells an idle guest to do. Each is answered by
/// [`Request::Done`](crate::Request::Done).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Instantiate compiled code that lies in the guest's address space.
    Instantiate {
        /// Its address.
        address: u64,
        /// Its bytes.
        len: u64,
        /// What satisfies its imports, in their order.
        imports: Vec<ImportSource>,
    },
    /// Call an exported function.
    Call {
        /// The instance's number.
        instance: u32,
        /// The function's name.
        export: String,
        /// Its arguments.
        args: Vec<Value>,
    },
    /// Read an exported global.
    GetGlobal {
        /// The instance's number.
        instance: u32,
        /// The global's name.
        export: String,
    },
    /// Set an exported global.
    SetGlobal {
        /// The instance's number.
        instance: u32,
        /// The global's name.
        export: String,
        /// Its new value.
        value: Value,
    },
    /// Say which linear memory an export is.
    FindMemory {
        /// The instance's number.
        instance: u32,
        /// The memory's name.
        export: String,
    },
    /// Instantiate a compiled component that lies in the guest's address space.
    InstantiateComponent {
        /// Its address.
        address: u64,
        /// Its bytes.
        len: u64,
        /// What satisfies its imports.
        imports: Vec<ComponentImport>,
    },
    /// Call a function that a component exports.
    CallComponent {
        /// The number of the component's instance.
        instance: u32,
        /// The path of names to the function.
        path: Vec<String>,
        /// Its arguments.
        args: Payload,
        /// What it need not ask for.
        known: Vec<Known>,
    },
    /// Drop a resource of the guest that the host has a handle of, by its number.
    DropResource(u32),
    /// Touch pages, so that no later command has to wait for the hypervisor to map them. Nothing changes by
    /// it.
    Touch(Vec<PageRange>),
}

/// Pages of the guest's address space that ring 3 can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// The address of the first one.
    pub address: u64,
    /// How many.
    pub pages: u32,
    /// Whether ring 3 can and will write to them.
    pub write: bool,
}

impl Encode for PageRange {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.address);
        out.u32(self.pages);
        out.u8(u8::from(self.write));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { address: from.u64()?, pages: from.u32()?, write: from.bool()? })
    }
}

impl Encode for Command {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Instantiate { address, len, imports } => {
                out.u8(0);
                out.u64(*address);
                out.u64(*len);
                out.list(imports);
            }
            Self::Call { instance, export, args } => {
                out.u8(1);
                out.u32(*instance);
                out.str(export);
                out.list(args);
            }
            Self::GetGlobal { instance, export } => {
                out.u8(2);
                out.u32(*instance);
                out.str(export);
            }
            Self::SetGlobal { instance, export, value } => {
                out.u8(3);
                out.u32(*instance);
                out.str(export);
                value.encode(out);
            }
            Self::FindMemory { instance, export } => {
                out.u8(4);
                out.u32(*instance);
                out.str(export);
            }
            Self::Touch(ranges) => {
                out.u8(5);
                out.list(ranges);
            }
            Self::InstantiateComponent { address, len, imports } => {
                out.u8(6);
                out.u64(*address);
                out.u64(*len);
                out.list(imports);
            }
            Self::CallComponent { instance, path, args, known } => {
                out.u8(7);
                out.u32(*instance);
                out.list(path);
                args.encode(out);
                out.list(known);
            }
            Self::DropResource(number) => {
                out.u8(8);
                out.u32(*number);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => {
                Self::Instantiate { address: from.u64()?, len: from.u64()?, imports: from.list()? }
            }
            1 => Self::Call {
                instance: from.u32()?,
                export: String::decode(from)?,
                args: from.list()?,
            },
            2 => Self::GetGlobal { instance: from.u32()?, export: String::decode(from)? },
            3 => Self::SetGlobal {
                instance: from.u32()?,
                export: String::decode(from)?,
                value: Value::decode(from)?,
            },
            4 => Self::FindMemory { instance: from.u32()?, export: String::decode(from)? },
            5 => Self::Touch(from.list()?),
            6 => Self::InstantiateComponent {
                address: from.u64()?,
                len: from.u64()?,
                imports: from.list()?,
            },
            7 => Self::CallComponent {
                instance: from.u32()?,
                path: from.list()?,
                args: Payload::decode(from)?,
                known: from.list()?,
            },
            8 => Self::DropResource(from.u32()?),
            _ => return Err(from.error("a command")),
        })
    }
}
