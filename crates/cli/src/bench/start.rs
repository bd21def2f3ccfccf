//! `sandgrain bench start`: from a request to a function's result, by all ways to start it.

use super::{micros, trimmed, yes_or_no};
use crate::failure::Failure;
use sandgrain::Error;
use sandgrain_bench::start::{
    self, Crowded, FunctionsMemory, Options, ParkedMemory, Report, Row, Statistic,
};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Options of `sandgrain bench start`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Writes a report for programs into FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the distributions into FILE
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Samples of each row and caller; processes of their own take a tenth of them
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// Numbers of threads that call at once
    #[arg(long, value_name = "COUNTS", default_value = "1,2", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=64))]
    callers: Vec<u16>,
    /// Numbers of VMs that are parked meanwhile
    #[arg(long, value_name = "COUNTS", default_value = "1,10,100,1000,5000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    parked: Vec<u32>,
    /// The wasmtime command to compare with, instead of the one in the search path
    #[arg(long, value_name = "FILE")]
    wasmtime: Option<PathBuf>,
    /// CPython as WebAssembly, to be measured too; tools/fetch-python fetches one
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
}

impl Arguments {
    fn options(&self, worker: PathBuf) -> Options {
        Options {
            samples: self.samples as usize,
            callers: self.callers.iter().map(|count| usize::from(*count)).collect(),
            parked: self.parked.iter().map(|count| *count as usize).collect(),
            wasmtime: self.wasmtime.clone(),
            python: self.python.clone(),
            worker,
        }
    }
}

/// Measures and prints.
pub fn execute(arguments: &Arguments) -> Result<(), Failure> {
    // Now, not after minutes.
    let json = arguments.json.as_deref().map(create).transpose()?;
    let svg = arguments.svg.as_deref().map(create).transpose()?;
    let engine = sandgrain_bench::engine()?;
    let worker = std::env::current_exe()
        .map_err(|error| Error::Host(format!("the path of this program: {error}")))?;
    let report = start::measure(&engine, &arguments.options(worker), super::progress)?;
    super::print(&table(&report))?;
    if let Some(file) = json {
        write(file, &super::json(&report)?)?;
    }
    if let Some(file) = svg {
        write(file, &start::svg(&report))?;
    }
    Ok(())
}

fn create(path: &Path) -> Result<(&Path, File), Failure> {
    let file = File::create(path).map_err(|error| Failure::file("write", path, &error))?;
    Ok((path, file))
}

fn write((path, mut file): (&Path, File), text: &str) -> Result<(), Failure> {
    file.write_all(text.as_bytes()).map_err(|error| Failure::file("write", path, &error))
}

fn table(report: &Report) -> String {
    let [before, after] =
        report.load.map(|load| load.map_or("?".to_owned(), |load| format!("{load:.2}")));
    let mut text = super::heading(&report.machine);
    text += &format!("load {before} when it began, {after} when it ended; times in microseconds\n");
    let mut block = String::new();
    for row in &report.rows {
        let title = start::title(row);
        if block != title {
            let names = ["min", "median", "p99", "p99.9", "ratio", "p99 ratio", "target", "met"];
            text += &format!("\n{title}\n{}", line("", names.map(str::to_owned)));
        }
        block = title;
        text += &line(row.name, cells(row));
    }
    text += "\nRatios are to the medians of E and F in the same block: the median of the ratios within each \
             turn, and the\nratio of p99 to the floor's median.\n";
    let misses: usize = report.rows.iter().map(|row| row.misses).sum();
    text += &format!("Calls that found no parked VM, which are in no row: {misses}.\n");
    for row in report.rows.iter().filter(|row| row.misses > 0) {
        text +=
            &format!("  {}: {} of {}\n", start::title(row), row.misses, row.samples + row.misses);
    }
    text += &crowded(&report.crowded);
    if !report.left_out.is_empty() {
        text += "\nLeft out:\n";
    }
    for left_out in &report.left_out {
        text += &format!("  {}: {}\n", left_out.what, left_out.reason);
    }
    text + &functions(&report.memory.functions) + &parked(&report.memory.parked)
}

