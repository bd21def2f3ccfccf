//! The list of functions is the one that wasmtime-wasi exports.

use std::collections::BTreeMap;

use sandgrain_wasi::{Error, Function, MODULE, Output, Reply, Stream, ValueType, Wasi, WasiConfig};
use wasmtime::{Engine, Extern, Linker, Module, Store, ValType};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_sync};

fn types(types: impl Iterator<Item = ValType>) -> Vec<ValueType> {
    types
        .map(|value| match value {
            ValType::I32 => ValueType::I32,
            ValType::I64 => ValueType::I64,
            other => panic!("preview 1 has no {other}"),
        })
        .collect()
}

#[test]
fn list_is_complete_and_typed() {
    let engine = Engine::default();
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    add_to_linker_sync(&mut linker, |context| context).unwrap();
    let (context, _) = Wasi::build_context(&WasiConfig::new()).unwrap();
    let mut store = Store::new(&engine, context);

    let items: Vec<_> = linker
        .iter(&mut store)
        .map(|(module, name, item)| (module.to_owned(), name.to_owned(), item))
        .collect();
    let mut theirs = BTreeMap::new();
    for (module, name, item) in items {
        let Extern::Func(function) = item else { continue };
        assert_eq!(module, MODULE);
        let ty = function.ty(&store);
        theirs.insert(name, (types(ty.params()), types(ty.results())));
    }
    let ours: BTreeMap<_, _> = Function::all()
        .map(|f| (f.name().to_owned(), (f.params().to_vec(), f.results().to_vec())))
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), Function::all().len(), "no name twice");
}

#[test]
fn lookup_and_numbers_agree() {
    for function in Function::all() {
        assert_eq!(Wasi::lookup(function.name()), Some(function));
        assert_eq!(Function::from_index(function.index()), Some(function));
    }
    assert_eq!(Wasi::lookup("fd_writev"), None);
    assert_eq!(Wasi::lookup(""), None);
    assert_eq!(Function::from_index(Function::all().len() as u16), None);
    assert_eq!(Function::from_index(u16::MAX), None);
}

/// Runs a program in wasmtime itself, with a context from the same configuration.
fn reference(config: &WasiConfig, body: &str) -> (Result<Reply, Error>, sandgrain_wasi::Streams) {
    let text = format!(
        r#"(module
            (import "{MODULE}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "{MODULE}" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\08\00\00\00\05\00\00\00hello")
            (func (export "_start") {body}))"#
    );
    let engine = Engine::default();
    let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    add_to_linker_sync(&mut linker, |context| context).unwrap();
    let (context, streams) = Wasi::build_context(config).unwrap();
    let mut store = Store::new(&engine, context);
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
    let outcome = match start.call(&mut store, ()) {
        Ok(()) => Ok(Reply::Value(0)),
        Err(error) => Wasi::outcome(error),
    };
    (outcome, streams)
}

const WRITE: &str = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))";

#[test]
fn reference_engine_captures_and_exits_alike() {
    let config = WasiConfig::new().stdout(Output::Capture);
    let (outcome, streams) = reference(&config, &format!("{WRITE} (call $exit (i32.const 42))"));
    assert_eq!(outcome.unwrap(), Reply::Exit(42));
    assert_eq!(&streams.stdout()[..], b"hello");

    let (outcome, _) = reference(&config, "(call $exit (i32.const 255))");
    assert!(matches!(outcome, Err(Error::Trap(_))), "{outcome:?}");
}

#[test]
fn reference_engine_has_the_same_limit() {
    let config = WasiConfig::new().stdout(Output::Capture).output_limits(8, 0);
    let (outcome, streams) = reference(&config, &format!("{WRITE} {WRITE} {WRITE}"));
    assert!(
        matches!(outcome, Err(Error::OutputLimit { stream: Stream::Stdout, limit: 8 })),
        "{outcome:?}"
    );
    assert_eq!(&streams.stdout()[..], b"hellohel");
    assert!(streams.limit_exceeded(Stream::Stdout));
}
