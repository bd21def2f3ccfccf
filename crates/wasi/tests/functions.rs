//! The list of functions is the one that wasmtime-wasi exports.

use std::collections::BTreeMap;

use sandgrain_wasi::{Function, MODULE, ValueType, Wasi};
use wasmtime::{Engine, Extern, Linker, Store, ValType};
use wasmtime_wasi::WasiCtxBuilder;
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
    let mut store = Store::new(&engine, WasiCtxBuilder::new().build_p1());

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