fn cells(row: &Row) -> [String; 8] {
    let ratio = |ratio: Option<f64>| match (ratio, row.floor) {
        (Some(ratio), Some(floor)) => format!("{ratio:.2} {}", floor.letter()),
        _ => String::new(),
    };
    let targets = row.targets.iter();
    let wanted = targets.clone().map(|target| match target.of {
        Statistic::Median => format!("<= {}", target.at_most),
        Statistic::P99 => format!("p99 <= {}", target.at_most),
    });
    let met = targets.map(|target| yes_or_no(target.met));
    [
        micros(row.min),
        micros(row.median),
        micros(row.p99),
        micros(row.p999),
        ratio(row.ratio),
        ratio(row.p99_ratio),
        wanted.collect::<Vec<_>>().join(", "),
        met.collect::<Vec<_>>().join(", "),
    ]
}

fn line(
    name: &str,
    [min, median, p99, p999, ratio, p99_ratio, target, met]: [String; 8],
) -> String {
    trimmed(&format!(
        "  {name:29} {min:>9} {median:>9} {p99:>9} {p999:>9} {ratio:>9} {p99_ratio:>9}  {target:18} {met}"
    ))
}

/// Thousands of bytes.
fn kb(bytes: f64) -> String {
    format!("{:.0}", bytes / 1000.0)
}

fn crowded(rows: &[Crowded]) -> String {
    let mut text = String::new();
    for Crowded { function, parked, ratio, target, met } in rows {
        if text.is_empty() {
            text += "\nParked start in a worker, its ratio to E as a ratio to that with 10 VMs parked\n";
        }
        let target = target.map(|target| format!("<= {target}")).unwrap_or_default();
        let met = met.map_or("", yes_or_no);
        text += &trimmed(&format!(
            "  {function:24} {parked:>6} VMs parked {ratio:>6.2}  {target:8} {met}"
        ));
    }
    text
}

fn functions(rows: &[FunctionsMemory]) -> String {
    let mut text = "\nSnapshots of small functions, in KB\n".to_owned();
    let line = |cells: [&str; 4]| {
        format!("{:>12} {:>16} {:>20} {:>22}\n", cells[0], cells[1], cells[2], cells[3])
    };
    text += &line(["functions", "content of one", "not shared, of all", "files of the process"]);
    for row in rows {
        let (content, own) = (kb(row.content as f64), kb(row.own as f64));
        text += &line([&row.functions.to_string(), &content, &own, &kb(row.files as f64)]);
    }
    text
}

