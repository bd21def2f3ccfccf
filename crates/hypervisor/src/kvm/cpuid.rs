//! The guest's CPU, as KVM describes it.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};

use super::device;
use crate::{CpuFeatures, Error};

/// XCR0: the states of x87, SSE, AVX, and the three of AVX-512.
const STATE_X87_SSE: u64 = 0b11;
const STATE_AVX: u64 = 1 << 2;
const STATE_AVX512: u64 = 0b111 << 5;

/// What KVM supports, to be given to vCPUs as it is, less what only says on which of the host's CPUs
/// this happened to run.
pub(super) fn supported(kvm: &kvm_ioctls::Kvm) -> Result<CpuId, Error> {
    let mut cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(device::failed("KVM_GET_SUPPORTED_CPUID"))?;
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            // The local APIC's number, which is the vCPU's: 0.
            0x1 => entry.ebx &= 0x00ff_ffff,
            0xb | 0x1f => entry.edx = 0,
            _ => {}
        }
    }
    Ok(cpuid)
}

/// The vector states that XSAVE can hold and this crate knows, or `None` without XSAVE.
pub(super) fn xcr0(cpuid: &CpuId) -> Option<u64> {
    if !register(cpuid, 0x1, 0, Register::Ecx, 26) {
        return None;
    }
    let entry = entry(cpuid, 0xd, 0)?;
    let offered = u64::from(entry.eax) | u64::from(entry.edx) << 32;
    // The CPU takes AVX-512's states together or not at all, and not without AVX's.
    let mut xcr0 = STATE_X87_SSE | offered & STATE_AVX;
    if xcr0 & STATE_AVX != 0 && offered & STATE_AVX512 == STATE_AVX512 {
        xcr0 |= STATE_AVX512;
    }
    Some(xcr0)
}

