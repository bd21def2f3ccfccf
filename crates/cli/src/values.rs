//! WebAssembly's values as text.

use sandgrain::Value;
use sandgrain::types::{FuncType, ValType};
use serde::Serialize;

/// Reads the arguments of a function by its type.
pub fn parse_all(name: &str, ty: &FuncType, texts: &[String]) -> Result<Vec<Value>, String> {
    if texts.len() != ty.params.len() {
        let count = ty.params.len();
        return Err(format!(
            "{name:?} has the type {ty}: it takes {count} argument{}, not {}",
            if count == 1 { "" } else { "s" },
            texts.len()
        ));
    }
    let pairs = texts.iter().zip(&ty.params).enumerate();
    pairs
        .map(|(at, (text, ty))| {
            parse(text, *ty).map_err(|expected| {
                format!("argument {} of {name:?} is not of type {ty}: {text:?} {expected}", at + 1)
            })
        })
        .collect()
}

/// Reads a value; the error continues "this text ...".
fn parse(text: &str, ty: ValType) -> Result<Value, &'static str> {
    match ty {
        ValType::I32 => {
            let value = integer(text, i128::from(i32::MIN)..=i128::from(u32::MAX))?;
            Ok(Value::I32(value as u32 as i32))
        }
        ValType::I64 => {
            let value = integer(text, i128::from(i64::MIN)..=i128::from(u64::MAX))?;
            Ok(Value::I64(value as u64 as i64))
        }
        ValType::F32 => text.parse().map(|value: f32| Value::F32(value.to_bits())).map_err(number),
        ValType::F64 => text.parse().map(|value: f64| Value::F64(value.to_bits())).map_err(number),
        ValType::V128 => vector(text),
        ValType::Ref { nullable: true, heap } if text == "null" => Ok(Value::Null(heap)),
        ValType::Ref { nullable: true, .. } => {
            Err("cannot be given; the only reference with a text is null")
        }
        ValType::Ref { .. } => Err("cannot be given: references have no text"),
    }
}

fn integer(text: &str, range: std::ops::RangeInclusive<i128>) -> Result<i128, &'static str> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match magnitude.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (magnitude, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err("is no whole number, decimal or hexadecimal (0x...)");
    }
    let value = i128::from_str_radix(digits, radix).map_err(|_| "is out of range")?;
    let value = if negative { -value } else { value };
    if range.contains(&value) { Ok(value) } else { Err("is out of range") }
}

fn number(_: std::num::ParseFloatError) -> &'static str {
    "is no number (also: inf, -inf, nan)"
}

fn vector(text: &str) -> Result<Value, &'static str> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    let hexadecimal = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = u128::from_str_radix(digits, 16).ok().filter(|_| hexadecimal);
    value.map(Value::V128).ok_or("is not 0x and 32 hexadecimal digits, the highest lane first")
}

/// A result, for programs. The value is text because JSON's numbers cannot hold all of them.
#[derive(Debug, Serialize)]
pub struct Typed {
    r#type: String,
    value: String,
}

impl Typed {
    pub fn new(value: &Value, ty: ValType) -> Self {
        Self { r#type: ty.to_string(), value: text(value) }
    }
}

/// The value as text: the shortest from which the same value is read again.
pub fn text(value: &Value) -> String {
    match value {
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::F32(bits) => {
            let value = f32::from_bits(*bits);
            float(f64::from(value).abs(), &value, &value)
        }
        Value::F64(bits) => {
            let value = f64::from_bits(*bits);
            float(value.abs(), &value, &value)
        }
        Value::V128(bits) => format!("{bits:#034x}"),
        Value::Null(_) => "null".to_owned(),
        // Numbers that only this run knows, but they tell equal ones from different ones.
        Value::FuncRef(number) => format!("func:{number}"),
        Value::ExternRef(number) => format!("extern:{number}"),
        Value::I31(value) => format!("i31:{value}"),
        Value::GcRef(heap) => ValType::Ref { nullable: false, heap: *heap }.to_string(),
    }
}

/// Very large and very small numbers with an exponent, instead of hundreds of digits.
fn float(
    magnitude: f64,
    plain: &dyn std::fmt::Display,
    exponent: &dyn std::fmt::LowerExp,
) -> String {
    if magnitude.is_nan() {
        "nan".to_owned()
    } else if magnitude == 0.0 || magnitude.is_infinite() || (1e-7..1e21).contains(&magnitude) {
        plain.to_string()
    } else {
        format!("{exponent:e}")
    }
}

#[cfg(test)]
#[path = "values_random.rs"]
mod random;

#[cfg(test)]
mod tests {
    use super::{parse, parse_all, text};
    use sandgrain::Value;
    use sandgrain::types::{FuncType, HeapType, ValType};

