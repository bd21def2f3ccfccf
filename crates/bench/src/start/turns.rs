//! Taking turns, by one thread or by several at once.

use super::figures::{Floor, Goal, Row, Subject};
use sandgrain::{Error, Result};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Does the thing once and says how long it took; `None` if it was not the thing, but a miss.
pub(super) type Sample = Box<dyn FnMut() -> Result<Option<Duration>> + Send>;

/// One way to call a function.
pub(super) struct Member {
    /// Unique within its block.
    pub(super) name: &'static str,
    /// Which floor it is.
    pub(super) is: Option<Floor>,
    /// Which floor of its block it is compared with.
    pub(super) against: Option<Floor>,
    /// What it is to reach.
    pub(super) goals: &'static [Goal],
    /// Whether it gets a row, or is there only for the others' ratios.
    pub(super) shown: bool,
    /// One for each caller.
    pub(super) samples: Vec<Sample>,
    /// Comes after each sample, once for all callers: until all is as it was before.
    pub(super) settle: Box<dyn FnMut() + Send>,
}

impl Member {
    /// Compared with a floor, for no target.
    pub(super) fn new(name: &'static str, against: Floor, samples: Vec<Sample>) -> Self {
        Self {
            name,
            is: None,
            against: Some(against),
            goals: &[],
            shown: true,
            samples,
            settle: Box::new(|| ()),
        }
    }

    /// What others are compared with.
    pub(super) fn floor(name: &'static str, floor: Floor, samples: Vec<Sample>) -> Self {
        Self { is: Some(floor), against: None, ..Self::new(name, floor, samples) }
    }
}

/// Members that take turns.
pub(super) struct Block {
    /// The function that they call.
    pub(super) function: &'static str,
    /// The threads that call at once.
    pub(super) callers: usize,
    /// The VMs that are parked meanwhile.
    pub(super) parked: usize,
    /// In this order.
    pub(super) members: Vec<Member>,
}

/// Measures a block: so many samples of each member and caller.
pub(super) fn take(block: Block, count: usize) -> Result<Vec<Row>> {
    // The first turns fill caches, touch memory, and show pools what calls touch.
    let warm_up = (count / 10).clamp(8, 100);
    let Block { function, callers, parked, members } = block;
    let mut heads = Vec::new();
    let mut hands: Vec<Vec<Sample>> = (0..callers).map(|_| Vec::new()).collect();
    let mut settle = Vec::new();
    for member in members {
        for (hand, sample) in hands.iter_mut().zip(member.samples) {
            hand.push(sample);
        }
        settle.push(member.settle);
        heads.push((member.name, member.is, member.against, member.goals, member.shown));
    }

    let together = Together::new(callers);
    let taken = thread::scope(|scope| {
        let mut settle = Some(settle);
        let threads: Vec<_> = hands
            .into_iter()
            .map(|hand| {
                let (together, settle) = (&together, settle.take().unwrap_or_default());
                scope.spawn(move || one_caller(hand, settle, together, warm_up, count))
            })
            .collect();
        let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|ended| {
                ended.unwrap_or_else(|_| Err(Error::Host("a caller's thread panicked".to_owned())))
            })
            .collect::<Result<Vec<Vec<Taken>>>>()
    })?;

    let all = |member: usize| -> Vec<Option<f64>> {
        taken.iter().flat_map(|caller| caller[member].iter().copied()).collect()
    };
    let floor = |wanted: Floor| heads.iter().position(|(_, is, ..)| *is == Some(wanted)).map(all);
    let mut rows = Vec::new();
    for (index, (name, _, against, goals, shown)) in heads.iter().enumerate() {
        let beside = against.and_then(|wanted| Some((wanted, floor(wanted)?)));
        let beside = beside.as_ref().map(|(floor, samples)| (*floor, &samples[..]));
        if *shown {
            let subject = Subject { function, name, callers, parked };
            rows.push(Row::new(subject, &all(index), beside, goals));
        }
    }
    Ok(rows)
}

/// A member's samples in the order of the turns, in microseconds.
type Taken = Vec<Option<f64>>;

