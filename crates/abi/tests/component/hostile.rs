//! Bytes that no honest guest writes.

use super::{heap, read, shapes, written};
use proptest::prelude::*;
use sandgrain_abi::Encode;
use sandgrain_abi::component::{
    ComponentInfo, Field, Payload, Reader, ResourceHandle, Type, TypeDef, Types, Writer,
};

const BUDGET: usize = 4096;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(vec![0, 1, 2, 0x7f, 0x80, 0xff]), any::<u8>(),];
    prop::collection::vec(byte, 0..80)
}

/// Changes some bytes.
fn change(bytes: &mut [u8], changes: &[(usize, u8)]) {
    for (at, value) in changes {
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = *value;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes_are_a_value_within_the_budget_or_refused(
        (types, ty, _) in shapes::typed_value(true),
        body in bytes(),
        run in bytes(),
    ) {
        let resources = vec![ResourceHandle { number: 1, owned: true }];
        let payload = Payload { body, attachments: vec![], resources };
        if let Ok(value) = read(&types, ty, &(payload, vec![run]), BUDGET) {
            prop_assert!(heap(&value) <= BUDGET, "{} bytes", heap(&value));
            // It is of the type, whatever the guest meant.
            let again = written(&types, ty, &owned(value.clone()));
            let again = read(&types, ty, &again, 1 << 20).expect("its own value");
            prop_assert!(shapes::same(&owned(again), &owned(value)));
        }
    }

    #[test]
    fn changed_bytes_are_a_value_within_the_budget_or_refused(
        (types, ty, value) in shapes::typed_value(true),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let (mut payload, attachments) = written(&types, ty, &value);
        change(&mut payload.body, &changes);
        if let Ok(value) = read(&types, ty, &(payload, attachments), BUDGET) {
            prop_assert!(heap(&value) <= BUDGET);
        }
    }

    #[test]
    fn changed_descriptions_are_sound_or_refused(
        (types, ty, value) in shapes::typed_value(true),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let mut info = ComponentInfo { types, ..ComponentInfo::default() };
        info.exports.push(sandgrain_abi::component::Function {
            path: vec!["f".to_owned()],
            ty: sandgrain_abi::component::FunctionType { params: vec![], result: Some(ty) },
        });
        let mut bytes = Vec::new();
        info.encode_to(&mut bytes);
        change(&mut bytes, &changes);
        if let Ok(info) = ComponentInfo::decode_from(&bytes) {
            // What goes through the types comes to an end.
            for function in &info.exports {
                let _ = info.types.display_function(&function.ty).to_string();
                if let Some(ty) = function.ty.result {
                    let _ = info.types.lower(&value, ty, &mut Writer::new());
                    let _ = info.types.lift(ty, &mut Reader::new(&[0; 64], &[], &[], BUDGET));
                }
            }
        }
    }

    #[test]
    fn payloads_of_random_bytes_are_payloads_or_refused(bytes in bytes()) {
        if let Ok(payload) = Payload::decode_from(&bytes) {
            let mut again = Vec::new();
            payload.encode_to(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

/// The guest says whether ownership of its resources goes with them, whatever the type says. What is to be
/// written again must own what it gives away.
fn owned(value: super::Val) -> super::Val {
    use super::Val;
    let boxed = |value: Option<Box<Val>>| value.map(|value| Box::new(owned(*value)));
    match value {
        Val::Resource(handle) => Val::Resource(ResourceHandle { owned: true, ..handle }),
        Val::List(values) => Val::List(values.into_iter().map(owned).collect()),
        Val::Tuple(values) => Val::Tuple(values.into_iter().map(owned).collect()),
        Val::Record(fields) => {
            Val::Record(fields.into_iter().map(|(name, value)| (name, owned(value))).collect())
        }
        Val::Variant(name, value) => Val::Variant(name, boxed(value)),
        Val::Option(value) => Val::Option(boxed(value)),
        Val::Result(value) => Val::Result(value.map(boxed).map_err(boxed)),
        other => other,
    }
}

/// The message of the error for a body.
fn refused(types: &Types, ty: Type, body: &[u8], budget: usize) -> (String, bool) {
    let mut from = Reader::new(body, &[], &[], budget);
    let error = types.lift(ty, &mut from).expect_err("hostile");
    (error.to_string(), from.is_over_budget())
}

#[test]
fn counts_that_lie_are_refused_before_anything_is_allocated() {
    let types = Types {
        defs: vec![
            TypeDef::List(Type::String),
            TypeDef::FixedList(Type::U64, u32::MAX),
            TypeDef::List(Type::U32),
            TypeDef::FixedList(Type::U8, u32::MAX),
        ],
        resources: vec![],
    };
    let defined = Type::Defined;
    let (said, over) = refused(&types, defined(0), &[0xff; 8], usize::MAX);
    assert!(said.contains("a list that fits into its message") && !over, "{said}");
    for ty in [defined(1), defined(3)] {
        let (said, over) = refused(&types, ty, &[0; 64], 1 << 20);
        assert!(said.contains("limit of one call") && over, "{said}");
    }
    // A run that goes past the end, one that is no attachment, and one of half a number.
    assert!(!refused(&types, Type::String, &[0, 0xff, 0xff, 0xff, 0xff, 1], 1 << 20).1);
    let (said, _) = refused(&types, Type::String, &[1, 0, 0, 0, 0], 1 << 20);
    assert!(said.contains("an attachment that there is"), "{said}");
    let (said, _) = refused(&types, defined(2), &[0, 3, 0, 0, 0, 1, 2, 3], 1 << 20);
    assert!(said.contains("whole numbers"), "{said}");
    // Honest counts that are too much.
    let many = [&[200, 0, 0, 0][..], &[0; 1000]].concat();
    let (_, over) = refused(&types, defined(0), &many, 199 * size_of::<super::Val>());
    assert!(over);
}

#[test]
fn values_that_there_are_not_are_refused() {
    let field = |name: &str| Field { name: name.to_owned(), ty: Type::Bool };
    let types = Types {
        defs: vec![
            TypeDef::Enum(vec!["a".to_owned()]),
            TypeDef::Flags((0..9).map(|at| format!("f{at}")).collect()),
            TypeDef::Option(Type::Bool),
            TypeDef::Record(vec![field("x"), field("y")]),
        ],
        resources: shapes::resources(),
    };
    for (ty, body, words) in [
        (Type::Bool, &[2][..], "a boolean"),
        (Type::Char, &[0, 0xd8, 0, 0], "a character"),
        (Type::Char, &[0, 0, 0x11, 0], "a character"),
        (Type::String, &[0, 1, 0, 0, 0, 0xff], "UTF-8"),
        (Type::Defined(0), &[1, 0, 0, 0], "a case of an enum"),
        (Type::Defined(1), &[0, 2], "flags that there are"),
        (Type::Defined(2), &[3], "a boolean"),
        (Type::Defined(3), &[1], "a number"),
        (Type::Own(1), &[0, 0, 0, 0], "a resource that there is"),
        (Type::Defined(9), &[0], "a type that there is"),
    ] {
        let (said, _) = refused(&types, ty, body, 1 << 20);
        assert!(said.contains(words), "{ty:?}: {said}");
    }
}

fn decodes(defs: Vec<TypeDef>) -> bool {
    let types = Types { defs, resources: shapes::resources() };
    let mut bytes = Vec::new();
    types.encode_to(&mut bytes);
    let decoded = Types::decode_from(&bytes);
    assert!(decoded.as_ref().is_ok_and(|decoded| *decoded == types) || decoded.is_err());
    decoded.is_ok()
}

#[test]
fn types_that_contain_themselves_are_refused() {
    assert!(decodes(vec![TypeDef::List(Type::Own(1))]));
    assert!(!decodes(vec![TypeDef::List(Type::Own(2))]));
    assert!(!decodes(vec![TypeDef::List(Type::Defined(0))]));
    assert!(!decodes(vec![TypeDef::Option(Type::Defined(1)), TypeDef::List(Type::U8)]));
}

/// Whoever makes an artifact can make these; nothing that goes through them is to overflow the stack or last
/// forever.
#[test]
fn types_that_are_too_deep_or_too_large_are_refused() {
    let chain = |levels: u32, next: &dyn Fn(Type) -> TypeDef| {
        let first = TypeDef::List(Type::U8);
        let rest = (0..levels).map(|level| next(Type::Defined(level)));
        decodes(std::iter::once(first).chain(rest).collect())
    };
    assert!(chain(98, &TypeDef::List));
    assert!(!chain(99, &TypeDef::List));
    assert!(!chain(100_000, &TypeDef::Option));
    let twice = |ty| TypeDef::Tuple(vec![ty, ty]);
    assert!(chain(15, &twice));
    assert!(!chain(25, &twice));
    assert!(!chain(98, &twice));
    let result = |ty| TypeDef::Result { ok: Some(ty), err: Some(ty) };
    assert!(!chain(40, &result));
}
