//! What the run prints.

use crate::script::Outcome;
use crate::suite::Script;
use std::collections::BTreeMap;

#[derive(Default)]
struct Tally {
    scripts: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    fn print(&self, title: &str) {
        let Self { scripts, passed, failed, skipped } = self;
        println!("{title:<25} {scripts:>7} {passed:>7} {failed:>7} {skipped:>7}");
    }
}

/// All that happened.
#[derive(Default)]
pub struct Report {
    suites: BTreeMap<String, Tally>,
    /// How often each reason made a directive be skipped.
    reasons: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Report {
    /// Adds a script: its outcomes, or why it could not be run.
    pub fn add(&mut self, script: &Script, outcomes: Result<Vec<(usize, Outcome)>, String>) {
        let tally = self.suites.entry(script.suite.clone()).or_default();
        tally.scripts += 1;
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => vec![(1, Outcome::Failed(format!("cannot be run: {error}")))],
        };
        for (line, outcome) in outcomes {
            match outcome {
                Outcome::Passed => tally.passed += 1,
                Outcome::Skipped(reason) => {
                    tally.skipped += 1;
                    *self.reasons.entry(reason).or_default() += 1;
                }
                Outcome::Failed(what) => {
                    tally.failed += 1;
                    self.failures.push(format!("{}:{line}: {what}", script.name));
                }
            }
        }
    }

    /// Adds exceptions that nothing needs any more: failures, so that they are removed.
    pub fn add_unused_exceptions(&mut self, unused: Vec<String>) {
        for what in unused {
            self.suites.entry("exceptions without use".to_owned()).or_default().failed += 1;
            self.failures.push(what);
        }
    }

    pub fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Prints it. The last line is the sum.
    pub fn print(&self) {
        let [scripts, passed, failed, skipped] = ["scripts", "passed", "failed", "skipped"];
        println!("{:<25} {scripts:>7} {passed:>7} {failed:>7} {skipped:>7}", "");
        let mut sum = Tally::default();
        for (suite, tally) in &self.suites {
            tally.print(suite);
            sum.scripts += tally.scripts;
            sum.passed += tally.passed;
            sum.failed += tally.failed;
            sum.skipped += tally.skipped;
        }
        sum.print("all");
        let reasons = self.reasons.iter().map(|(reason, count)| format!("{count:>6} {reason}"));
        print_list("skipped", &reasons.collect::<Vec<_>>());
        print_list("failed", &self.failures);
        println!("\n{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    }
}

fn print_list(title: &str, lines: &[String]) {
    if !lines.is_empty() {
        println!("\n{title}:");
        lines.iter().for_each(|line| println!("  {line}"));
    }
}
