//! Random types of components and random values of them.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use sandgrain_abi::component::{
    Case, Field, Resource, ResourceHandle, ResourceOrigin, Type, TypeDef, Types, Val,
};

/// A type with all that it is made of.
#[derive(Clone, Debug)]
pub enum Shape {
    Plain(Type),
    List(Box<Shape>),
    FixedList(Box<Shape>, u32),
    Record(Vec<(String, Shape)>),
    Tuple(Vec<Shape>),
    Variant(Vec<(String, Option<Shape>)>),
    Enum(Vec<String>),
    Option(Box<Shape>),
    Result(Option<Box<Shape>>, Option<Box<Shape>>),
    Flags(Vec<String>),
}

/// The resource types that handles can be of: number 0 is the host's, 1 the guest's.
pub fn resources() -> Vec<Resource> {
    [ResourceOrigin::Imported, ResourceOrigin::Defined]
        .map(|origin| Resource { path: vec!["i".to_owned(), "r".to_owned()], origin })
        .to_vec()
}

const PLAIN: [Type; 13] = [
    Type::Bool,
    Type::S8,
    Type::U8,
    Type::S16,
    Type::U16,
    Type::S32,
    Type::U32,
    Type::S64,
    Type::U64,
    Type::F32,
    Type::F64,
    Type::Char,
    Type::String,
];

/// Names as WIT has them; some are words of the text format for values.
fn name() -> impl Strategy<Value = String> {
    let words = ["true", "false", "some", "none", "ok", "err", "inf", "nan"];
    prop_oneof![
        4 => "[a-z][a-z0-9]{0,5}(-[a-z][a-z0-9]{0,3}){0,2}",
        1 => "[A-Z][A-Z0-9]{0,3}(-[a-z]{1,3})?",
        1 => proptest::sample::select(words.map(str::to_owned).to_vec()),
    ]
}

fn names(most: usize) -> impl Strategy<Value = Vec<String>> {
    btree_set(name(), 1..=most).prop_map(|names| names.into_iter().collect())
}

/// A random shape, with handles or without.
pub fn shape(handles: bool) -> BoxedStrategy<Shape> {
    let mut plain = PLAIN.to_vec();
    if handles {
        plain.extend([Type::Own(0), Type::Borrow(0), Type::Own(1), Type::Borrow(1)]);
    }
    let leaf = prop_oneof![
        6 => proptest::sample::select(plain).prop_map(Shape::Plain),
        1 => names(5).prop_map(Shape::Enum),
        1 => names(20).prop_map(Shape::Flags),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let boxed = inner.clone().prop_map(Box::new).boxed();
        let maybe = proptest::option::of(inner.clone());
        prop_oneof![
            3 => boxed.clone().prop_map(Shape::List),
            1 => (boxed.clone(), 1..4_u32).prop_map(|(of, len)| Shape::FixedList(of, len)),
            2 => boxed.clone().prop_map(Shape::Option),
            2 => (proptest::option::of(boxed.clone()), proptest::option::of(boxed))
                .prop_map(|(ok, err)| Shape::Result(ok, err)),
            2 => vec(inner.clone(), 1..4).prop_map(Shape::Tuple),
            2 => (names(4), vec(inner, 4))
                .prop_map(|(names, shapes)| Shape::Record(names.into_iter().zip(shapes).collect())),
            2 => (names(4), vec(maybe, 4))
                .prop_map(|(names, shapes)| Shape::Variant(names.into_iter().zip(shapes).collect())),
        ]
    })
    .boxed()
}

/// The type that a shape is, after adding what it is made of to the definitions.
pub fn define(shape: &Shape, types: &mut Types) -> Type {
    let def = match shape {
        Shape::Plain(ty) => return *ty,
        Shape::List(of) => TypeDef::List(define(of, types)),
        Shape::FixedList(of, len) => TypeDef::FixedList(define(of, types), *len),
        Shape::Record(fields) => {
            let field = |(name, shape): &(String, Shape)| Field {
                name: name.clone(),
                ty: define(shape, types),
            };
            TypeDef::Record(fields.iter().map(field).collect())
        }
        Shape::Tuple(shapes) => {
            TypeDef::Tuple(shapes.iter().map(|shape| define(shape, types)).collect())
        }
        Shape::Variant(cases) => {
            let case = |(name, shape): &(String, Option<Shape>)| Case {
                name: name.clone(),
                ty: shape.as_ref().map(|shape| define(shape, types)),
            };
            TypeDef::Variant(cases.iter().map(case).collect())
        }
        Shape::Enum(names) => TypeDef::Enum(names.clone()),
        Shape::Option(of) => TypeDef::Option(define(of, types)),
        Shape::Result(ok, err) => TypeDef::Result {
            ok: ok.as_ref().map(|ok| define(ok, types)),
            err: err.as_ref().map(|err| define(err, types)),
        },
        Shape::Flags(names) => TypeDef::Flags(names.clone()),
    };
    types.defs.push(def);
    Type::Defined(types.defs.len() as u32 - 1)
}

