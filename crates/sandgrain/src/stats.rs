//! What a call cost.

use std::ops::AddAssign;
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

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.guest += other.guest;
        self.host += other.host;
        self.exits += other.exits;
        self.hypercalls += other.hypercalls;
        self.host_calls += other.host_calls;
        self.pages_touched = match (self.pages_touched, other.pages_touched) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }
}
