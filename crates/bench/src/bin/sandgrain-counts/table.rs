//! What is printed: tables as docs/structural-counts.md has them.

use crate::counts::{Counts, FROM_OUTSIDE, NESTED_PAGE_FAULT, exit_name, ioctl_name};
use std::collections::BTreeMap;

/// One of the counts, out of all.
type Count<'a> = &'a dyn Fn(&Counts) -> f64;

/// The tables of some rounds, each of which has done the same. A range where they differ.
pub fn table(rounds: &[Vec<(&'static str, Counts)>]) -> String {
    let mut text = String::from(
        "| operation | KVM ioctls | VM exits | nested page faults | pages mapped | TLB flushes |\n\
         |---|---|---|---|---|---|\n",
    );
    let mut details = String::from("\n| operation | ioctls | exits |\n|---|---|---|\n");
    for (index, (operation, _)) in rounds.first().into_iter().flatten().enumerate() {
        let all: Vec<&Counts> =
            rounds.iter().filter_map(|round| round.get(index)).map(|(_, counts)| counts).collect();
        let cells: [Count; 5] = [
            &|counts| counts.ioctls.values().sum(),
            &|counts| own_exits(counts).values().sum(),
            &|counts| amount(&counts.exits, &NESTED_PAGE_FAULT),
            &|counts| amount(&counts.statistics, &"pf_fixed"),
            &|counts| amount(&counts.statistics, &"tlb_flush"),
        ];
        let cells = cells.map(|count| range(&all, count)).join(" | ");
        text += &format!("| {operation} | {cells} |\n");
        let ioctls = named(&all, |counts| counts.ioctls.clone(), ioctl_name);
        let exits = named(&all, own_exits, exit_name);
        details += &format!("| {operation} | {ioctls} | {exits} |\n");
    }
    text + &details
}

/// Exits that are the guest's doing.
fn own_exits(counts: &Counts) -> BTreeMap<u64, f64> {
    let mut exits = counts.exits.clone();
    exits.retain(|reason, _| !FROM_OUTSIDE.contains(reason));
    exits
}

fn amount<K: Ord>(amounts: &BTreeMap<K, f64>, key: &K) -> f64 {
    amounts.get(key).copied().unwrap_or_default()
}

/// Each kind with its amount: `RUN 2, SET_REGS 1`.
fn named(
    all: &[&Counts],
    amounts: impl Fn(&Counts) -> BTreeMap<u64, f64>,
    name: impl Fn(u64) -> String,
) -> String {
    let mut keys: Vec<u64> = all.iter().flat_map(|counts| amounts(counts).into_keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let words = keys.into_iter().map(|key| {
        format!("{} {}", name(key), range(all, &|counts| amount(&amounts(counts), &key)))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The least and the most of all rounds, or the one amount that they agree on.
fn range(all: &[&Counts], count: Count) -> String {
    let amounts = || all.iter().map(|counts| count(counts));
    let (least, most) = (amounts().fold(f64::MAX, f64::min), amounts().fold(f64::MIN, f64::max));
    if least < 0.0 {
        // A VM that went away has taken its own along.
        return "-".to_owned();
    }
    // Sums of nothing are -0.
    let number = |n: f64| {
        if n == 0.0 {
            "0".to_owned()
        } else if n.fract() == 0.0 {
            format!("{n:.0}")
        } else {
            format!("{n:.2}")
        }
    };
    if least == most {
        return number(least);
    }
    format!("{} to {}", number(least), number(most))
}

#[cfg(test)]
mod tests {
    use super::{Counts, table};

    fn counts(runs: f64, faults: f64, mapped: f64) -> Counts {
        Counts {
            ioctls: [(0x80, runs)].into(),
            exits: [(0x400, faults), (0x7b, 1.0), (0x60, 99.0)].into(),
            statistics: [("pf_fixed", mapped)].into(),
        }
    }

    fn of(rounds: &[Counts]) -> String {
        let rounds: Vec<_> = rounds.iter().map(|counts| vec![("call", counts.clone())]).collect();
        table(&rounds)
    }

    #[test]
    fn amounts_that_all_rounds_agree_on_are_numbers() {
        let table = of(&[counts(2.0, 3.0, 4.0), counts(2.0, 3.0, 4.0)]);
        assert!(table.contains("| call | 2 | 4 | 3 | 4 | 0 |"), "{table}");
        assert!(table.contains("| call | RUN 2 | port 1, nested page fault 3 |"), "{table}");
    }

    #[test]
    fn amounts_that_differ_are_ranges() {
        let table = of(&[counts(1.25, 3.0, 4.0), counts(2.0, 1.0, 4.0)]);
        assert!(table.contains("| call | 1.25 to 2 | 2 to 4 | 1 to 3 | 4 | 0 |"), "{table}");
    }

    #[test]
    fn statistics_that_went_with_their_vm_are_unknown() {
        let table = of(&[counts(1.0, 0.0, -7.0)]);
        assert!(table.contains("| call | 1 | 1 | 0 | - | 0 |"), "{table}");
    }
}
