//! `sandgrain bench`: what calls, creation and computing cost on this machine, side by side with what
//! the machine takes for the least of each.

mod floor;
mod start;

use crate::failure::Failure;
use sandgrain::Error;
use sandgrain_bench::{Goal, Machine, Report, Row, Samples};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Options of `sandgrain bench`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    only: Option<Only>,
    /// Prints a report for programs instead of a table
    #[arg(long)]
    json: bool,
    /// Samples of each call; creation takes a tenth of them, each kernel a hundredth
    #[arg(long, value_name = "COUNT", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    samples: u32,
    /// A rough picture in a few seconds: 200 samples, too few to judge kernels by
    #[arg(long, conflicts_with = "samples")]
    quick: bool,
}

/// What to measure instead of all that.
#[derive(Debug, clap::Subcommand)]
enum Only {
    /// Measures what it takes from a request to a function's result, by all ways to start it
    Start(start::Arguments),
    /// Measures how many of the smallest VM can be made, entered and dropped in a second
    Floor(floor::Arguments),
}

/// Measures and prints.
pub fn execute(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.only {
        None => all(arguments).map_err(Failure::from),
        Some(Only::Start(arguments)) => start::execute(arguments),
        Some(Only::Floor(arguments)) => floor::execute(arguments).map_err(Failure::from),
    }
}

fn all(arguments: &Arguments) -> Result<(), Error> {
    let samples = Samples::of_calls(if arguments.quick { 200 } else { arguments.samples as usize });
    let engine = sandgrain_bench::engine()?;
    let report = sandgrain_bench::measure(&engine, samples, progress)?;
    print(&if arguments.json { json(&report)? } else { table(&report) })
}

/// A report for programs.
fn json(report: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(report)
        .map_err(|error| Error::Host(format!("cannot write the report as JSON: {error}")))?;
    Ok(text + "\n")
}

fn print(text: &str) -> Result<(), Error> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Error::Host(format!("cannot write to standard output: {error}")))
}

/// Says what is measured now, to someone who is watching.
fn progress(group: &str) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // Whether the line can be shown changes nothing.
        let _ = writeln!(stderr, "measuring: {group}");
    }
}

/// What figures were measured on: a line.
fn heading(machine: &Machine) -> String {
    let Machine { sandgrain, cpu, cpus, kernel, hypervisor } = machine;
    format!("sandgrain {sandgrain} on {cpu}, {cpus} CPUs, Linux {kernel}, {hypervisor}\n")
}

/// A time, for a table.
fn micros(value: f64) -> String {
    format!("{value:.1}")
}

/// Whether a target is met, for a table.
fn yes_or_no(met: bool) -> &'static str {
    if met { "yes" } else { "no" }
}

/// A line of a table, the last cells of which may be empty.
fn trimmed(line: &str) -> String {
    line.trim_end().to_owned() + "\n"
}

fn table(report: &Report) -> String {
    let mut text = heading(&report.machine) + "times in microseconds\n\n";
    text +=
        &line(["", "min", "median", "p99", "ratio", "exits", "target", "met"].map(str::to_owned));
    let mut group = "";
    for row in &report.rows {
        if !group.is_empty() && group != row.group {
            text.push('\n');
        }
        group = row.group;
        text += &line(cells(row));
    }
    text + "\nEach ratio is to the first line of its block: of times, or (\">=\") of speeds.\n"
}

fn cells(row: &Row) -> [String; 8] {
    let target = match row.goal {
        Goal::Floor | Goal::None => String::new(),
        Goal::AtMost(most) => format!("<= {most}"),
        Goal::SpeedAtLeast(least) => format!(">= {least}"),
    };
    let ratio = row.ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
    let met = row.met.map_or("", yes_or_no).to_owned();
    let exits = row.exits.map(|exits| exits.to_string()).unwrap_or_default();
    let name = row.name.to_owned();
    [name, micros(row.min), micros(row.median), micros(row.p99), ratio, exits, target, met]
}

fn line([name, min, median, p99, ratio, exits, target, met]: [String; 8]) -> String {
    trimmed(&format!(
        "{name:28} {min:>10} {median:>10} {p99:>10} {ratio:>8} {exits:>6} {target:>8} {met:>4}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::bench) fn machine() -> Machine {
        Machine {
            kernel: "6.1".to_owned(),
            cpu: "A CPU".to_owned(),
            cpus: 2,
            hypervisor: "Kvm".to_owned(),
            sandgrain: "0.1.0",
        }
    }

    /// Checks that a table has these lines, however much space is between their words.
    pub(in crate::bench) fn check_lines(table: &str, expected: &[&str]) {
        let words: Vec<String> = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for &line in expected {
            assert!(words.iter().any(|words| words == line), "no {line:?} in {table}");
        }
    }

    fn row(name: &'static str, goal: Goal, ratio: Option<f64>, met: Option<bool>) -> Row {
        let ratio_of_medians = ratio;
        let (min, median, p99) = (20.0, 25.04, 40.0);
        let (group, samples, exits) = ("g", 5, None);
        Row { group, name, min, median, p99, samples, ratio, ratio_of_medians, exits, goal, met }
    }

    #[test]
    fn a_line_shows_the_figures_and_whether_the_target_is_met() {
        let machine = machine();
        let rows = vec![
            row("a floor", Goal::Floor, None, None),
            row("a call", Goal::AtMost(1.3), Some(1.4), Some(false)),
        ];
        let text = table(&Report { machine, unit: "us", rows });
        check_lines(&text, &["a floor 20.0 25.0 40.0", "a call 20.0 25.0 40.0 1.400 <= 1.3 no"]);
    }
}
