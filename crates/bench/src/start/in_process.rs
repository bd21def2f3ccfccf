//! The same function on wasmtime in this process, without a VM: an instance for each call.

use super::figures::Floor;
use super::functions::Function;
use super::turns::{Member, Sample};
use crate::host_error;
use sandgrain::{Engine, Result};
use std::sync::Arc;
use std::time::Instant;
use wasmtime::{InstanceAllocationStrategy, Linker, PoolingAllocationConfig, Store};

/// With both of wasmtime's allocators. Otherwise it has the settings and CPU features that code for the VM is
/// compiled with, but for data segments: it maps them, which no VM's guest can, and which is faster.
pub(super) fn members(engine: &Engine, function: &Arc<Function>) -> Result<Vec<Member>> {
    let mut pooling = PoolingAllocationConfig::new();
    // As many as are used; each reserves address space.
    pooling.total_core_instances(10).total_memories(10).total_tables(10).total_gc_heaps(10);
    [
        ("wasmtime, on demand", InstanceAllocationStrategy::OnDemand),
        ("wasmtime, pooling", InstanceAllocationStrategy::Pooling(pooling)),
    ]
    .into_iter()
    .map(|(name, strategy)| {
        Ok(Member::new(name, Floor::RoundTrip, vec![sample(engine, function, strategy)?]))
    })
    .collect()
}

fn sample(
    engine: &Engine,
    function: &Arc<Function>,
    strategy: InstanceAllocationStrategy,
) -> Result<Sample> {
    let failed = |error: wasmtime::Error| host_error("the engine in process", &error);
    let mut config = sandgrain::compile::engine_config(engine.cpu_features());
    config.memory_init_cow(true).allocation_strategy(strategy);
    let engine = wasmtime::Engine::new(&config).map_err(failed)?;
    let module = wasmtime::Module::new(&engine, &function.wasm).map_err(failed)?;
    let linked = Linker::<()>::new(&engine).instantiate_pre(&module).map_err(failed)?;
    let function = Arc::clone(function);
    let once = move || {
        let started = Instant::now();
        let mut store = Store::new(&engine, ());
        let instance = linked.instantiate(&mut store).map_err(failed)?;
        function.call_in_process(&mut store, instance)?;
        Ok(Some(started.elapsed()))
    };
    Ok(Box::new(move || {
        once()?;
        once()
    }))
}
