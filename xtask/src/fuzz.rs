//! Fuzzing: builds the targets in `fuzz/`, runs each for a while, and sums up what it did.

use clap::Args;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

type Error = Box<dyn std::error::Error>;

/// All targets, quick ones first.
const TARGETS: [&str; 6] = ["messages", "arguments", "artifacts", "hypercalls", "wasi", "engines"];

/// What to run.
#[derive(Args)]
pub struct Arguments {
    /// How long each target runs; parts of a minute are possible.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Only builds them.
    #[arg(long)]
    build: bool,
    /// Which targets; all by default.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    targets: Vec<String>,
}

/// Builds and runs the targets.
pub fn run(arguments: &Arguments) -> Result<u8, Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask is in no workspace")?;
    let fuzz = root.join("fuzz");
    let builds = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => std::path::absolute(directory)?,
        None => root.join("target"),
    };
    build(&fuzz, &builds)?;
    if arguments.build {
        return Ok(0);
    }
    let all = || TARGETS.map(str::to_owned).to_vec();
    let targets = if arguments.targets.is_empty() { all() } else { arguments.targets.clone() };
    // Through all of them, whatever one finds.
    let mut code = 0;
    for target in targets {
        code |= u8::from(!run_target(&builds, &target, arguments.minutes)?);
    }
    Ok(code)
}

fn build(fuzz: &Path, builds: &Path) -> Result<(), Error> {
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--profile", "fuzz", "--bins", "--target-dir"])
        .arg(builds)
        .current_dir(fuzz)
        .env("RUSTC_WRAPPER", fuzz.join("rustc"))
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the fuzz targets do not build; libFuzzer is C++: is there a compiler (g++)?".into())
    }
}

/// Runs a target; whether it found nothing.
fn run_target(builds: &Path, target: &str, minutes: f64) -> Result<bool, Error> {
    let program = builds.join("fuzz").join(target);
    let place = builds.join("fuzzing").join(target);
    let [corpus, seeds] = ["corpus", "seeds"].map(|name| place.join(name));
    for directory in [&corpus, &seeds] {
        fs::create_dir_all(directory)?;
    }
    let log = place.join("log");
    // What a run before has found stays where it is.
    let mut findings = place.clone().into_os_string();
    findings.push("/");
    let mut prefix = std::ffi::OsString::from("-artifact_prefix=");
    prefix.push(&findings);
    let started = Instant::now();
    let status = Command::new(&program)
        .arg(format!("-max_total_time={}", (minutes * 60.0).ceil().max(1.0)))
        .args(["-print_final_stats=1", "-timeout=60", "-rss_limit_mb=3000", "-max_len=32768"])
        .arg(prefix)
        .args([&corpus, &seeds])
        .env("SANDGRAIN_FUZZ_SEEDS", &seeds)
        .env("RUST_BACKTRACE", "1")
        .stdout(File::create(place.join("output"))?)
        .stderr(File::create(&log)?)
        .status()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let run = Run::of(&text);
    let total = place.join("total");
    let all = Total::read(&total)?.with(started.elapsed(), run.executions);
    fs::write(&total, all.text())?;
    report(target, &run, &all);
    if status.success() {
        return Ok(true);
    }
    explain(&program, &log, &text);
    Ok(false)
}

/// What libFuzzer says of a run; nothing where it does not.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    executions: Option<u64>,
    per_second: Option<u64>,
    /// Branches that some input took, and all that there are in what is compiled for it.
    covered: Option<u64>,
    branches: Option<u64>,
}

impl Run {
    fn of(log: &str) -> Self {
        let statistic = |name: &str| {
            let value = log.lines().rev().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse().ok()
        };
        let words: Vec<&str> = log.split_whitespace().collect();
        let covered = words.windows(2).rfind(|pair| pair[0] == "cov:");
        let branches = log.lines().find_map(|line| {
            let counters = line.strip_prefix("INFO: Loaded ")?.split_once('(')?.1;
            counters.split_once(" inline 8-bit counters")?.0.parse().ok()
        });
        Self {
            executions: statistic("stat::number_of_executed_units:"),
            per_second: statistic("stat::average_exec_per_sec:"),
            covered: covered.and_then(|pair| pair[1].parse().ok()),
            branches,
        }
    }
}

/// All runs of a target so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    seconds: u64,
    executions: u64,
}

