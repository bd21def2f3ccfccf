//! How much longer a parked start takes with many VMs alive than with a few.

use super::figures::Row;
use super::sandboxes::FRESH;
use serde::Serialize;

/// What many are compared with.
const FEW: usize = 10;
/// What the most are to take at the most, of what few take.
const TARGET: (usize, f64) = (5000, 1.3);

/// A parked start in a worker, with many VMs parked in workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Crowded {
    /// What is called.
    pub function: &'static str,
    /// VMs that are parked meanwhile.
    pub parked: usize,
    /// Its ratio to E, as a ratio to that with ten VMs parked.
    pub ratio: f64,
    /// What it is to be at most.
    pub target: Option<f64>,
    /// Whether it is.
    pub met: Option<bool>,
}

/// Of all rows of one caller, those of such starts.
pub(super) fn of(rows: &[Row]) -> Vec<Crowded> {
    let [_, name] = FRESH;
    let starts = || rows.iter().filter(|row| (row.name, row.callers) == (name, 1));
    let few = |function: &str| {
        let row = starts().find(|row| (row.function, row.parked) == (function, FEW));
        row.and_then(|row| row.ratio)
    };
    let crowded = starts().filter(|row| row.parked > FEW).filter_map(|row| {
        let ratio = row.ratio? / few(row.function)?;
        let target = (row.parked == TARGET.0).then_some(TARGET.1);
        let met = target.map(|target| ratio <= target);
        Some(Crowded { function: row.function, parked: row.parked, ratio, target, met })
    });
    crowded.collect()
}
