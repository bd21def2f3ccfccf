//! Errors of the engine as the host is told of them.

use crate::State;
use alloc::format;
use alloc::string::{String, ToString};
use sandgrain_abi::message::{Fault, Frame, Outcome, Trap, TrapCode};
use wasmtime::{Error, Store, WasmBacktrace};

/// The host answered a call with an error, which it keeps; the call is to end.
#[derive(Debug)]
pub(crate) struct Aborted;

impl core::fmt::Display for Aborted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the host ended the call")
    }
}

impl core::error::Error for Aborted {}

/// What a component passes or returns is not what its type says, by the canonical ABI's rules.
#[derive(Debug)]
struct Violation;

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the component broke the canonical ABI's rules")
    }
}

/// The error that ended a component's call, as it is to be told of. Those for which the engine has no types of their
/// own are the component's doing, and traps.
pub(crate) fn broken(error: Error) -> Error {
    error.context(Violation)
}

/// The host has passed a handle as what it is not.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl core::fmt::Display for Misuse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Misuse {}

/// How the engine's words about an import of another type begin.
const INCOMPATIBLE_IMPORT: &str = "incompatible import type";

/// Bytes of a name in a backtrace, and of a reason. Names are the module's and can be long; what the host
/// learns has to fit into a request.
const MAX_NAME: usize = 1024;
const MAX_REASON: usize = 16 << 10;

fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_string()
}

/// What the host learns of `error`.
pub(crate) fn outcome<E>(store: &mut Store<State<E>>, error: &Error) -> Outcome {
    let fault = if error.is::<Aborted>() {
        Fault::Host
    } else if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
        Fault::Wasm { code: code(*trap), message: trap.to_string() }
    } else if error.is::<wasmtime::ThrownException>() {
        // The exception stays pending in the store until it is taken.
        let _ = store.take_pending_exception();
        Fault::Wasm { code: TrapCode::UncaughtException, message: String::new() }
    } else if error.is::<wasmtime::GcHeapOutOfMemory<()>>() {
        Fault::Wasm { code: TrapCode::OutOfMemory, message: "garbage-collected heap".to_string() }
    } else if error.is::<wasmtime::OutOfMemory>() {
        return Outcome::Limited(cut(&format!("{error:#}"), MAX_REASON));
    } else {
        let is_violation = error.is::<Violation>();
        // These may have a backtrace with them, which has the component's own names in it.
        let reason = if is_violation || error.is::<Misuse>() {
            error.root_cause().to_string()
        } else {
            format!("{error:#}")
        };
        let reason = cut(&reason, MAX_REASON);
        // The engine has no types for these errors. All of its words about limits have this one, but
        // so have those about a memory or table of another size than a module imports.
        if reason.contains("limit") && !reason.starts_with(INCOMPATIBLE_IMPORT) {
            return Outcome::Limited(reason);
        }
        if !is_violation {
            return Outcome::Refused(reason);
        }
        Fault::Wasm { code: TrapCode::Other, message: reason }
    };
    let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    Outcome::Trapped(Trap { fault, frames })
}

fn frames(backtrace: &WasmBacktrace) -> alloc::vec::Vec<Frame> {
    let frames = backtrace.frames().iter().take(Trap::MAX_FRAMES);
    frames
        .map(|frame| Frame {
            module: frame.module().name().map(|name| cut(name, MAX_NAME)),
            function: frame.func_index(),
            name: frame.func_name().map(|name| cut(name, MAX_NAME)),
            offset: frame.module_offset().and_then(|offset| u32::try_from(offset).ok()),
        })
        .collect()
}

fn code(trap: wasmtime::Trap) -> TrapCode {
    use wasmtime::Trap as T;
    match trap {
        T::StackOverflow => TrapCode::StackOverflow,
        T::MemoryOutOfBounds => TrapCode::MemoryOutOfBounds,
        T::HeapMisaligned => TrapCode::HeapMisaligned,
        T::TableOutOfBounds => TrapCode::TableOutOfBounds,
        T::IndirectCallToNull => TrapCode::IndirectCallToNull,
        T::BadSignature => TrapCode::BadSignature,
        T::IntegerOverflow => TrapCode::IntegerOverflow,
        T::IntegerDivisionByZero => TrapCode::IntegerDivisionByZero,
        T::BadConversionToInteger => TrapCode::BadConversionToInteger,
        T::UnreachableCodeReached => TrapCode::Unreachable,
        T::NullReference => TrapCode::NullReference,
        T::ArrayOutOfBounds => TrapCode::ArrayOutOfBounds,
        T::AllocationTooLarge => TrapCode::AllocationTooLarge,
        T::CastFailure => TrapCode::CastFailure,
        _ => TrapCode::Other,
    }
}
