//! Values of random types, to a component and on to the host and back: in a VM, without one, and by the engine's own
//! dynamic values in this process. All three see the same.

mod text;
mod types;

use crate::support::{builder, vm};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sandgrain::component::Val;
use sandgrain::{Engine, Limits, Module, Sandbox};
use std::sync::{Arc, Mutex, OnceLock};
use types::{Ty, types, values};
use wasmtime::component::{self as engine, Component, Linker};

const HOST: &str = "test:random/host";

/// What a host function was called with, and what the call returned: for each value.
type Seen = Vec<(Val, Val)>;

/// What comes after a value: the host returns another one than it is called with.
fn next(at: usize, values: &[Val]) -> Val {
    values[(at + 1) % values.len()].clone()
}

fn limits() -> Limits {
    Limits::default().memory(64 << 20).call_bytes(1 << 30)
}

/// By the library.
fn by_sandbox(engine: &Engine, text: &str, values: &[Val]) -> Seen {
    let module = Module::new(engine, text.as_bytes());
    let module = module.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (saw, returns) = (Arc::clone(&seen), values.to_vec());
    let echo = move |args: &[Val]| {
        let mut saw = saw.lock().expect("no panic");
        saw.extend_from_slice(args);
        Ok(Some(next(saw.len() - 1, &returns)))
    };
    let sandbox = Sandbox::builder(&module).limits(limits());
    let mut sandbox =
        sandbox.component_function_values(HOST, "echo", echo).build().expect("a sandbox");
    let main = sandbox.main();
    let mut returned = Vec::new();
    for value in values {
        let result = sandbox.call_component_values(main, "echo", std::slice::from_ref(value));
        let result = result.unwrap_or_else(|error| panic!("{error}\n{text}"));
        returned.push(result.expect("a result"));
    }
    let seen = seen.lock().expect("no panic").clone();
    assert_eq!(seen.len(), values.len());
    seen.into_iter().zip(returned).collect()
}

/// By the engine itself.
fn by_wasmtime(text: &str, ty: &Ty, values: &[Val]) -> Seen {
    static ENGINE: OnceLock<wasmtime::Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(wasmtime::Engine::default);
    let bytes = wat::parse_str(text).expect("a text");
    let component = Component::new(engine, bytes).expect("a component");
    let mut linker = Linker::<Vec<engine::Val>>::new(engine);
    let returns: Vec<engine::Val> = values.iter().map(to_engine).collect();
    let given = returns.clone();
    let mut instance = linker.instance(HOST).expect("an instance");
    let echo = move |mut store: wasmtime::StoreContextMut<'_, Vec<engine::Val>>,
                     _: engine::types::ComponentFunc,
                     args: &[engine::Val],
                     results: &mut [engine::Val]| {
        let saw = store.data_mut();
        saw.extend_from_slice(args);
        results[0] = returns[saw.len() % returns.len()].clone();
        Ok(())
    };
    instance.func_new("echo", echo).expect("a function");
    let mut store = wasmtime::Store::new(engine, Vec::new());
    let instance = linker.instantiate(&mut store, &component).expect("an instance");
    let function = instance.get_func(&mut store, "echo").expect("a function");
    let mut returned = Vec::new();
    for value in given {
        let mut result = [engine::Val::Bool(false)];
        function.call(&mut store, &[value], &mut result).expect("a call");
        returned.push(from_engine(&result[0], ty));
    }
    store.data().iter().map(|value| from_engine(value, ty)).zip(returned).collect()
}

