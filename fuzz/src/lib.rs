//! Inputs with a structure: the abi's messages, made of a fuzzer's bytes.
//!
//! The abi has no dependencies, not even for this, so its types are made here.

use arbitrary::{Arbitrary, Result, Unstructured};
use sandgrain_abi::message::{
    Command, Fault, Frame, HostReply, ImportSource, Outcome, PageRange, Request, Trap, TrapCode,
};
use sandgrain_abi::types::{FuncType, HeapType, ValType};
use sandgrain_abi::{Encode, Value};

/// The bytes of a message.
pub fn bytes_of(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode_to(&mut bytes);
    bytes
}

/// A few of something.
pub fn list<T>(
    u: &mut Unstructured<'_>,
    mut item: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = u.int_in_range(0..=8)?;
    (0..count).map(|_| item(u)).collect()
}

/// Any heap type.
pub fn heap_type(u: &mut Unstructured<'_>) -> Result<HeapType> {
    u.choose_iter([
        HeapType::Func,
        HeapType::Extern,
        HeapType::Any,
        HeapType::Exn,
        HeapType::ConcreteFunc,
        HeapType::ConcreteAny,
        HeapType::Cont,
        HeapType::NoFunc,
        HeapType::NoExtern,
        HeapType::None,
        HeapType::NoExn,
        HeapType::Eq,
        HeapType::I31,
        HeapType::Struct,
        HeapType::Array,
    ])
}

/// Any type.
pub fn val_type(u: &mut Unstructured<'_>) -> Result<ValType> {
    Ok(match u.int_in_range(0..=5)? {
        0 => ValType::I32,
        1 => ValType::I64,
        2 => ValType::F32,
        3 => ValType::F64,
        4 => ValType::V128,
        _ => ValType::Ref { nullable: u.arbitrary()?, heap: heap_type(u)? },
    })
}

/// Any function type.
pub fn func_type(u: &mut Unstructured<'_>) -> Result<FuncType> {
    Ok(FuncType { params: list(u, val_type)?, results: list(u, val_type)? })
}

/// Any value.
pub fn value(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=9)? {
        0 => Value::I32(u.arbitrary()?),
        1 => Value::I64(u.arbitrary()?),
        2 => Value::F32(u.arbitrary()?),
        3 => Value::F64(u.arbitrary()?),
        4 => Value::V128(u.arbitrary()?),
        5 => Value::Null(heap_type(u)?),
        6 => Value::FuncRef(u.arbitrary()?),
        7 => Value::ExternRef(u.arbitrary()?),
        8 => Value::I31(u.arbitrary()?),
        _ => Value::GcRef(heap_type(u)?),
    })
}

fn import(u: &mut Unstructured<'_>) -> Result<ImportSource> {
    Ok(match u.arbitrary()? {
        true => ImportSource::Host(u.arbitrary()?),
        false => ImportSource::Instance { instance: u.arbitrary()?, export: u.arbitrary()? },
    })
}

/// Any command.
pub fn command(u: &mut Unstructured<'_>) -> Result<Command> {
    let (instance, export) = (u.arbitrary()?, u.arbitrary()?);
    Ok(match u.int_in_range(0..=5)? {
        0 => Command::Instantiate {
            address: u.arbitrary()?,
            len: u.arbitrary()?,
            imports: list(u, import)?,
        },
        1 => Command::Call { instance, export, args: list(u, value)? },
        2 => Command::GetGlobal { instance, export },
        3 => Command::SetGlobal { instance, export, value: value(u)? },
        4 => Command::FindMemory { instance, export },
        _ => Command::Touch(list(u, |u| {
            Ok(PageRange { address: u.arbitrary()?, pages: u.arbitrary()?, write: u.arbitrary()? })
        })?),
    })
}

