//! A vCPU's state: saving, restoring, and the first shape of it.

use std::arch::x86_64::__cpuid_count;
use std::sync::Arc;

use kvm_bindings::{
    KVM_MP_STATE_RUNNABLE, Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_xcrs,
    kvm_xsave,
};
use kvm_ioctls::VcpuFd;

use super::{Host, SavedVcpu, device};
use crate::{
    CR4_OSXSAVE, DescriptorTable, EFER_SCE, Error, Registers, SystemRegisters, VcpuState,
    state::Backend,
};

const MSR_SYSENTER_CS: u32 = 0x174;
const MSR_SYSENTER_ESP: u32 = 0x175;
const MSR_SYSENTER_EIP: u32 = 0x176;
const MSR_PAT: u32 = 0x277;
const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_SFMASK: u32 = 0xc000_0084;
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;
const MSR_TSC_AUX: u32 = 0xc000_0103;

/// The MSRs of a saved state. EFER and the bases of FS and GS are among the system registers; the time
/// stamp counter goes on.
const SAVED_MSRS: [u32; 10] = [
    MSR_SYSENTER_CS,
    MSR_SYSENTER_ESP,
    MSR_SYSENTER_EIP,
    MSR_PAT,
    MSR_STAR,
    MSR_LSTAR,
    MSR_CSTAR,
    MSR_SFMASK,
    MSR_KERNEL_GS_BASE,
    MSR_TSC_AUX,
];

/// Where XSAVE's header says which parts of the state are present: the word of `kvm_xsave::region`. The
/// legacy region holds valid values for the two below in any case.
const XSTATE_BV: usize = 512 / 4;
const XSTATE_X87: u32 = 1 << 0;
const XSTATE_SSE: u32 = 1 << 1;
/// The rights of protection keys, which software KVMs let ring 3 set where the host has them. Initially zero.
const XSTATE_PKRU: u32 = 1 << 9;

/// All flags that `syscall` can clear: among them interrupts, traps and alignment checks.
const ALL_FLAGS: u64 = 0x003f_7fd5;

/// Segment types of descriptors, accessed where that applies.
const TYPE_DATA: u8 = 3;
const TYPE_CODE: u8 = 11;
const TYPE_TSS_AVAILABLE: u8 = 9;
const TYPE_TSS_BUSY: u8 = 11;

/// Those of [`SAVED_MSRS`] that this KVM has.
pub(super) fn available_msrs(kvm: &kvm_ioctls::Kvm) -> Result<Vec<u32>, Error> {
    let list = kvm.get_msr_index_list().map_err(device::failed("KVM_GET_MSR_INDEX_LIST"))?;
    Ok(SAVED_MSRS.into_iter().filter(|msr| list.as_slice().contains(msr)).collect())
}

/// Everything about the vCPU.
pub(super) fn save(host: &Host, vcpu: &VcpuFd) -> Result<VcpuState, Error> {
    let mut saved = SavedVcpu {
        // First, as the kernel wants it: this may complete what is pending.
        mp_state: vcpu.get_mp_state().map_err(device::failed("KVM_GET_MP_STATE"))?,
        registers: vcpu.get_regs().map_err(device::failed("KVM_GET_REGS"))?,
        system: vcpu.get_sregs().map_err(device::failed("KVM_GET_SREGS"))?,
        vectors: Box::new(vcpu.get_xsave().map_err(device::failed("KVM_GET_XSAVE"))?),
        xcrs: match host.xcr0 {
            Some(_) => Some(vcpu.get_xcrs().map_err(device::failed("KVM_GET_XCRS"))?),
            None => None,
        },
        debug: vcpu.get_debug_regs().map_err(device::failed("KVM_GET_DEBUGREGS"))?,
        msrs: get_msrs(vcpu, &host.msrs)?,
        events: vcpu.get_vcpu_events().map_err(device::failed("KVM_GET_VCPU_EVENTS"))?,
    };
    // Registers at their initial values may be marked as absent, though their values are there. The kernel
    // would then leave MXCSR as the guest has it: it takes MXCSR from a state only with what is marked as
    // present. And with the same marks always, equal states have equal bytes.
    let marks = saved.vectors.region[XSTATE_BV];
    saved.vectors.region[XSTATE_BV] = XSTATE_X87
        | XSTATE_SSE
        | match host.xcr0 {
            // What is not enabled there the guest cannot reach.
            Some(enabled) => enabled as u32,
            // It may have more than it is offered. Rights of keys that the kernel has once set it marks as present
            // from then on, whatever they are.
            None if pkru(&saved.vectors) == 0 => marks & !XSTATE_PKRU,
            None => marks,
        };
    Ok(VcpuState(Arc::new(Backend::Kvm(saved))))
}

