//! Whether a pool's VMs can be made.

use super::Shared;
use crate::error::{Error, Result};
use crate::sandbox::Sandbox;
use std::sync::PoisonError;
use std::time::Instant;

/// VMs of a pool that could not be made, one after the other, with none since that could.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolFailure {
    /// How many.
    pub count: u64,
    /// When the last one was tried.
    pub last: Instant,
    /// Why it could not be made.
    pub error: String,
    /// Whether the host has failed: it lacks memory, descriptors, processes or the hypervisor. Else something is wrong
    /// with what the sandboxes are to be given: a directory that is not there any more, say.
    pub is_hosts: bool,
}

impl Shared {
    /// A VM has been made, or could not be.
    pub(super) fn tried(&self, made: &Result<Sandbox>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = made.as_ref().err().map(|error| PoolFailure {
            count: failure.as_ref().map_or(0, |before| before.count) + 1,
            last: Instant::now(),
            error: error.to_string(),
            is_hosts: matches!(error, Error::Host(_) | Error::NoHypervisor(_)),
        });
    }

    pub(super) fn failure(&self) -> Option<PoolFailure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
