//! What is said on one line, from a question to the last answer.

use super::line::Line;
use super::message::{MAX_TOLD, Told};
use super::worker::{Stop, Worker};
use crate::error::Result;
use sandgrain_abi::Encode;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a thread that must not be held up waits for what is probably done soon.
const MOMENT: Duration = Duration::from_micros(500);
/// Calls that are not expected to be over in a moment, after one that was not.
const SLOW_CALLS: u32 = 16;

/// A question to a worker, and what follows from it.
pub(super) struct Talk {
    worker: Arc<Worker>,
    line: Option<Line>,
    background: bool,
    /// Whether there is an answer to come, from either side.
    is_open: bool,
    /// What can stop the guest that runs meanwhile.
    stop: Option<Arc<Stop>>,
    /// When something was last said.
    said: Instant,
    /// Bytes of what the worker says at the most.
    most: usize,
}

impl Talk {
    pub(super) fn new(
        worker: Arc<Worker>,
        line: Line,
        background: bool,
        stop: Option<Arc<Stop>>,
    ) -> Self {
        let (line, said) = (Some(line), Instant::now());
        Self { worker, line, background, is_open: false, stop, said, most: MAX_TOLD }
    }

    /// The worker may say more, by so many bytes.
    pub(super) fn allow(&mut self, bytes: u64) {
        self.most = self.most.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// Says something to which there will be an answer.
    pub(super) fn say(&mut self, message: &impl Encode) -> Result<()> {
        self.say_with_files(message, &[])
    }

    pub(super) fn say_with_files(&mut self, message: &impl Encode, files: &[&File]) -> Result<()> {
        self.open();
        let Self { worker, line, stop, said, .. } = self;
        let wait_on = || worker.wait_on(stop.as_deref(), *said);
        let sent = on(line).send(message, files, wait_on);
        sent.map_err(|lost| worker.lost_by(lost))
    }

    /// As [`say`](Self::say), and the answer if it comes in a moment. Neither takes longer, whatever the worker does:
    /// what could not be said by then [`hear`](Self::hear) says first.
    pub(super) fn ask_for_a_moment(&mut self, message: &impl Encode) -> Result<Option<Told>> {
        self.open();
        let (until, most) = (self.said + MOMENT, self.most);
        let line = on(&mut self.line);
        let told = match line.begin_to_send(message) {
            Ok(true) => line.receive_until(most, until),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        let told = told.map_err(|error| self.worker.lost_by(error.into()))?;
        told.map(|told| self.heard(told)).transpose()
    }

    /// What the worker says. Unless it is a call, it is the last.
    pub(super) fn hear(&mut self) -> Result<Told> {
        let Self { worker, line, stop, said, most, .. } = self;
        let wait_on = || worker.wait_on(stop.as_deref(), *said);
        let line = on(line);
        let told = line.go_on_sending(wait_on).and_then(|()| line.receive(*most, wait_on));
        let told = told.map_err(|lost| worker.lost_by(lost))?;
        self.heard(told)
    }

    fn open(&mut self) {
        self.is_open = true;
        self.said = Instant::now();
    }

    fn heard(&mut self, told: Told) -> Result<Told> {
        self.is_open =
            matches!(told, Told::Call(_) | Told::ComponentCall { .. } | Told::Within { .. });
        match told {
            Told::Failed(failure) => Err(failure.into()),
            told => Ok(told),
        }
    }

    /// Whether neither side has an answer to give.
    pub(super) fn is_over(&self) -> bool {
        !self.is_open
    }
}

fn on(line: &mut Option<Line>) -> &mut Line {
    line.as_mut().unwrap_or_else(|| unreachable!("taken out only by `drop`"))
}

impl Drop for Talk {
    fn drop(&mut self) {
        // In the middle of a talk, after a panic of a host function say, the line is closed: then the worker
        // knows.
        if let Some(line) = self.line.take()
            && !self.is_open
        {
            self.worker.keep(line, self.background);
        }
    }
}

/// Whether calls of an image's guests are over in a moment, as a rule.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Calls that are not asked about, after one that took longer.
    slow: AtomicU32,
}

impl Pace {
    /// Whether to wait for a call's end for a moment.
    pub(super) fn is_quick(&self) -> bool {
        // Which of several calls at once is counted twice or not at all does not matter.
        let slow = self.slow.load(Ordering::Relaxed);
        if slow > 0 {
            self.slow.store(slow - 1, Ordering::Relaxed);
        }
        slow == 0
    }

    /// One was not over, and this is what was heard of it first. Where the guest says that it took but a moment itself, it had
    /// only to wait for a CPU: that says nothing of the next one, and calls that go on elsewhere are in each other's
    /// way there. A worker that lies has its callers wait for a moment each time, no longer.
    pub(super) fn was_late(&self, told: &Result<Told>) {
        match told {
            Ok(Told::Left { stats, outcome: Some(_), .. }) if stats.guest < MOMENT => {}
            _ => self.was_slow(),
        }
    }

    /// One was not over, and will not be in a moment.
    pub(super) fn was_slow(&self) {
        self.slow.store(SLOW_CALLS, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, MOMENT, Pace, Result, SLOW_CALLS, Told};
    use crate::stats::Stats;
    use sandgrain_abi::message::Outcome;

    #[test]
    fn after_a_slow_call_others_are_slow_for_a_while() {
        let pace = Pace::default();
        assert!(pace.is_quick() && pace.is_quick());
        for slow in [left(MOMENT), Ok(Told::Done)] {
            pace.was_late(&slow);
            assert!((0..SLOW_CALLS).all(|_| !pace.is_quick()), "{slow:?}");
            assert!(pace.is_quick());
        }
    }

    #[test]
    fn after_a_call_that_only_had_to_wait_for_a_cpu_they_are_not() {
        let pace = Pace::default();
        pace.was_late(&left(MOMENT - Duration::from_micros(1)));
        assert!(pace.is_quick());
    }

    fn left(guest: Duration) -> Result<Told> {
        let stats = Stats { guest, ..Stats::default() };
        Ok(Told::Left {
            stats,
            outcome: Some(Outcome::Returned(Vec::new())),
            attachments: Vec::new(),
            is_reset: false,
        })
    }
}
