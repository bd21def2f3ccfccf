//! Values of all types, and texts that are not.

use super::{Typed, parse, parse_all, text};
use proptest::prelude::*;
use sandgrain::Value;
use sandgrain::types::{FuncType, HeapType, ValType};

const FAMILIES: [HeapType; 2] = [HeapType::Func, HeapType::Extern];

/// A value that has a text from which it can be read, and its type.
fn value() -> impl Strategy<Value = (Value, ValType)> {
    let null = prop::sample::select(FAMILIES.to_vec());
    prop_oneof![
        any::<i32>().prop_map(|value| (Value::I32(value), ValType::I32)),
        any::<i64>().prop_map(|value| (Value::I64(value), ValType::I64)),
        any::<u32>().prop_map(|bits| (Value::F32(bits), ValType::F32)),
        any::<f32>().prop_map(|value| (Value::F32(value.to_bits()), ValType::F32)),
        any::<u64>().prop_map(|bits| (Value::F64(bits), ValType::F64)),
        any::<f64>().prop_map(|value| (Value::F64(value.to_bits()), ValType::F64)),
        any::<u128>().prop_map(|bits| (Value::V128(bits), ValType::V128)),
        null.prop_map(|heap| (Value::Null(heap), ValType::Ref { nullable: true, heap })),
    ]
}

fn is_nan(value: &Value) -> bool {
    match value {
        Value::F32(bits) => f32::from_bits(*bits).is_nan(),
        Value::F64(bits) => f64::from_bits(*bits).is_nan(),
        _ => false,
    }
}

fn any_type() -> impl Strategy<Value = ValType> {
    let numbers = [ValType::I32, ValType::I64, ValType::F32, ValType::F64, ValType::V128];
    let references = FAMILIES
        .iter()
        .flat_map(|heap| [true, false].map(|nullable| ValType::Ref { nullable, heap: *heap }));
    prop::sample::select(numbers.into_iter().chain(references).collect::<Vec<_>>())
}

/// Texts of which some are nearly values.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "(?s).{0,12}",
        "[-+]?(0x)?[0-9a-f]{0,40}",
        "[-+]?[0-9]{0,3}[.]?[0-9]{0,3}(e[-+]?[0-9]{1,4})?",
        "[-+]?(nan|inf|infinity|null)",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_printed_is_read_back((value, ty) in value()) {
        let printed = text(&value);
        let read = parse(&printed, ty);
        match read {
            // There is one text for all that is not a number.
            Ok(read) if is_nan(&value) => prop_assert!(is_nan(&read), "{}", printed),
            read => prop_assert_eq!(read, Ok(value), "{}", printed),
        }
        prop_assert_eq!(Typed::new(&value, ty).value, printed);
    }

    #[test]
    fn any_text_is_a_value_of_its_type_or_an_error(given in any_text(), ty in any_type()) {
        let types = FuncType { params: vec![ty], results: Vec::new() };
        match parse_all("f", &types, &[given]) {
            Ok(values) => {
                prop_assert_eq!(values.len(), 1);
                prop_assert!(values[0].is_a(ty), "{:?}", values);
            }
            Err(error) => prop_assert!(!error.contains(char::is_control), "{:?}", error),
        }
    }

    #[test]
    fn integers_are_read_in_both_bases_and_both_ways_of_signs(number in any::<u32>()) {
        let expected = Ok(Value::I32(number as i32));
        for given in [format!("{number}"), format!("+{number}"), format!("{number:#x}")] {
            prop_assert_eq!(parse(&given, ValType::I32), expected, "{}", given);
        }
        prop_assert_eq!(parse(&format!("{}", number as i32), ValType::I32), expected);
        let too_large = format!("{}", u64::from(number) + (1 << 32));
        prop_assert!(parse(&too_large, ValType::I32).is_err());
    }
}
