//! Counts and distributions, for Prometheus and for the status page.
//!
//! Names are those that OpenTelemetry has for functions as a service, as Prometheus spells them. Labels are the
//! names of applications, tenants and functions, all from manifests, and words from lists in this file: clients
//! and guests cannot make new ones.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sandgrain::wasi::Capability;

/// Upper bounds of a histogram's buckets, in seconds. The first ones are for what takes a VM microseconds.
pub(crate) const BOUNDS: [f64; 18] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// How long things took.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulative; the last one is for what is beyond all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Distribution {
    /// How many there were up to each bound, and in all.
    pub(crate) cumulative: [u64; BOUNDS.len() + 1],
    /// Seconds in all.
    pub(crate) sum: f64,
}

impl Histogram {
    pub(crate) fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Distribution {
        let mut cumulative = [0; BOUNDS.len() + 1];
        let mut total = 0;
        for (sum, bucket) in cumulative.iter_mut().zip(&self.buckets) {
            total += bucket.load(Ordering::Relaxed);
            *sum = total;
        }
        let sum = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        Distribution { cumulative, sum }
    }
}

impl Distribution {
    pub(crate) fn count(&self) -> u64 {
        self.cumulative[BOUNDS.len()]
    }
}

/// Why a request was not answered by its function as it should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The function trapped.
    Trap,
    /// It exited, or returned, without an answer, or with one that is none.
    NoAnswer,
    /// It did not end before its deadline.
    Deadline,
    /// It went beyond a limit of its own: output, handles, bytes.
    Limit,
    /// The VM, its worker process or this host failed.
    Host,
    /// The client went before the answer was complete.
    ClientGone,
    /// The client was too slow.
    ClientSlow,
    /// The request's body was larger than allowed.
    BodySize,
    /// The request's headers were.
    HeaderSize,
    /// The queue was full, or the wait in it too long.
    Busy,
    /// The server is about to end.
    Draining,
    /// The request was not one that can be passed on.
    BadRequest,
}

impl Failure {
    pub(crate) const ALL: [Self; 12] = [
        Self::Trap,
        Self::NoAnswer,
        Self::Deadline,
        Self::Limit,
        Self::Host,
        Self::ClientGone,
        Self::ClientSlow,
        Self::BodySize,
        Self::HeaderSize,
        Self::Busy,
        Self::Draining,
        Self::BadRequest,
    ];

    /// Its name in metrics and records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::NoAnswer => "no_answer",
            Self::Deadline => "deadline",
            Self::Limit => "limit",
            Self::Host => "host",
            Self::ClientGone => "client_gone",
            Self::ClientSlow => "client_slow",
            Self::BodySize => "body_size",
            Self::HeaderSize => "header_size",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::BadRequest => "bad_request",
        }
    }

    /// Whether it is the function's own doing, of which there is a crash report.
    pub(crate) fn is_crash(self) -> bool {
        matches!(self, Self::Trap | Self::NoAnswer | Self::Deadline | Self::Limit | Self::Host)
    }
}

/// Counts of one function, across all its versions.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests that came, those refused included.
    pub(crate) requests: AtomicU64,
    /// Answers by the first digit of their status, 1 to 5.
    statuses: [AtomicU64; 5],
    failures: [AtomicU64; Failure::ALL.len()],
    /// What it wanted and was not granted.
    denials: [AtomicU64; Capability::ALL.len()],
    /// From the function's start to its end.
    pub(crate) invoke: Histogram,
    /// How long a request waited for its VM.
    pub(crate) init: Histogram,
    /// How long it waited for its turn.
    pub(crate) wait: Histogram,
    /// Requests for which a VM had to be made.
    pub(crate) cold_starts: AtomicU64,
    /// Times that the function left its VM.
    pub(crate) exits: AtomicU64,
    /// Invocations by a schedule.
    pub(crate) scheduled: AtomicU64,
}

