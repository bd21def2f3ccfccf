//! Instances, and what the host commands of them.

use crate::components::{self, Components};
use crate::report::{self, Aborted};
use crate::{Embedder, State, values};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use sandgrain_abi::message::Outcome;
use sandgrain_abi::{Command, HostReply, ImportSource, Value};
use wasmtime::{
    AsContextMut, Caller, Engine, Error, Extern, ExternType, Func, FuncType, Global, Instance,
    Result, RootScope, Store, StoreContextMut, StoreLimitsBuilder, Val,
};

/// How much a store may hold.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of each linear memory.
    pub memory: u64,
    /// Linear memories.
    pub memories: u64,
    /// Tables.
    pub tables: u64,
    /// Elements of each table.
    pub table_elements: u64,
    /// Instances.
    pub instances: u64,
}

/// Instances in one store, and what the host commands of them.
pub struct Instances<E: Embedder> {
    store: Store<State<E>>,
}

/// The store while it is used.
pub(crate) type Context<'a, E> = StoreContextMut<'a, State<E>>;

/// An instance, of either kind.
#[derive(Clone, Copy)]
pub(crate) enum Made {
    Module(Instance),
    Component(wasmtime::component::Instance),
}

impl<E> State<E> {
    /// Keeps an instance. Its number.
    pub(crate) fn made(&mut self, instance: Made) -> Outcome {
        self.instances.push(instance);
        Outcome::Instantiated((self.instances.len() - 1) as u32)
    }

    /// An instance by its number.
    pub(crate) fn instance(&self, number: u32) -> Result<Made> {
        let found = self.instances.get(number as usize).copied();
        found.ok_or_else(|| Error::msg(format!("no instance {number}")))
    }
}

