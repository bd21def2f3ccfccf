//! Directives that do not pass, each with its reason. Everything else must.

use std::sync::atomic::{AtomicBool, Ordering};

/// Failures that are known.
struct Exception {
    /// The scripts: the end of their names.
    scripts: &'static [&'static str],
    /// Part of what happens.
    failure: &'static str,
    reason: &'static str,
    /// Whether it happened in this run.
    seen: AtomicBool,
}

const fn exception(
    scripts: &'static [&'static str],
    failure: &'static str,
    reason: &'static str,
) -> Exception {
    Exception { scripts, failure, reason, seen: AtomicBool::new(false) }
}

/// All of these are tests of older rules that a later version has relaxed, and fail in any engine of
/// that version. The latest version's tests need none.
static EXCEPTIONS: [Exception; 8] = [
    exception(
        &["/binary.wast"],
        "was accepted; expected: zero byte expected",
        "older rule: this byte was reserved; since multi-memory it is the index of a memory",
    ),
    exception(
        &["/binary.wast"],
        "was accepted; expected: zero flag expected",
        "older rule: this byte was reserved; since multi-memory it is the index of a memory",
    ),
    exception(
        &[
            "reference-types/binary.wast",
            "reference-types/binary-leb128.wast",
            "wasm-v1/binary-leb128.wast",
            "wasm-v2/binary-leb128.wast",
        ],
        "was accepted; expected: integer representation too long",
        "older rule: limits and offsets were of 32 bits; since memory64 they are read as 64",
    ),
    exception(
        &["/imports.wast", "/memory.wast", "/memory64.wast"],
        "was accepted; expected: multiple memories",
        "older rule: one memory in a module; since multi-memory there can be more",
    ),
    exception(
        &["reference-types/unreached-invalid.wast"],
        "was accepted; expected: type mismatch",
        "older rule: the labels of an unreachable br_table had to agree; they no longer have to",
    ),
    exception(
        &["mutable-global/linking.wast"],
        "segment does not fit",
        "older rule: a segment out of bounds failed to link; since bulk-memory it traps",
    ),
    exception(
        &["mutable-global/linking.wast"],
        "expected: the trap \"uninitialized\"",
        "older rule: a segment out of bounds undid those before; since bulk-memory they stay",
    ),
    exception(
        &["mutable-global/linking.wast"],
        "returned [I32(61)], expected [Core(I32(0))]",
        "older rule: a segment out of bounds undid those before; since bulk-memory they stay",
    ),
];

/// Why this failure is none, if it is known.
pub fn reason(script: &str, failure: &str) -> Option<&'static str> {
    let known = EXCEPTIONS.iter().find(|exception| {
        exception.scripts.iter().any(|end| script.ends_with(end))
            && failure.contains(exception.failure)
    })?;
    known.seen.store(true, Ordering::Relaxed);
    Some(known.reason)
}

/// Exceptions that no failure of this run needed.
pub fn unused() -> Vec<String> {
    let unused = EXCEPTIONS.iter().filter(|exception| !exception.seen.load(Ordering::Relaxed));
    unused.map(|exception| format!("{:?}: {}", exception.scripts, exception.failure)).collect()
}
