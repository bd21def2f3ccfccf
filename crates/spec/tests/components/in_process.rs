//! The engine in this process.

use crate::platform::{Failure, Platform};
use sandgrain::compile::{self, Compiler, Settings};
use sandgrain_abi::component::{ComponentInfo, Function, Val};
use std::sync::Arc;
use wasmtime::component::{self, Linker};
use wasmtime::{Engine, Store};

/// Runs components that this crate's compiler describes with the engine as it is configured for VMs.
pub struct InProcess {
    compiler: Compiler,
    engine: Engine,
}

#[derive(Clone)]
pub struct Component {
    info: Arc<ComponentInfo>,
    component: component::Component,
}

pub struct Instance {
    store: Store<()>,
    instance: component::Instance,
    /// Whether a call has failed. The engine itself remembers that only of WebAssembly's traps.
    has_trapped: bool,
}

impl InProcess {
    pub fn new() -> Result<Self, String> {
        let compiler = Compiler::new(&Settings::default()).map_err(|error| error.to_string())?;
        let engine =
            Engine::new(&compile::engine_config(&[])).map_err(|error| error.to_string())?;
        Ok(Self { compiler, engine })
    }
}

impl Platform for InProcess {
    type Component = Component;
    type Instance = Instance;

    fn compile(&self, wasm_or_wat: &[u8]) -> Result<Component, Failure> {
        let wasm = self.compiler.to_wasm(wasm_or_wat).map_err(Failure::Refused)?;
        let info = self.compiler.check(&wasm).map_err(Failure::Refused)?;
        let info = info.component().ok_or(Failure::Refused(compile::Error::IsModule))?;
        let component = component::Component::new(&self.engine, &wasm).map_err(|error| {
            Failure::Refused(compile::Error::Compile { message: format!("{error:#}") })
        })?;
        // What the host lays out a VM for is what the engine will ask for.
        let memories = component.resources_required().map(|required| required.num_memories);
        if memories != u32::try_from(info.memories.len()).ok() {
            let found = info.memories.len();
            return Err(Failure::Other(format!("{found} memories, not {memories:?}")));
        }
        Ok(Component { info: Arc::new(info.clone()), component })
    }

    fn info<'a>(&self, component: &'a Component) -> &'a ComponentInfo {
        &component.info
    }

    fn instantiate(&self, component: &Component) -> Result<Instance, Failure> {
        let mut store = Store::new(&self.engine, ());
        let ready = Linker::new(&self.engine).instantiate_pre(&component.component);
        let ready = ready.map_err(|error| Failure::Unlinkable(format!("{error:#}")))?;
        let instance = ready.instantiate(&mut store);
        instance.map(|instance| Instance { store, instance, has_trapped: false }).map_err(failure)
    }

    fn call(
        &self,
        instance: &mut Instance,
        function: &Function,
        args: &[Val],
    ) -> Result<Option<Val>, Failure> {
        let Instance { store, instance, has_trapped } = instance;
        if *has_trapped {
            return Err(Failure::Trap(wasmtime::Trap::CannotEnterComponent.to_string()));
        }
        let mut export = None;
        for name in &function.path {
            export = instance.get_export_index(&mut *store, export.as_ref(), name);
        }
        let missing = || Failure::Other(format!("{:?} is not there", function.path));
        let callee = export.and_then(|export| instance.get_func(&mut *store, export));
        let callee = callee.ok_or_else(missing)?;
        let args: Vec<_> = args.iter().map(to_engine).collect::<Result<_, _>>()?;
        let mut results =
            vec![component::Val::Bool(false); usize::from(function.ty.result.is_some())];
        let called = callee.call(&mut *store, &args, &mut results);
        *has_trapped = called.is_err();
        called.map_err(failure)?;
        results.into_iter().next().map(from_engine).transpose()
    }
}

fn failure(error: wasmtime::Error) -> Failure {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => Failure::Trap(trap.to_string()),
        // What the component model's own rules are broken by is no trap's code.
        None => Failure::Trap(error.root_cause().to_string()),
    }
}

fn to_engine(val: &Val) -> Result<component::Val, Failure> {
    use component::Val as E;
    let each = |values: &[Val]| values.iter().map(to_engine).collect::<Result<Vec<_>, _>>();
    let boxed = |value: &Option<Box<Val>>| {
        value.as_ref().map(|value| to_engine(value).map(Box::new)).transpose()
    };
    Ok(match val {
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
        Val::Bytes(bytes) => E::List(bytes.iter().copied().map(E::U8).collect()),
        Val::List(values) => E::List(each(values)?),
        Val::Record(fields) => {
            let field = |(name, value): &(String, Val)| Ok((name.clone(), to_engine(value)?));
            E::Record(fields.iter().map(field).collect::<Result<_, _>>()?)
        }
        Val::Tuple(values) => E::Tuple(each(values)?),
        Val::Variant(name, value) => E::Variant(name.clone(), boxed(value)?),
        Val::Enum(name) => E::Enum(name.clone()),
        Val::Option(value) => E::Option(boxed(value)?),
        Val::Result(Ok(value)) => E::Result(Ok(boxed(value)?)),
        Val::Result(Err(value)) => E::Result(Err(boxed(value)?)),
        Val::Flags(names) => E::Flags(names.clone()),
        Val::HostResource(_) | Val::Resource(_) => {
            return Err(Failure::Other("a script has no handles".to_owned()));
        }
    })
}

fn from_engine(val: component::Val) -> Result<Val, Failure> {
    use component::Val as E;
    let boxed =
        |value: Option<Box<E>>| value.map(|value| from_engine(*value).map(Box::new)).transpose();
    let each = |values: Vec<E>| values.into_iter().map(from_engine).collect::<Result<Vec<_>, _>>();
    Ok(match val {
        E::Bool(value) => Val::Bool(value),
        E::S8(value) => Val::S8(value),
        E::U8(value) => Val::U8(value),
        E::S16(value) => Val::S16(value),
        E::U16(value) => Val::U16(value),
        E::S32(value) => Val::S32(value),
        E::U32(value) => Val::U32(value),
        E::S64(value) => Val::S64(value),
        E::U64(value) => Val::U64(value),
        E::Float32(value) => Val::F32(value),
        E::Float64(value) => Val::F64(value),
        E::Char(value) => Val::Char(value),
        E::String(value) => Val::String(value),
        E::List(values) => Val::List(each(values)?),
        E::Record(fields) => {
            let field = |(name, value)| Ok((name, from_engine(value)?));
            Val::Record(fields.into_iter().map(field).collect::<Result<_, _>>()?)
        }
        E::Tuple(values) => Val::Tuple(each(values)?),
        E::Variant(name, value) => Val::Variant(name, boxed(value)?),
        E::Enum(name) => Val::Enum(name),
        E::Option(value) => Val::Option(boxed(value)?),
        E::Result(Ok(value)) => Val::Result(Ok(boxed(value)?)),
        E::Result(Err(value)) => Val::Result(Err(boxed(value)?)),
        E::Flags(names) => Val::Flags(names),
        other => return Err(Failure::Other(format!("a script has no such value: {other:?}"))),
    })
}