    #[test]
    fn integers_are_signed_or_not_decimal_or_hexadecimal() {
        for (given, expected) in [
            ("30", 30),
            ("-1", -1),
            ("+7", 7),
            ("4294967295", -1),
            ("0xffffffff", -1),
            ("-0x80000000", i32::MIN),
        ] {
            assert_eq!(parse(given, ValType::I32), Ok(Value::I32(expected)), "{given}");
        }
        assert_eq!(parse("18446744073709551615", ValType::I64), Ok(Value::I64(-1)));
        assert_eq!(parse("-9223372036854775808", ValType::I64), Ok(Value::I64(i64::MIN)));
    }

    #[test]
    fn what_is_no_integer_or_too_large_is_refused() {
        for given in ["", "-", "x", "1.0", "0x", "--1", "0x-1", "4294967296", "-2147483649", "1 "] {
            assert!(parse(given, ValType::I32).is_err(), "{given}");
        }
        let digits = "9".repeat(60);
        assert!(parse(&digits, ValType::I64).is_err());
    }

    #[test]
    fn floats_come_back_as_they_went() {
        let bits = [0.1, -0.0, 1e300, 5e-324, f64::INFINITY, f64::NEG_INFINITY, 1.0 / 3.0, 1e21];
        for value in bits.map(|value: f64| Value::F64(value.to_bits())) {
            assert_eq!(parse(&text(&value), ValType::F64), Ok(value));
        }
        let value = Value::F32(0.1f32.to_bits());
        assert_eq!(text(&value), "0.1");
        assert_eq!(parse("0.1", ValType::F32), Ok(value));
    }

    #[test]
    fn a_number_that_is_none_is_nan() {
        assert!(matches!(parse("nan", ValType::F32), Ok(Value::F32(bits))
            if f32::from_bits(bits).is_nan()));
        assert_eq!(text(&Value::F64(f64::NAN.to_bits())), "nan");
    }

    #[test]
    fn vectors_are_32_digits() {
        let value = Value::V128(0x0123_4567_89ab_cdef_0000_0000_0000_0001);
        assert_eq!(text(&value), "0x0123456789abcdef0000000000000001");
        assert_eq!(parse(&text(&value), ValType::V128), Ok(value));
        for given in ["0x1", "1", &"0".repeat(34), "0x+123456789abcdef0000000000000001"] {
            assert!(parse(given, ValType::V128).is_err(), "{given}");
        }
    }

    #[test]
    fn of_references_only_null_can_be_given() {
        let ty = |nullable| ValType::Ref { nullable, heap: HeapType::Extern };
        assert_eq!(parse("null", ty(true)), Ok(Value::Null(HeapType::Extern)));
        assert!(parse("null", ty(false)).is_err() && parse("1", ty(true)).is_err());
    }

    #[test]
    fn an_error_names_the_argument_and_its_type() {
        let ty = FuncType { params: vec![ValType::I64, ValType::F32], results: vec![] };
        let error = parse_all("f", &ty, &["1".to_owned(), "x".to_owned()]).unwrap_err();
        assert_eq!(
            error,
            "argument 2 of \"f\" is not of type f32: \"x\" is no number (also: inf, -inf, nan)"
        );
        let error = parse_all("f", &ty, &["1".to_owned()]).unwrap_err();
        assert_eq!(error, "\"f\" has the type (i64, f32) -> (): it takes 2 arguments, not 1");
    }
}
