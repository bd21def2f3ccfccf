//! Stopping calls: what the `stop` crate needs to know of a sandbox.

use sandgrain_hypervisor::Interrupter;
use sandgrain_wasi::Cancel;
use std::fmt;
use std::sync::Weak;
use std::time::Instant;

pub(crate) use sandgrain_stop::Reason;

/// The stopping side of one sandbox.
pub(crate) type Control = sandgrain_stop::Control<Calls>;

/// The thread that watches the deadlines of an engine's sandboxes.
pub(crate) type Watchdog = sandgrain_stop::Watchdog<Calls>;

/// What has to be told when a call is to stop, besides its host functions.
pub(crate) trait Target: Send + Sync {
    /// Stops the guest, now or as soon as it runs.
    fn stop(&self);
    /// Forgets an earlier stop.
    fn clear(&self);
}

impl Target for Interrupter {
    fn stop(&self) {
        self.interrupt();
    }

    fn clear(&self) {
        Interrupter::clear(self);
    }
}

/// A sandbox's calls: those of its guest, and those of host functions in them.
pub(crate) struct Calls {
    guest: Box<dyn Target>,
}

impl<T: Target + 'static> From<T> for Calls {
    fn from(guest: T) -> Self {
        Self { guest: Box::new(guest) }
    }
}

impl sandgrain_stop::Target for Calls {
    type Token = Cancel;

    fn begin(&self, deadline: Option<Instant>) -> Cancel {
        self.guest.clear();
        let cancel = Cancel::new();
        match deadline {
            Some(deadline) => cancel.with_deadline(deadline),
            None => cancel,
        }
    }

    fn stop(&self) {
        self.guest.stop();
    }

    fn cancel(&self, cancel: &Cancel) {
        cancel.cancel();
    }
}

/// Stops the call under way in a sandbox, from any thread. Cheap to clone; outlives its sandbox
/// without harm.
#[derive(Clone)]
pub struct InterruptHandle(pub(crate) Weak<Control>);

impl InterruptHandle {
    /// Stops the call under way, which then fails with [`Error::Interrupted`](crate::Error), also if it
    /// waits in a WASI call, for an asynchronous host function or for a vCPU thread. Does nothing if no call is
    /// under way.
    pub fn interrupt(&self) {
        if let Some(control) = self.0.upgrade() {
            control.interrupt();
        }
    }
}

impl fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptHandle").finish_non_exhaustive()
    }
}
