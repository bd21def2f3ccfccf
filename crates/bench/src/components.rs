//! Calls of components, beside the same calls in this process.

use crate::report::Goal;
use crate::{Group, Member, Scale, Timed, host_error};
use sandgrain::component::Val;
use sandgrain::{Engine, Limits, Module, Result, Sandbox};
use std::time::{Duration, Instant};
use wasmtime::component::{self, Linker};

/// Returns what it is called with.
const COMPONENT: &str = r#"(component
    (import "bench:host/all" (instance $host
        (type $fields' (record FIELDS))
        (export "fields" (type $fields (eq $fields')))
        (export "number" (func (param "n" u32) (result u32)))))
    (alias export $host "fields" (type $fields))
    (alias export $host "number" (func $number))
    (core func $number' (canon lower (func $number)))
    (core module $code
        (import "host" "number" (func $number (param i32) (result i32)))
        (memory (export "memory") 64)
        (global $next (mut i32) (i32.const 1024))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get 3)))
            (local.get $at))
        (func (export "reset") (param i32) (global.set $next (i32.const 1024)))
        (func (export "number") (param i32) (result i32) (local.get 0))
        (func (export "host-number") (param i32) (result i32) (call $number (local.get 0)))
        (func (export "run") (param i32 i32) (result i32)
            (i32.store (i32.const 16) (local.get 0))
            (i32.store (i32.const 20) (local.get 1))
            (i32.const 16))
        (func (export "fields") (param i32) (result i32) (local.get 0)))
    (core instance $code (instantiate $code (with "host" (instance (export "number" (func $number'))))))
    (func (export "number") (param "n" u32) (result u32) (canon lift (core func $code "number")))
    (func (export "host-number") (param "n" u32) (result u32)
        (canon lift (core func $code "host-number")))
    (func (export "text") (param "s" string) (result string)
        (canon lift (core func $code "run") (memory (core memory $code "memory"))
            (realloc (core func $code "realloc")) (post-return (core func $code "reset"))))
    (func (export "bytes") (param "b" (list u8)) (result (list u8))
        (canon lift (core func $code "run") (memory (core memory $code "memory"))
            (realloc (core func $code "realloc")) (post-return (core func $code "reset"))))
    (func (export "fields") (param "f" $fields) (result $fields)
        (canon lift (core func $code "fields") (memory (core memory $code "memory"))
            (realloc (core func $code "realloc")) (post-return (core func $code "reset")))))"#;

/// Fields of the record.
const FIELDS: usize = 20;

fn text() -> String {
    let fields: String = (0..FIELDS).map(|at| format!(" (field \"f{at}\" u32)")).collect();
    COMPONENT.replace("FIELDS", &fields)
}

fn sandbox(engine: &Engine) -> Result<Sandbox> {
    let module = Module::new(engine, text().as_bytes())?;
    let limits = Limits::default().memory(64 << 20);
    let sandbox = Sandbox::builder(&module).limits(limits);
    sandbox.component_function("bench:host/all", "number", |n: u32| n).build()
}

fn failed(error: wasmtime::Error) -> sandgrain::Error {
    host_error("the engine in process", &error)
}

/// The same engine with the same settings and CPU features, without a VM around it.
struct InProcess {
    store: wasmtime::Store<()>,
    instance: component::Instance,
}

impl InProcess {
    fn new(engine: &Engine) -> Result<Self> {
        let mut config = sandgrain::compile::engine_config(engine.cpu_features());
        config.wasm_component_model(true);
        let engine = wasmtime::Engine::new(&config).map_err(failed)?;
        let compiler = sandgrain::compile::Compiler::new(&Default::default())?;
        let text = text();
        let bytes = compiler.to_wasm(text.as_bytes())?;
        let component = component::Component::new(&engine, bytes).map_err(failed)?;
        let mut linker = Linker::<()>::new(&engine);
        let mut instance = linker.instance("bench:host/all").map_err(failed)?;
        instance.func_wrap("number", |_, (n,): (u32,)| Ok((n,))).map_err(failed)?;
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &component).map_err(failed)?;
        Ok(Self { store, instance })
    }
}

fn check(is_right: bool) -> Result<()> {
    if is_right { Ok(()) } else { Err(host_error("a component", &"it returned something else")) }
}

/// The group's name, and those of its two.
fn group(names: [&'static str; 3], in_process: Timed, (in_a_vm, exits): (Timed, u64)) -> Group {
    let [name, first, second] = names;
    let floor = Member { name: first, goal: Goal::Floor, exits: None, time: in_process };
    let own = Member { name: second, goal: Goal::None, exits: Some(exits), time: in_a_vm };
    Group { name, scale: Scale::Calls, members: vec![floor, own] }
}

/// How often a call leaves the VM, when it is warm.
fn counted(
    mut sandbox: Sandbox,
    mut call: impl FnMut(&mut Sandbox) -> Result<Duration> + 'static,
) -> Result<(Timed, u64)> {
    call(&mut sandbox)?;
    call(&mut sandbox)?;
    let exits = sandbox.stats().exits;
    Ok((Box::new(move || call(&mut sandbox)), exits))
}

/// A call with one value that comes back, of types that both sides know when they are compiled.
macro_rules! typed {
    ($function:ident, $names:expr, $export:literal, $value:expr, $param:ty => $result:ty) => {
        pub(crate) fn $function(engine: &Engine) -> Result<Group> {
            let mut process = InProcess::new(engine)?;
            let function = process
                .instance
                .get_typed_func::<($param,), ($result,)>(&mut process.store, $export);
            let function = function.map_err(failed)?;
            let in_process: Timed = Box::new(move || {
                let started = Instant::now();
                let result = function.call(&mut process.store, ($value,));
                let taken = started.elapsed();
                check(result.map_err(failed)?.0 == $value).map(|()| taken)
            });
            let in_a_vm = counted(sandbox(engine)?, move |sandbox| {
                let started = Instant::now();
                let result: $result = sandbox.call_component($export, ($value,))?;
                let taken = started.elapsed();
                check(result == $value).map(|()| taken)
            })?;
            Ok(group($names, in_process, in_a_vm))
        }
    };
}

/// 1 KiB.
const TEXT: &str = match str::from_utf8(&[b'x'; 1 << 10]) {
    Ok(text) => text,
    Err(_) => "",
};
/// 1 MiB.
static BYTES: [u8; 1 << 20] = [7; 1 << 20];

typed!(
    number,
    ["component, u32", "u32, in process", "u32, in the VM"],
    "number", 7_u32, u32 => u32
);
typed!(
    host_call,
    ["component, host call", "host call, in process", "host call, in the VM"],
    "host-number", 7_u32, u32 => u32
);
typed!(
    string,
    ["component, string of 1 KiB", "1 KiB string, in process", "1 KiB string, in the VM"],
    "text", TEXT, &'static str => String
);
typed!(
    list,
    ["component, list of 1 MiB", "1 MiB list, in process", "1 MiB list, in the VM"],
    "bytes", &BYTES[..], &'static [u8] => Vec<u8>
);

/// A record, as a value whose type neither side knows when it is compiled.
pub(crate) fn record(engine: &Engine) -> Result<Group> {
    let mut process = InProcess::new(engine)?;
    let function = process.instance.get_func(&mut process.store, "fields");
    let function = function.ok_or_else(|| host_error("the component", &"no function"))?;
    let field = |at: usize| (format!("f{at}"), component::Val::U32(at as u32));
    let given = [component::Val::Record((0..FIELDS).map(field).collect())];
    let in_process: Timed = Box::new(move || {
        let mut result = [component::Val::Bool(false)];
        let started = Instant::now();
        let called = function.call(&mut process.store, &given, &mut result);
        let taken = started.elapsed();
        called.map_err(failed)?;
        check(result == given).map(|()| taken)
    });
    let field = |at: usize| (format!("f{at}"), Val::U32(at as u32));
    let given = [Val::Record((0..FIELDS).map(field).collect())];
    let in_a_vm = counted(sandbox(engine)?, move |sandbox| {
        let started = Instant::now();
        let result = sandbox.call_component_values(sandbox.main(), "fields", &given)?;
        let taken = started.elapsed();
        check(result.as_ref() == given.first()).map(|()| taken)
    })?;
    let names =
        ["component, record of 20 fields", "record of 20, in process", "record of 20, in the VM"];
    Ok(group(names, in_process, in_a_vm))
}
