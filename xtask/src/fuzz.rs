//! Fuzzing: builds the targets in `fuzz/`, runs each for a while, and sums up what it did.

use clap::Args;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

type Error = Box<dyn std::error::Error>;

/// All targets, quick ones first.
const TARGETS: [&str; 5] = ["messages", "arguments", "artifacts", "hypercalls", "engines"];

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
    report(target, &text);
    if status.success() {
        return Ok(true);
    }
    explain(&program, &log, &text);
    Ok(false)
}

/// What libFuzzer says at its end, in a line.
#[allow(clippy::print_stdout, reason = "a command's own words")]
fn report(target: &str, log: &str) {
    let number = |name: &str| {
        let line = log.lines().rev().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim)
    };
    let words: Vec<&str> = log.split_whitespace().collect();
    let covered = words.windows(2).rfind(|pair| pair[0] == "cov:").map_or("?", |pair| pair[1]);
    println!(
        "{target:10} {:>10} executions, {:>7} per second, {covered:>5} branches covered",
        number("stat::number_of_executed_units:"),
        number("stat::average_exec_per_sec:"),
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
