//! Values between the engine's form and the wire's.

use crate::State;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use sandgrain_abi::{HeapType, Value};
use wasmtime::{
    AnyRef, AsContextMut, Error, ExternRef, Func, HeapType as EngineHeapType, I31, Result, V128,
    Val, ValType,
};

/// The most functions that are kept for the host, which bounds what a guest that makes ever more
/// instances can use.
const MAX_FUNCTIONS: usize = 1 << 16;

/// Functions that the host has seen, each with one number for as long as the store lives.
#[derive(Default)]
pub(crate) struct Functions {
    list: Vec<Func>,
    /// By the engine's own address of each.
    numbers: BTreeMap<usize, u32>,
}

impl Functions {
    fn number(&mut self, function: Func, address: usize) -> Result<u32> {
        if let Some(number) = self.numbers.get(&address) {
            return Ok(*number);
        }
        if self.list.len() >= MAX_FUNCTIONS {
            return Err(Error::msg("more function references than the host may be given"));
        }
        let number = self.list.len() as u32;
        self.list.push(function);
        self.numbers.insert(address, number);
        Ok(number)
    }
}

/// The engine's form of `value`, where `ty` is asked for.
pub(crate) fn to_engine<E: 'static>(
    mut store: impl AsContextMut<Data = State<E>>,
    value: &Value,
    ty: &ValType,
) -> Result<Val> {
    Ok(match *value {
        Value::I32(value) => Val::I32(value),
        Value::I64(value) => Val::I64(value),
        Value::F32(bits) => Val::F32(bits),
        Value::F64(bits) => Val::F64(bits),
        Value::V128(bits) => Val::V128(V128::from(bits)),
        Value::Null(heap) => null(heap),
        Value::FuncRef(number) => {
            let functions = &store.as_context().data().functions;
            match functions.list.get(number as usize) {
                Some(function) => Val::FuncRef(Some(*function)),
                None => return Err(Error::msg("a function that was never given out")),
            }
        }
        Value::ExternRef(number) => {
            let external = ExternRef::new(&mut store, number)?;
            let internal =
                ty.as_ref().is_some_and(|ty| matches!(ty.heap_type().top(), EngineHeapType::Any));
            if internal {
                Val::AnyRef(Some(AnyRef::convert_extern(&mut store, external)?))
            } else {
                Val::ExternRef(Some(external))
            }
        }
        Value::I31(value) => {
            let value = I31::new_i32(value).ok_or_else(|| Error::msg("more than 31 bits"))?;
            Val::AnyRef(Some(AnyRef::from_i31(&mut store, value)))
        }
        Value::GcRef(_) => return Err(Error::msg("a reference to the guest's own heap")),
    })
}

fn null(heap: HeapType) -> Val {
    match heap {
        HeapType::Func | HeapType::ConcreteFunc | HeapType::NoFunc | HeapType::Cont => {
            Val::FuncRef(None)
        }
        HeapType::Extern | HeapType::NoExtern => Val::ExternRef(None),
        HeapType::Exn | HeapType::NoExn => Val::ExnRef(None),
        HeapType::Any
        | HeapType::ConcreteAny
        | HeapType::None
        | HeapType::Eq
        | HeapType::I31
        | HeapType::Struct
        | HeapType::Array => Val::AnyRef(None),
    }
}

/// The wire's form of `value`.
pub(crate) fn to_wire<E: 'static>(
    mut store: impl AsContextMut<Data = State<E>>,
    value: &Val,
) -> Result<Value> {
    Ok(match value {
        Val::I32(value) => Value::I32(*value),
        Val::I64(value) => Value::I64(*value),
        Val::F32(bits) => Value::F32(*bits),
        Val::F64(bits) => Value::F64(*bits),
        Val::V128(value) => Value::V128(value.as_u128()),
        Val::FuncRef(None) => Value::Null(HeapType::Func),
        Val::FuncRef(Some(function)) => {
            let address = function.to_raw(&mut store) as usize;
            let mut context = store.as_context_mut();
            let functions = &mut context.data_mut().functions;
            Value::FuncRef(functions.number(*function, address)?)
        }
        Val::ExternRef(None) => Value::Null(HeapType::Extern),
        Val::ExternRef(Some(reference)) => extern_value(&mut store, *reference)?,
        Val::AnyRef(None) => Value::Null(HeapType::Any),
        Val::AnyRef(Some(reference)) => any_value(&mut store, *reference)?,
        Val::ExnRef(None) => Value::Null(HeapType::Exn),
        Val::ExnRef(Some(_)) => Value::GcRef(HeapType::Exn),
        Val::ContRef(_) => Value::GcRef(HeapType::Cont),
    })
}

fn extern_value<E: 'static>(
    store: &mut impl AsContextMut<Data = State<E>>,
    reference: wasmtime::Rooted<ExternRef>,
) -> Result<Value> {
    let data = reference.data(store.as_context())?;
    Ok(match data.and_then(|data| data.downcast_ref::<u32>()) {
        Some(number) => Value::ExternRef(*number),
        None => Value::GcRef(HeapType::Extern),
    })
}

fn any_value<E: 'static>(
    store: &mut impl AsContextMut<Data = State<E>>,
    reference: wasmtime::Rooted<AnyRef>,
) -> Result<Value> {
    if let Some(value) = reference.as_i31(store.as_context())? {
        return Ok(Value::I31(value.get_i32()));
    }
    if reference.is_struct(store.as_context())? {
        return Ok(Value::GcRef(HeapType::Struct));
    }
    if reference.is_array(store.as_context())? {
        return Ok(Value::GcRef(HeapType::Array));
    }
    // An external value that was made internal.
    let external = ExternRef::convert_any(store.as_context_mut(), reference)?;
    extern_value(store, external)
}
