//! What functions and parked VMs take.

use super::crowd::{pool_of, snapshot};
use super::sandboxes::{quiet, settle};
use crate::host_error;
use crate::report::quantile;
use sandgrain::{Engine, Limits, Result, Snapshot, Workers};
use serde::Serialize;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Functions that are counted together.
const FUNCTIONS: [usize; 3] = [1, 10, 100];
/// Parked VMs that are counted together at least.
const PARKED: [usize; 3] = [1, 10, 100];
/// Of VMs that are small at most.
const SMALL: usize = 100;
/// Workers that are counted together.
const WORKERS: usize = 2;
/// Times that each number of them is parked.
const ROUNDS: usize = 3;
/// The most of one pool.
const ONE_POOL: usize = 1000;
/// The target for each parked VM.
const TARGET: f64 = 350.0 * 1000.0;

/// Bytes, of both kinds.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Snapshots of small functions.
    pub functions: Vec<FunctionsMemory>,
    /// Parked VMs of one small function.
    pub parked: Vec<ParkedMemory>,
}

/// What so many snapshots take, of small functions that differ from each other.
#[derive(Clone, Debug, Serialize)]
pub struct FunctionsMemory {
    /// How many.
    pub functions: usize,
    /// Bytes of one's content, with what it shares with the others.
    pub content: usize,
    /// Bytes that they do not share, of all together.
    pub own: usize,
    /// Memory of files without a name that this process has now: theirs and the base image's.
    pub files: u64,
}

/// What so many parked VMs take, each.
#[derive(Clone, Debug, Serialize)]
pub struct ParkedMemory {
    /// How many.
    pub parked: usize,
    /// Their limits, which decide about the size of a VM: the default ones, or small ones. Or that they are in
    /// workers, with the default ones.
    pub limits: &'static str,
    /// This process's memory, and its workers', as its share of it is counted: pages that several VMs map count in parts.
    pub pss: f64,
    /// Of it, what only one VM has.
    pub private: f64,
    /// The kernel's, for the VM: structures, page tables, what it notes for each page of a VM's size. All of
    /// the machine's, so true only if nobody else makes VMs meanwhile.
    pub kernel: f64,
    /// `pss` and `kernel`.
    pub total: f64,
    /// All that the machine has less of. True only if nothing else happens on it.
    pub machine: f64,
    /// What `total` and `machine` are to be at most; for many VMs only.
    pub target: Option<f64>,
    /// Whether both are: some of the kernel's pages have no name, and are in the second only.
    pub met: Option<bool>,
}

/// Measures both.
pub(super) fn measure(engine: &Engine, workers: &Workers, parked: &[usize]) -> Result<Memory> {
    let mut snapshots = Vec::new();
    let mut functions = Vec::new();
    for count in FUNCTIONS {
        for number in snapshots.len()..count {
            snapshots.push(snapshot(engine, number, &Limits::default())?);
        }
        let own = snapshots.iter().map(|snapshot| snapshot.own_bytes()).sum::<Result<usize>>()?;
        let content = snapshots.last().map_or(0, |snapshot| snapshot.content_bytes());
        functions.push(FunctionsMemory { functions: count, content, own, files: files()? });
    }
    drop(snapshots);
    let mut counts: Vec<usize> = PARKED.into_iter().chain(parked.iter().copied()).collect();
    counts.retain(|count| (1..=ONE_POOL).contains(count));
    counts.sort_unstable();
    counts.dedup();
    let default = |count| (count, "default", Limits::default(), None);
    let counts = counts.into_iter().map(default);
    // VMs that can't become large, and VMs in workers, whose own memory counts too.
    let small = Limits::default().memory(1 << 20).heap(4 << 20).extra_code(1 << 20);
    let there = (WORKERS * 64, "workers", Limits::default(), Some(workers));
    let counts = counts.chain([(SMALL, "small", small, None), there]);
    let parked = counts
        .map(|(count, name, limits, workers)| of_parked(engine, count, name, &limits, workers));
    Ok(Memory { functions, parked: parked.collect::<Result<_>>()? })
}

