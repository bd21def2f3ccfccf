//! Directives that do not pass, each with its reason. Everything else must.

use std::sync::atomic::{AtomicBool, Ordering};

/// Failures that are known.
struct Exception {
    /// The scripts' names.
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

/// The tests are of a later release than the engine's validator: all of these are about rules that have changed
/// in between, or about proposals that it does not have.
static EXCEPTIONS: [Exception; 11] = [
    exception(
        &["validation/kebab", "validator/naming"],
        "was accepted; expected: ",
        "newer rule: names that differ only in case or hyphens conflict",
    ),
    exception(
        &["validator/naming", "validator/nested-names"],
        "is not a valid extern name",
        "newer rule: names of accessors and of packages in packages, which are off",
    ),
    exception(
        &["validator/import"],
        "not a valid extern name",
        "newer rule: names that are places to fetch something from are gone",
    ),
    exception(
        &["validator/custom-descriptors"],
        "",
        "proposal custom-descriptors is off: not part of WebAssembly 3.0",
    ),
    exception(
        &["validator/core-globals"],
        "expected global type funcref",
        "newer rule: a global of a more precise type may be given to a module",
    ),
    exception(
        &["validator/definedtypes"],
        "was accepted; expected: invalid leading byte (0x80)",
        "newer rule: one of two ways to write a type is gone",
    ),
    exception(
        &["validator/memory64"],
        "was accepted; expected: mismatch in index type",
        "newer rule: tables of 32 and 64 bits are told apart where modules are given",
    ),
    exception(
        &["validator/nested-modules"],
        "was accepted; expected: unexpected end",
        "newer rule: a component in another may not be longer than that says",
    ),
    exception(
        &["validator/type-export-restrictions"],
        "type not valid to be used as",
        "newer rule: where a type that is imported or exported has to have a name",
    ),
    exception(
        &["validator/very-nested"],
        "was accepted; expected: effective type size",
        "newer rule: what is taken from an outer component counts for a type's size",
    ),
    exception(
        &["validator/resources", "validator/import"],
        "the validator has a defect",
        "defect of the engine's validator: it panics, which is an error here",
    ),
];

/// Why this failure is none, if it is known.
pub fn reason(script: &str, failure: &str) -> Option<&'static str> {
    let known = EXCEPTIONS.iter().find(|exception| {
        exception.scripts.contains(&script) && failure.contains(exception.failure)
    })?;
    known.seen.store(true, Ordering::Relaxed);
    Some(known.reason)
}

/// Exceptions that no failure of this run needed.
pub fn unused() -> Vec<String> {
    let unused = EXCEPTIONS.iter().filter(|exception| !exception.seen.load(Ordering::Relaxed));
    unused.map(|exception| format!("{:?}: {}", exception.scripts, exception.failure)).collect()
}

/// Whether a trap is the expected one.
pub fn is_trap(expected: &str, actual: &str) -> bool {
    actual.contains(expected)
}
