//! The messages between host and guest.
//!
//! The guest asks, the host answers, one at a time: a [`Request`] goes out with a hypercall and the
//! answer is there when the guest goes on. A guest that has nothing to ask sends [`Request::Ready`] or
//! [`Request::Done`], whose answer is the next [`Command`]; every other request is answered by a
//! [`HostReply`]. The first message of all is [`Boot`], which waits in the mailbox.
//!
//! The host can answer a call with a command: [`HostReply::Execute`]. Then the guest does that in the middle of its call,
//! sends [`Request::Done`], and gets the next [`HostReply`] to its call.

use crate::codec::{DecodeError, Decoder, Encode, Encoder};
use crate::component::Payload;
use crate::value::Value;

pub use crate::promise::{Ahead, Clock, Known, Promise, Told};
pub use crate::trap::{Fault, Frame, Trap, TrapCode};

pub use crate::command::{Command, ComponentImport, ImportSource, ImportedItem, PageRange};

use alloc::string::String;
use alloc::vec::Vec;

/// The host's first words to a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// [`crate::VERSION`] of the host.
    pub version: u32,
    /// Bytes of the heap that are there from the start.
    pub heap_size: u64,
    /// Bytes of the stack.
    pub stack_size: u64,
    /// Bytes of the stack that WebAssembly may use.
    pub wasm_stack: u64,
    /// Tables, elements in a table, instances, and memories that the guest may have.
    pub max_tables: u64,
    /// Elements of each table.
    pub max_table_elements: u64,
    /// Instances.
    pub max_instances: u64,
    /// Linear memories.
    pub max_memories: u64,
    /// Bytes of each linear memory.
    pub max_memory: u64,
    /// CPU features that compiled code may use, by the compiler's names.
    pub cpu_features: Vec<String>,
}

impl Encode for Boot {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(self.version);
        for number in [
            self.heap_size,
            self.stack_size,
            self.wasm_stack,
            self.max_tables,
            self.max_table_elements,
            self.max_instances,
            self.max_memories,
            self.max_memory,
        ] {
            out.u64(number);
        }
        out.list(&self.cpu_features);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: from.u32()?,
            heap_size: from.u64()?,
            stack_size: from.u64()?,
            wasm_stack: from.u64()?,
            max_tables: from.u64()?,
            max_table_elements: from.u64()?,
            max_instances: from.u64()?,
            max_memories: from.u64()?,
            max_memory: from.u64()?,
            cpu_features: from.list()?,
        })
    }
}

/// What a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An instance was made; its number.
    Instantiated(u32),
    /// A function returned, or a global was read.
    Returned(Vec<Value>),
    /// The linear memory that was asked for; its number.
    Memory(u32),
    /// WebAssembly stopped.
    Trapped(Trap),
    /// The engine refused, with its reason.
    Refused(String),
    /// A limit stood in the way; which one.
    Limited(String),
    /// A component's function returned.
    Component {
        /// Its result.
        result: Payload,
        /// Calls that have been queued since the host was last asked something.
        queued: Vec<Queued>,
    },
}

impl Encode for Outcome {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Instantiated(instance) => {
                out.u8(0);
                out.u32(*instance);
            }
            Self::Returned(values) => {
                out.u8(1);
                out.list(values);
            }
            Self::Memory(memory) => {
                out.u8(2);
                out.u32(*memory);
            }
            Self::Trapped(trap) => {
                out.u8(3);
                trap.encode(out);
            }
            Self::Refused(reason) => {
                out.u8(4);
                out.str(reason);
            }
            Self::Limited(limit) => {
                out.u8(5);
                out.str(limit);
            }
            Self::Component { result, queued } => {
                out.u8(6);
                result.encode(out);
                out.list(queued);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Instantiated(from.u32()?),
            1 => Self::Returned(from.list()?),
            2 => Self::Memory(from.u32()?),
            3 => Self::Trapped(Trap::decode(from)?),
            4 => Self::Refused(String::decode(from)?),
            5 => Self::Limited(String::decode(from)?),
            6 => Self::Component { result: Payload::decode(from)?, queued: from.list()? },
            _ => return Err(from.error("an outcome")),
        })
    }
}

