//! A vCPU's saved state.

use std::{fmt, sync::Arc};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use crate::kvm;

/// All of a vCPU's state at one moment: see [`Vm::save`](crate::Vm::save). Cheap to clone.
#[derive(Clone)]
pub struct VcpuState(pub(crate) Arc<Backend>);

/// The state in the words of the hypervisor that it is from.
pub(crate) enum Backend {
    /// Of KVM.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Kvm(kvm::SavedVcpu),
}

impl fmt::Debug for VcpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VcpuState").finish_non_exhaustive()
    }
}
