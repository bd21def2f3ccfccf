//! `sandgrain bench floor`: how many VMs there can be in a second, if nothing is done in them.

use sandgrain::Error;
use sandgrain_bench::floor::{self, Report, Times};
use std::time::Duration;

/// Options of `sandgrain bench floor`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How long VMs are made; a tenth of that more, before, does not count
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Prints a report for programs instead of a table
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub fn execute(arguments: &Arguments) -> Result<(), Error> {
    super::progress("the smallest VM");
    let report = floor::measure(Duration::from_secs(arguments.seconds.into()))?;
    super::print(&if arguments.json { super::json(&report)? } else { table(&report) })
}

fn table(report: &Report) -> String {
    let mut text = super::heading(&report.machine);
    text += &format!(
        "{:.0} VMs a second: {} of the smallest in {:.1} s, one after another; times in microseconds\n\n",
        report.vms_per_second, report.vms, report.seconds
    );
    text += &line("", ["median", "p99", "p99.9"].map(str::to_owned));
    for (name, times) in [
        ("make", report.make),
        ("enter, to the first exit", report.enter),
        ("drop", report.drop),
        ("in all", report.whole),
    ] {
        let Times { median, p99, p999 } = times;
        text += &line(name, [median, p99, p999].map(super::micros));
    }
    text
}

fn line(name: &str, [median, p99, p999]: [String; 3]) -> String {
    format!("{name:28} {median:>10} {p99:>10} {p999:>10}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::{check_lines, machine};

    #[test]
    fn the_table_shows_the_rate_and_each_part() {
        let times = |median| Times { median, p99: 2.0 * median, p999: 3.0 * median };
        let report = Report {
            machine: machine(),
            seconds: 5.001,
            vms: 6000,
            vms_per_second: 1199.8,
            unit: "us",
            make: times(500.0),
            enter: times(100.0),
            drop: times(200.04),
            whole: times(800.0),
        };
        let expected = [
            "1200 VMs a second: 6000 of the smallest in 5.0 s, one after another; times in microseconds",
            "median p99 p99.9",
            "make 500.0 1000.0 1500.0",
            "enter, to the first exit 100.0 200.0 300.0",
            "drop 200.0 400.1 600.1",
            "in all 800.0 1600.0 2400.0",
        ];
        check_lines(&table(&report), &expected);
    }
}
