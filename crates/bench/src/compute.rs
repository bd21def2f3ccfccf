//! Kernels: the same code in the VM and in this process.

use crate::report::Goal;
use crate::{Group, Member, Scale, host_error};
use sandgrain::{Engine, Error, Module, Result, Sandbox};
use std::time::Instant;

/// The share of the speed in process that the VM is to reach.
const GOAL: Goal = Goal::SpeedAtLeast(0.95);

struct Kernel {
    name: &'static str,
    /// Its members' names: in process, in the VM.
    names: [&'static str; 2],
    wat: &'static [u8],
    /// Chosen so that a call takes a few tens of milliseconds.
    argument: i32,
}

/// Calls and returns.
pub(crate) fn recursive(engine: &Engine) -> Result<Group> {
    group(
        engine,
        &Kernel {
            name: "recursive",
            names: ["recursive, in process", "recursive, in the VM"],
            wat: include_bytes!("../kernels/recursive.wat"),
            argument: 33,
        },
    )
}

/// Loads and stores over 16 MiB.
pub(crate) fn memory(engine: &Engine) -> Result<Group> {
    group(
        engine,
        &Kernel {
            name: "memory",
            names: ["memory, in process", "memory, in the VM"],
            wat: include_bytes!("../kernels/memory.wat"),
            argument: 2_000_000,
        },
    )
}

/// Floats and vectors.
pub(crate) fn float_simd(engine: &Engine) -> Result<Group> {
    group(
        engine,
        &Kernel {
            name: "float and SIMD",
            names: ["float and SIMD, in process", "float and SIMD, in the VM"],
            wat: include_bytes!("../kernels/float_simd.wat"),
            argument: 256,
        },
    )
}

/// Calls through a table.
pub(crate) fn indirect(engine: &Engine) -> Result<Group> {
    group(
        engine,
        &Kernel {
            name: "indirect calls",
            names: ["indirect calls, in process", "indirect calls, in the VM"],
            wat: include_bytes!("../kernels/indirect.wat"),
            argument: 3_000_000,
        },
    )
}

fn group(engine: &Engine, kernel: &Kernel) -> Result<Group> {
    let argument = kernel.argument;
    let mut in_process = InProcess::new(engine, kernel.wat)?;
    let mut sandbox = Sandbox::new(&Module::new(engine, kernel.wat)?)?;
    let expected = in_process.call(argument)?;
    let members = vec![
        Member {
            name: kernel.names[0],
            goal: Goal::Floor,
            exits: None,
            time: Box::new(move || {
                let started = Instant::now();
                let result = in_process.call(argument)?;
                let taken = started.elapsed();
                check(result, expected).map(|()| taken)
            }),
        },
        Member {
            name: kernel.names[1],
            goal: GOAL,
            exits: None,
            time: Box::new(move || {
                let started = Instant::now();
                let result = sandbox.call("run", argument)?;
                let taken = started.elapsed();
                check(result, expected).map(|()| taken)
            }),
        },
    ];
    Ok(Group { name: kernel.name, scale: Scale::Kernels, members })
}

fn check(result: i64, expected: i64) -> Result<()> {
    if result == expected {
        return Ok(());
    }
    Err(Error::Host(format!(
        "the kernel gave {result} and should have given {expected}: please report this"
    )))
}

/// The same engine with the same settings and CPU features, without a VM around it. Not the library's
/// reference engine, whose code looks at a counter all the time so that it can be stopped.
struct InProcess {
    store: wasmtime::Store<()>,
    run: wasmtime::TypedFunc<i32, i64>,
}

impl InProcess {
    fn new(engine: &Engine, wat: &[u8]) -> Result<Self> {
        let failed = |error: wasmtime::Error| host_error("the engine in process", &error);
        let config = sandgrain::compile::engine_config(engine.cpu_features());
        let engine = wasmtime::Engine::new(&config).map_err(failed)?;
        let compiler = sandgrain::compile::Compiler::new(&Default::default())?;
        let module = wasmtime::Module::new(&engine, compiler.to_wasm(wat)?).map_err(failed)?;
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).map_err(failed)?;
        let run = instance.get_typed_func(&mut store, "run").map_err(failed)?;
        Ok(Self { store, run })
    }

    fn call(&mut self, argument: i32) -> Result<i64> {
        let result = self.run.call(&mut self.store, argument);
        result.map_err(|error| host_error("the kernel in process", &error))
    }
}
