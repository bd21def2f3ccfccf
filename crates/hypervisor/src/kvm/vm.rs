//! One VM.

use std::{cell::Cell, ops::Range, sync::Arc};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;

use super::{Host, device, exit, kick::Kicker, state, vcpu::Vcpu};
use crate::{
    Error, GuestMemory, Interrupter, MemoryImage, PAGE_SIZE, Registers, SystemRegisters, VcpuState,
    Vm, VmExit, state::Backend,
};

/// A VM of KVM's.
pub(super) struct KvmVm {
    // In the order in which they are dropped: what uses something before what it uses.
    vcpu: Vcpu,
    vm: VmFd,
    /// Ranges of memory that KVM has been told of.
    slots: u32,
    memory: GuestMemory,
    kicker: Arc<Kicker>,
    /// The last exit was a port access, which KVM finishes only when it is entered again: until then
    /// the registers are those of before.
    unfinished: Cell<bool>,
    /// The state that was restored last, which KVM has taken.
    restored: Option<VcpuState>,
    /// The exit that was final.
    finished: Option<String>,
    host: Arc<Host>,
}

impl KvmVm {
    /// A VM with this memory.
    pub(super) fn new(host: Arc<Host>, mut memory: GuestMemory) -> Result<Self, Error> {
        let vm = host.kvm.create_vm().map_err(device::failed("KVM_CREATE_VM"))?;
        let reach = memory.reach();
        add_slot(&vm, 0, &mut memory, 0..reach)?;
        let vcpu = Vcpu::new(&vm)?;
        vcpu.fd().set_cpuid2(&host.cpuid).map_err(device::failed("KVM_SET_CPUID2"))?;
        let kicker = Arc::new(Kicker::new(host.signal));
        let unfinished = Cell::new(false);
        Ok(KvmVm {
            vcpu,
            vm,
            slots: 1,
            memory,
            kicker,
            unfinished,
            restored: None,
            finished: None,
            host,
        })
    }

    /// Finishes a port access, so that the registers are those of after it, and has the kernel take registers
    /// that were put off.
    ///
    /// Shared access is enough: `out` changes nothing but registers, and `run` has finished any other
    /// kind. No run is under way, since that takes `&mut self`, so no kick is either.
    fn settle(&self) -> Result<(), Error> {
        if self.unfinished.get() || self.vcpu.is_deferred() {
            self.vcpu.finish_instruction()?;
            // Not before: what is unfinished would otherwise end up in a state restored next.
            self.unfinished.set(false);
        }
        Ok(())
    }

    fn check_not_finished(&self) -> Result<(), Error> {
        match &self.finished {
            Some(exit) => Err(Error::Finished { exit: exit.clone() }),
            None => Ok(()),
        }
    }
}

/// Tells KVM of a range of the memory, in whole pages: the guest has it from now on.
fn add_slot(
    vm: &VmFd,
    slot: u32,
    memory: &mut GuestMemory,
    range: Range<usize>,
) -> Result<(), Error> {
    assert!(range.start < range.end && range.end <= memory.len());
    let start = range.start as u64;
    let region = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: start,
        memory_size: range.len() as u64,
        userspace_addr: memory.host_address().expose_provenance() as u64 + start,
    };
    // SAFETY: the range is within the memory, which is mapped for as long as it lives; every caller has the
    // memory next to the VM, to be dropped after it. Only guests write there, in `Vcpu::enter`.
    unsafe { vm.set_user_memory_region(region) }.map_err(|error| match error.errno() {
        // Another slot has some of it, or there are no more slots.
        libc::EEXIST | libc::EINVAL => Error::Rejected {
            what: format!("{} bytes at {start:#x} as more memory of a guest", range.len()),
            source: error.into(),
        },
        _ => device::failed("KVM_SET_USER_MEMORY_REGION")(error),
    })
}

impl Vm for KvmVm {
    fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    fn memory_mut(&mut self) -> &mut GuestMemory {
        &mut self.memory
    }

    fn reset_memory(&mut self, image: &MemoryImage) -> Result<(), Error> {
        // The kernel takes the old pages away from the guest as it unmaps them from the host.
        self.memory.reset(image)
    }

    fn extend(&mut self, range: Range<u64>) -> Result<(), Error> {
        self.check_not_finished()?;
        let range = self.memory.check(range)?;
        let start = range.start / PAGE_SIZE * PAGE_SIZE;
        // The memory is whole pages, so that this stays within it.
        let range = start..range.end.next_multiple_of(PAGE_SIZE);
        if range.is_empty() {
            return Ok(());
        }
        add_slot(&self.vm, self.slots, &mut self.memory, range)?;
        self.slots += 1;
        Ok(())
    }

    fn registers(&self) -> Result<Registers, Error> {
        self.settle()?;
        Ok(self.vcpu.fd().get_regs().map_err(device::failed("KVM_GET_REGS"))?.into())
    }

    fn set_registers(&mut self, registers: &Registers) -> Result<(), Error> {
        self.check_not_finished()?;
        self.settle()?;
        self.vcpu.fd().set_regs(&registers.into()).map_err(device::refused("the registers"))
    }

    fn set_system_registers(&mut self, registers: &SystemRegisters) -> Result<(), Error> {
        self.check_not_finished()?;
        self.settle()?;
        state::set_system_registers(&self.host, self.vcpu.fd(), registers)
    }

    fn save(&self) -> Result<VcpuState, Error> {
        self.check_not_finished()?;
        self.settle()?;
        state::save(&self.host, self.vcpu.fd())
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), Error> {
        self.check_not_finished()?;
        self.settle()?;
        let Backend::Kvm(saved) = &*state.0;
        let again = self.restored.as_ref().is_some_and(|last| Arc::ptr_eq(&last.0, &state.0));
        if again && self.host.sync_regs {
            // KVM has taken it before, so nothing will be refused.
            state::restore_rest(&self.host, self.vcpu.fd(), saved)?;
            let system = state::system_registers(&self.host, saved);
            self.vcpu.defer(&saved.registers, &system, &saved.events);
            return Ok(());
        }
        self.restored = None;
        state::restore(&self.host, self.vcpu.fd(), saved)?;
        self.restored = Some(state.clone());
        Ok(())
    }

    fn run(&mut self) -> Result<VmExit, Error> {
        self.check_not_finished()?;
        // The guest writes to the memory now, and `&mut self` says that nobody has borrowed it.
        let result = self.kicker.run(&self.vcpu);
        let Some(result) = result else {
            // KVM may not even have been entered: what was unfinished may still be.
            return Ok(VmExit::Interrupted);
        };
        self.unfinished.set(false);
        if let Err(source) = result {
            self.finished = Some(format!("KVM_RUN failed: {source}"));
            return Err(Error::Host { call: "KVM_RUN", source });
        }
        let exit = exit::decode(&self.vcpu);
        match &exit {
            VmExit::PortOut { .. } => self.unfinished.set(true),
            // What looks like `in` may be `ins`, which writes to memory: that takes `&mut self`.
            VmExit::PortIn { .. } => self.vcpu.finish_instruction().inspect_err(|error| {
                self.finished = Some(error.to_string());
            })?,
            exit if exit.is_final() => self.finished = Some(format!("{exit:?}")),
            _ => {}
        }
        Ok(exit)
    }

    fn interrupter(&self) -> Interrupter {
        Interrupter::new(self.kicker.clone())
    }
}
