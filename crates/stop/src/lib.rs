//! Stopping calls: on request from any thread, and at deadlines.
//!
//! A [`Control`] knows the call under way in a sandbox, and a [`Watchdog`] those that have a deadline.
//! What a call is, and how it is stopped, is its [`Target`]'s to know. This is all that threads share of
//! a sandbox, in a crate of its own so that a model checker can build it quickly and try every order of
//! their steps (`models.rs`; `tools/test` runs it).
#![forbid(unsafe_code)]

mod control;
// With or without the model checker's locks, threads and time.
#[cfg(all(test, loom))]
mod models;
#[cfg(not(all(test, loom)))]
mod sync;
#[cfg(all(test, loom))]
#[path = "sync_loom.rs"]
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;
mod watchdog;

pub use control::{Control, Reason, Target};
pub use watchdog::Watchdog;
