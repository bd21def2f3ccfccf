//! What a call cost.

use std::time::Duration;

/// Figures of one call, or of a sandbox's creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Time in the VM, the way in and out included. Without a VM: all of the time.
    pub guest: Duration,
    /// Time in the host while the guest waited.
    pub host: Duration,
    /// Times that the guest left the VM.
    pub exits: u64,
    /// Those of them that were requests of the runtime.
    pub hypercalls: u64,
    /// Those of them that called a host function, WASI's included.
    pub host_calls: u64,
    /// Pages that the guest has touched and had not before; only if the sandbox counts them.
    pub pages_touched: Option<u64>,
}
