//! The counter of time that host and guests read alike.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// For how long the counter is watched before anything is said of how fast it runs: the moments at both ends are known to
/// some microseconds.
const WATCHED: Duration = Duration::from_millis(50);

/// After how long it is watched anew. Clocks are corrected, slowly.
const STALE: Duration = Duration::from_secs(2);

/// By which part of it less is told than was seen. Linux lets a clock that is corrected go slower by no more than that, so
/// whoever goes on by the rate alone stays behind the clock.
const SLOWER: u64 = 2000;

/// How many ticks may lie between two looks at the counter of which the clock was read in between.
const CLOSE: u64 = 20_000;

/// Nanoseconds of the monotonic clock that a tick of the time-stamp counter takes, times 2^32: for guests, which read
/// the counter themselves. `None` where the machine's clock is not that counter, or it was not watched for long enough
/// since this was asked first.
#[must_use]
pub fn tick_rate() -> Option<u64> {
    static COUNTER: OnceLock<Option<Mutex<Counter>>> = OnceLock::new();
    let counter = COUNTER.get_or_init(|| is_the_clock().then(Mutex::default)).as_ref()?;
    let mut counter = counter.lock().unwrap_or_else(PoisonError::into_inner);
    counter.rate(look()?)
}

/// A moment, by the counter and by the clock.
type Moment = (u64, Instant);

#[derive(Debug, Default)]
struct Counter {
    since: Option<Moment>,
    rate: Option<u64>,
}

impl Counter {
    fn rate(&mut self, now: Moment) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        let passed = now.1.saturating_duration_since(since.1);
        if passed >= WATCHED {
            // A counter that has been set back says nothing.
            let ticks = now.0.checked_sub(since.0).filter(|ticks| *ticks > 0);
            self.rate = ticks
                .and_then(|ticks| u64::try_from((passed.as_nanos() << 32) / u128::from(ticks)).ok())
                .map(|rate| rate - rate / SLOWER);
            if passed >= STALE {
                self.since = Some(now);
            }
        }
        self.rate
    }
}

/// Whether Linux takes the counter for its clock, because it runs evenly and everywhere alike.
fn is_the_clock() -> bool {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(source);
    cfg!(target_arch = "x86_64") && source.is_ok_and(|source| source.trim() == "tsc")
}

/// The present moment, unless something always gets in between.
fn look() -> Option<Moment> {
    (0..8).find_map(|_| {
        let (before, now, after) = (ticks()?, Instant::now(), ticks()?);
        (after.wrapping_sub(before) <= CLOSE).then_some((before, now))
    })
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> Option<u64> {
    // SAFETY: every 64-bit x86 CPU has the instruction, which has no effect; Linux lets processes use it.
    Some(unsafe { core::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_once_the_counter_was_watched() {
        let start = Instant::now();
        let at = |ticks, millis| (ticks, start + Duration::from_millis(millis));
        let mut counter = Counter::default();
        assert_eq!(counter.rate(at(1000, 0)), None);
        assert_eq!(counter.rate(at(20_001_000, 10)), None);
        // Two ticks for each nanosecond.
        let slower = |rate: u64| Some(rate - rate / SLOWER);
        assert_eq!(counter.rate(at(200_001_000, 100)), slower(1 << 31));
        // It goes on while the counter is watched anew.
        assert_eq!(counter.rate(at(6_000_001_000, 3000)), slower(1 << 31));
        assert_eq!(counter.rate(at(6_000_001_001, 3001)), slower(1 << 31));
        assert_eq!(counter.rate(at(6_400_001_000, 3100)), slower(1 << 30));
    }

    #[test]
    fn of_a_counter_that_was_set_back_nothing_is_told() {
        let start = Instant::now();
        let mut counter = Counter::default();
        assert_eq!(counter.rate((1000, start)), None);
        assert_eq!(counter.rate((900, start + Duration::from_secs(1))), None);
        assert_eq!(counter.rate((1000, start + Duration::from_secs(1))), None);
    }

    #[test]
    #[allow(clippy::print_stdout, reason = "what is left out is said")]
    fn this_machines_counter_keeps_its_clocks_time() {
        if !is_the_clock() {
            println!("skipped: the clock of this machine is another than the counter");
            return;
        }
        let _ = tick_rate();
        std::thread::sleep(WATCHED * 2);
        let rate = tick_rate().expect("it was watched");
        let before = look().expect("a moment");
        std::thread::sleep(WATCHED);
        let after = look().expect("another");
        let by_counter = (u128::from(after.0 - before.0) * u128::from(rate)) >> 32;
        let by_clock = (after.1 - before.1).as_nanos();
        assert!(by_counter.abs_diff(by_clock) < by_clock / 100, "{by_counter} {by_clock}");
    }
}
