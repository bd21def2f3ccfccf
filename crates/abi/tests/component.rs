//! Components' values on their way: what is written is read again, and whatever a guest writes is read as a
//! value of the type or refused, within the budget.

#[path = "component/hostile.rs"]
mod hostile;
#[path = "component/mismatches.rs"]
mod mismatches;
#[path = "component/rust.rs"]
mod rust;
#[path = "component/shapes.rs"]
mod shapes;

use proptest::prelude::*;
use sandgrain_abi::component::{
    Attachment, ComponentInfo, Function, FunctionType, Payload, Reader, Type, Types, Val, Writer,
};
use sandgrain_abi::{DecodeError, Encode, Info};

/// What travels, and the attachments as the other side has them.
fn written(types: &Types, ty: Type, value: &Val) -> (Payload, Vec<Vec<u8>>) {
    let mut out = Writer::new();
    types.lower(value, ty, &mut out).expect("a value of its type");
    let (payload, attachments) = out.finish();
    let mut bytes = Vec::new();
    payload.encode_to(&mut bytes);
    (Payload::decode_from(&bytes).expect("what was encoded"), attachments)
}

fn read(
    types: &Types,
    ty: Type,
    (payload, attachments): &(Payload, Vec<Vec<u8>>),
    budget: usize,
) -> Result<Val, DecodeError> {
    let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
    let mut from = Reader::new(&payload.body, &attachments, &payload.resources, budget);
    let value = types.lift(ty, &mut from)?;
    from.finish()?;
    Ok(value)
}

/// How many bytes a value takes on the heap.
fn heap(value: &Val) -> usize {
    let boxed =
        |value: &Option<Box<Val>>| value.as_ref().map_or(0, |value| size_of::<Val>() + heap(value));
    let list = |values: &Vec<Val>| {
        values.capacity() * size_of::<Val>() + values.iter().map(heap).sum::<usize>()
    };
    match value {
        Val::String(text) | Val::Enum(text) => text.capacity(),
        Val::Bytes(bytes) => bytes.capacity(),
        Val::List(values) | Val::Tuple(values) => list(values),
        Val::Record(fields) => {
            let field = |(name, value): &(String, Val)| name.capacity() + heap(value);
            fields.capacity() * size_of::<(String, Val)>() + fields.iter().map(field).sum::<usize>()
        }
        Val::Variant(name, value) => name.capacity() + boxed(value),
        Val::Option(value) => boxed(value),
        Val::Result(Ok(value) | Err(value)) => boxed(value),
        Val::Flags(names) => {
            let text = names.iter().map(String::capacity).sum::<usize>();
            names.capacity() * size_of::<String>() + text
        }
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_read_again((types, ty, value) in shapes::typed_value(true)) {
        let sent = written(&types, ty, &value);
        let read = read(&types, ty, &sent, 1 << 20);
        let read = read.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(shapes::same(&read, &value), "{:?}", read);
    }

    /// Every byte is needed, and none may follow.
    #[test]
    fn what_is_cut_is_refused((types, ty, value) in shapes::typed_value(true)) {
        let (mut payload, attachments) = written(&types, ty, &value);
        let body = std::mem::take(&mut payload.body);
        for cut in 0..body.len() {
            payload.body = body[..cut].to_vec();
            prop_assert!(read(&types, ty, &(payload.clone(), attachments.clone()), 1 << 20).is_err());
        }
        payload.body = [&body[..], &[0]].concat();
        prop_assert!(read(&types, ty, &(payload, attachments), 1 << 20).is_err());
    }

    /// With exactly as much as it takes on the heap a value is read, and with less it is not.
    #[test]
    fn the_budget_is_what_a_value_takes((types, ty, value) in shapes::typed_value(true)) {
        let sent = written(&types, ty, &value);
        let taken = heap(&read(&types, ty, &sent, 1 << 20).expect("a value"));
        let (mut low, mut high) = (0, 1 << 20);
        while low < high {
            let middle = (low + high) / 2;
            match read(&types, ty, &sent, middle) {
                Ok(_) => high = middle,
                Err(_) => low = middle + 1,
            }
        }
        prop_assert!(taken <= high, "{} bytes with a budget of {}", taken, high);
    }

    #[test]
    fn what_is_known_of_a_component_travels((types, ty, _) in shapes::typed_value(true), name: String) {
        let function = Function {
            path: vec![name, "f".to_owned()],
            ty: FunctionType { params: vec![], result: Some(ty) },
        };
        let info = ComponentInfo {
            types,
            imports: vec![function.clone()],
            exports: vec![function.clone(), function],
            memories: vec![],
        };
        let mut bytes = Vec::new();
        info.encode_to(&mut bytes);
        let decoded = ComponentInfo::decode_from(&bytes);
        prop_assert_eq!(decoded.as_ref(), Ok(&info));
        for cut in 0..bytes.len() {
            prop_assert!(ComponentInfo::decode_from(&bytes[..cut]).is_err(), "cut to {} bytes", cut);
        }
        let info = Info::Component(info);
        let mut bytes = Vec::new();
        info.encode_to(&mut bytes);
        prop_assert_eq!(Info::decode_from(&bytes), Ok(info));
    }
}

#[test]
fn large_runs_are_attachments() {
    let mut types = Types::default();
    for element in [Type::U8, Type::S64, Type::Bool] {
        types.defs.push(sandgrain_abi::component::TypeDef::List(element));
    }
    let defined = Type::Defined;
    let cases = [
        (defined(0), Val::Bytes(vec![7; 100_000]), Some(100_000)),
        (defined(0), Val::Bytes(vec![7; 1_000]), None),
        (defined(1), Val::List(vec![Val::S64(-1); 5_000]), Some(40_000)),
        (defined(2), Val::List(vec![Val::Bool(true); 50_000]), None),
        (Type::String, Val::String("é".repeat(20_000)), Some(40_000)),
    ];
    for (ty, value, attached) in cases {
        let sent = written(&types, ty, &value);
        let lens: Vec<_> = sent.1.iter().map(Vec::len).collect();
        assert_eq!(lens, attached.into_iter().collect::<Vec<_>>());
        let expected = lens.iter().map(|len| Attachment::Sent { len: *len as u64 });
        assert_eq!(sent.0.attachments, expected.collect::<Vec<_>>());
        if attached.is_some() {
            assert!(sent.0.body.len() < 10, "{}", sent.0.body.len());
        }
        assert_eq!(read(&types, ty, &sent, 10 << 20), Ok(value));
    }
}

/// The guest sends its own as parts of its memory, also small ones.
#[test]
fn an_attachment_may_be_small() {
    let mut body = Writer::new();
    body.u8(1);
    body.u32(0);
    let sent = (body.finish().0, vec![b"small".to_vec()]);
    assert_eq!(
        read(&Types::default(), Type::String, &sent, 100),
        Ok(Val::String("small".to_owned()))
    );
}
