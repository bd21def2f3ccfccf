//! Rust's values as WebAssembly's.

use sandgrain_abi::types::{FuncType, ValType};
use sandgrain_abi::value::Value;

/// A Rust type that is a WebAssembly type: integers and floats of 32 and 64 bits, and `u128` for a
/// vector.
pub trait WasmValue: Sized {
    /// The WebAssembly type.
    const TYPE: ValType;
    /// The value for WebAssembly.
    fn into_value(self) -> Value;
    /// The value from WebAssembly; `None` if it is of another type.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! wasm_value {
    ($($rust:ty => $type:ident, $into:expr, $from:expr;)*) => {$(
        impl WasmValue for $rust {
            const TYPE: ValType = ValType::$type;
            fn into_value(self) -> Value {
                Value::$type($into(self))
            }
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$type(value) => Some($from(value)),
                    _ => None,
                }
            }
        }
    )*};
}

wasm_value! {
    i32 => I32, |value| value, |value| value;
    u32 => I32, u32::cast_signed, i32::cast_unsigned;
    i64 => I64, |value| value, |value| value;
    u64 => I64, u64::cast_signed, i64::cast_unsigned;
    f32 => F32, f32::to_bits, f32::from_bits;
    f64 => F64, f64::to_bits, f64::from_bits;
    u128 => V128, |value| value, |value| value;
}

/// A function's parameters or results: nothing, one value, or a tuple of them.
pub trait WasmValues: Sized {
    /// Their types.
    fn types() -> Vec<ValType>;
    /// The values for WebAssembly.
    fn into_values(self) -> Vec<Value>;
    /// The values from WebAssembly; `None` if they are others.
    fn from_values(values: &[Value]) -> Option<Self>;
}

impl<T: WasmValue> WasmValues for T {
    fn types() -> Vec<ValType> {
        vec![T::TYPE]
    }

    fn into_values(self) -> Vec<Value> {
        vec![self.into_value()]
    }

    fn from_values(values: &[Value]) -> Option<Self> {
        match values {
            [value] => T::from_value(*value),
            _ => None,
        }
    }
}

/// The function type of parameters `P` and results `R`.
pub(crate) fn func_type<P: WasmValues, R: WasmValues>() -> FuncType {
    FuncType { params: P::types(), results: R::types() }
}

macro_rules! tuples {
    ($(($($name:ident)*))*) => {$(
        impl<$($name: WasmValue),*> WasmValues for ($($name,)*) {
            fn types() -> Vec<ValType> {
                vec![$($name::TYPE),*]
            }

            #[allow(non_snake_case, reason = "the type's name serves for its value")]
            fn into_values(self) -> Vec<Value> {
                let ($($name,)*) = self;
                vec![$($name.into_value()),*]
            }

            #[allow(non_snake_case, reason = "the type's name serves for its value")]
            fn from_values(values: &[Value]) -> Option<Self> {
                match values {
                    [$($name),*] => Some(($($name::from_value(*$name)?,)*)),
                    _ => None,
                }
            }
        }
    )*};
}

tuples! {
    ()
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
}
