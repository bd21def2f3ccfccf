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
    /// In the VM, compilation included.
    seconds: f64,
}

impl Tally {
    fn print(&self, title: &str) {
        let Self { scripts, passed, failed, skipped, seconds } = self;
        println!("{title:<37} {scripts:>7} {passed:>7} {failed:>7} {skipped:>7} {seconds:>7.1}");
    }
}

/// All that happened.
#[derive(Default)]
pub struct Report {
    suites: BTreeMap<String, Tally>,
    /// How often each reason made a directive be skipped.
    reasons: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
    /// What passes in the VM only.
    only_in_vm: Vec<String>,
}

/// The outcomes of a script, or why it could not be run.
type Outcomes = Result<Vec<(usize, Outcome)>, String>;

impl Report {
    /// Adds a script: its outcomes in the VM, the seconds that it took, and its outcomes in process.
    pub fn add(&mut self, script: &Script, vm: Outcomes, seconds: f64, process: Outcomes) {
        let tally = self.suites.entry(script.suite.clone()).or_default();
        tally.scripts += 1;
        tally.seconds += seconds;
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
                        Outcome::Passed => "passes in process".to_owned(),
                        Outcome::Failed(same) if same == what => "the same in process".to_owned(),
                        Outcome::Failed(other) => format!("in process: {other}"),
                        Outcome::Skipped(reason) => format!("skipped in process: {reason}"),
                    };
                    self.failures.push(format!("{place}: {what} ({also})"));
                }
                (Outcome::Skipped(reason), _) => {
                    tally.skipped += 1;
                    *self.reasons.entry(reason).or_default() += 1;
                }
                (Outcome::Passed, in_process) => {
                    tally.passed += 1;
                    match in_process {
                        Outcome::Passed => {}
                        Outcome::Failed(what) => self.only_in_vm.push(format!("{place}: {what}")),
                        Outcome::Skipped(why) => self.only_in_vm.push(format!("{place}: {why}")),
                    }
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
        let columns = ["scripts", "passed", "failed", "skipped", "seconds"];
        let [scripts, passed, failed, skipped, seconds] = columns;
        println!("{:<37} {scripts:>7} {passed:>7} {failed:>7} {skipped:>7} {seconds:>7}", "");
        let mut sum = Tally::default();
        for (suite, tally) in &self.suites {
            tally.print(suite);
            sum.scripts += tally.scripts;
            sum.passed += tally.passed;
            sum.failed += tally.failed;
            sum.skipped += tally.skipped;
            sum.seconds += tally.seconds;
        }
        sum.print("all");
        let reasons = self.reasons.iter().map(|(reason, count)| format!("{count:>6} {reason}"));
        print_list("skipped", &reasons.collect::<Vec<_>>());
        print_list("passed in the VM, but not in process", &self.only_in_vm);
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
