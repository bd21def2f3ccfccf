//! Directives that do not pass, each with its reason. Everything else must.

use std::sync::atomic::{AtomicBool, Ordering};

/// Failures that are known.
struct Exception {
    /// The end of the script's name.
    script: &'static str,
    /// Part of what happens.
    failure: &'static str,
    reason: &'static str,
    /// Whether it happened in this run.
    seen: AtomicBool,
}

const fn exception(
    script: &'static str,
    failure: &'static str,
    reason: &'static str,
) -> Exception {
    Exception { script, failure, reason, seen: AtomicBool::new(false) }
}

static EXCEPTIONS: [Exception; 0] = [];

/// Why this failure is none, if it is known.
pub fn reason(script: &str, failure: &str) -> Option<&'static str> {
    let known = EXCEPTIONS.iter().find(|exception| {
        script.ends_with(exception.script) && failure.contains(exception.failure)
    })?;
    known.seen.store(true, Ordering::Relaxed);
    Some(known.reason)
}

/// Exceptions that no failure of this run needed.
pub fn unused() -> Vec<String> {
    let unused = EXCEPTIONS.iter().filter(|exception| !exception.seen.load(Ordering::Relaxed));
    unused.map(|exception| format!("{}: {}", exception.script, exception.failure)).collect()
}
