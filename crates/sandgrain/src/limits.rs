//! What a sandbox may use.

use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder};
use std::time::Duration;

/// The limits of a sandbox. Every one has a default that suits a small function.
///
/// `stack`, `heap` and `extra_code` divide a VM's memory; without a VM they have no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that each linear memory can grow to. Address space is set aside for them; physical
    /// memory is used only as the guest touches it. Default: 256 MiB.
    pub memory: u64,
    /// Linear memories beyond those that the modules known from the start define. Default: 0.
    pub extra_memories: u32,
    /// How long one call may take, host functions included; `None` for as long as it likes.
    /// Default: 30 s.
    pub deadline: Option<Duration>,
    /// Bytes of stack for WebAssembly. Default: 512 KiB.
    pub stack: u64,
    /// Bytes of heap for the runtime: instances, tables, handles. Default: 64 MiB.
    pub heap: u64,
    /// Bytes for the code of modules that are instantiated later. Default: 16 MiB.
    pub extra_code: u64,
    /// Tables. Default: 100.
    pub tables: u64,
    /// Elements of each table. Default: 1,000,000.
    pub table_elements: u64,
    /// Instances. Default: 100.
    pub instances: u64,
    /// Bytes of arguments and results that one call passes, of a component's function or by one of the host's.
    /// Default: 128 MiB.
    pub call_bytes: u64,
    /// Calls of the guest by [host functions](crate::Caller::call) within each other. Each takes some of the stack of the
    /// thread that runs the guest. Default: 16.
    pub nested_calls: u32,
    /// Bytes that the guest may write to its standard output. Default: 16 MiB.
    pub stdout: u64,
    /// Bytes that the guest may write to its standard error. Default: 16 MiB.
    pub stderr: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            extra_memories: 0,
            deadline: Some(Duration::from_secs(30)),
            stack: 512 << 10,
            heap: 64 << 20,
            extra_code: 16 << 20,
            tables: 100,
            table_elements: 1_000_000,
            instances: 100,
            call_bytes: 128 << 20,
            nested_calls: 16,
            stdout: sandgrain_wasi::DEFAULT_OUTPUT_LIMIT,
            stderr: sandgrain_wasi::DEFAULT_OUTPUT_LIMIT,
        }
    }
}

/// Defines a setter for each limit, so that limits can be written as a chain.
macro_rules! setters {
    ($($name:ident: $type:ty,)*) => {
        impl Limits {
            $(
                #[doc = concat!("The same limits with another `", stringify!($name), "`.")]
                #[must_use]
                pub fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

setters! {
    memory: u64,
    extra_memories: u32,
    deadline: Option<Duration>,
    stack: u64,
    heap: u64,
    extra_code: u64,
    tables: u64,
    table_elements: u64,
    instances: u64,
    call_bytes: u64,
    nested_calls: u32,
    stdout: u64,
    stderr: u64,
}

#[doc(hidden)]
impl Encode for Limits {
    fn encode(&self, out: &mut Encoder<'_>) {
        let Self {
            memory,
            extra_memories,
            deadline,
            stack,
            heap,
            extra_code,
            tables,
            table_elements,
            instances,
            call_bytes,
            nested_calls,
            stdout,
            stderr,
        } = self;
        let deadline = deadline.map(|time| (time.as_secs(), time.subsec_nanos()));
        deadline.encode(out);
        out.u32(*extra_memories);
        out.u32(*nested_calls);
        for number in [
            memory,
            stack,
            heap,
            extra_code,
            tables,
            table_elements,
            instances,
            call_bytes,
            stdout,
            stderr,
        ] {
            out.u64(*number);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let deadline = match Option::<(u64, u32)>::decode(from)? {
            Some((secs, nanos)) if nanos < 1_000_000_000 => Some(Duration::new(secs, nanos)),
            Some(_) => return Err(from.error("a time")),
            None => None,
        };
        Ok(Self {
            deadline,
            extra_memories: from.u32()?,
            nested_calls: from.u32()?,
            memory: from.u64()?,
            stack: from.u64()?,
            heap: from.u64()?,
            extra_code: from.u64()?,
            tables: from.u64()?,
            table_elements: from.u64()?,
            instances: from.u64()?,
            call_bytes: from.u64()?,
            stdout: from.u64()?,
            stderr: from.u64()?,
        })
    }
}