impl Metrics {
    pub(crate) fn answered(&self, status: u16) {
        if let Some(class) = self.statuses.get(usize::from(status / 100).wrapping_sub(1)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn was_denied(&self, capability: Capability) {
        self.denials[capability as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn statuses(&self) -> [u64; 5] {
        std::array::from_fn(|at| self.statuses[at].load(Ordering::Relaxed))
    }

    pub(crate) fn failures(&self) -> [u64; Failure::ALL.len()] {
        std::array::from_fn(|at| self.failures[at].load(Ordering::Relaxed))
    }

    pub(crate) fn denials(&self) -> [u64; Capability::ALL.len()] {
        std::array::from_fn(|at| self.denials[at].load(Ordering::Relaxed))
    }
}

/// A page in the text format of Prometheus, version 0.0.4.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

/// A metric's labels, as they stand between the braces. Values must not have quotes, backslashes or line ends in
/// them; names of manifests have none.
pub(crate) type Labels<'a> = &'a str;

impl Exposition {
    /// Begins a family of metrics.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One value.
    pub(crate) fn value(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.text, "{name} {value}"),
            labels => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
    }

    /// A distribution.
    pub(crate) fn histogram(&mut self, name: &str, labels: Labels<'_>, read: &Distribution) {
        for (bound, count) in BOUNDS.iter().zip(read.cumulative) {
            let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let (count, sum) = (read.count(), read.sum);
        let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(self.text, "{name}_sum{{{labels}}} {sum}");
        let _ = writeln!(self.text, "{name}_count{{{labels}}} {count}");
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::{BOUNDS, Capability, Exposition, Failure, Histogram, Metrics};
    use std::time::Duration;

    #[test]
    fn each_time_is_in_the_first_bucket_that_is_not_smaller() {
        let histogram = Histogram::default();
        for micros in [100, 101, 1_000_000, 3_600_000_000] {
            histogram.add(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!(read.cumulative[0], 1);
        assert_eq!(read.cumulative[1], 2);
        assert_eq!(read.cumulative[BOUNDS.iter().position(|b| *b == 1.0).unwrap()], 3);
        assert_eq!((read.cumulative[BOUNDS.len() - 1], read.count()), (3, 4));
        assert!((read.sum - 3_601.000_201).abs() < 1e-6, "{}", read.sum);
    }

    #[test]
    fn each_failure_has_a_place_and_a_name_of_its_own() {
        let metrics = Metrics::default();
        for failure in Failure::ALL {
            metrics.failed(failure);
        }
        assert_eq!(metrics.failures(), [1; Failure::ALL.len()]);
        let mut names: Vec<_> = Failure::ALL.iter().map(|failure| failure.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Failure::ALL.len());
    }

    #[test]
    fn each_capability_has_a_place_and_a_name_of_its_own() {
        let metrics = Metrics::default();
        for capability in Capability::ALL {
            metrics.was_denied(capability);
        }
        assert_eq!(metrics.denials(), [1; Capability::ALL.len()]);
        let mut names: Vec<_> = Capability::ALL.iter().map(|of| of.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Capability::ALL.len());
    }

    #[test]
    fn a_status_that_is_none_is_not_counted() {
        let metrics = Metrics::default();
        for status in [0, 99, 200, 204, 502, 600, 999] {
            metrics.answered(status);
        }
        assert_eq!(metrics.statuses(), [0, 2, 0, 0, 1]);
    }

    #[test]
    fn the_page_is_as_prometheus_reads_it() {
        let mut page = Exposition::default();
        page.family("a_total", "counter", "What it counts.");
        page.value("a_total", "", 3);
        page.value("a_total", "function=\"f\"", 4);
        let histogram = Histogram::default();
        histogram.add(Duration::from_millis(2));
        page.histogram("b_seconds", "function=\"f\"", &histogram.read());
        let text = page.into_text();
        assert!(text.starts_with(
            "# HELP a_total What it counts.\n# TYPE a_total counter\na_total 3\na_total{function=\"f\"} 4\n"
        ));
        assert!(text.contains("b_seconds_bucket{function=\"f\",le=\"0.001\"} 0\n"), "{text}");
        assert!(text.contains("b_seconds_bucket{function=\"f\",le=\"+Inf\"} 1\n"));
        assert!(
            text.ends_with(
                "b_seconds_sum{function=\"f\"} 0.002\nb_seconds_count{function=\"f\"} 1\n"
            )
        );
    }
}
