//! Components: their types, their values, and how values travel.
//!
//! A component's values travel in the shape of their types, which both sides know, without saying what they are
//! ([`wire`]): the guest writes them straight from linear memory, and the host reads them into Rust's own types
//! ([`Lift`], [`Lower`]) or, where those are only known at run time, into a [`Val`].

mod display;
mod lift;
mod lower;
mod types;
mod val;
pub mod wire;

pub use lift::Lift;
pub use lower::{HostHandle, Lower};
pub use types::{
    Case, ComponentInfo, Field, Function, FunctionType, Resource, ResourceOrigin, Type, TypeDef,
    Types,
};
pub use val::{Mismatch, Val};
pub use wire::{Attachment, Payload, Reader, ResourceHandle, Writer};
