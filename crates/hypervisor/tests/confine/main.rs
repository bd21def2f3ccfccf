//! What a confined process can still do, and what ends it.
//!
//! Each test plays two processes: this one, and a child that it starts to be confined.

mod inherit;
mod lacking;
// The same guests as the tests of what a backend must do.
#[allow(dead_code, reason = "those tests use all of it")]
#[path = "../conformance/machine.rs"]
mod machine;
mod process;
mod refused;
mod sockets;
mod threads;
mod vms;