/// The rights of protection keys in a state, if this CPU has them.
fn pkru(state: &kvm_xsave) -> u32 {
    let place = __cpuid_count(0xd, XSTATE_PKRU.trailing_zeros());
    let has_it = place.eax >= 4;
    has_it.then(|| state.region.get(place.ebx as usize / 4).copied()).flatten().unwrap_or(0)
}

/// Everything about the vCPU, back to what it was.
pub(super) fn restore(host: &Host, vcpu: &VcpuFd, saved: &SavedVcpu) -> Result<(), Error> {
    let system = system_registers(host, saved);
    vcpu.set_sregs(&system).map_err(device::refused("the state's system registers"))?;
    restore_rest(host, vcpu, saved)?;
    vcpu.set_regs(&saved.registers).map_err(device::refused("the state's registers"))?;
    // After the registers, which drop any pending exception.
    vcpu.set_vcpu_events(&saved.events).map_err(device::refused("the state's pending events"))
}

/// The system registers of a saved state, as they are to be set.
pub(super) fn system_registers(host: &Host, saved: &SavedVcpu) -> kvm_sregs {
    let mut system = saved.system;
    // Some KVMs report a busy TSS whatever was set.
    system.tr.type_ = tss_type(host);
    system
}

/// All but general and system registers and pending events.
pub(super) fn restore_rest(host: &Host, vcpu: &VcpuFd, saved: &SavedVcpu) -> Result<(), Error> {
    if let (Some(xcrs), Some(_)) = (&saved.xcrs, host.xcr0) {
        vcpu.set_xcrs(xcrs).map_err(device::refused("the state's XCR0"))?;
    }
    // SAFETY: the kernel reads more than this struct only for a process that has asked for dynamic
    // states; `KVM_GET_XSAVE`, which filled the struct, fails for such a process.
    unsafe { vcpu.set_xsave(&saved.vectors) }
        .map_err(device::refused("the state's vector registers"))?;
    set_msrs(vcpu, &saved.msrs)?;
    vcpu.set_debug_regs(&saved.debug).map_err(device::refused("the state's debug registers"))?;
    // A vCPU without a local APIC in the kernel can be runnable and nothing else: KVM refuses other states, and leaves
    // `hlt` to us (`__kvm_emulate_halt`). So it is that already.
    if saved.mp_state.mp_state == KVM_MP_STATE_RUNNABLE {
        return Ok(());
    }
    vcpu.set_mp_state(saved.mp_state).map_err(device::refused("the state's run state"))
}

/// Makes the vCPU a 64-bit machine of this shape.
pub(super) fn set_system_registers(
    host: &Host,
    vcpu: &VcpuFd,
    wanted: &SystemRegisters,
) -> Result<(), Error> {
    let mut system = vcpu.get_sregs().map_err(device::failed("KVM_GET_SREGS"))?;
    system.cr0 = wanted.cr0;
    system.cr3 = wanted.cr3;
    system.cr4 = match host.xcr0 {
        Some(_) => wanted.cr4 | CR4_OSXSAVE,
        None => wanted.cr4 & !CR4_OSXSAVE,
    };
    system.efer = wanted.efer;
    set_table(&mut system.gdt, wanted.gdt);
    set_table(&mut system.idt, wanted.idt);
    system.cs = code_segment(wanted.code_selector);
    let data = data_segment(wanted.data_selector);
    system.ss = data;
    system.ds = data;
    system.es = data;
    system.fs = data;
    system.gs = data;
    system.ldt = kvm_segment { unusable: 1, ..Default::default() };
    system.tr = kvm_segment {
        base: wanted.tr.base,
        limit: wanted.tr.limit,
        selector: wanted.tr.selector,
        type_: tss_type(host),
        present: 1,
        ..Default::default()
    };
    vcpu.set_sregs(&system).map_err(device::refused("the system registers"))?;
    check_efer(vcpu, wanted.efer)?;

    if let Some(xcr0) = host.xcr0 {
        let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
        xcrs.xcrs[0].value = xcr0;
        vcpu.set_xcrs(&xcrs).map_err(device::refused("XCR0"))?;
    }
    // Whether or not the hypervisor leaves `syscall` on, it ends where the caller says, and `sysenter`
    // faults.
    let msrs = [
        (MSR_STAR, u64::from(wanted.syscall_selector) << 32),
        (MSR_LSTAR, wanted.syscall_entry),
        (MSR_CSTAR, wanted.syscall_entry),
        (MSR_SFMASK, ALL_FLAGS),
        (MSR_SYSENTER_CS, 0),
        (MSR_SYSENTER_ESP, 0),
        (MSR_SYSENTER_EIP, 0),
    ];
    set_msrs(vcpu, &msrs.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() }))
}

