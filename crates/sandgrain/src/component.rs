//! Components: what a guest may call of the host in their terms, and their values as Rust's.

mod functions;
mod records;

#[doc(hidden)]
pub use records::is_name;
#[doc(hidden)]
pub use sandgrain_abi::DecodeError;

pub use functions::{Abort, AsyncComponentFunction, CanAbort, ComponentFunction};
pub(crate) use functions::{
    Arguments, Body, ComponentFunctions, ResourceType, are_params, is_result,
};
pub use sandgrain_abi::component::{
    Case, ComponentInfo, Field, Function, FunctionType, HostHandle, Lift, Lower, Mismatch, Reader,
    Resource, ResourceHandle, ResourceOrigin, Type, TypeDef, Types, Val, Writer,
};