fn parked(rows: &[ParkedMemory]) -> String {
    let mut text = "\nParked VMs of one small function, in KB for each VM\n".to_owned();
    let line = |cells: [&str; 9]| {
        let [count, limits, pss, private, kernel, total, target, met, machine] = cells;
        trimmed(&format!(
            "{count:>12} {limits:>8} {pss:>8} {private:>9} {kernel:>8} {total:>8}   {target:8} {met:4} \
             {machine:>14}"
        ))
    };
    text += &line([
        "parked VMs",
        "limits",
        "PSS",
        "private",
        "kernel",
        "in all",
        "target",
        "met",
        "whole machine",
    ]);
    for row in rows {
        let numbers = [row.pss, row.private, row.kernel, row.total, row.machine].map(kb);
        let [pss, private, kernel, total, machine] = numbers.each_ref().map(String::as_str);
        let target = row.target.map(|target| format!("<= {}", kb(target))).unwrap_or_default();
        let met = row.met.map_or("", yes_or_no);
        let count = row.parked.to_string();
        text += &line([&count, row.limits, pss, private, kernel, total, &target, met, machine]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::{check_lines, machine};
    use clap::{Args, Command, FromArgMatches};
    use sandgrain_bench::start::{Floor, LeftOut, Memory, Target};

    fn arguments(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let command = Arguments::augment_args(Command::new("test").no_binary_name(true));
        command
            .try_get_matches_from(arguments)
            .and_then(|matches| Arguments::from_arg_matches(&matches))
    }

    #[test]
    fn without_options_it_is_one_and_two_callers_and_one_to_five_thousand_vms() {
        let options = arguments(&[]).unwrap().options("w".into());
        let (callers, parked) = (vec![1, 2], vec![1, 10, 100, 1000, 5000]);
        let (wasmtime, python, worker) = (None, None, "w".into());
        let expected = Options { samples: 500, callers, parked, wasmtime, python, worker };
        assert_eq!(options, expected);
    }

    #[test]
    fn numbers_are_lists() {
        let given = ["--samples=5", "--callers=1,2,4", "--parked", "10,5000", "--wasmtime=w"];
        let options = arguments(&given).unwrap().options("w".into());
        assert_eq!((options.samples, options.callers), (5, vec![1, 2, 4]));
        assert_eq!((options.parked, options.wasmtime), (vec![10, 5000], Some("w".into())));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for given in ["--samples=0", "--callers=0", "--callers=1,x", "--parked=-1", "--parked="] {
            arguments(&[given]).expect_err(given);
        }
    }

    fn row(name: &'static str) -> Row {
        Row {
            function: "f",
            name,
            callers: 2,
            parked: 100,
            samples: 5,
            misses: 0,
            min: 20.0,
            median: 25.04,
            p99: 40.0,
            p999: 41.0,
            floor: None,
            ratio: None,
            ratio_of_medians: None,
            p99_ratio: None,
            targets: Vec::new(),
            times: Vec::new(),
        }
    }

    #[test]
    fn the_table_shows_figures_targets_misses_and_what_is_left_out() {
        let machine = machine();
        let parked = Row {
            misses: 3,
            floor: Some(Floor::RoundTrip),
            ratio: Some(2.4),
            p99_ratio: Some(7.0),
            targets: vec![
                Target { of: Statistic::Median, at_most: 2.5, met: true },
                Target { of: Statistic::P99, at_most: 6.0, met: false },
            ],
            ..row("parked, fresh")
        };
        let vms = ParkedMemory {
            parked: 100,
            pss: 1e5,
            private: 9e4,
            kernel: 3e5,
            total: 4e5,
            machine: 5e5,
            limits: "default",
            target: Some(3.5e5),
            met: Some(false),
        };
        let functions = vec![FunctionsMemory {
            functions: 10,
            content: 1_700_000,
            own: 90_000,
            files: 2_000_000,
        }];
        let report = Report {
            machine,
            load: [Some(0.5), None],
            unit: "us",
            rows: vec![row("the floor"), parked],
            crowded: vec![Crowded {
                function: "f",
                parked: 5000,
                ratio: 1.25,
                target: Some(1.3),
                met: Some(true),
            }],
            left_out: vec![LeftOut { what: "crun".to_owned(), reason: "none here".to_owned() }],
            memory: Memory { functions, parked: vec![vms] },
        };
        let text = table(&report);
        let expected = [
            "f, 2 callers, 100 VMs parked",
            "the floor 20.0 25.0 40.0 41.0",
            "parked, fresh 20.0 25.0 40.0 41.0 2.40 E 7.00 E <= 2.5, p99 <= 6 yes, no",
            "Calls that found no parked VM, which are in no row: 3.",
            "f, 2 callers, 100 VMs parked: 3 of 8",
            "f 5000 VMs parked 1.25 <= 1.3 yes",
            "crun: none here",
            "10 1700 90 2000",
            "100 default 100 90 300 400 <= 350 no 500",
        ];
        check_lines(&text, &expected);
        assert!(text.contains("load 0.50 when it began, ? when it ended"), "{text}");
    }
}
