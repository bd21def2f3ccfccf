//! Figures of one row.

use crate::report::quantile;
use serde::Serialize;

/// What times are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Floor {
    /// E: into a VM that runs already, and out again.
    RoundTrip,
    /// F: from nothing to the first exit of the smallest VM.
    FreshVm,
}

impl Floor {
    /// Its letter in tables.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::RoundTrip => 'E',
            Self::FreshVm => 'F',
        }
    }
}

/// Which figure a target is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// [`Row::ratio`].
    Median,
    /// [`Row::p99_ratio`].
    P99,
}

/// What a row is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Target {
    /// Of which figure.
    pub of: Statistic,
    /// So many times the floor at most.
    pub at_most: f64,
    /// Whether it does.
    pub met: bool,
}

/// The figures of one thing, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is called.
    pub function: &'static str,
    /// How.
    pub name: &'static str,
    /// By how many threads at once.
    pub callers: usize,
    /// VMs that were parked meanwhile, its own included.
    pub parked: usize,
    /// How many samples there are.
    pub samples: usize,
    /// Samples that found no parked VM, and are not among them.
    pub misses: usize,
    /// The shortest time.
    pub min: f64,
    /// The time that half of the samples kept below.
    pub median: f64,
    /// The time that 99 of 100 samples kept below.
    pub p99: f64,
    /// The time that 999 of 1000 samples kept below.
    pub p999: f64,
    /// What it is compared with; `None` for a floor itself.
    pub floor: Option<Floor>,
    /// The median of the ratios between the samples of a turn: time to floor's time.
    pub ratio: Option<f64>,
    /// The ratio of the medians.
    pub ratio_of_medians: Option<f64>,
    /// `p99` to the floor's median.
    pub p99_ratio: Option<f64>,
    /// What it is to reach.
    pub targets: Vec<Target>,
    /// All samples, shortest first.
    #[serde(skip)]
    pub times: Vec<f64>,
}

/// What a row is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) function: &'static str,
    pub(super) name: &'static str,
    pub(super) callers: usize,
    pub(super) parked: usize,
}

/// A figure, and how many times the floor it may be.
pub(super) type Goal = (Statistic, f64);

impl Row {
    /// The figures of samples, with `None` for each miss, and of the floor's samples of the same turns.
    pub(super) fn new(
        subject: Subject,
        samples: &[Option<f64>],
        floor: Option<(Floor, &[Option<f64>])>,
        goals: &[Goal],
    ) -> Self {
        let mut times: Vec<f64> = samples.iter().copied().flatten().collect();
        times.sort_by(f64::total_cmp);
        let at = |share| quantile(times.clone(), share);
        let (median, p99) = (at(0.5), at(0.99));
        let floor_median =
            floor.map(|(_, samples)| quantile(samples.iter().copied().flatten().collect(), 0.5));
        let ratio = floor.map(|(_, floor)| {
            let pairs = samples.iter().zip(floor);
            quantile(pairs.filter_map(|(own, floor)| Some((*own)? / (*floor)?)).collect(), 0.5)
        });
        let p99_ratio = floor_median.map(|floor| p99 / floor);
        let target = |(of, at_most): &Goal| {
            let measured = match of {
                Statistic::Median => ratio,
                Statistic::P99 => p99_ratio,
            };
            Target {
                of: *of,
                at_most: *at_most,
                met: measured.is_some_and(|ratio| ratio <= *at_most),
            }
        };
        let Subject { function, name, callers, parked } = subject;
        Self {
            function,
            name,
            callers,
            parked,
            samples: times.len(),
            misses: samples.len() - times.len(),
            min: at(0.0),
            median,
            p99,
            p999: at(0.999),
            floor: floor.map(|(floor, _)| floor),
            ratio,
            ratio_of_medians: floor_median.map(|floor| median / floor),
            p99_ratio,
            targets: goals.iter().map(target).collect(),
            times,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::start) const SUBJECT: Subject =
        Subject { function: "a function", name: "a row", callers: 1, parked: 1 };

    #[test]
    fn figures_are_samples() {
        let samples: Vec<_> = (1..=1000).rev().map(|n| Some(f64::from(n))).collect();
        let row = Row::new(SUBJECT, &samples, None, &[]);
        assert_eq!((row.min, row.median, row.p99, row.p999), (1.0, 500.0, 990.0, 999.0));
        assert_eq!((row.samples, row.misses, row.ratio), (1000, 0, None));
    }

    #[test]
    fn a_miss_is_counted_and_no_sample() {
        let (own, floor) = ([Some(30.0), None, Some(60.0)], [Some(10.0), Some(1.0), Some(20.0)]);
        let row = Row::new(SUBJECT, &own, Some((Floor::RoundTrip, &floor)), &[]);
        assert_eq!((row.samples, row.misses, row.ratio), (2, 1, Some(3.0)));
    }

    #[test]
    fn a_turn_that_is_slow_as_a_whole_does_not_change_the_ratio() {
        let (own, floor) =
            ([Some(24.0), Some(1200.0), Some(12.0)], [Some(20.0), Some(1000.0), Some(10.0)]);
        let row = Row::new(SUBJECT, &own, Some((Floor::FreshVm, &floor)), &[]);
        assert!((row.ratio.unwrap() - 1.2).abs() < 1e-9);
    }

    #[test]
    fn the_median_and_the_tail_have_targets_of_their_own() {
        let (mut own, floor) = (vec![Some(20.0); 99], [Some(10.0); 100]);
        own.insert(0, Some(90.0));
        let goals = [(Statistic::Median, 2.5), (Statistic::P99, 1.5)];
        let row = Row::new(SUBJECT, &own, Some((Floor::RoundTrip, &floor)), &goals);
        assert_eq!(row.targets.iter().map(|target| target.met).collect::<Vec<_>>(), [true, false]);
        assert_eq!((row.ratio, row.p99_ratio), (Some(2.0), Some(2.0)));
    }

    #[test]
    fn without_samples_no_target_is_met() {
        let goals = [(Statistic::Median, 2.5)];
        let row = Row::new(SUBJECT, &[None], Some((Floor::RoundTrip, &[Some(10.0)])), &goals);
        assert!(!row.targets[0].met);
    }
}