/// A call of a host function whose answer the guest has not waited for: it returns nothing, or the guest could tell
/// what ([`Promise`]). Dropping a resource of the host is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The function's number.
    pub function: u32,
    /// Its arguments; they have no attachments.
    pub args: Vec<u8>,
    /// The handle that the guest has for the resource that is returned: from [`PROMISED`] on, and above those before.
    pub made: Option<u32>,
}

/// Handles from this number on are the guest's own names of resources that queued calls return.
pub const PROMISED: u32 = 1 << 31;

/// Names of the guest's own that stand for resources at a time.
pub const MAX_NAMES: usize = 1 << 16;

impl Encode for Queued {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(self.function);
        out.bytes(&self.args);
        self.made.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let function = from.u32()?;
        Ok(Self { function, args: from.bytes()?.to_vec(), made: Option::decode(from)? })
    }
}

/// What the guest asks of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The engine is initialised; asks for the first command.
    Ready,
    /// A command is done; asks for the next.
    Done(Outcome),
    /// Call a host function.
    HostCall {
        /// The function's number.
        function: u32,
        /// The linear memory of the caller that is exported as `memory`, if there is one.
        memory: Option<u32>,
        /// The arguments.
        args: Vec<Value>,
    },
    /// Make a linear memory.
    CreateMemory {
        /// Bytes that it has at first.
        size: u64,
        /// Bytes that it may grow to, if it says.
        maximum: Option<u64>,
    },
    /// Give a linear memory more bytes.
    GrowMemory {
        /// Its number.
        memory: u32,
        /// Bytes that it is to have.
        size: u64,
    },
    /// The runtime gives up: a defect of its own, or no heap left.
    Panic(String),
    /// A trap arrived that is not WebAssembly's; the trap record says more.
    Fault,
    /// Give the heap more bytes. It may be asked between another request and its reply.
    GrowHeap {
        /// Bytes that [`MORE_HEAP`](crate::layout::MORE_HEAP) is to have at least.
        size: u64,
    },
    /// Call a host function for a component.
    ComponentCall {
        /// The function's number; [`HostReply::NO_FUNCTION`] only for those that have been queued.
        function: u32,
        /// The arguments.
        args: Payload,
        /// Calls that have been queued since the host was last asked something.
        queued: Vec<Queued>,
    },
    /// Take a run of bytes of a linear memory, which a later outcome has attached.
    Send(MemoryRange),
    /// Fill a range of memory with an attachment of the message that was last received.
    Receive {
        /// The attachment's number.
        attachment: u32,
        /// Where it is to be, all of it: in a linear memory, or the [heap](MemoryRange::HEAP).
        place: MemoryRange,
    },
}

/// A range of a linear memory; or, to receive, of the runtime's heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// The memory's number.
    pub memory: u32,
    /// The offset of the first byte.
    pub address: u64,
    /// Bytes.
    pub len: u64,
}

impl MemoryRange {
    /// In place of a memory's number: the runtime's heap, with an address as it is there.
    pub const HEAP: u32 = u32::MAX;
}

impl Encode for MemoryRange {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(self.memory);
        out.u64(self.address);
        out.u64(self.len);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self { memory: from.u32()?, address: from.u64()?, len: from.u64()? })
    }
}

impl Request {
    /// Whether the bytes begin as those of a request that carries a component's values, which can be many.
    #[must_use]
    pub fn carries_values(bytes: &[u8]) -> bool {
        matches!(bytes, [8, ..] | [1, 6, ..])
    }
}