fn to_engine(value: &Val) -> engine::Val {
    use engine::Val as E;
    let boxed = |value: &Option<Box<Val>>| value.as_deref().map(|value| Box::new(to_engine(value)));
    match value {
        Val::Bool(value) => E::Bool(*value),
        Val::S8(value) => E::S8(*value),
        Val::U8(value) => E::U8(*value),
        Val::S16(value) => E::S16(*value),
        Val::U16(value) => E::U16(*value),
        Val::S32(value) => E::S32(*value),
        Val::U32(value) => E::U32(*value),
        Val::S64(value) => E::S64(*value),
        Val::U64(value) => E::U64(*value),
        Val::F32(value) => E::Float32(*value),
        Val::F64(value) => E::Float64(*value),
        Val::Char(value) => E::Char(*value),
        Val::String(value) => E::String(value.clone()),
        Val::Bytes(bytes) => E::List(bytes.iter().map(|byte| E::U8(*byte)).collect()),
        Val::List(items) => E::List(items.iter().map(to_engine).collect()),
        Val::Record(fields) => {
            E::Record(fields.iter().map(|(name, value)| (name.clone(), to_engine(value))).collect())
        }
        Val::Tuple(items) => E::Tuple(items.iter().map(to_engine).collect()),
        Val::Variant(case, value) => E::Variant(case.clone(), boxed(value)),
        Val::Enum(case) => E::Enum(case.clone()),
        Val::Option(value) => E::Option(boxed(value)),
        Val::Result(Ok(value)) => E::Result(Ok(boxed(value))),
        Val::Result(Err(value)) => E::Result(Err(boxed(value))),
        Val::Flags(set) => E::Flags(set.clone()),
        Val::HostResource(_) | Val::Resource(_) => panic!("there are no resources here"),
    }
}

/// By its type, since a list of no bytes does not tell what it is of.
fn from_engine(value: &engine::Val, ty: &Ty) -> Val {
    use engine::Val as E;
    let boxed = |value: &Option<Box<E>>, ty: Option<&Ty>| {
        value
            .as_deref()
            .map(|value| Box::new(from_engine(value, ty.expect("a case that has a value"))))
    };
    match (value, ty) {
        (E::Bool(value), Ty::Bool) => Val::Bool(*value),
        (E::S8(value), Ty::S8) => Val::S8(*value),
        (E::U8(value), Ty::U8) => Val::U8(*value),
        (E::S16(value), Ty::S16) => Val::S16(*value),
        (E::U16(value), Ty::U16) => Val::U16(*value),
        (E::S32(value), Ty::S32) => Val::S32(*value),
        (E::U32(value), Ty::U32) => Val::U32(*value),
        (E::S64(value), Ty::S64) => Val::S64(*value),
        (E::U64(value), Ty::U64) => Val::U64(*value),
        (E::Float32(value), Ty::F32) => Val::F32(*value),
        (E::Float64(value), Ty::F64) => Val::F64(*value),
        (E::Char(value), Ty::Char) => Val::Char(*value),
        (E::String(value), Ty::String) => Val::String(value.clone()),
        (E::List(items), Ty::List(element)) if **element == Ty::U8 => {
            let byte = |item: &E| match item {
                E::U8(byte) => *byte,
                other => panic!("{other:?} is no byte"),
            };
            Val::Bytes(items.iter().map(byte).collect())
        }
        (E::List(items), Ty::List(element)) => {
            Val::List(items.iter().map(|item| from_engine(item, element)).collect())
        }
        (E::Record(fields), Ty::Record(types)) => {
            let field =
                |((name, value), ty): (&(String, E), &Ty)| (name.clone(), from_engine(value, ty));
            Val::Record(fields.iter().zip(types).map(field).collect())
        }
        (E::Tuple(items), Ty::Tuple(types)) => {
            Val::Tuple(items.iter().zip(types).map(|(item, ty)| from_engine(item, ty)).collect())
        }
        (E::Variant(case, value), Ty::Variant(cases)) => {
            let at: usize = case[1..].parse().expect("a case's number");
            Val::Variant(case.clone(), boxed(value, cases[at].as_ref()))
        }
        (E::Enum(case), Ty::Enum(_)) => Val::Enum(case.clone()),
        (E::Option(value), Ty::Option(of)) => Val::Option(boxed(value, Some(of))),
        (E::Result(Ok(value)), Ty::Result(ok, _)) => Val::Result(Ok(boxed(value, ok.as_deref()))),
        (E::Result(Err(value)), Ty::Result(_, err)) => {
            Val::Result(Err(boxed(value, err.as_deref())))
        }
        (E::Flags(set), Ty::Flags(_)) => Val::Flags(set.clone()),
        (value, ty) => panic!("{value:?} is no {ty:?}"),
    }
}

