//! Figures.

use crate::machine::Machine;
use serde::Serialize;
use std::time::Duration;

/// What a measured thing is to reach, compared with its floor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// It is the floor.
    Floor,
    /// Nothing in particular.
    None,
    /// At most so many times the floor's time.
    AtMost(f64),
    /// At least this share of the floor's speed.
    SpeedAtLeast(f64),
}

/// The figures of one thing, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its group.
    pub group: &'static str,
    /// What was measured.
    pub name: &'static str,
    /// The shortest time.
    pub min: f64,
    /// The time that half of the samples kept below.
    pub median: f64,
    /// The time that 99 of 100 samples kept below.
    pub p99: f64,
    /// How many samples there are.
    pub samples: usize,
    /// The median of the ratios between the samples of a turn: time to floor's time, or for a goal of
    /// speed the floor's time to time. `None` for the floor itself.
    pub ratio: Option<f64>,
    /// The same of the medians.
    pub ratio_of_medians: Option<f64>,
    /// How often it leaves the VM, where that was counted.
    pub exits: Option<u64>,
    /// What it is to reach.
    pub goal: Goal,
    /// Whether `ratio` does.
    pub met: Option<bool>,
}

/// All figures of a run, and what they were measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// Of times.
    pub unit: &'static str,
    /// All that was measured.
    pub rows: Vec<Row>,
}

impl Row {
    /// The figures of samples that were taken in turns with the floor's. Neither may be empty.
    pub(crate) fn new(
        group: &'static str,
        name: &'static str,
        goal: Goal,
        samples: &[Duration],
        floor: &[Duration],
    ) -> Self {
        let micros = |samples: &[Duration]| {
            let micros = samples.iter().map(|sample| sample.as_secs_f64() * 1e6);
            micros.collect::<Vec<f64>>()
        };
        let (own, floor) = (micros(samples), micros(floor));
        let ratio = |own: f64, floor: f64| match goal {
            Goal::SpeedAtLeast(_) => floor / own,
            _ => own / floor,
        };
        let pairs = own.iter().zip(&floor).map(|(own, floor)| ratio(*own, *floor));
        let pairwise = quantile(pairs.collect(), 0.5);
        let median = quantile(own.clone(), 0.5);
        let is_floor = goal == Goal::Floor;
        Self {
            group,
            name,
            min: quantile(own.clone(), 0.0),
            median,
            p99: quantile(own, 0.99),
            samples: samples.len(),
            ratio: (!is_floor).then_some(pairwise),
            ratio_of_medians: (!is_floor).then(|| ratio(median, quantile(floor, 0.5))),
            exits: None,
            goal,
            met: match goal {
                Goal::Floor | Goal::None => None,
                Goal::AtMost(most) => Some(pairwise <= most),
                Goal::SpeedAtLeast(least) => Some(pairwise >= least),
            },
        }
    }
}

/// The smallest value that this share of the values does not exceed.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(values: &[u64]) -> Vec<Duration> {
        values.iter().map(|value| Duration::from_millis(*value)).collect()
    }

    #[test]
    fn quantiles_are_values_of_the_list() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(quantile(values.clone(), 0.0), 1.0);
        assert_eq!(quantile(values.clone(), 0.5), 100.0);
        assert_eq!(quantile(values, 0.99), 198.0);
    }

    #[test]
    fn a_turn_that_is_slow_as_a_whole_does_not_change_the_ratio() {
        let (own, floor) = (millis(&[24, 1200, 12]), millis(&[20, 1000, 10]));
        let row = Row::new("g", "n", Goal::AtMost(1.3), &own, &floor);
        assert!((row.ratio.unwrap() - 1.2).abs() < 1e-9);
        assert_eq!(row.met, Some(true));
    }

    #[test]
    fn a_goal_of_speed_is_the_floors_time_to_the_own() {
        let row =
            Row::new("g", "n", Goal::SpeedAtLeast(0.95), &millis(&[20, 20]), &millis(&[10, 10]));
        assert_eq!(row.ratio, Some(0.5));
        assert_eq!(row.met, Some(false));
    }

    #[test]
    fn a_floor_has_no_ratio() {
        let own = millis(&[1]);
        let row = Row::new("g", "n", Goal::Floor, &own, &own);
        assert_eq!((row.ratio, row.met), (None, None));
    }
}
