//! The scripts' values.

use sandgrain_abi::component::{Type, TypeDef, Types, Val};
use wast::component::WastVal;
use wast::{WastArg, WastRet};

/// An argument of a type.
pub fn argument(arg: &WastArg<'_>, ty: Type, types: &Types) -> Result<Val, String> {
    match arg {
        WastArg::Component(val) => value(val, ty, types),
        other => Err(format!("{other:?} is no component's value")),
    }
}

fn value(val: &WastVal<'_>, ty: Type, types: &Types) -> Result<Val, String> {
    let payload = |val: &Option<Box<WastVal<'_>>>, ty: Option<Type>| match (val, ty) {
        (Some(val), Some(ty)) => value(val, ty, types).map(|value| Some(Box::new(value))),
        (None, None) => Ok(None),
        (val, ty) => Err(format!("{val:?} for the type {ty:?}")),
    };
    Ok(match (val, types.def(ty)) {
        (WastVal::Bool(value), _) => Val::Bool(*value),
        (WastVal::U8(value), _) => Val::U8(*value),
        (WastVal::S8(value), _) => Val::S8(*value),
        (WastVal::U16(value), _) => Val::U16(*value),
        (WastVal::S16(value), _) => Val::S16(*value),
        (WastVal::U32(value), _) => Val::U32(*value),
        (WastVal::S32(value), _) => Val::S32(*value),
        (WastVal::U64(value), _) => Val::U64(*value),
        (WastVal::S64(value), _) => Val::S64(*value),
        (WastVal::F32(value), _) => Val::F32(f32::from_bits(value.bits)),
        (WastVal::F64(value), _) => Val::F64(f64::from_bits(value.bits)),
        (WastVal::Char(value), _) => Val::Char(*value),
        (WastVal::String(value), _) => Val::String((*value).to_owned()),
        (WastVal::List(values), Some(TypeDef::List(Type::U8))) => {
            let byte = |val: &WastVal<'_>| match val {
                WastVal::U8(value) => Ok(*value),
                other => Err(format!("{other:?} is no u8")),
            };
            Val::Bytes(values.iter().map(byte).collect::<Result<_, _>>()?)
        }
        (WastVal::List(values), Some(TypeDef::List(of))) => {
            let values = values.iter().map(|val| value(val, *of, types));
            Val::List(values.collect::<Result<_, _>>()?)
        }
        (WastVal::Record(given), Some(TypeDef::Record(fields))) if given.len() == fields.len() => {
            let field = |((name, val), field): (&(&str, WastVal<'_>), &_)| {
                let sandgrain_abi::component::Field { ty, .. } = field;
                Ok::<_, String>(((*name).to_owned(), value(val, *ty, types)?))
            };
            Val::Record(given.iter().zip(fields).map(field).collect::<Result<_, _>>()?)
        }
        (WastVal::Tuple(values), Some(TypeDef::Tuple(of))) if values.len() == of.len() => {
            let values = values.iter().zip(of).map(|(val, ty)| value(val, *ty, types));
            Val::Tuple(values.collect::<Result<_, _>>()?)
        }
        (WastVal::Variant(name, val), Some(TypeDef::Variant(cases))) => {
            let case = cases.iter().find(|case| case.name == *name);
            let case = case.ok_or_else(|| format!("no case {name}"))?;
            Val::Variant((*name).to_owned(), payload(val, case.ty)?)
        }
        (WastVal::Enum(name), Some(TypeDef::Enum(_))) => Val::Enum((*name).to_owned()),
        (WastVal::Option(val), Some(TypeDef::Option(of))) => {
            Val::Option(payload(val, val.as_ref().map(|_| *of))?)
        }
        (WastVal::Result(Ok(val)), Some(TypeDef::Result { ok, .. })) => {
            Val::Result(Ok(payload(val, *ok)?))
        }
        (WastVal::Result(Err(val)), Some(TypeDef::Result { err, .. })) => {
            Val::Result(Err(payload(val, *err)?))
        }
        (WastVal::Flags(names), Some(TypeDef::Flags(_))) => {
            Val::Flags(names.iter().map(|name| (*name).to_owned()).collect())
        }
        (val, _) => return Err(format!("{val:?} is no {}", types.summary(ty))),
    })
}

/// Whether a result is the expected one. Every NaN is the same to a component.
pub fn is_result(expected: &[WastRet<'_>], actual: Option<&Val>) -> bool {
    match (expected, actual) {
        ([], None) => true,
        ([WastRet::Component(expected)], Some(actual)) => same(expected, actual),
        _ => false,
    }
}

fn same(expected: &WastVal<'_>, actual: &Val) -> bool {
    let payload =
        |expected: &Option<Box<WastVal<'_>>>, actual: &Option<Box<Val>>| match (expected, actual) {
            (Some(expected), Some(actual)) => same(expected, actual),
            (expected, actual) => expected.is_none() && actual.is_none(),
        };
    let each = |expected: &[WastVal<'_>], actual: &[Val]| {
        expected.len() == actual.len() && expected.iter().zip(actual).all(|(e, a)| same(e, a))
    };
    match (expected, actual) {
        (WastVal::Bool(e), Val::Bool(a)) => e == a,
        (WastVal::U8(e), Val::U8(a)) => e == a,
        (WastVal::S8(e), Val::S8(a)) => e == a,
        (WastVal::U16(e), Val::U16(a)) => e == a,
        (WastVal::S16(e), Val::S16(a)) => e == a,
        (WastVal::U32(e), Val::U32(a)) => e == a,
        (WastVal::S32(e), Val::S32(a)) => e == a,
        (WastVal::U64(e), Val::U64(a)) => e == a,
        (WastVal::S64(e), Val::S64(a)) => e == a,
        (WastVal::F32(e), Val::F32(a)) => {
            e.bits == a.to_bits() || f32::from_bits(e.bits).is_nan() && a.is_nan()
        }
        (WastVal::F64(e), Val::F64(a)) => {
            e.bits == a.to_bits() || f64::from_bits(e.bits).is_nan() && a.is_nan()
        }
        (WastVal::Char(e), Val::Char(a)) => e == a,
        (WastVal::String(e), Val::String(a)) => e == a,
        (WastVal::List(e), Val::Bytes(a)) => {
            e.len() == a.len()
                && e.iter().zip(a).all(|(e, a)| matches!(e, WastVal::U8(e) if e == a))
        }
        (WastVal::List(e), Val::List(a)) | (WastVal::Tuple(e), Val::Tuple(a)) => each(e, a),
        (WastVal::Record(e), Val::Record(a)) => {
            e.len() == a.len()
                && e.iter()
                    .zip(a)
                    .all(|((name, e), (same_name, a))| name == same_name && same(e, a))
        }
        (WastVal::Variant(e, x), Val::Variant(a, y)) => e == a && payload(x, y),
        (WastVal::Enum(e), Val::Enum(a)) => e == a,
        (WastVal::Option(e), Val::Option(a)) => payload(e, a),
        (WastVal::Result(Ok(e)), Val::Result(Ok(a)))
        | (WastVal::Result(Err(e)), Val::Result(Err(a))) => payload(e, a),
        (WastVal::Flags(e), Val::Flags(a)) => {
            let mut sorted: Vec<_> = e.iter().map(|name| (*name).to_owned()).collect();
            let mut actual = a.clone();
            sorted.sort();
            actual.sort();
            sorted == actual
        }
        _ => false,
    }
}