fn plain(ty: Type) -> BoxedStrategy<Val> {
    match ty {
        Type::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
        Type::S8 => any::<i8>().prop_map(Val::S8).boxed(),
        Type::U8 => any::<u8>().prop_map(Val::U8).boxed(),
        Type::S16 => any::<i16>().prop_map(Val::S16).boxed(),
        Type::U16 => any::<u16>().prop_map(Val::U16).boxed(),
        Type::S32 => any::<i32>().prop_map(Val::S32).boxed(),
        Type::U32 => any::<u32>().prop_map(Val::U32).boxed(),
        Type::S64 => any::<i64>().prop_map(Val::S64).boxed(),
        Type::U64 => any::<u64>().prop_map(Val::U64).boxed(),
        Type::F32 => proptest::num::f32::ANY.prop_map(Val::F32).boxed(),
        Type::F64 => proptest::num::f64::ANY.prop_map(Val::F64).boxed(),
        Type::Char => any::<char>().prop_map(Val::Char).boxed(),
        Type::String => text().prop_map(Val::String).boxed(),
        Type::Own(0) | Type::Borrow(0) => any::<u32>().prop_map(Val::HostResource).boxed(),
        Type::Own(_) => handle(true),
        _ => handle(false),
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => any::<String>(), 1 => "[\\\\\"'\n\r\t{}\u{0}-\u{20}\u{300}]{0,8}"]
}

fn handle(owned: bool) -> BoxedStrategy<Val> {
    any::<u32>().prop_map(move |number| Val::Resource(ResourceHandle { number, owned })).boxed()
}

fn some(shape: Option<&Shape>) -> BoxedStrategy<Option<Box<Val>>> {
    match shape {
        Some(shape) => value(shape).prop_map(|value| Some(Box::new(value))).boxed(),
        None => Just(None).boxed(),
    }
}

/// The strategies one after the other, for a value of each.
fn each(parts: Vec<BoxedStrategy<Val>>) -> BoxedStrategy<Vec<Val>> {
    parts.boxed()
}

fn list(shape: &Shape, len: std::ops::RangeInclusive<usize>) -> BoxedStrategy<Val> {
    match shape {
        Shape::Plain(Type::U8) => vec(any::<u8>(), len).prop_map(Val::Bytes).boxed(),
        shape => vec(value(shape), len).prop_map(Val::List).boxed(),
    }
}

/// A random value of a shape, as it is when it is read.
pub fn value(shape: &Shape) -> BoxedStrategy<Val> {
    match shape {
        Shape::Plain(ty) => plain(*ty),
        Shape::List(of) => list(of, 0..=4),
        Shape::FixedList(of, len) => list(of, *len as usize..=*len as usize),
        Shape::Record(fields) => {
            let names: Vec<_> = fields.iter().map(|(name, _)| name.clone()).collect();
            each(fields.iter().map(|(_, shape)| value(shape)).collect())
                .prop_map(move |values| Val::Record(names.iter().cloned().zip(values).collect()))
                .boxed()
        }
        Shape::Tuple(shapes) => {
            each(shapes.iter().map(value).collect()).prop_map(Val::Tuple).boxed()
        }
        Shape::Variant(cases) => {
            let case = |(name, shape): &(String, Option<Shape>)| {
                let name = name.clone();
                some(shape.as_ref())
                    .prop_map(move |value| Val::Variant(name.clone(), value))
                    .boxed()
            };
            proptest::strategy::Union::new(cases.iter().map(case)).boxed()
        }
        Shape::Enum(names) => proptest::sample::select(names.clone()).prop_map(Val::Enum).boxed(),
        Shape::Option(of) => {
            prop_oneof![1 => Just(None), 2 => some(Some(of))].prop_map(Val::Option).boxed()
        }
        Shape::Result(ok, err) => prop_oneof![
            some(ok.as_deref()).prop_map(|value| Val::Result(Ok(value))),
            some(err.as_deref()).prop_map(|value| Val::Result(Err(value))),
        ]
        .boxed(),
        Shape::Flags(names) => proptest::sample::subsequence(names.clone(), 0..=names.len())
            .prop_map(Val::Flags)
            .boxed(),
    }
}

/// The definitions, a type among them, and a value of it.
pub fn typed_value(handles: bool) -> impl Strategy<Value = (Types, Type, Val)> {
    shape(handles).prop_flat_map(|shape| {
        let mut types = Types { resources: resources(), ..Types::default() };
        let ty = define(&shape, &mut types);
        (Just(types), Just(ty), value(&shape))
    })
}

/// Whether two values are the same to a component, to which all NaNs are.
pub fn same(a: &Val, b: &Val) -> bool {
    let payload = |a: &Option<Box<Val>>, b: &Option<Box<Val>>| match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    match (a, b) {
        (Val::F32(a), Val::F32(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
        (Val::F64(a), Val::F64(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
        (Val::List(a), Val::List(b)) | (Val::Tuple(a), Val::Tuple(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Val::Record(a), Val::Record(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        (Val::Variant(a, x), Val::Variant(b, y)) => a == b && payload(x, y),
        (Val::Option(a), Val::Option(b)) => payload(a, b),
        (Val::Result(Ok(a)), Val::Result(Ok(b))) | (Val::Result(Err(a)), Val::Result(Err(b))) => {
            payload(a, b)
        }
        (a, b) => a == b,
    }
}
