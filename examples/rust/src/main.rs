//! Reads a text file and standard input and counts words: files, collections, the clock and random
//! numbers (every `HashMap` draws some). `--panic` panics a few calls deep: without unwinding that
//! is a trap, whose backtrace shows this program's function names.
//!
//! ```text
//! textstats FILE [--write FILE] [--panic] [--exit CODE]
//! ```

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, Write};
use std::process;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() -> io::Result<()> {
    let mut arguments: VecDeque<String> = env::args().skip(1).collect();
    let Some(path) = arguments.pop_front() else {
        eprintln!("usage: textstats FILE [--write FILE] [--panic] [--exit CODE]");
        process::exit(2);
    };
    let text = fs::read_to_string(&path).unwrap_or_else(|error| {
        eprintln!("{path}: {error}");
        process::exit(3);
    });

    let counts = count_words(&text);
    // Sorted: a HashMap's own order differs from run to run.
    let mut ranked: Vec<_> = counts.iter().collect();
    ranked.sort_by(|left, right| right.1.cmp(left.1).then(left.0.cmp(right.0)));
    println!("{path}: {} different words", counts.len());
    for (word, count) in ranked.iter().take(3) {
        println!("{count:>4}  {word}");
    }

    let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        *lengths.entry(line?.chars().count()).or_default() += 1;
    }
    println!("line lengths on standard input: {lengths:?}");

    check_clock();
    check_random();

    while let Some(argument) = arguments.pop_front() {
        match argument.as_str() {
            "--panic" => outer(ranked.len()),
            "--write" => {
                let target = arguments.pop_front().unwrap_or_default();
                let report = format!("{} words\n", counts.len());
                fs::write(&target, &report)?;
                assert_eq!(fs::read_to_string(&target)?, report);
                println!("wrote {} bytes to {target}", fs::metadata(&target)?.len());
            }
            "--exit" => {
                let code = arguments.pop_front().and_then(|code| code.parse().ok());
                io::stdout().flush()?;
                process::exit(code.unwrap_or(2));
            }
            other => {
                eprintln!("unknown argument {other:?}");
                process::exit(2);
            }
        }
    }
    Ok(())
}

fn count_words(text: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_insert(0) += 1;
    }
    counts
}

/// Says only whether the clocks make sense, so that the output is the same in every run.
fn check_clock() {
    let started = Instant::now();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let after_2020 = since_1970 > Duration::from_secs(50 * 365 * 24 * 3600);
    println!("clock after 2020: {after_2020}, monotonic: {}", Instant::now() >= started);
}

/// Two states of a program share one random seed, plus one: the same key hashes differently.
fn check_random() {
    let hashes: HashSet<u64> = (0..8).map(|_| RandomState::new().hash_one("sand")).collect();
    println!("random: {}", hashes.len() == 8);
}

#[inline(never)]
fn outer(depth: usize) {
    middle(depth);
    println!("never printed");
}

#[inline(never)]
fn middle(depth: usize) {
    let none: Option<usize> = std::hint::black_box(None);
    innermost(none, depth);
}

#[inline(never)]
fn innermost(value: Option<usize>, depth: usize) {
    println!("about to panic");
    println!("{}", value.expect("a value that is not there") + depth);
}
