//! What the run prints.

use crate::script::Outcome;
use crate::scripts::Script;
use std::collections::BTreeMap;

#[derive(Default)]
struct Tally {
    scripts: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    seconds: f64,
}

/// All that happened.
#[derive(Default)]
pub struct Report {
    suites: BTreeMap<String, Tally>,
    /// How often each reason made something be skipped.
    reasons: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
    /// What passes in the VM only.
    notes: Vec<String>,
    slowest: Vec<(f64, f64, String)>,
}

/// The outcomes of a script, or why it could not be run.
type Outcomes = Result<Vec<(usize, Outcome)>, String>;

impl Report {
    /// Adds a script: its outcomes in the VM and in process, and the seconds that each took.
    pub fn add(&mut self, script: &Script, vm: Outcomes, process: Outcomes, times: [f64; 2]) {
        let tally = self.suites.entry(script.suite.clone()).or_default();
        tally.scripts += 1;
        tally.seconds += times[0];
        self.slowest.push((times[0], times[1], script.name.clone()));
        if let Some(reason) = script.skipped {
            tally.skipped += 1;
            *self.reasons.entry(reason).or_default() += 1;
            return;
        }
        let (vm, process) = match (vm, process) {
            (Ok(vm), Ok(process)) => (vm, process),
            (Err(error), _) | (_, Err(error)) => {
                tally.failed += 1;
                self.failures.push(format!("{}: cannot be run: {error}", script.name));
                return;
            }
        };
        for ((line, in_vm), (_, in_process)) in vm.into_iter().zip(process) {
            let place = format!("{}:{line}", script.name);
            match (in_vm, in_process) {
                (Outcome::Failed(what), in_process) => {
                    tally.failed += 1;
                    let also = match in_process {
                        Outcome::Passed => "; passes in process".to_owned(),
                        Outcome::Failed(same) if same == what => "; so in process".to_owned(),
                        Outcome::Failed(other) => format!("; in process: {other}"),
                        Outcome::Skipped(reason) => format!("; skipped in process: {reason}"),
                    };
                    self.failures.push(format!("{place}: {what}{also}"));
                }
                (Outcome::Skipped(reason), _) => {
                    tally.skipped += 1;
                    *self.reasons.entry(reason).or_default() += 1;
                }
                (Outcome::Passed, in_process) => {
                    tally.passed += 1;
                    if let Outcome::Failed(what) = in_process {
                        self.notes.push(format!("{place}: {what}"));
                    }
                }
            }
        }
    }

    /// Adds exceptions that nothing needs any more: failures, so that they are removed.
    pub fn unused_exceptions(&mut self, unused: Vec<String>) {
        let lines = unused.into_iter().map(|what| format!("an exception without use: {what}"));
        self.failures.extend(lines);
    }

    pub fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    pub fn print(&mut self) {
        println!("{:<40} {:>7} {:>7} {:>7} {:>7} {:>8}", "", "scripts", "passed", "failed", "skipped", "seconds");
        let mut all = Tally::default();
        for (suite, tally) in &self.suites {
            let Tally { scripts, passed, failed, skipped, seconds } = tally;
            println!("{suite:<40} {scripts:>7} {passed:>7} {failed:>7} {skipped:>7} {seconds:>8.1}");
            all.passed += passed;
            all.failed += failed;
            all.skipped += skipped;
        }
        self.slowest.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (vm, process, name) in self.slowest.iter().take(15) { println!("{name} {vm:.2} {process:.2}"); }
        for (title, lines) in [
            ("passed in the VM only; in process:", &self.notes),
            ("failures:", &self.failures),
        ] {
            if !lines.is_empty() {
                println!("\n{title}");
                lines.iter().for_each(|line| println!("  {line}"));
            }
        }
        println!("\nskipped:");
        for (reason, count) in &self.reasons {
            println!("{count:>7} {reason}");
        }
        println!("\n{} passed, {} failed, {} skipped", all.passed, all.failed, all.skipped);
    }
}
