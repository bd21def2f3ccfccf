//! Errors of the engine as the host is told of them.

use crate::State;
use alloc::format;
use alloc::string::{String, ToString};
use sandgrain_abi::message::{Fault, Frame, Outcome, Trap, TrapCode};
use wasmtime::{Error, StoreContextMut, WasmBacktrace};

/// The host answered a call with an error, which it keeps; the call is to end.
#[derive(Debug)]
pub(crate) struct Aborted;

impl core::fmt::Display for Aborted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the host ended the call")
    }
}

impl core::error::Error for Aborted {}

/// A component has broken a rule of the component model's: the context of an error for which the engine has no type.
#[derive(Debug)]
pub(crate) struct RuleBroken;

impl core::fmt::Display for RuleBroken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the component broke a rule")
    }
}

/// The host has passed what it may not, such as a resource of another type: no fault of the component's.
#[derive(Debug)]
pub(crate) struct Misused(pub String);

impl core::fmt::Display for Misused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Misused {}

/// The error of a component's function that was called, and whether it is the component's own doing, after which
/// nothing may enter it again.
pub(crate) fn of_component(error: Error) -> (Error, bool) {
    if error.is::<wasmtime::Trap>() {
        return (error, true);
    }
    let has_type = error.is::<Aborted>()
        || error.is::<Misused>()
        || error.is::<wasmtime::ThrownException>()
        || error.is::<wasmtime::GcHeapOutOfMemory<()>>()
        || error.is::<wasmtime::OutOfMemory>();
    if has_type || is_about_limit(&error.root_cause().to_string()) {
        return (error, false);
    }
    (error.context(RuleBroken), true)
}

/// The engine has no types for errors about limits. All of its words about them have this one, but so have those about
/// a memory or table of another size than a module imports.
fn is_about_limit(reason: &str) -> bool {
    reason.contains("limit") && !reason.starts_with(INCOMPATIBLE_IMPORT)
}

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
pub(crate) fn outcome<E>(store: &mut StoreContextMut<'_, State<E>>, error: &Error) -> Outcome {
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
    } else if error.is::<RuleBroken>() {
        let message = cut(&error.root_cause().to_string(), MAX_REASON);
        Fault::Wasm { code: TrapCode::Other, message }
    } else if let Some(Misused(text)) = error.downcast_ref() {
        // Without the backtrace that the engine adds, in which a component's own names are.
        return Outcome::Refused(cut(text, MAX_REASON));
    } else {
        let reason = cut(&format!("{error:#}"), MAX_REASON);
        let limited = is_about_limit(&reason);
        return if limited { Outcome::Limited(reason) } else { Outcome::Refused(reason) };
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
