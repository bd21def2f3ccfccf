//! What the run prints.

use crate::script::{Directive, Outcome};
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

/// The directives of a script, or why it could not be run.
type Directives = Result<Vec<Directive>, String>;

/// All that happened.
#[derive(Default)]
pub struct Report {
    suites: BTreeMap<String, Tally>,
    /// How often each reason made a directive be skipped.
    reasons: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Report {
    /// Adds a script: what became of its directives in VMs and in process, which has to be the same.
    pub fn add(&mut self, script: &Script, vm: Directives, process: Directives) {
        let tally = self.suites.entry(script.suite.clone()).or_default();
        tally.scripts += 1;
        let (vm, process) = match (vm, process) {
            (Ok(vm), Ok(process)) => (vm, process),
            (Err(error), _) | (_, Err(error)) => {
                tally.failed += 1;
                self.failures.push(format!("{}: cannot be run: {error}", script.name));
                return;
            }
        };
        for (in_vm, in_process) in vm.into_iter().zip(process) {
            let place = format!("{}:{}", script.name, in_vm.line);
            match in_vm.outcome {
                Outcome::Failed(what) => {
                    tally.failed += 1;
                    let also = in_process.outcome;
                    self.failures.push(format!("{place}: {what} (in process: {also:?})"));
                }
                outcome if outcome != in_process.outcome => {
                    tally.failed += 1;
                    let other = in_process.outcome;
                    self.failures.push(format!("{place}: {outcome:?}, but in process {other:?}"));
                }
                _ if in_vm.seen != in_process.seen => {
                    tally.failed += 1;
                    let (seen, other) = (in_vm.seen, in_process.seen);
                    self.failures.push(format!("{place}: {seen:?}, but in process {other:?}"));
                }
                Outcome::Passed => tally.passed += 1,
                Outcome::Skipped(reason) => {
                    tally.skipped += 1;
                    *self.reasons.entry(reason).or_default() += 1;
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