/// Shortened, for a message.
fn shown(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take(2000).collect()
}

/// Whether they are the same, where every NaN is.
fn same(a: &impl std::fmt::Debug, b: &impl std::fmt::Debug) -> bool {
    // Floats are written so that each is told from each other one, except for NaNs.
    format!("{a:?}") == format!("{b:?}")
}

fn plain() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| builder().without_cache().build().expect("an engine"))
}

fn check(ty: &Ty, encoding: &str, values: &[Val]) {
    let text = text::component(ty, encoding);
    let expected: Seen =
        values.iter().enumerate().map(|(at, value)| (value.clone(), next(at, values))).collect();
    for (how, seen) in [
        ("wasmtime", by_wasmtime(&text, ty, values)),
        ("without a VM", by_sandbox(crate::support::reference(), &text, values)),
        ("in a VM", by_sandbox(plain(), &text, values)),
    ] {
        for (seen, expected) in seen.iter().zip(&expected) {
            assert!(
                same(&seen.0, &expected.0),
                "{how}, {encoding}: the host was passed\n{}\nin place of\n{}\n{text}",
                shown(&seen.0),
                shown(&expected.0)
            );
            assert!(
                same(&seen.1, &expected.1),
                "{how}, {encoding}: the call returned\n{}\nin place of\n{}\n{text}",
                shown(&seen.1),
                shown(&expected.1)
            );
        }
    }
}

const ENCODINGS: [&str; 3] = ["utf8", "utf16", "latin1+utf16"];

#[test]
fn values_of_random_types_pass_as_they_are() {
    let config = Config {
        cases: if crate::support::is_emulated() { 8 } else { 250 },
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let encoding = prop_oneof![4 => Just("utf8"), 1 => proptest::sample::select(&ENCODINGS[..])];
    let cases = (types(), encoding).prop_flat_map(|(ty, encoding)| {
        let values = proptest::collection::vec(values(&ty, true), 3);
        (Just(ty), Just(encoding), values)
    });
    let result = TestRunner::new(config).run(&cases, |(ty, encoding, values)| {
        check(&ty, encoding, &values);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    crate::support::works(vm());
}

#[test]
fn strings_pass_in_every_encoding() {
    let texts = [
        String::new(),
        "ASCII".to_owned(),
        "Latin-1: é, ÿ, \u{80}".to_owned(),
        "beyond: 界, 😀, é".to_owned(),
        "\0".to_owned(),
        "a".repeat(70_000),
        "é".repeat(70_000),
        format!("{}😀", "a".repeat(70_000)),
        "😀".repeat(70_000),
    ];
    let values = texts.map(Val::String);
    for encoding in ENCODINGS {
        check(&Ty::String, encoding, &values);
        let lists = Val::List(values.to_vec());
        check(&Ty::List(Box::new(Ty::String)), encoding, &[lists.clone(), lists]);
    }
}

#[test]
fn every_case_of_a_large_variant_passes() {
    let values: Vec<Val> = (0..300).map(|at| Val::Enum(format!("c{at}"))).collect();
    check(&Ty::Enum(300), "utf8", &values);
    check(&Ty::List(Box::new(Ty::Enum(300))), "utf8", &[Val::List(values)]);
}

#[test]
fn every_number_of_flags_passes() {
    for count in 1..=32 {
        let flag = |at| format!("c{at}");
        let all = Val::Flags((0..count).map(flag).collect());
        let last = Val::Flags(vec![flag(count - 1)]);
        let values = [all, last, Val::Flags(Vec::new())];
        check(&Ty::Flags(count), "utf8", &values);
        check(&Ty::List(Box::new(Ty::Flags(count))), "utf8", &[Val::List(values.to_vec())]);
    }
}