fn one_caller(
    mut hand: Vec<Sample>,
    mut settle: Vec<Box<dyn FnMut() + Send>>,
    together: &Together,
    warm_up: usize,
    count: usize,
) -> Result<Vec<Taken>> {
    let mut taken = vec![Taken::with_capacity(count); hand.len()];
    for turn in 0..warm_up + count {
        for (index, sample) in hand.iter_mut().enumerate() {
            if !together.begin() {
                // Another caller's error is the one to report.
                return Ok(taken);
            }
            let time = sample().inspect_err(|_| together.fail());
            // The others wait for this one, now for the last time.
            let time = match time {
                Err(error) => {
                    together.begin();
                    return Err(error);
                }
                Ok(time) => time,
            };
            if turn >= warm_up {
                taken[index].push(time.map(|time| time.as_secs_f64() * 1e6));
            }
            if let Some(settle) = settle.get_mut(index) {
                settle();
            }
        }
    }
    Ok(taken)
}

/// Has threads do things at the same time.
struct Together {
    callers: usize,
    barrier: Barrier,
    arrived: AtomicUsize,
    failed: AtomicBool,
}

impl Together {
    fn new(callers: usize) -> Self {
        let barrier = Barrier::new(callers);
        Self { callers, barrier, arrived: AtomicUsize::new(0), failed: AtomicBool::new(false) }
    }

    /// Waits until all are here. Whether to go on; all are told the same.
    fn begin(&self) -> bool {
        if self.callers == 1 {
            return !self.failed.load(Ordering::Acquire);
        }
        self.barrier.wait();
        let go_on = !self.failed.load(Ordering::Acquire);
        // Threads that slept wake up one after the other; this brings them closer together.
        let arrived = self.arrived.fetch_add(1, Ordering::AcqRel) + 1;
        let all = arrived.next_multiple_of(self.callers);
        while self.arrived.load(Ordering::Acquire) < all {
            thread::yield_now();
        }
        go_on
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::figures::Statistic;
    use std::sync::{Arc, Mutex, PoisonError};

    type Log = Arc<Mutex<String>>;

    fn note(log: &Log, what: &str) {
        log.lock().unwrap_or_else(PoisonError::into_inner).push_str(what);
    }

    fn sample(log: &Log, what: &'static str, micros: Option<u64>) -> Sample {
        let log = Arc::clone(log);
        Box::new(move || {
            note(&log, what);
            Ok(micros.map(Duration::from_micros))
        })
    }

    fn block(log: &Log, callers: usize) -> Block {
        let samples =
            |what, micros| (0..callers).map(|_| sample(log, what, micros)).collect::<Vec<_>>();
        let mut second = Member::new("second", Floor::RoundTrip, samples("b", Some(30)));
        second.goals = &[(Statistic::Median, 2.5)];
        let settled = Arc::clone(log);
        second.settle = Box::new(move || note(&settled, "."));
        let members = vec![
            Member::floor("first", Floor::RoundTrip, samples("a", Some(10))),
            second,
            Member::new("never there", Floor::RoundTrip, samples("c", None)),
        ];
        Block { function: "f", callers, parked: 7, members }
    }

    #[test]
    fn members_take_turns() {
        let log = Log::default();
        let rows = take(block(&log, 1), 10).unwrap();
        assert_eq!(
            *log.lock().unwrap(),
            "ab.c".repeat(18),
            "eight turns to warm up, ten that count"
        );
        let figures = |row: &Row| (row.name, row.samples, row.misses, row.ratio, row.parked);
        assert_eq!(figures(&rows[0]), ("first", 10, 0, None, 7));
        assert_eq!(figures(&rows[1]), ("second", 10, 0, Some(3.0), 7));
        assert_eq!((rows[2].samples, rows[2].misses), (0, 10));
        assert!(!rows[1].targets[0].met);
    }

    #[test]
    fn several_callers_do_the_same_at_the_same_time() {
        let log = Log::default();
        let rows = take(block(&log, 3), 5).unwrap();
        assert_eq!(rows[1].samples, 15);
        let log = log.lock().unwrap().replace('.', "");
        assert_eq!(log, "aaabbbccc".repeat(13));
    }

    #[test]
    fn an_error_of_one_caller_ends_all() {
        let log = Log::default();
        let mut block = block(&log, 2);
        let mut times = 0;
        block.members[1].samples[1] = Box::new(move || {
            times += 1;
            if times < 4 { Ok(None) } else { Err(Error::Host("the fourth".to_owned())) }
        });
        assert!(take(block, 5).unwrap_err().to_string().contains("the fourth"));
    }

    #[test]
    fn what_is_not_shown_is_still_compared_with() {
        let log = Log::default();
        let mut block = block(&log, 1);
        block.members[0].shown = false;
        let rows = take(block, 1).unwrap();
        assert_eq!((rows[0].name, rows[0].ratio), ("second", Some(3.0)));
    }
}
