//! What a function was denied: counted, and told in the audit log.
//!
//! A function can want as much as it likes, as often as it likes. So there are records of a few different things in a
//! minute, one of each, and of the rest how many there were.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sandgrain::wasi::{Capability, Denied};

use super::Metrics;
use super::records::{Audit, Records};
use super::trace_context::TraceContext;

/// Different things that a function is denied of which there are records, in a minute.
const MOST: usize = 16;
const MINUTE: Duration = Duration::from_secs(60);

/// Takes down what one function is denied. Its VMs have it, so it has nothing that leads back to them.
pub(crate) struct Denials {
    pub(crate) application: Arc<str>,
    pub(crate) tenant: Arc<str>,
    pub(crate) function: Arc<str>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) records: Arc<Records>,
    pub(crate) told: Mutex<Told>,
}

impl Denials {
    pub(crate) fn add(&self, denied: &Denied<'_>) {
        let Denied { capability, target, trace, .. } = *denied;
        self.metrics.was_denied(capability);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = told.tell(Instant::now(), capability, target) else { return };
        drop(told);
        self.records.audit(&Audit {
            event: "denied",
            application: Some(&self.application),
            tenant: Some(&self.tenant),
            function: Some(&self.function),
            capability: Some(capability.name()),
            target: Some(target),
            trace: trace.and_then(|trace| TraceContext::parse(trace.parent.to_str().ok()?)),
            detail: match left_out {
                0 => "not granted".to_owned(),
                count => format!("not granted; {count} denials before this one have no record"),
            },
            ..Audit::default()
        });
    }
}

/// What there are records of.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// When the minute has begun.
    since: Option<Instant>,
    /// Of this minute.
    things: Vec<(Capability, String)>,
    /// Denials since the last record that have none.
    left_out: u64,
}

impl Told {
    /// Whether there is to be a record of this, and if so, how many there are none of since the last one.
    fn tell(&mut self, now: Instant, capability: Capability, target: &str) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= MINUTE) {
            self.since = Some(now);
            self.things.clear();
        }
        let is_known = self.things.iter().any(|(of, what)| *of == capability && what == target);
        if is_known || self.things.len() >= MOST {
            self.left_out += 1;
            return None;
        }
        self.things.push((capability, target.to_owned()));
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::{MINUTE, MOST, Told};
    use sandgrain::wasi::Capability::{Http, Tcp};
    use std::time::{Duration, Instant};

    #[test]
    fn there_is_one_record_of_each_thing_in_a_minute() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert_eq!(told.tell(now, Http, "a:80"), Some(0));
        assert_eq!(told.tell(now, Http, "a:80"), None);
        assert_eq!(told.tell(now, Tcp, "a:80"), Some(1), "another thing");
        let almost = now + MINUTE - Duration::from_millis(1);
        assert_eq!(told.tell(almost, Http, "a:80"), None);
        assert_eq!(told.tell(now + MINUTE, Http, "a:80"), Some(1));
        assert_eq!(told.tell(now + MINUTE, Http, "a:80"), None);
    }

    #[test]
    fn whatever_is_wanted_there_are_few_records_and_all_are_counted() {
        let (mut told, now) = (Told::default(), Instant::now());
        let mut records = 0;
        for at in 0..10_000 {
            records += usize::from(told.tell(now, Http, &at.to_string()).is_some());
        }
        assert_eq!((records, told.things.len()), (MOST, MOST));
        let left_out = told.tell(now + MINUTE, Http, "later");
        assert_eq!(left_out, Some(10_000 - MOST as u64));
        assert_eq!(told.things.len(), 1);
    }
}
