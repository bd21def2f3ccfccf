//! What Sandgrain's host and guest agree on.
//!
//! This crate is the whole contract between the two sides: where things lie in the guest's address
//! space ([`layout`]), the messages that travel through the mailbox ([`message`]) and their bytes
//! ([`codec`]), WebAssembly's types and values as both sides name them ([`types`],
//! [`value`]; for components [`component`]), and how text of either's is [shown](text). It has no dependencies, needs no allocator beyond `alloc`, and has no unsafe code, so
//! that each side can decode what the other, possibly hostile, side wrote.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod codec;
mod command;
pub mod component;
mod info;
pub mod layout;
pub mod message;
mod promise;
pub mod text;
mod trap;
pub mod types;
pub mod value;

pub use codec::{DecodeError, Decoder, Encode, Encoder};
pub use info::Info;
pub use message::{Command, Fault, Frame, HostReply, ImportSource, Request, Trap};
pub use types::{ExternType, FuncType, GlobalType, HeapType, MemoryType, TableType, ValType};
pub use value::Value;

/// The version of everything in this crate. Host and runtime of different versions refuse to talk.
pub const VERSION: u32 = 4;
