//! A saved vCPU's state as bytes: the kernel's own structures, one after the other.

use kvm_bindings::{
    kvm_debugregs, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
    kvm_xsave,
};
use zerocopy::{FromBytes, IntoBytes};

/// Which structures follow, and in which order. Another number when that changes.
const VERSION: u32 = 1;
/// MSRs in a state at the most; KVM takes no more in one call.
const MAX_MSRS: usize = 256;

/// A vCPU's state in KVM's words.
pub(crate) struct SavedVcpu {
    pub(super) registers: kvm_regs,
    pub(super) system: kvm_sregs,
    /// Floating-point and vector registers, all that the host's CPU has: some software KVMs run ring 3
    /// with AVX on, offered or not. KVM_GET_FPU and KVM_SET_FPU would leave the upper halves behind.
    pub(super) vectors: Box<kvm_xsave>,
    pub(super) xcrs: Option<kvm_xcrs>,
    pub(super) debug: kvm_debugregs,
    pub(super) msrs: Vec<kvm_msr_entry>,
    pub(super) mp_state: kvm_mp_state,
    pub(super) events: kvm_vcpu_events,
}

impl SavedVcpu {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend(self.registers.as_bytes());
        bytes.extend(self.system.as_bytes());
        bytes.extend(self.vectors.as_bytes());
        bytes.extend(self.debug.as_bytes());
        bytes.extend(self.mp_state.as_bytes());
        bytes.extend(self.events.as_bytes());
        bytes.push(u8::from(self.xcrs.is_some()));
        bytes.extend(self.xcrs.iter().flat_map(IntoBytes::as_bytes));
        bytes.extend((self.msrs.len() as u32).to_le_bytes());
        bytes.extend(self.msrs.iter().flat_map(IntoBytes::as_bytes));
        bytes
    }

    /// `None` for what `to_bytes` has not made. Whether the values make sense is for the kernel to say.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let from = &mut bytes;
        if take::<u32>(from)? != VERSION {
            return None;
        }
        let saved = SavedVcpu {
            registers: take(from)?,
            system: take(from)?,
            vectors: Box::new(take(from)?),
            debug: take(from)?,
            mp_state: take(from)?,
            events: take(from)?,
            xcrs: match take::<u8>(from)? {
                0 => None,
                1 => Some(take(from)?),
                _ => return None,
            },
            msrs: {
                let count = take::<u32>(from)? as usize;
                let entries = (0..count.min(MAX_MSRS)).map(|_| take(from));
                (count <= MAX_MSRS).then(|| entries.collect::<Option<_>>()).flatten()?
            },
        };
        bytes.is_empty().then_some(saved)
    }
}

/// The value that the bytes begin with, which are then those after it.
fn take<T: FromBytes>(bytes: &mut &[u8]) -> Option<T> {
    let (value, rest) = T::read_from_prefix(bytes).ok()?;
    *bytes = rest;
    Some(value)
}
