//! A vCPU's saved state.

use std::{fmt, sync::Arc};

use crate::{Error, HypervisorKind};

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

impl VcpuState {
    /// The state as bytes that [`from_bytes`](Self::from_bytes) takes, in this version of the crate and on
    /// this kind of hypervisor and CPU.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &*self.0 {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            Backend::Kvm(saved) => saved.to_bytes(),
        }
    }

    /// A state of the given kind of hypervisor. Its values are the hypervisor's to check, when it is
    /// [restored](crate::Vm::restore): whoever made the bytes says what the guest is.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the bytes are not a state.
    pub fn from_bytes(kind: HypervisorKind, bytes: &[u8]) -> Result<Self, Error> {
        let backend = match kind {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            HypervisorKind::Kvm => kvm::SavedVcpu::from_bytes(bytes).map(Backend::Kvm),
        };
        let backend = backend.ok_or_else(|| Error::Rejected {
            what: format!("{} bytes as a vCPU's state", bytes.len()),
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        Ok(VcpuState(Arc::new(backend)))
    }
}

impl fmt::Debug for VcpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VcpuState").finish_non_exhaustive()
    }
}
