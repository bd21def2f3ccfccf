//! Stopping a running vCPU from another thread.

use std::{fmt, sync::Arc};

/// Stops a VM's run from any thread. Cheap to clone; may outlive its VM.
///
/// An interrupt is a request that is kept until a run honours it: a run under way returns
/// [`VmExit::Interrupted`](crate::VmExit::Interrupted) soon, and if none is, the next one returns so
/// before the guest's first instruction. Requests do not add up: a run that honours one honours all
/// there are. A run that ends on its own at the same moment reports its own exit, and the request
/// stays for the next run unless [`clear`](Self::clear) withdraws it.
#[derive(Clone)]
pub struct Interrupter(Arc<dyn Target>);

/// A backend's end of an [`Interrupter`].
pub(crate) trait Target: Send + Sync {
    /// See [`Interrupter::interrupt`].
    fn interrupt(&self);
    /// See [`Interrupter::clear`].
    fn clear(&self);
}

impl Interrupter {
    /// A handle to a vCPU that `target` knows how to stop.
    pub(crate) fn new(target: Arc<dyn Target>) -> Self {
        Interrupter(target)
    }

    /// Stops the run under way, or else the next one. Does nothing once the VM is gone.
    pub fn interrupt(&self) {
        self.0.interrupt();
    }

    /// Withdraws any request that no run has honoured yet.
    pub fn clear(&self) {
        self.0.clear();
    }
}

impl fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupter").finish_non_exhaustive()
    }
}
