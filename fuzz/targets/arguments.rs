//! A function's arguments as the command line has them: whatever the texts are, they are values of the
//! function's types or an error; and what a result is printed as is read back as the same value.

#![no_main]

#[path = "../../crates/cli/src/values.rs"]
mod values;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use sandgrain::Value;
use sandgrain::types::FuncType;
use sandgrain_fuzz::{func_type, list, noise, value, write_seeds};

/// Texts of which some are nearly right.
fn text(u: &mut Unstructured<'_>) -> Result<String> {
    Ok(match u.int_in_range(0..=3)? {
        0 => u.arbitrary()?,
        1 => values::text(&value(u)?),
        2 => format!("{:#x}", u.arbitrary::<u128>()?),
        _ => {
            let (mut text, at) = (values::text(&value(u)?), u.arbitrary::<u8>()?);
            let at = text.floor_char_boundary(usize::from(at));
            text.insert(at, u.arbitrary()?);
            text
        }
    })
}

/// Equal, except that there is only one text for all that is not a number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::F32(a), Value::F32(b)) if f32::from_bits(*a).is_nan() => {
            f32::from_bits(*b).is_nan()
        }
        (Value::F64(a), Value::F64(b)) if f64::from_bits(*a).is_nan() => {
            f64::from_bits(*b).is_nan()
        }
        (a, b) => a == b,
    }
}

fn check(ty: &FuncType, texts: &[String]) {
    match values::parse_all("function", ty, texts) {
        Ok(found) => {
            assert!(found.iter().zip(&ty.params).all(|(value, ty)| value.is_a(*ty)), "{found:?}");
            let printed: Vec<String> = found.iter().map(values::text).collect();
            let again = values::parse_all("function", ty, &printed).expect("our own text");
            assert!(found.iter().zip(&again).all(|(a, b)| same(a, b)), "{found:?} {again:?}");
            for (value, ty) in found.iter().zip(&ty.params) {
                let _ = values::Typed::new(value, *ty);
            }
        }
        Err(error) => assert!(!error.contains(char::is_control), "{error:?}"),
    }
}

fuzz_target!(init: write_seeds(|| (0..64).map(|number| noise(number, 256)).collect()), |data: &[u8]| -> Corpus {
    let mut u = Unstructured::new(data);
    let Ok(ty) = func_type(&mut u) else { return Corpus::Reject };
    let Ok(mut texts) = list(&mut u, text) else { return Corpus::Reject };
    // The right number of them, if there are enough.
    if texts.len() > ty.params.len() {
        texts.truncate(ty.params.len());
    }
    check(&ty, &texts);
    Corpus::Keep
});