/// Makes sure that EFER is as wanted, but for `syscall`, which some KVMs force on.
fn check_efer(vcpu: &VcpuFd, wanted: u64) -> Result<(), Error> {
    let efer = vcpu.get_sregs().map_err(device::failed("KVM_GET_SREGS"))?.efer;
    if (efer ^ wanted) & !EFER_SCE != 0 {
        return Err(Error::Rejected {
            what: format!("EFER: {wanted:#x} became {efer:#x}"),
            source: std::io::ErrorKind::InvalidInput.into(),
        });
    }
    if efer != wanted {
        tracing::trace!(wanted, efer, "KVM forces EFER.SCE");
    }
    Ok(())
}

fn tss_type(host: &Host) -> u8 {
    if host.options.available_tss { TYPE_TSS_AVAILABLE } else { TYPE_TSS_BUSY }
}

fn set_table(to: &mut kvm_bindings::kvm_dtable, from: DescriptorTable) {
    to.base = from.base;
    to.limit = from.limit;
}

fn code_segment(selector: u16) -> kvm_segment {
    kvm_segment { type_: TYPE_CODE, l: 1, ..flat_segment(selector) }
}

fn data_segment(selector: u16) -> kvm_segment {
    kvm_segment { type_: TYPE_DATA, db: 1, ..flat_segment(selector) }
}

fn flat_segment(selector: u16) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        present: 1,
        dpl: (selector & 3) as u8,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

fn get_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<kvm_msr_entry>, Error> {
    let entries: Vec<_> =
        indices.iter().map(|&index| kvm_msr_entry { index, ..Default::default() }).collect();
    let mut msrs = Msrs::from_entries(&entries).expect("fewer entries than KVM takes");
    let count = vcpu.get_msrs(&mut msrs).map_err(device::failed("KVM_GET_MSRS"))?;
    // KVM stops at the first that it does not take.
    match indices.get(count) {
        Some(index) => Err(rejected_msr("reading", *index)),
        None => Ok(msrs.as_slice().to_vec()),
    }
}

fn set_msrs(vcpu: &VcpuFd, entries: &[kvm_msr_entry]) -> Result<(), Error> {
    let msrs = Msrs::from_entries(entries).expect("fewer entries than KVM takes");
    let count = vcpu.set_msrs(&msrs).map_err(device::failed("KVM_SET_MSRS"))?;
    match entries.get(count) {
        Some(entry) => Err(rejected_msr("writing", entry.index)),
        None => Ok(()),
    }
}

fn rejected_msr(verb: &str, index: u32) -> Error {
    Error::Rejected {
        what: format!("{verb} MSR {index:#x}"),
        source: std::io::ErrorKind::InvalidInput.into(),
    }
}

impl From<kvm_regs> for Registers {
    fn from(from: kvm_regs) -> Self {
        let kvm_regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, .. } = from;
        let kvm_regs { r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags, .. } = from;
        Registers {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        }
    }
}

impl From<&Registers> for kvm_regs {
    fn from(from: &Registers) -> Self {
        let Registers { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, .. } = *from;
        let Registers { r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags, .. } = *from;
        kvm_regs {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        }
    }
}
