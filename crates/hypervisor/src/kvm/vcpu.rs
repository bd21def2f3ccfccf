//! A vCPU and the page that it shares with the kernel.

use std::{
    io,
    os::fd::AsRawFd,
    ptr::NonNull,
    sync::atomic::{AtomicU8, Ordering},
};

use kvm_bindings::{
    KVM_SYNC_X86_VALID_FIELDS, kvm_regs, kvm_run, kvm_run__bindgen_ty_1, kvm_sregs, kvm_vcpu_events,
};
use kvm_ioctls::{VcpuFd, VmFd};

use super::device;
use crate::Error;

/// `_IO(KVMIO, 0x80)`.
const KVM_RUN: libc::c_ulong = 0xae80;

/// A vCPU.
///
/// It calls KVM_RUN itself rather than through `VcpuFd::run`: that makes a `&mut kvm_run`, and another
/// thread may be setting `immediate_exit` in there at that moment.
pub(super) struct Vcpu {
    fd: VcpuFd,
    /// Mapped by `fd`, for as long as that lives. Never turned into a reference as a whole.
    run: NonNull<kvm_run>,
    /// Bytes mapped there.
    run_len: usize,
}

// SAFETY: the pointer is to a mapping that `fd` owns, which does not belong to any thread.
unsafe impl Send for Vcpu {}

impl Vcpu {
    /// The one vCPU of `vm`.
    pub(super) fn new(vm: &VmFd) -> Result<Self, Error> {
        let mut fd = vm.create_vcpu(0).map_err(device::failed("KVM_CREATE_VCPU"))?;
        let run = NonNull::from(fd.get_kvm_run());
        Ok(Vcpu { fd, run, run_len: vm.run_size() })
    }

    /// The descriptor, for everything but running.
    pub(super) fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// The flag that makes KVM_RUN return before the guest's next instruction.
    pub(super) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the field is mapped for as long as `self` lives. Of this process, only atomic
        // accesses through this very method touch it: no reference to the whole is ever made.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.run.as_ptr()).immediate_exit) }
    }

    /// Calls KVM_RUN.
    pub(super) fn enter(&self) -> io::Result<()> {
        // SAFETY: the request takes no argument. It runs the guest, which may write to all memory that
        // the VM was given: only `KvmVm::run` and `KvmVm::settle` get here, and say why they may.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_RUN, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Lets KVM finish the instruction that the last exit was in the middle of, without executing
    /// another one. Not to be called while another thread may set `immediate_exit`.
    pub(super) fn finish_instruction(&self) -> Result<(), Error> {
        self.immediate_exit().store(1, Ordering::Relaxed);
        match self.enter() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(()),
            result => {
                let source = result.err().unwrap_or_else(|| io::Error::other("it did not return"));
                Err(Error::Host { call: "KVM_RUN with immediate_exit", source })
            }
        }
    }

    /// Has the kernel take these registers at the beginning of the next KVM_RUN, as if they were set now by
    /// calls of their own, each of which takes some microseconds. What it refuses, KVM_RUN says.
    pub(super) fn defer(&mut self, regs: &kvm_regs, sregs: &kvm_sregs, events: &kvm_vcpu_events) {
        // SAFETY: the fields are mapped, aligned as the struct has them, and only the kernel accesses them
        // besides this thread, in KVM_RUN, which `&mut self` says is not under way.
        unsafe {
            let run = self.run.as_ptr();
            (&raw mut (*run).s.regs.regs).write(*regs);
            (&raw mut (*run).s.regs.sregs).write(*sregs);
            (&raw mut (*run).s.regs.events).write(*events);
            (&raw mut (*run).kvm_dirty_regs).write(u64::from(KVM_SYNC_X86_VALID_FIELDS));
        }
    }

    /// Whether the kernel has not taken them yet.
    pub(super) fn is_deferred(&self) -> bool {
        // SAFETY: the field is mapped, and written to by `defer` and, in KVM_RUN, by the kernel.
        unsafe { (&raw const (*self.run.as_ptr()).kvm_dirty_regs).read() != 0 }
    }

    /// Why KVM_RUN returned, one of `KVM_EXIT_*`.
    pub(super) fn exit_reason(&self) -> u32 {
        // SAFETY: the field is mapped, and only the kernel writes to it, in KVM_RUN.
        unsafe { (&raw const (*self.run.as_ptr()).exit_reason).read() }
    }

    /// The particulars of that, to be read as the reason says.
    pub(super) fn exit_details(&self) -> kvm_run__bindgen_ty_1 {
        // SAFETY: the field is mapped, and only the kernel writes to it, in KVM_RUN.
        unsafe { (&raw const (*self.run.as_ptr()).__bindgen_anon_1).read() }
    }

    /// The data of a port access, `offset` bytes into the shared page; fewer than 4 bytes are
    /// zero-extended.
    ///
    /// # Panics
    /// When there are more than 4, or they are not in the page: the kernel never does that.
    pub(super) fn port_data(&self, offset: u64, size: u8) -> u32 {
        let mut bytes = [0; 4];
        let len = usize::from(size);
        let offset = self.checked_offset(offset, len);
        assert!(len <= bytes.len());
        // SAFETY: the source is within the mapping (`checked_offset`), where only the kernel writes, in
        // KVM_RUN; the destination holds `len` bytes, as just checked.
        unsafe {
            let data = self.run.as_ptr().cast::<u8>().add(offset);
            data.copy_to_nonoverlapping(bytes.as_mut_ptr(), len);
        }
        u32::from_le_bytes(bytes)
    }

    /// Makes the data of a port access zero. Offset, size and panics are those of
    /// [`port_data`](Self::port_data).
    pub(super) fn zero_port_data(&self, offset: u64, size: u8) {
        let len = usize::from(size);
        let offset = self.checked_offset(offset, len);
        // SAFETY: within the mapping (`checked_offset`), outside the fields at its start, and read only
        // by the kernel, in KVM_RUN.
        unsafe { self.run.as_ptr().cast::<u8>().add(offset).write_bytes(0, len) };
    }

    fn checked_offset(&self, offset: u64, len: usize) -> usize {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let within = offset >= size_of::<kvm_run>()
            && offset.checked_add(len).is_some_and(|end| end <= self.run_len);
        assert!(within, "port data at {offset} of a page of {} bytes", self.run_len);
        offset
    }
}
