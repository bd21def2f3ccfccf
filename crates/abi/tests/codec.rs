//! Whatever is encoded decodes to itself, and whatever bytes come, decoding ends with a value or an
//! error and allocates no more than the bytes can fill.

use proptest::prelude::*;
use sandgrain_abi::component::Payload;
use sandgrain_abi::message::{
    Ahead, Boot, Clock, Command, Fault, Frame, HostReply, ImportSource, Known, Outcome, PageRange,
    Request, Told, Trap, TrapCode,
};
use sandgrain_abi::types::{
    Export, ExternType, FuncType, GlobalType, HeapType, Import, MemoryType, ModuleInfo, TableType,
    ValType,
};
use sandgrain_abi::{Encode, Value};
use std::fmt::Debug;

fn round_trip<T: Encode + PartialEq + Debug>(value: &T) {
    let mut bytes = Vec::new();
    value.encode_to(&mut bytes);
    assert_eq!(T::decode_from(&bytes).as_ref(), Ok(value));
    // Every byte is needed, and none may follow.
    for cut in 0..bytes.len() {
        assert!(T::decode_from(&bytes[..cut]).is_err(), "{value:?} cut to {cut} bytes");
    }
    bytes.push(0);
    assert!(T::decode_from(&bytes).is_err(), "{value:?} with a byte too many");
}

fn heap_type() -> impl Strategy<Value = HeapType> {
    prop::sample::select(vec![
        HeapType::Func,
        HeapType::Extern,
        HeapType::Any,
        HeapType::Exn,
        HeapType::ConcreteFunc,
        HeapType::ConcreteAny,
        HeapType::Cont,
        HeapType::NoFunc,
        HeapType::NoExtern,
        HeapType::None,
        HeapType::NoExn,
        HeapType::Eq,
        HeapType::I31,
        HeapType::Struct,
        HeapType::Array,
    ])
}

fn val_type() -> impl Strategy<Value = ValType> {
    prop_oneof![
        Just(ValType::I32),
        Just(ValType::I64),
        Just(ValType::F32),
        Just(ValType::F64),
        Just(ValType::V128),
        (any::<bool>(), heap_type()).prop_map(|(nullable, heap)| ValType::Ref { nullable, heap }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i32>().prop_map(Value::I32),
        any::<i64>().prop_map(Value::I64),
        any::<u32>().prop_map(Value::F32),
        any::<u64>().prop_map(Value::F64),
        any::<u128>().prop_map(Value::V128),
        heap_type().prop_map(Value::Null),
        any::<u32>().prop_map(Value::FuncRef),
        any::<u32>().prop_map(Value::ExternRef),
        any::<i32>().prop_map(Value::I31),
        heap_type().prop_map(Value::GcRef),
    ]
}

fn values() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(value(), 0..5)
}

fn text() -> impl Strategy<Value = String> {
    ".{0,8}"
}