/// The median of some rounds: what else the machine does comes and goes meanwhile. The first does not count,
/// since the process takes some things only once.
fn of_parked(
    engine: &Engine,
    count: usize,
    name: &'static str,
    limits: &Limits,
    workers: Option<&Workers>,
) -> Result<ParkedMemory> {
    let snapshot = snapshot(engine, 0, limits)?;
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        rounds.push(round(&snapshot, count, workers)?);
    }
    let median = |of: fn(&Usage) -> f64| {
        quantile(
            rounds.iter().skip(1).map(|(parked, used)| of(used) / *parked as f64).collect(),
            0.5,
        )
    };
    let parked = rounds.iter().map(|(parked, _)| *parked).min().unwrap_or(0);
    let total = median(|used| used.pss + used.kernel);
    let machine = median(|used| -used.available);
    let target = (parked >= 100).then_some(TARGET);
    Ok(ParkedMemory {
        parked,
        limits: name,
        pss: median(|used| used.pss),
        private: median(|used| used.private),
        kernel: median(|used| used.kernel),
        total,
        machine,
        target,
        met: target.map(|target| total.max(machine) <= target),
    })
}

/// Parks VMs. How many, and what is used more than before.
fn round(snapshot: &Snapshot, count: usize, workers: Option<&Workers>) -> Result<(usize, Usage)> {
    let before = Usage::now(workers)?;
    let pool = pool_of(snapshot, workers).memory(u64::MAX).parked(count..=count).at_most(count);
    let pool = pool.build()?;
    // Parked VMs have touched ahead what the first calls show that calls touch.
    for _ in 0..8 {
        settle(&pool, 1);
        pool.take("bench")?.call::<(), u32>("run", ())?;
    }
    quiet(&pool, count);
    let after = Usage::now(workers)?;
    Ok((pool.stats().parked.max(1), after.more_than(&before)))
}

/// Bytes in use.
#[derive(Debug, PartialEq)]
struct Usage {
    pss: f64,
    private: f64,
    kernel: f64,
    /// To the machine as a whole.
    available: f64,
}

impl Usage {
    fn more_than(&self, before: &Self) -> Self {
        Self {
            pss: self.pss - before.pss,
            private: self.private - before.private,
            kernel: self.kernel - before.kernel,
            available: self.available - before.available,
        }
    }

    /// This process's and its workers'.
    fn now(workers: Option<&Workers>) -> Result<Self> {
        let mut usage = Self::of(&read("/proc/self/smaps_rollup")?, &read("/proc/meminfo")?);
        for (worker, _) in workers.map(Workers::processes).unwrap_or_default() {
            let worker = Self::of(&read(&format!("/proc/{worker}/smaps_rollup"))?, "");
            usage.pss += worker.pss;
            usage.private += worker.private;
        }
        Ok(usage)
    }

    fn of(process: &str, machine: &str) -> Self {
        let sum = |text: &str, names: &[&str]| -> f64 {
            names.iter().map(|name| kilobytes(text, name)).sum()
        };
        Self {
            pss: sum(process, &["Pss"]),
            private: sum(process, &["Private_Clean", "Private_Dirty"]),
            kernel: sum(machine, &["SUnreclaim", "VmallocUsed", "PageTables", "SecPageTables"]),
            available: kilobytes(machine, "MemAvailable"),
        }
    }
}

/// Bytes that a line such as `Pss:   320 kB` tells.
fn kilobytes(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    number.unwrap_or_default() * 1024.0
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(file).map_err(|error| host_error(file, &error))
}

/// Bytes of the memory files that this process has open.
fn files() -> Result<u64> {
    let failed = |error: std::io::Error| host_error("/proc/self/fd", &error);
    let mut bytes = 0;
    for entry in fs::read_dir("/proc/self/fd").map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // The directory's own descriptor is gone by the time it is looked at.
        let Ok(target) = fs::read_link(&path) else { continue };
        if target.to_string_lossy().starts_with("/memfd:") {
            bytes += fs::metadata(&path).map_or(0, |file| file.blocks() * 512);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_are_read_by_their_name() {
        let process = "5614-7ffe ---p 00000000 [rollup]\nRss: 1760 kB\nPss:   320 kB\n\
            Pss_Dirty: 112 kB\nShared_Clean: 100 kB\nShared_Dirty: 1 kB\n\
            Private_Clean: 20 kB\nPrivate_Dirty: 3 kB\n";
        let machine = "MemAvailable:  2000 kB\nSUnreclaim: 1 kB\nPageTables: 2 kB\n\
            SecPageTables: 4 kB\nVmallocUsed: 8 kB\nVmallocTotal: 99 kB\n";
        let usage = Usage::of(process, machine);
        let expected = Usage {
            pss: 320.0 * 1024.0,
            private: 23.0 * 1024.0,
            kernel: 15.0 * 1024.0,
            available: 2000.0 * 1024.0,
        };
        assert_eq!(usage, expected);
    }
}