fn trap(u: &mut Unstructured<'_>) -> Result<Trap> {
    let fault = match u.arbitrary()? {
        true => Fault::Host,
        false => {
            let code = u.choose_iter([TrapCode::Unreachable, TrapCode::Other])?;
            Fault::Wasm { code, message: u.arbitrary()? }
        }
    };
    let frame = |u: &mut Unstructured<'_>| {
        Ok(Frame {
            module: u.arbitrary()?,
            function: u.arbitrary()?,
            name: u.arbitrary()?,
            offset: u.arbitrary()?,
        })
    };
    Ok(Trap { fault, frames: list(u, frame)? })
}

fn outcome(u: &mut Unstructured<'_>) -> Result<Outcome> {
    Ok(match u.int_in_range(0..=5)? {
        0 => Outcome::Instantiated(u.arbitrary()?),
        1 => Outcome::Returned(list(u, value)?),
        2 => Outcome::Memory(u.arbitrary()?),
        3 => Outcome::Trapped(trap(u)?),
        4 => Outcome::Refused(u.arbitrary()?),
        _ => Outcome::Limited(u.arbitrary()?),
    })
}

/// Any request; most are those that the host has work with.
pub fn request(u: &mut Unstructured<'_>) -> Result<Request> {
    Ok(match u.int_in_range(0..=12)? {
        0 => Request::Ready,
        1 | 2 => Request::Done(outcome(u)?),
        3 => Request::HostCall {
            function: u.arbitrary()?,
            memory: u.arbitrary()?,
            args: list(u, value)?,
        },
        // A function that there is: the first few are ours, the others WASI's.
        4..=6 => Request::HostCall {
            function: match u.int_in_range(0..=47)? {
                number @ 0..=1 => number,
                number => (1 << 24) + number - 2,
            },
            memory: Some(0),
            args: list(u, integer)?,
        },
        7 | 8 => Request::CreateMemory {
            size: number(u, &[0, 1 << 16, 1 << 20])?,
            maximum: match u.arbitrary()? {
                true => Some(number(u, &[0, 1 << 16, 1 << 20])?),
                false => None,
            },
        },
        9 => Request::GrowMemory {
            memory: u.int_in_range(0..=3)?,
            size: number(u, &[0, 1 << 16, 1 << 20])?,
        },
        10 => Request::Panic(u.arbitrary()?),
        11 => Request::GrowHeap { size: number(u, &[0, 1 << 20, 2 << 20])? },
        _ => Request::Fault,
    })
}

/// What WASI takes: addresses and lengths, mostly small.
fn integer(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=3)? {
        0 => Value::I32(u.arbitrary()?),
        1 => Value::I64(u.arbitrary()?),
        2 => Value::I32(u8::arbitrary(u)?.into()),
        _ => Value::I64(u8::arbitrary(u)?.into()),
    })
}

/// A number near one of these, or any.
pub fn number(u: &mut Unstructured<'_>, near: &[u64]) -> Result<u64> {
    if u.ratio(1, 4)? {
        return u.arbitrary();
    }
    let distance = u64::from(u.arbitrary::<u8>()?);
    Ok(u.choose(near)?.wrapping_add(distance).wrapping_sub(128))
}

/// Any reply.
pub fn reply(u: &mut Unstructured<'_>) -> Result<HostReply> {
    Ok(match u.int_in_range(0..=5)? {
        0 => HostReply::Values(list(u, value)?),
        1 => HostReply::Abort,
        2 => HostReply::Memory {
            memory: u.arbitrary()?,
            address: u.arbitrary()?,
            capacity: u.arbitrary()?,
        },
        3 => HostReply::Grown,
        4 => HostReply::Heap { size: u.arbitrary()? },
        _ => HostReply::Refused(u.arbitrary()?),
    })
}

/// Puts a target's first inputs where `cargo xtask fuzz` asks for them.
///
/// # Panics
/// When they cannot be written.
pub fn write_seeds(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(directory) = std::env::var_os("SANDGRAIN_FUZZ_SEEDS") else { return };
    for (number, seed) in seeds().iter().enumerate() {
        let path = std::path::Path::new(&directory).join(number.to_string());
        std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Bytes that look random and are the same in every run: inputs with a structure need no other seeds.
pub fn noise(number: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
