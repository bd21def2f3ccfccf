//! The built command, as people and scripts use it. Needs a hypervisor.
#![allow(missing_docs, clippy::unwrap_used)]

mod bench;
mod check;
mod command;
mod compiled;
mod doctor;
mod errors;
mod invoke;
mod limits;
mod modules;
mod program;
mod progress;
mod reports;
mod serve;
mod without_vm;
