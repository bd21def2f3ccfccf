//! Random types of components, and values of them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;
use sandgrain::component::Val;

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub enum Ty {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    List(Box<Ty>),
    /// Its fields are `f0`, `f1` and so on.
    Record(Vec<Ty>),
    Tuple(Vec<Ty>),
    /// Its cases are `c0`, `c1` and so on.
    Variant(Vec<Option<Ty>>),
    /// So many cases.
    Enum(usize),
    Option(Box<Ty>),
    Result(Option<Box<Ty>>, Option<Box<Ty>>),
    /// So many flags.
    Flags(usize),
}

/// Types of one value.
const PLAIN: [Ty; 13] = [
    Ty::Bool,
    Ty::S8,
    Ty::U8,
    Ty::S16,
    Ty::U16,
    Ty::S32,
    Ty::U32,
    Ty::S64,
    Ty::U64,
    Ty::F32,
    Ty::F64,
    Ty::Char,
    Ty::String,
];

/// Any type.
pub fn types() -> impl Strategy<Value = Ty> {
    let leaf = prop_oneof![
        8 => proptest::sample::select(&PLAIN[..]),
        // A case's number has one byte, or two.
        1 => prop_oneof![1..=9_usize, 255..=258_usize].prop_map(Ty::Enum),
        1 => (1..=32_usize).prop_map(Ty::Flags),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let optional = || proptest::option::of(boxed());
        let case = proptest::option::weighted(0.8, inner.clone());
        let padding = prop_oneof![9 => Just(0_usize), 1 => 250..=260_usize];
        let variant = (vec(case, 1..=5), padding).prop_map(|(mut cases, padding)| {
            cases.resize(cases.len() + padding, None);
            Ty::Variant(cases)
        });
        prop_oneof![
            3 => boxed().prop_map(Ty::List),
            2 => vec(inner.clone(), 1..=6).prop_map(Ty::Record),
            // More than are passed as WebAssembly's values.
            1 => vec(proptest::sample::select(&PLAIN[..]), 9..=20).prop_map(Ty::Record),
            2 => vec(inner.clone(), 1..=6).prop_map(Ty::Tuple),
            3 => variant,
            1 => boxed().prop_map(Ty::Option),
            2 => (optional(), optional()).prop_map(|(ok, err)| Ty::Result(ok, err)),
        ]
    })
}

fn text(large: bool) -> BoxedStrategy<Val> {
    let short = vec(any::<char>(), 0..12).prop_map(|text| text.into_iter().collect::<String>());
    // ASCII, Latin-1, two code units of UTF-16.
    let long = (proptest::sample::select(&['a', 'é', '界', '😀'][..]), 4000..80_000_usize);
    let long = long.prop_map(|(char, count)| char.to_string().repeat(count));
    let text = if large { prop_oneof![3 => short, 1 => long].boxed() } else { short.boxed() };
    text.prop_map(Val::String).boxed()
}

fn list(element: &Ty, large: bool) -> BoxedStrategy<Val> {
    if *element == Ty::U8 {
        let most = if large { 100_000_usize } else { 20 };
        let lens = prop_oneof![0..20_usize, 0..=most];
        let bytes = (any::<u8>(), lens)
            .prop_map(|(start, len)| (0..len).map(|at| (at * 7) as u8 ^ start).collect());
        return bytes.prop_map(Val::Bytes).boxed();
    }
    let short = vec(values(element, false), 0..6).prop_map(Val::List);
    if !large {
        return short.boxed();
    }
    let long = (values(element, false), 0..3000_usize);
    let long = long.prop_map(|(value, count)| Val::List(vec![value; count]));
    prop_oneof![3 => short, 1 => long].boxed()
}

fn payload(ty: Option<&Ty>, large: bool) -> BoxedStrategy<Option<Box<Val>>> {
    match ty {
        Some(ty) => values(ty, large).prop_map(|value| Some(Box::new(value))).boxed(),
        None => Just(None).boxed(),
    }
}

/// Values of a type. Large ones are not within lists.
pub fn values(ty: &Ty, large: bool) -> BoxedStrategy<Val> {
    let all = |types: &[Ty]| types.iter().map(|ty| values(ty, large)).collect::<Vec<_>>();
    let named = |value: Vec<Val>| {
        let named = value.into_iter().enumerate();
        Val::Record(named.map(|(at, value)| (format!("f{at}"), value)).collect())
    };
    match ty {
        Ty::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
        Ty::S8 => any::<i8>().prop_map(Val::S8).boxed(),
        Ty::U8 => any::<u8>().prop_map(Val::U8).boxed(),
        Ty::S16 => any::<i16>().prop_map(Val::S16).boxed(),
        Ty::U16 => any::<u16>().prop_map(Val::U16).boxed(),
        Ty::S32 => any::<i32>().prop_map(Val::S32).boxed(),
        Ty::U32 => any::<u32>().prop_map(Val::U32).boxed(),
        Ty::S64 => any::<i64>().prop_map(Val::S64).boxed(),
        Ty::U64 => any::<u64>().prop_map(Val::U64).boxed(),
        Ty::F32 => prop_oneof![any::<u32>(), Just(0x7f80_0001), Just(0xffff_ffff), Just(1 << 31)]
            .prop_map(|bits| Val::F32(f32::from_bits(bits)))
            .boxed(),
        Ty::F64 => prop_oneof![any::<u64>(), Just(0x7ff0 << 48 | 1), Just(u64::MAX), Just(1 << 63)]
            .prop_map(|bits| Val::F64(f64::from_bits(bits)))
            .boxed(),
        Ty::Char => any::<char>().prop_map(Val::Char).boxed(),
        Ty::String => text(large),
        Ty::List(element) => list(element, large),
        Ty::Record(types) => all(types).prop_map(named).boxed(),
        Ty::Tuple(types) => all(types).prop_map(Val::Tuple).boxed(),
        Ty::Variant(cases) => {
            let case = |(at, ty): (usize, &Option<Ty>)| {
                let named = move |value| Val::Variant(format!("c{at}"), value);
                payload(ty.as_ref(), large).prop_map(named).boxed()
            };
            let weighted = |at: usize| if at < 5 { 100 } else { 1 };
            let cases = cases.iter().enumerate();
            Union::new_weighted(cases.map(|case_| (weighted(case_.0), case(case_))).collect())
                .boxed()
        }
        Ty::Enum(count) => (0..*count).prop_map(|at| Val::Enum(format!("c{at}"))).boxed(),
        Ty::Option(of) => prop_oneof![1 => Just(None).boxed(), 3 => payload(Some(of), large)]
            .prop_map(Val::Option)
            .boxed(),
        Ty::Result(ok, err) => prop_oneof![
            payload(ok.as_deref(), large).prop_map(|value| Val::Result(Ok(value))),
            payload(err.as_deref(), large).prop_map(|value| Val::Result(Err(value))),
        ]
        .boxed(),
        Ty::Flags(count) => vec(any::<bool>(), *count)
            .prop_map(|set| {
                let set = set.iter().enumerate().filter(|(_, is_set)| **is_set);
                Val::Flags(set.map(|(at, _)| format!("c{at}")).collect())
            })
            .boxed(),
    }
}
