//! Linux KVM.
//!
//! Two kinds of it must work: the hardware's, and software ones, which emulate ring 0 an instruction at
//! a time and run ring 3 on the bare CPU. Nothing here asks which it is.

mod cpuid;
mod device;
mod entrance;
mod exit;
mod kick;
mod probe;
mod requests;
mod saved;
mod signal;
mod state;
// With or without the model checker's lock.
#[cfg(not(all(test, loom)))]
mod sync;
#[cfg(all(test, loom))]
#[path = "sync_loom.rs"]
mod sync;
mod vcpu;
mod vm;

use std::{path::Path, sync::Arc};

use kvm_bindings::{CpuId, KVM_SYNC_X86_VALID_FIELDS};
use kvm_ioctls::{Cap, VcpuFd, VmFd};

pub use self::probe::{probe, probe_path};
pub(crate) use self::saved::SavedVcpu;
use self::vm::KvmVm;
use crate::{CpuFeatures, Error, GuestMemory, Hypervisor, HypervisorKind, Vm};

/// Where KVM usually is.
pub const DEVICE: &str = "/dev/kvm";

/// The best hypervisor of this machine.
///
/// # Errors
/// As [`Kvm::open`].
pub fn open() -> Result<Box<dyn Hypervisor>, Error> {
    Ok(Box::new(Kvm::open()?))
}

/// Peculiarities of a KVM that have to be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvmOptions {
    /// Load the task register as an available TSS (type 9) instead of a busy one (type 11). Real CPUs
    /// want a busy one; QEMU's emulation of AMD's virtualization does not look at the port map of ring
    /// 3 unless it is an available one. For tests only.
    pub available_tss: bool,
}

/// KVM, opened.
pub struct Kvm {
    host: Arc<Host>,
}

/// What all VMs of one opened KVM have in common.
struct Host {
    kvm: kvm_ioctls::Kvm,
    options: KvmOptions,
    /// What guests are told by `cpuid`.
    cpuid: CpuId,
    features: CpuFeatures,
    /// The vector states that guests can use, or `None` without XSAVE.
    xcr0: Option<u64>,
    /// Whether KVM_RUN takes registers from the page that it shares.
    sync_regs: bool,
    /// MSRs that are part of a saved state.
    msrs: Vec<u32>,
    /// The signal that takes a thread out of KVM_RUN.
    signal: libc::c_int,
    /// A VM that never runs. With it there is always a vCPU alive in the process: the first one to
    /// come and the last one to go make the kernel patch its own code, which takes long.
    _sentinel: (VcpuFd, VmFd),
}

impl Kvm {
    /// Opens [`DEVICE`].
    ///
    /// # Errors
    /// [`Error::NotAvailable`], [`Error::NoPermission`], [`Error::MissingCapability`], which all say
    /// what to try; [`Error::Host`] for the rest.
    pub fn open() -> Result<Self, Error> {
        Self::open_path(Path::new(DEVICE))
    }

    /// Opens the device at `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_path(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, KvmOptions::default())
    }

    /// Opens the device at `path`, with peculiarities.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: &Path, options: KvmOptions) -> Result<Self, Error> {
        let kvm = device::open(path)?;
        device::require_capabilities(&kvm)?;
        let signal = signal::install()?;
        let cpuid = cpuid::supported(&kvm)?;
        let xcr0 = cpuid::xcr0(&cpuid).filter(|_| kvm.check_extension(Cap::Xcrs));
        let features = cpuid::features(&cpuid, xcr0);
        let fields = kvm.check_extension_int(Cap::SyncRegs);
        let sync_regs = fields & KVM_SYNC_X86_VALID_FIELDS.cast_signed()
            == KVM_SYNC_X86_VALID_FIELDS.cast_signed();
        let msrs = state::available_msrs(&kvm)?;
        let sentinel_vm = kvm.create_vm().map_err(device::failed("KVM_CREATE_VM"))?;
        let sentinel_vcpu =
            sentinel_vm.create_vcpu(0).map_err(device::failed("KVM_CREATE_VCPU"))?;
        tracing::debug!(path = %path.display(), ?features, ?xcr0, signal, "KVM opened");
        let host = Host {
            kvm,
            options,
            cpuid,
            features,
            xcr0,
            sync_regs,
            msrs,
            signal,
            _sentinel: (sentinel_vcpu, sentinel_vm),
        };
        Ok(Kvm { host: Arc::new(host) })
    }
}

impl Hypervisor for Kvm {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Kvm
    }

    fn cpu_features(&self) -> &CpuFeatures {
        &self.host.features
    }

    fn create_vm(&self, memory: GuestMemory) -> Result<Box<dyn Vm>, Error> {
        Ok(Box::new(KvmVm::new(Arc::clone(&self.host), memory)?))
    }
}