fn command() -> impl Strategy<Value = Command> {
    let source = prop_oneof![
        any::<u32>().prop_map(ImportSource::Host),
        (any::<u32>(), text())
            .prop_map(|(instance, export)| ImportSource::Instance { instance, export }),
    ];
    prop_oneof![
        (any::<u64>(), any::<u64>(), prop::collection::vec(source, 0..4))
            .prop_map(|(address, len, imports)| Command::Instantiate { address, len, imports }),
        (any::<u32>(), text(), values()).prop_map(|(instance, export, args)| Command::Call {
            instance,
            export,
            args
        }),
        (any::<u32>(), text())
            .prop_map(|(instance, export)| Command::GetGlobal { instance, export }),
        (any::<u32>(), text(), value()).prop_map(|(instance, export, value)| Command::SetGlobal {
            instance,
            export,
            value
        }),
        (any::<u32>(), text())
            .prop_map(|(instance, export)| Command::FindMemory { instance, export }),
        prop::collection::vec((any::<u64>(), any::<u32>(), any::<bool>()), 0..9).prop_map(
            |ranges| {
                let range = |(address, pages, write)| PageRange { address, pages, write };
                Command::Touch(ranges.into_iter().map(range).collect())
            }
        ),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    (
        prop::option::of(text()),
        any::<u32>(),
        prop::option::of(text()),
        prop::option::of(any::<u32>()),
    )
        .prop_map(|(module, function, name, offset)| Frame { module, function, name, offset })
}

fn request() -> impl Strategy<Value = Request> {
    let fault = prop_oneof![
        text().prop_map(|message| Fault::Wasm { code: TrapCode::Unreachable, message }),
        Just(Fault::Host),
    ];
    let outcome = prop_oneof![
        any::<u32>().prop_map(Outcome::Instantiated),
        values().prop_map(Outcome::Returned),
        any::<u32>().prop_map(Outcome::Memory),
        (fault, prop::collection::vec(frame(), 0..4))
            .prop_map(|(fault, frames)| Outcome::Trapped(Trap { fault, frames })),
        text().prop_map(Outcome::Refused),
        text().prop_map(Outcome::Limited),
    ];
    prop_oneof![
        Just(Request::Ready),
        outcome.prop_map(Request::Done),
        (any::<u32>(), prop::option::of(any::<u32>()), values())
            .prop_map(|(function, memory, args)| Request::HostCall { function, memory, args }),
        (any::<u64>(), prop::option::of(any::<u64>()))
            .prop_map(|(size, maximum)| Request::CreateMemory { size, maximum }),
        (any::<u32>(), any::<u64>())
            .prop_map(|(memory, size)| Request::GrowMemory { memory, size }),
        any::<u64>().prop_map(|size| Request::GrowHeap { size }),
        text().prop_map(Request::Panic),
        Just(Request::Fault),
    ]
}

fn reply() -> impl Strategy<Value = HostReply> {
    prop_oneof![
        values().prop_map(HostReply::Values),
        Just(HostReply::Abort),
        (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(memory, address, capacity)| {
            HostReply::Memory { memory, address, capacity }
        }),
        Just(HostReply::Grown),
        any::<u64>().prop_map(|size| HostReply::Heap { size }),
        text().prop_map(HostReply::Refused),
        command().prop_map(HostReply::Execute),
        (bytes(), told()).prop_map(|(body, told)| HostReply::ComponentTold {
            result: Payload { body, ..Payload::default() },
            told,
        }),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..20)
}

fn told() -> impl Strategy<Value = Told> {
    let known = (any::<u32>(), bytes(), bytes()).prop_map(|(function, args, result)| Known {
        function,
        args,
        result,
    });
    let ahead = (bytes(), any::<bool>()).prop_map(|(bytes, is_closed)| Ahead { bytes, is_closed });
    let clock = (any::<u64>(), any::<u64>()).prop_map(|(now, rate)| Clock { now, rate });
    (prop::collection::vec(known, 0..4), prop::option::of(ahead), bytes(), prop::option::of(clock))
        .prop_map(|(known, ahead, random, clock)| Told { known, ahead, random, clock })
}

fn func_type() -> impl Strategy<Value = FuncType> {
    let types = || prop::collection::vec(val_type(), 0..4);
    (types(), types()).prop_map(|(params, results)| FuncType { params, results })
}

proptest! {
    #[test]
    fn commands_round_trip(command in command()) {
        round_trip(&command);
    }

    #[test]
    fn requests_round_trip(request in request()) {
        round_trip(&request);
    }

    #[test]
    fn replies_round_trip(reply in reply()) {
        round_trip(&reply);
    }

    #[test]
    fn function_types_round_trip(ty in func_type()) {
        round_trip(&ty);
    }

    #[test]
    fn hostile_bytes_end_in_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // Tags are small numbers: make them likely.
        for first in 0..11 {
            let mut bytes = bytes.clone();
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            let _ = Command::decode_from(&bytes);
            let _ = Request::decode_from(&bytes);
            let _ = HostReply::decode_from(&bytes);
            let _ = ModuleInfo::decode_from(&bytes);
            let _ = Boot::decode_from(&bytes);
        }
    }
}

#[test]
fn module_infos_round_trip() {
    let func = FuncType { params: vec![ValType::I32, ValType::V128], results: vec![ValType::F64] };
    let memory = MemoryType {
        minimum: 1,
        maximum: Some(3),
        page_size: 65_536,
        memory64: true,
        shared: false,
    };
    let import = |ty| Import { module: "m".into(), name: "n".into(), ty };
    let nullable = ValType::Ref { nullable: true, heap: HeapType::Func };
    round_trip(&ModuleInfo {
        name: Some("name".into()),
        imports: vec![
            import(ExternType::Func(func.clone())),
            import(ExternType::Memory(memory)),
            import(ExternType::Tag(func)),
        ],
        exports: vec![Export {
            name: String::new(),
            ty: ExternType::Global(GlobalType { value: nullable, mutable: true }),
        }],
        memories: vec![memory],
        has_start: true,
    });
}

#[test]
fn tables_round_trip() {
    let element = ValType::Ref { nullable: false, heap: HeapType::Extern };
    round_trip(&TableType { element, minimum: 1, maximum: None });
}

#[test]
fn a_list_longer_than_its_message_is_refused_before_it_is_filled() {
    let mut bytes = vec![0]; // HostReply::Values
    bytes.extend(u32::MAX.to_le_bytes());
    let error = HostReply::decode_from(&bytes).unwrap_err();
    assert!(error.to_string().contains("fits into its message"), "{error}");
}

#[test]
fn pairs_digests_and_ranges_round_trip() {
    round_trip(&(7u32, "name".to_owned()));
    round_trip(&[3u8; 32]);
    round_trip(&(0..u64::MAX));
    round_trip(&(5u64..5));
    let mut backwards = Vec::new();
    (6u64, 5u64).encode_to(&mut backwards);
    std::ops::Range::<u64>::decode_from(&backwards).expect_err("it ends before it starts");
}

#[test]
fn names_must_be_utf8() {
    let bytes = [2, 0, 0, 0, 0, 1, 0, 0, 0, 0xff]; // Command::GetGlobal
    assert!(Command::decode_from(&bytes).is_err());
}