impl Total {
    fn read(file: &Path) -> Result<Self, Error> {
        if !file.exists() {
            return Ok(Self::default());
        }
        Self::parse(&fs::read_to_string(file)?).ok_or_else(|| {
            format!("{} is no total of ours; try: deleting it", file.display()).into()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (seconds, executions) = text.trim_end().split_once(" seconds, ")?;
        let executions = executions.strip_suffix(" executions")?;
        Some(Self { seconds: seconds.parse().ok()?, executions: executions.parse().ok()? })
    }

    fn text(&self) -> String {
        format!("{} seconds, {} executions\n", self.seconds, self.executions)
    }

    fn with(self, time: Duration, executions: Option<u64>) -> Self {
        Self {
            seconds: self.seconds + time.as_secs(),
            executions: self.executions + executions.unwrap_or(0),
        }
    }
}

#[allow(clippy::print_stdout, reason = "a command's own words")]
fn report(target: &str, run: &Run, all: &Total) {
    let or_unknown = |number: Option<u64>| number.map_or("?".to_owned(), |n| n.to_string());
    let [executions, per_second, covered, branches] =
        [run.executions, run.per_second, run.covered, run.branches].map(or_unknown);
    println!(
        "{target:10} {executions:>10} executions, {per_second:>7} per second, {covered:>5} of \
         {branches} branches covered; in all {}.{} hours, {} executions",
        all.seconds / 3600,
        all.seconds % 3600 / 360,
        all.executions,
    );
}

#[allow(clippy::print_stderr, reason = "a command's own words")]
fn explain(program: &Path, log: &Path, text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    // The panic comes well before the end, behind which are a backtrace and the input.
    let start = lines.iter().position(|line| line.contains("panicked at"));
    let start = start.unwrap_or(lines.len().saturating_sub(20));
    for line in lines.iter().skip(start).take(20) {
        eprintln!("  {line}");
    }
    let input = text.lines().rev().find_map(|line| line.split_once("Test unit written to "));
    let input = input.map_or_else(|| PathBuf::from("INPUT"), |(_, path)| PathBuf::from(path));
    eprintln!(
        "error: {} failed; all of it is in {}; again: {} {}",
        program.file_name().unwrap_or_default().display(),
        log.display(),
        program.display(),
        input.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
INFO: Running with entropic power schedule (0xFF, 100).
INFO: Seed: 2718281828
INFO: Loaded 1 modules   (5678 inline 8-bit counters): 5678 [0x5581, 0x6bff), \n\
INFO: Loaded 1 PC tables (5678 PCs): 5678 [0x6c00,0x1cee0), \n\
#2\tINITED cov: 900 ft: 901 corp: 1/1b exec/s: 0 rss: 40Mb
#4096\tpulse  cov: 1234 ft: 3000 corp: 80/2Kb lim: 43 exec/s: 2048 rss: 44Mb
Done 9000 runs in 2 second(s)
stat::number_of_executed_units: 9000
stat::average_exec_per_sec:     4500
stat::new_units_added:          79
";

    #[test]
    fn a_run_is_read_from_its_log() {
        let run = Run {
            executions: Some(9000),
            per_second: Some(4500),
            covered: Some(1234),
            branches: Some(5678),
        };
        assert_eq!(Run::of(LOG), run);
    }

    #[test]
    fn what_a_log_does_not_say_is_not_made_up() {
        let run = Run { executions: None, per_second: None, covered: None, branches: None };
        assert_eq!(Run::of(""), run);
        assert_eq!(Run::of("INFO: Loaded 1 PC tables (5678 PCs)\ncov: many\ncov:"), run);
    }

    #[test]
    fn runs_add_up_from_one_time_to_the_next() {
        let once = Total::default().with(Duration::from_secs(60), Some(9000));
        let read = Total::parse(&once.text()).unwrap();
        assert_eq!(read, once);
        // One that crashed before it counted.
        let twice = read.with(Duration::from_secs(5), None);
        assert_eq!(twice, Total { seconds: 65, executions: 9000 });
    }

    #[test]
    fn what_is_no_total_is_refused() {
        for text in ["", "1 seconds", "1 seconds, 2", "x seconds, 2 executions", "1, 2"] {
            assert_eq!(Total::parse(text), None, "{text}");
        }
    }
}