#[derive(Clone, Copy)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// Where `cpuid` tells of a feature: name, leaf, subleaf, register, bit, and the state in XCR0 that it
/// is of no use without.
type Row = (&'static str, u32, u32, Register, u32, u64);

const NONE: u64 = 0;
const ROWS: [Row; 34] = [
    ("sse3", 0x1, 0, Register::Ecx, 0, NONE),
    ("ssse3", 0x1, 0, Register::Ecx, 9, NONE),
    ("sse41", 0x1, 0, Register::Ecx, 19, NONE),
    ("sse42", 0x1, 0, Register::Ecx, 20, NONE),
    ("popcnt", 0x1, 0, Register::Ecx, 23, NONE),
    ("cmpxchg16b", 0x1, 0, Register::Ecx, 13, NONE),
    ("movbe", 0x1, 0, Register::Ecx, 22, NONE),
    ("aes", 0x1, 0, Register::Ecx, 25, NONE),
    ("pclmulqdq", 0x1, 0, Register::Ecx, 1, NONE),
    ("rdrand", 0x1, 0, Register::Ecx, 30, NONE),
    ("avx", 0x1, 0, Register::Ecx, 28, STATE_AVX),
    ("fma", 0x1, 0, Register::Ecx, 12, STATE_AVX),
    ("bmi1", 0x7, 0, Register::Ebx, 3, NONE),
    ("bmi2", 0x7, 0, Register::Ebx, 8, NONE),
    ("avx2", 0x7, 0, Register::Ebx, 5, STATE_AVX),
    ("avx512f", 0x7, 0, Register::Ebx, 16, STATE_AVX512),
    ("avx512dq", 0x7, 0, Register::Ebx, 17, STATE_AVX512),
    ("avx512bw", 0x7, 0, Register::Ebx, 30, STATE_AVX512),
    ("avx512vl", 0x7, 0, Register::Ebx, 31, STATE_AVX512),
    ("avx512vbmi", 0x7, 0, Register::Ecx, 1, STATE_AVX512),
    ("avx512vnni", 0x7, 0, Register::Ecx, 11, STATE_AVX512),
    ("avx512bitalg", 0x7, 0, Register::Ecx, 12, STATE_AVX512),
    ("avxvnni", 0x7, 1, Register::Eax, 4, STATE_AVX),
    ("fsgsbase", 0x7, 0, Register::Ebx, 0, NONE),
    ("smep", 0x7, 0, Register::Ebx, 7, NONE),
    ("smap", 0x7, 0, Register::Ebx, 20, NONE),
    ("umip", 0x7, 0, Register::Ecx, 2, NONE),
    ("erms", 0x7, 0, Register::Ebx, 9, NONE),
    ("fsrm", 0x7, 0, Register::Edx, 4, NONE),
    ("rdseed", 0x7, 0, Register::Ebx, 18, NONE),
    ("adx", 0x7, 0, Register::Ebx, 19, NONE),
    ("sha", 0x7, 0, Register::Ebx, 29, NONE),
    ("lzcnt", 0x8000_0001, 0, Register::Ecx, 5, NONE),
    ("gib_pages", 0x8000_0001, 0, Register::Edx, 26, NONE),
];

/// The features that guests can use when XCR0 is as given.
pub(super) fn features(cpuid: &CpuId, xcr0: Option<u64>) -> CpuFeatures {
    let mut features = CpuFeatures::default();
    if xcr0.is_some() {
        features.insert("xsave");
    }
    for (name, leaf, subleaf, which, bit, state) in ROWS {
        let usable = xcr0.unwrap_or(0) & state == state;
        if usable && register(cpuid, leaf, subleaf, which, bit) {
            features.insert(name);
        }
    }
    features
}

fn register(cpuid: &CpuId, leaf: u32, subleaf: u32, which: Register, bit: u32) -> bool {
    entry(cpuid, leaf, subleaf).is_some_and(|entry| {
        let value = match which {
            Register::Eax => entry.eax,
            Register::Ebx => entry.ebx,
            Register::Ecx => entry.ecx,
            Register::Edx => entry.edx,
        };
        value >> bit & 1 == 1
    })
}

/// The entry for a leaf. Leaves without subleaves have one entry, of index 0.
fn entry(cpuid: &CpuId, leaf: u32, subleaf: u32) -> Option<&kvm_cpuid_entry2> {
    cpuid.as_slice().iter().find(|entry| entry.function == leaf && entry.index == subleaf)
}

#[cfg(test)]
mod tests {
    use kvm_bindings::{CpuId, kvm_cpuid_entry2};

    use super::{ROWS, features, xcr0};

    fn everything_but(xsave: bool, states: u32) -> CpuId {
        let all = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        };
        let mut leaf1 = all(0x1, 0);
        if !xsave {
            leaf1.ecx &= !(1 << 26);
        }
        let states = kvm_cpuid_entry2 { function: 0xd, eax: states, ..Default::default() };
        let entries = [leaf1, all(0x7, 0), all(0x7, 1), all(0x8000_0001, 0), states];
        CpuId::from_entries(&entries).unwrap()
    }

    #[test]
    fn wide_vectors_need_xsave() {
        let cpuid = everything_but(false, 0xe7);
        assert_eq!(xcr0(&cpuid), None);
        let found = features(&cpuid, None);
        assert!(found.sse42() && found.bmi2() && found.lzcnt());
        assert!(
            !found.xsave() && !found.avx() && !found.avx2() && !found.fma() && !found.avx512f()
        );
    }

    #[test]
    fn avx512_needs_all_of_its_states() {
        let cpuid = everything_but(true, 0x67);
        assert_eq!(xcr0(&cpuid), Some(0x7));
        let found = features(&cpuid, xcr0(&cpuid));
        assert!(found.avx2() && !found.avx512f());
    }

    #[test]
    fn all_of_it_is_found() {
        // Of the states, those that this crate does not know stay off.
        let cpuid = everything_but(true, u32::MAX);
        assert_eq!(xcr0(&cpuid), Some(0xe7));
        assert_eq!(features(&cpuid, xcr0(&cpuid)).names().len(), ROWS.len() + 1);
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        let cpuid = CpuId::from_entries(&[]).unwrap();
        assert_eq!(xcr0(&cpuid), None);
        assert_eq!(features(&cpuid, None).bits(), 0);
    }
}