impl Encode for Request {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Ready => out.u8(0),
            Self::Done(outcome) => {
                out.u8(1);
                outcome.encode(out);
            }
            Self::HostCall { function, memory, args } => {
                out.u8(2);
                out.u32(*function);
                memory.encode(out);
                out.list(args);
            }
            Self::CreateMemory { size, maximum } => {
                out.u8(3);
                out.u64(*size);
                maximum.encode(out);
            }
            Self::GrowMemory { memory, size } => {
                out.u8(4);
                out.u32(*memory);
                out.u64(*size);
            }
            Self::Panic(message) => {
                out.u8(5);
                out.str(message);
            }
            Self::Fault => out.u8(6),
            Self::GrowHeap { size } => {
                out.u8(7);
                out.u64(*size);
            }
            Self::ComponentCall { function, args, queued } => {
                out.u8(8);
                out.u32(*function);
                args.encode(out);
                out.list(queued);
            }
            Self::Send(range) => {
                out.u8(9);
                range.encode(out);
            }
            Self::Receive { attachment, place } => {
                out.u8(10);
                out.u32(*attachment);
                place.encode(out);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Ready,
            1 => Self::Done(Outcome::decode(from)?),
            2 => Self::HostCall {
                function: from.u32()?,
                memory: Option::decode(from)?,
                args: from.list()?,
            },
            3 => Self::CreateMemory { size: from.u64()?, maximum: Option::decode(from)? },
            4 => Self::GrowMemory { memory: from.u32()?, size: from.u64()? },
            5 => Self::Panic(String::decode(from)?),
            6 => Self::Fault,
            7 => Self::GrowHeap { size: from.u64()? },
            8 => Self::ComponentCall {
                function: from.u32()?,
                args: Payload::decode(from)?,
                queued: from.list()?,
            },
            9 => Self::Send(MemoryRange::decode(from)?),
            10 => Self::Receive { attachment: from.u32()?, place: MemoryRange::decode(from)? },
            _ => return Err(from.error("a request")),
        })
    }
}

/// The host's answer to a request that is not for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostReply {
    /// A host function's results.
    Values(Vec<Value>),
    /// A host function's error: the call is to end with [`Fault::Host`]. The host keeps the error.
    Abort,
    /// A linear memory: its number, address, and the bytes that it can grow to.
    Memory {
        /// Its number.
        memory: u32,
        /// Its address.
        address: u64,
        /// Bytes that it can grow to.
        capacity: u64,
    },
    /// A linear memory has grown.
    Grown,
    /// A limit does not allow it; which one.
    Refused(String),
    /// What the heap has been given. If that is less than was asked for, no more is allowed.
    Heap {
        /// Bytes that [`MORE_HEAP`](crate::layout::MORE_HEAP) has.
        size: u64,
    },
    /// A host function's result, for a component.
    Component(Payload),
    /// A run of bytes was taken, or is where it was asked to be.
    Moved,
    /// To a call: the guest is to do this first.
    Execute(Command),
    /// A host function's result, for a component, and what it need not ask for then.
    ComponentTold {
        /// The result.
        result: Payload,
        /// What else it is told.
        told: Told,
    },
}

impl HostReply {
    /// The number that no host function has.
    pub const NO_FUNCTION: u32 = u32::MAX;
}

impl Encode for HostReply {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Values(values) => {
                out.u8(0);
                out.list(values);
            }
            Self::Abort => out.u8(1),
            Self::Memory { memory, address, capacity } => {
                out.u8(2);
                out.u32(*memory);
                out.u64(*address);
                out.u64(*capacity);
            }
            Self::Grown => out.u8(3),
            Self::Refused(limit) => {
                out.u8(4);
                out.str(limit);
            }
            Self::Heap { size } => {
                out.u8(5);
                out.u64(*size);
            }
            Self::Component(payload) => {
                out.u8(6);
                payload.encode(out);
            }
            Self::Moved => out.u8(7),
            Self::Execute(command) => {
                out.u8(8);
                command.encode(out);
            }
            Self::ComponentTold { result, told } => {
                out.u8(9);
                result.encode(out);
                told.encode(out);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Values(from.list()?),
            1 => Self::Abort,
            2 => Self::Memory { memory: from.u32()?, address: from.u64()?, capacity: from.u64()? },
            3 => Self::Grown,
            4 => Self::Refused(String::decode(from)?),
            5 => Self::Heap { size: from.u64()? },
            6 => Self::Component(Payload::decode(from)?),
            7 => Self::Moved,
            8 => Self::Execute(Command::decode(from)?),
            9 => Self::ComponentTold { result: Payload::decode(from)?, told: Told::decode(from)? },
            _ => return Err(from.error("a reply")),
        })
    }
}