fn limit(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl<E: Embedder> Instances<E> {
    /// No instances yet.
    pub fn new(engine: &Engine, sizes: Sizes, embedder: E) -> Self {
        let limits = StoreLimitsBuilder::new()
            .memory_size(limit(sizes.memory))
            .memories(limit(sizes.memories))
            .tables(limit(sizes.tables))
            .table_elements(limit(sizes.table_elements))
            .instances(limit(sizes.instances))
            .build();
        let mut store = Store::new(
            engine,
            State {
                limits,
                instances: Vec::new(),
                functions: values::Functions::default(),
                components: Components::default(),
                embedder,
            },
        );
        store.limiter(|state| &mut state.limits);
        Self { store }
    }

    /// The store.
    pub fn store(&self) -> &Store<State<E>> {
        &self.store
    }

    /// The store, to change.
    pub fn store_mut(&mut self) -> &mut Store<State<E>> {
        &mut self.store
    }

    /// Does what the host commands.
    pub fn execute(&mut self, command: Command) -> Outcome {
        execute(self.store.as_context_mut(), command)
    }
}

/// Does what the host commands: between calls, or in the middle of one.
pub fn execute<E: Embedder>(mut store: Context<'_, E>, command: Command) -> Outcome {
    let store = &mut store;
    let result = match command {
        Command::Instantiate { address, len, imports } => {
            instantiate(store, address, len, &imports)
        }
        Command::Call { instance, export, args } => call(store, instance, &export, &args),
        Command::GetGlobal { instance, export } => get_global(store, instance, &export),
        Command::SetGlobal { instance, export, value } => {
            set_global(store, instance, &export, &value)
        }
        Command::FindMemory { instance, export } => find_memory(store, instance, &export),
        Command::InstantiateComponent { address, len, imports } => {
            components::instantiate(store, address, len, &imports)
        }
        Command::CallComponent { instance, path, args, known } => {
            components::call(store, instance, &path, args, known)
        }
        Command::DropResource(number) => components::drop_resource(store, number),
        Command::Touch(ranges) => {
            store.data_mut().embedder.touch(&ranges);
            Ok(Outcome::Returned(Vec::new()))
        }
    };
    result.unwrap_or_else(|error| report::outcome(store, &error))
}

/// What the host answers a call with, once the guest has done what it was told first.
pub(crate) fn answered<E: Embedder>(
    store: &mut Context<'_, E>,
    mut reply: Result<HostReply, String>,
) -> Result<HostReply, String> {
    while let Ok(HostReply::Execute(command)) = reply {
        let outcome = execute(store.as_context_mut(), command);
        reply = E::done(outcome);
    }
    reply
}

fn instantiate<E: Embedder>(
    store: &mut Context<'_, E>,
    address: u64,
    len: u64,
    imports: &[ImportSource],
) -> Result<Outcome> {
    let engine = store.engine().clone();
    let module = store.data_mut().embedder.module(&engine, address, len)?;
    if module.imports().len() != imports.len() {
        return Err(Error::msg("a source for each import is needed"));
    }
    let mut externs = Vec::new();
    for (import, source) in module.imports().zip(imports) {
        externs.push(match source {
            ImportSource::Host(number) => match import.ty() {
                ExternType::Func(ty) => host_function(store, ty, *number).into(),
                _ => return Err(Error::msg("only functions come from the host")),
            },
            ImportSource::Instance { instance, export: name } => export(store, *instance, name)?,
        });
    }
    let instance = Instance::new(&mut *store, &module, &externs)?;
    Ok(store.data_mut().made(Made::Module(instance)))
}

fn export<E: Embedder>(store: &mut Context<'_, E>, instance: u32, name: &str) -> Result<Extern> {
    let Made::Module(found) = store.data().instance(instance)? else {
        return Err(Error::msg(format!("instance {instance} is one of a component")));
    };
    found.get_export(store, name).ok_or_else(|| Error::msg(format!("no export {name:?}")))
}

fn call<E: Embedder>(
    store: &mut Context<'_, E>,
    instance: u32,
    name: &str,
    args: &[Value],
) -> Result<Outcome> {
    let function = export(store, instance, name)?
        .into_func()
        .ok_or_else(|| Error::msg(format!("{name:?} is not a function")))?;
    // References live until the scope ends; without one they would live as long as the store.
    let mut scope = RootScope::new(store);
    let ty = function.ty(&scope);
    let mut engine_args = Vec::with_capacity(args.len());
    for (arg, ty) in args.iter().zip(ty.params()) {
        engine_args.push(values::to_engine(scope.as_context_mut(), arg, &ty)?);
    }
    let count = ty.results().len();
    let mut results = alloc::vec![Val::I32(0); count];
    function.call(scope.as_context_mut(), &engine_args, &mut results)?;
    let mut returned = Vec::with_capacity(count);
    for result in &results {
        returned.push(values::to_wire(scope.as_context_mut(), result)?);
    }
    Ok(Outcome::Returned(returned))
}

fn global<E: Embedder>(store: &mut Context<'_, E>, instance: u32, name: &str) -> Result<Global> {
    let found = export(store, instance, name)?.into_global();
    found.ok_or_else(|| Error::msg(format!("{name:?} is not a global")))
}

fn get_global<E: Embedder>(
    store: &mut Context<'_, E>,
    instance: u32,
    name: &str,
) -> Result<Outcome> {
    let global = global(store, instance, name)?;
    let mut scope = RootScope::new(store);
    let value = global.get(scope.as_context_mut());
    Ok(Outcome::Returned(alloc::vec![values::to_wire(scope.as_context_mut(), &value)?]))
}

fn set_global<E: Embedder>(
    store: &mut Context<'_, E>,
    instance: u32,
    name: &str,
    value: &Value,
) -> Result<Outcome> {
    let global = global(store, instance, name)?;
    let mut scope = RootScope::new(store);
    let ty = global.ty(&scope);
    let value = values::to_engine(scope.as_context_mut(), value, ty.content())?;
    global.set(scope.as_context_mut(), value)?;
    Ok(Outcome::Returned(Vec::new()))
}

fn find_memory<E: Embedder>(
    store: &mut Context<'_, E>,
    instance: u32,
    name: &str,
) -> Result<Outcome> {
    let found = export(store, instance, name)?
        .into_memory()
        .ok_or_else(|| Error::msg(format!("{name:?} is not a memory")))?;
    let number = E::memory_number(store, &found)
        .ok_or_else(|| Error::msg("a memory that is not the host's"))?;
    Ok(Outcome::Memory(number))
}

/// A function that asks the host.
fn host_function<E: Embedder>(store: &mut Context<'_, E>, ty: FuncType, number: u32) -> Func {
    let result_types: Vec<_> = ty.results().collect();
    Func::new(store, ty, move |mut caller, params, results| {
        let memory = caller.get_export("memory").and_then(Extern::into_memory);
        let args = to_wire(&mut caller, params)?;
        let reply = E::call_host(&mut caller, number, memory, args);
        match answered(&mut caller.as_context_mut(), reply) {
            Ok(HostReply::Values(values)) if values.len() == results.len() => {
                for ((result, value), ty) in results.iter_mut().zip(&values).zip(&result_types) {
                    *result = values::to_engine(caller.as_context_mut(), value, ty)?;
                }
                Ok(())
            }
            Ok(HostReply::Abort) => Err(Error::new(Aborted)),
            Ok(_) => Err(Error::msg("the host answered with something else")),
            Err(error) => Err(Error::msg(error)),
        }
    })
}

fn to_wire<E: Embedder>(caller: &mut Caller<'_, State<E>>, params: &[Val]) -> Result<Vec<Value>> {
    let mut args = Vec::with_capacity(params.len());
    for param in params {
        args.push(values::to_wire(caller.as_context_mut(), param)?);
    }
    Ok(args)
}
