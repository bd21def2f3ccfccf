//! What a run did, for people and for programs.

use crate::failure;
use crate::values::Typed;
use sandgrain::{Module, Stats};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// A run, in one line of JSON.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// `ok`, `exit` (the program ended itself with another code than 0) or `error`.
    pub status: &'static str,
    /// The command's own.
    pub exit_code: u8,
    /// The program's, which can have more bits.
    pub program_exit_code: Option<i32>,
    /// Of an invoked function.
    pub results: Option<Vec<Typed>>,
    /// Of an invoked function of a component, in WAVE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    pub error: Option<failure::Report>,
    pub compile: Option<Compile>,
    pub stats: Measured,
    pub without_vm: bool,
}

/// How the module was got.
#[derive(Debug, Serialize)]
pub struct Compile {
    ms: f64,
    cached: bool,
}

impl Compile {
    pub fn new(module: &Module, taken: Duration) -> Self {
        Self { ms: milliseconds(taken), cached: module.is_from_cache() }
    }
}

/// What creation and the call cost, as far as they came.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    pub create: Option<Figures>,
    pub call: Option<Figures>,
}

/// What one step cost.
#[derive(Debug, Serialize)]
pub struct Figures {
    total_ms: f64,
    guest_ms: f64,
    host_ms: f64,
    exits: u64,
    hypercalls: u64,
    host_calls: u64,
    pages_touched: Option<u64>,
}

impl Figures {
    pub fn new(stats: &Stats, total: Duration) -> Self {
        Self {
            total_ms: milliseconds(total),
            guest_ms: milliseconds(stats.guest),
            host_ms: milliseconds(stats.host),
            exits: stats.exits,
            hypercalls: stats.hypercalls,
            host_calls: stats.host_calls,
            pages_touched: stats.pages_touched,
        }
    }
}

/// To the nanosecond, which is all that clocks tell.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e9).round() / 1e6
}

impl Report {
    /// The report as one line.
    pub fn line(&self) -> Result<String, serde_json::Error> {
        Ok(format!("{}\n", serde_json::to_string(self)?))
    }

    /// The figures as a table.
    pub fn table(&self) -> String {
        let mut table = String::new();
        // Writing to a string does not fail.
        if let Some(Compile { ms, cached }) = &self.compile {
            let how = if *cached { " (from the cache)" } else { "" };
            let _ = writeln!(table, "{:<14} {:>14}{how}", "module", time(*ms));
        }
        let Measured { create, call } = &self.stats;
        let _ = writeln!(table, "{:<14} {:>14} {:>14}", "", "create", "call");
        let mut row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
            let [create, call] =
                [create, call].map(|step| step.as_ref().map_or("-".to_owned(), cell));
            let _ = writeln!(table, "{name:<14} {create:>14} {call:>14}");
        };
        row("time", &|figures| time(figures.total_ms));
        row("in the guest", &|figures| time(figures.guest_ms));
        row("in the host", &|figures| time(figures.host_ms));
        row("exits", &|figures| figures.exits.to_string());
        row("hypercalls", &|figures| figures.hypercalls.to_string());
        row("host calls", &|figures| figures.host_calls.to_string());
        row("pages touched", &|figures| {
            figures.pages_touched.map_or("-".to_owned(), |pages| pages.to_string())
        });
        table
    }
}

fn time(ms: f64) -> String {
    format!("{ms:.3} ms")
}
