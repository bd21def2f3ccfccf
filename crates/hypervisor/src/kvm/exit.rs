//! KVM's reasons for an exit, in our words.

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO, KVM_EXIT_IO_IN,
    KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_INTERNAL_ERROR_EMULATION,
};

use super::vcpu::Vcpu;
use crate::VmExit;

/// The exit that KVM_RUN has just returned with.
pub(super) fn decode(vcpu: &Vcpu) -> VmExit {
    match vcpu.exit_reason() {
        KVM_EXIT_IO => port(vcpu),
        KVM_EXIT_MMIO => mmio(vcpu),
        KVM_EXIT_HLT => VmExit::Halt,
        KVM_EXIT_SHUTDOWN => VmExit::Shutdown,
        KVM_EXIT_INTERNAL_ERROR => internal_error(vcpu),
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: for this reason the kernel has filled in this member, which any bits are valid for.
            let failure = unsafe { vcpu.exit_details().fail_entry };
            unexpected(
                vcpu,
                &format!(
                    "the CPU refused the guest's state, hardware reason {:#x}",
                    failure.hardware_entry_failure_reason
                ),
            )
        }
        reason => unexpected(vcpu, &format!("KVM exit {reason}")),
    }
}

fn port(vcpu: &Vcpu) -> VmExit {
    // SAFETY: for this reason the kernel has filled in this member, which any bits are valid for.
    let io = unsafe { vcpu.exit_details().io };
    // A single `ins` or `outs` looks like `in` or `out` and counts as one.
    if io.count != 1 {
        return unexpected(vcpu, &format!("string I/O of {} items, port {:#x}", io.count, io.port));
    }
    if u32::from(io.direction) == KVM_EXIT_IO_IN {
        vcpu.zero_port_data(io.data_offset, io.size);
        VmExit::PortIn { port: io.port, size: io.size }
    } else {
        let data = vcpu.port_data(io.data_offset, io.size);
        VmExit::PortOut { port: io.port, size: io.size, data }
    }
}

fn mmio(vcpu: &Vcpu) -> VmExit {
    // SAFETY: for this reason the kernel has filled in this member, which any bits are valid for.
    let mmio = unsafe { vcpu.exit_details().mmio };
    // At most 8, the size of the data.
    let len = mmio.len.min(8) as u8;
    VmExit::Mmio { addr: mmio.phys_addr, write: mmio.is_write != 0, len }
}

fn internal_error(vcpu: &Vcpu) -> VmExit {
    // SAFETY: for this reason the kernel has filled in this member, which any bits are valid for.
    let error = unsafe { vcpu.exit_details().internal };
    let count = (error.ndata as usize).min(error.data.len());
    let what = match error.suberror {
        KVM_INTERNAL_ERROR_EMULATION => "an instruction that KVM would have to emulate and cannot",
        _ => "an error inside KVM",
    };
    unexpected(
        vcpu,
        &format!("{what}, suberror {}, data {:x?}", error.suberror, &error.data[..count]),
    )
}

fn unexpected(vcpu: &Vcpu, what: &str) -> VmExit {
    let at = match vcpu.fd().get_regs() {
        Ok(registers) => format!("{:#x}", registers.rip),
        Err(error) => format!("an unknown place ({error})"),
    };
    VmExit::Unexpected { reason: format!("{what}; RIP is {at}") }
}
