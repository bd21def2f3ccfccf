//! VMs that are parked while something else is measured.

use super::sandboxes::quiet;
use sandgrain::{Engine, Limits, Module, Pool, PoolBuilder, Result, Sandbox, Snapshot, Workers};

/// Functions that they are of, each with a pool of its own.
const FUNCTIONS: usize = 10;

/// Pools that do nothing but keep VMs.
pub(super) struct Crowd {
    _pools: Vec<Pool>,
}

impl Crowd {
    /// So many VMs, in this process or in workers; or why there can't be.
    pub(super) fn gather(
        engine: &Engine,
        workers: Option<&Workers>,
        count: usize,
    ) -> Result<Result<Self, String>> {
        let mut pools = Vec::new();
        for number in 0..FUNCTIONS.min(count) {
            let own = count / FUNCTIONS + usize::from(number < count % FUNCTIONS);
            let snapshot = snapshot(engine, number, &Limits::default())?;
            let pool = pool_of(&snapshot, workers).parked(own..=own).at_most(own);
            let pool = pool.memory(u64::MAX).build()?;
            if !quiet(&pool, own) {
                return Ok(Err(format!(
                    "{} of {own} VMs of a pool could be parked; try: larger limits (ulimit -n, \
                     vm.max_map_count)",
                    pool.stats().parked
                )));
            }
            pools.push(pool);
        }
        Ok(Ok(Self { _pools: pools }))
    }
}

/// A pool in this process, or in workers.
pub(super) fn pool_of(snapshot: &Snapshot, workers: Option<&Workers>) -> PoolBuilder {
    let builder = Pool::builder(snapshot);
    match workers {
        Some(workers) => builder.workers(workers),
        None => builder,
    }
}

/// A small function like no other.
pub(super) fn snapshot(engine: &Engine, number: usize, limits: &Limits) -> Result<Snapshot> {
    let wat = format!(
        r#"(module (memory 1) (data (i32.const 0) "{number}")
          (func (export "run") (result i32)
            (i32.store (i32.const 64) (i32.load (i32.const 0)))
            (i32.add (i32.load (i32.const 64)) (i32.const {number}))))"#
    );
    let module = Module::new(engine, wat.as_bytes())?;
    Sandbox::builder(&module).limits(limits.clone()).build()?.snapshot()
}
