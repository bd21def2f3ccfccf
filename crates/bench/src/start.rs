//! `sandgrain bench start`: what it takes from a request to a function's result, from nothing to a VM that
//! waits, beside the least that the machine takes for a VM and beside the same function without one.
//!
//! What is measured is in [`Row`]s of blocks that take turns, as for [`measure`](crate::measure); with them
//! come tables of memory.

mod crowd;
mod crowded;
mod figures;
mod functions;
mod in_process;
mod memory;
mod plot;
mod processes;
mod python;
mod sandboxes;
mod turns;

pub use crowded::Crowded;
pub use figures::{Floor, Row, Statistic, Target};
pub use memory::{FunctionsMemory, Memory, ParkedMemory};
pub use plot::{svg, title};
pub(crate) use sandboxes::settle;

use crate::Machine;
use crowd::Crowd;
use functions::Function;
use sandgrain::{Engine, Result, Workers};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// The most that a pool of one process takes.
const ONE_PROCESS: usize = 1000;

/// What to measure, and how thoroughly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Samples of each row and caller; rows that start processes have a tenth of them.
    pub samples: usize,
    /// Numbers of threads that call at once.
    pub callers: Vec<usize>,
    /// Numbers of VMs that are parked meanwhile.
    pub parked: Vec<usize>,
    /// The wasmtime command; without it the one that the search path has.
    pub wasmtime: Option<PathBuf>,
    /// CPython as a WASI command.
    pub python: Option<PathBuf>,
    /// The program that worker processes are.
    pub worker: PathBuf,
}

/// All that a run has found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The machine's load of the last minute, when the run began and when it ended.
    pub load: [Option<f64>; 2],
    /// Of times.
    pub unit: &'static str,
    /// All times.
    pub rows: Vec<Row>,
    /// How much longer a parked start in a worker takes with many VMs alive.
    pub crowded: Vec<Crowded>,
    /// What was not measured, and why.
    pub left_out: Vec<LeftOut>,
    /// What functions and parked VMs take.
    pub memory: Memory,
}

/// Something that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// What.
    pub what: String,
    /// Why, and what to do about it.
    pub reason: String,
}

impl LeftOut {
    fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into() }
    }
}

/// Measures everything. `begin` is told of each part as its turn comes.
///
/// # Errors
/// Whatever the things that are measured run into.
pub fn measure(engine: &Engine, options: &Options, mut begin: impl FnMut(&str)) -> Result<Report> {
    let load = load();
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    let workers = Workers::of_program(&options.worker);
    let functions: Vec<Arc<Function>> = functions::all()?.into_iter().map(Arc::new).collect();
    for function in &functions {
        begin(&format!("{}, every way to start it", function.name));
        let block = sandboxes::every_way(engine, &workers, function)?;
        rows.extend(turns::take(block, options.samples)?);
        let processes = processes::block(options.wasmtime.as_deref(), function)?;
        left_out.extend(processes.left_out);
        if let Some(block) = processes.block {
            rows.extend(turns::take(block, options.samples.div_ceil(10))?);
        }
    }
    match &options.python {
        Some(path) => {
            begin(python::NAME);
            // Half a second from nothing, each time.
            rows.extend(turns::take(python::block(engine, path)?, options.samples.div_ceil(10))?);
        }
        None => left_out.push(LeftOut::new(
            python::NAME,
            "no python.wasm was named; try: --python \"$(tools/fetch-python)\"",
        )),
    }
    let most = options.callers.iter().copied().max().unwrap_or(1);
    let places =
        options.parked.iter().flat_map(|parked| [(*parked, None), (*parked, Some(&workers))]);
    for (parked, workers) in places {
        let place = if workers.is_some() { "in workers" } else { "in this process" };
        if parked > ONE_PROCESS && workers.is_none() {
            let reason = format!("one process can have {ONE_PROCESS} VMs at the most");
            left_out.push(LeftOut::new(format!("{parked} VMs parked {place}"), reason));
            continue;
        }
        begin(&format!("{parked} VMs, {place}"));
        let crowd = match Crowd::gather(engine, workers, parked.saturating_sub(most))? {
            Ok(crowd) => crowd,
            Err(reason) => {
                left_out.push(LeftOut::new(format!("{parked} VMs parked {place}"), reason));
                continue;
            }
        };
        for (function, &callers) in
            functions.iter().flat_map(|function| options.callers.iter().map(move |n| (function, n)))
        {
            if (callers, parked) == (1, 1) {
                // The very first block has it.
                continue;
            }
            begin(&format!("{}, {callers} at once, {parked} VMs parked {place}", function.name));
            let block = sandboxes::parked(engine, workers, function, callers, parked)?;
            rows.extend(turns::take(block, options.samples)?);
        }
        drop(crowd);
    }
    begin("memory");
    let memory = memory::measure(engine, &workers, &options.parked)?;
    Ok(Report {
        crowded: crowded::of(&rows),
        machine: Machine::this()?,
        load: [load, self::load()],
        unit: "us",
        rows,
        left_out,
        memory,
    })
}

/// The machine's load of the last minute.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
