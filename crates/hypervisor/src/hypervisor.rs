//! What every backend provides.

use std::ops::Range;

use crate::{
    CpuFeatures, Error, GuestMemory, Interrupter, MemoryImage, Registers, SystemRegisters,
    VcpuState,
};

/// Which hypervisor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HypervisorKind {
    /// Linux KVM.
    Kvm,
}

impl HypervisorKind {
    /// Its name, which is the same in every version of this crate: for what is kept on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
        }
    }
}

/// A hypervisor of this machine: the maker of VMs.
pub trait Hypervisor: Send + Sync {
    /// Which one it is.
    fn kind(&self) -> HypervisorKind;

    /// What a guest's CPU can do, as the hypervisor reports it. The host's own CPUID, which some
    /// guests can execute, says other things: never believe it.
    fn cpu_features(&self) -> &CpuFeatures;

    /// Makes a VM with this memory and one vCPU. Its registers are of no use until
    /// [`Vm::set_system_registers`] or [`Vm::restore`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the host cannot hold another VM, [`Error::Host`] for the rest.
    fn create_vm(&self, memory: GuestMemory) -> Result<Box<dyn Vm>, Error>;
}

/// A VM: one block of memory and one vCPU.
///
/// The vCPU runs inside [`run`](Self::run) and nowhere else, so whoever can call a method here has
/// the VM to himself.
pub trait Vm: Send {
    /// Its memory.
    fn memory(&self) -> &GuestMemory;

    /// Its memory, to write to.
    fn memory_mut(&mut self) -> &mut GuestMemory;

    /// Makes the memory what it was when it was made
    /// [with this image](GuestMemory::with_image). The guest sees it so from its next instruction
    /// on. Registers stay as they are.
    ///
    /// To go back to the image that the memory has now is quick: what was written is copied back. Another
    /// image is mapped afresh.
    ///
    /// If page tables of the guest have fewer entries afterwards than before, what those entries mapped must
    /// be [discarded](GuestMemory::discard) too: neither CPUs nor hypervisors notice the host's changes of
    /// entries that they have used. A page that was a page table and is one of another level or for other
    /// addresses in the image, or in what follows, is beyond repair: drop such a VM.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] when the image is larger than the memory. After any other error the
    /// memory's content is undefined: drop the VM.
    fn reset_memory(&mut self, image: &MemoryImage) -> Result<(), Error>;

    /// Gives the guest more of the memory, of which it had only [a part](GuestMemory::with_reach): a range of
    /// guest-physical addresses that it does not have yet, widened to whole pages.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]; [`Error::Rejected`] when the guest has some of it already, or has been given
    /// more ranges than the hypervisor can tell apart.
    fn extend(&mut self, range: Range<u64>) -> Result<(), Error>;

    /// General registers. After a port exit, RIP is the next instruction. After [`VmExit::Mmio`] it is
    /// that of the access, or with some hypervisors the next one if the access is a write.
    ///
    /// # Errors
    /// [`Error::Host`].
    fn registers(&self) -> Result<Registers, Error>;

    /// Sets the general registers.
    ///
    /// # Errors
    /// [`Error::Finished`], [`Error::Rejected`], [`Error::Host`].
    fn set_registers(&mut self, registers: &Registers) -> Result<(), Error>;

    /// Gives the vCPU its initial shape: see [`SystemRegisters`]. General registers, floating-point
    /// and debug registers stay as they are.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the combination is not one that the hypervisor can run;
    /// [`Error::Finished`], [`Error::Host`].
    fn set_system_registers(&mut self, registers: &SystemRegisters) -> Result<(), Error>;

    /// All of the vCPU's state but its clock: general, system, floating-point, vector and debug
    /// registers, MSRs and pending events. The memory is not part of it.
    ///
    /// # Errors
    /// [`Error::Finished`], [`Error::Host`].
    fn save(&self) -> Result<VcpuState, Error>;

    /// Puts back the state that [`save`](Self::save) took of this VM, or of another one of the same
    /// hypervisor.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the state is not one that this hypervisor can run;
    /// [`Error::Finished`], [`Error::Host`].
    fn restore(&mut self, state: &VcpuState) -> Result<(), Error>;

    /// Runs the guest until it needs the host.
    ///
    /// # Errors
    /// [`Error::Finished`] after an exit that [is final](VmExit::is_final); [`Error::Host`] when the
    /// hypervisor fails, after which the VM is finished as well.
    fn run(&mut self) -> Result<VmExit, Error>;

    /// A handle that stops [`run`](Self::run) from any thread.
    fn interrupter(&self) -> Interrupter;
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VmExit {
    /// The guest wrote to a port. The next run goes on after the instruction.
    PortOut {
        /// The port.
        port: u16,
        /// Bytes written: 1, 2 or 4.
        size: u8,
        /// The value, zero-extended.
        data: u32,
    },
    /// The guest read from a port. It gets zero; there is no way to give it another value. The next
    /// run goes on after the instruction.
    PortIn {
        /// The port.
        port: u16,
        /// Bytes read: 1, 2 or 4.
        size: u8,
    },
    /// The guest accessed a guest-physical address where it has no memory. Final.
    Mmio {
        /// The guest-physical address.
        addr: u64,
        /// Whether it was a write.
        write: bool,
        /// Bytes of the access, at most 8. A larger access shows as its first part.
        len: u8,
    },
    /// The guest executed `hlt`. The next run goes on after it.
    Halt,
    /// The guest shut down: an exception that it could not even begin to handle. Final.
    Shutdown,
    /// An [`Interrupter`] stopped the run. The next run goes on where this one stopped.
    Interrupted,
    /// Anything else: an instruction that the hypervisor cannot emulate, string port I/O, a guest
    /// state that the CPU refuses. Final.
    Unexpected {
        /// What happened, for a person to read.
        reason: String,
    },
}

impl VmExit {
    /// Whether the VM cannot run on after this exit. Its memory and general registers can still be
    /// read, to find out why.
    pub fn is_final(&self) -> bool {
        matches!(self, VmExit::Mmio { .. } | VmExit::Shutdown | VmExit::Unexpected { .. })
    }
}
