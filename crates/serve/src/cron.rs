//! Functions that run by a schedule.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::manifest::Schedule;
use crate::request::run_scheduled;
use crate::server::Shared;
use crate::telemetry::records::unix_millis;

/// Runs what is due, at the beginning of each minute. A minute that the clock jumps over is left out, and one that it
/// jumps back to is not repeated.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut last = minute();
    let mut runs = JoinSet::new();
    loop {
        let into = unix_millis() % 60_000;
        tokio::time::sleep(Duration::from_millis(60_000 - into)).await;
        let now = minute();
        while runs.try_join_next().is_some() {}
        if now <= last || shared.is_draining() {
            continue;
        }
        last = now;
        for deployment in shared.slots.iter().map(|slot| slot.deployment()) {
            for trigger in &deployment.schedules {
                if !is_due(&trigger.schedule, now) {
                    continue;
                }
                if let Some(function) = deployment.functions.get(trigger.function) {
                    let schedule = trigger.schedule.as_str().to_owned();
                    runs.spawn(run_scheduled(Arc::clone(&shared), Arc::clone(function), schedule));
                }
            }
        }
    }
}

/// Minutes since 1970.
fn minute() -> u64 {
    unix_millis() / 60_000
}

/// Whether a schedule means a minute, counted from 1970, in UTC.
fn is_due(schedule: &Schedule, minute: u64) -> bool {
    let (days, of_day) = (minute / 1440, minute % 1440);
    let (_, month, day) = civil(days);
    // 1 January 1970 was a Thursday.
    let weekday = (days + 4) % 7;
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    schedule.is_due(small(of_day % 60), small(of_day / 60), day, month, small(weekday))
}

/// Year, month and day of a number of days since 1970, by counting them.
fn civil(days: u64) -> (u64, u32, u32) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    // 400 years are 146,097 days.
    let (mut year, mut left) = (1970 + days / 146_097 * 400, days % 146_097);
    loop {
        let of_year = 365 + u64::from(is_leap(year));
        if left < of_year {
            break;
        }
        left -= of_year;
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for of_month in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < of_month {
            break;
        }
        left -= of_month;
        month += 1;
    }
    (year, month, u32::try_from(left).unwrap_or(0) + 1)
}

#[cfg(test)]
mod tests {
    use super::{civil, is_due};
    use crate::manifest::Schedule;

    #[test]
    fn days_are_those_of_the_calendar() {
        // As `date -u -d @SECONDS` has them.
        for (seconds, expected) in [
            (0_u64, (1970, 1, 1)),
            (951_782_400, (2000, 2, 29)),
            (1_709_164_800, (2024, 2, 29)),
            (1_709_251_200, (2024, 3, 1)),
            (4_107_542_400, (2100, 3, 1)),
            (1_767_139_200, (2025, 12, 31)),
        ] {
            assert_eq!(civil(seconds / 86_400), expected, "{seconds}");
        }
    }

    #[test]
    fn what_is_due_is_so_for_a_minute() {
        let schedule: Schedule = "30 6 * * 6".parse().expect("a schedule");
        // Saturday, 28 November 2026, 06:30 UTC.
        let minute = 1_795_847_400 / 60;
        assert!(is_due(&schedule, minute));
        for other in [minute - 1, minute + 1, minute + 1440, minute - 60] {
            assert!(!is_due(&schedule, other), "{other}");
        }
    }
}
