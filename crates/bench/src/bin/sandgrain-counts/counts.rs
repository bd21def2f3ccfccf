//! What is counted.

use std::collections::BTreeMap;

/// How often KVM has done something. Amounts are fractions where one call in several differs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Calls of KVM by the process, by the number of the request.
    pub ioctls: BTreeMap<u64, f64>,
    /// Exits of the VM to the kernel, by the CPU's code for the reason.
    pub exits: BTreeMap<u64, f64>,
    /// KVM's own statistics, by name. They are sums over all VMs that there are.
    pub statistics: BTreeMap<&'static str, f64>,
}

impl Counts {
    /// What has been added. Negative where a VM took its statistics along.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            ioctls: since(&self.ioctls, &before.ioctls),
            exits: since(&self.exits, &before.exits),
            statistics: since(&self.statistics, &before.statistics),
        }
    }

    /// The share of one in so many.
    pub fn each_of(mut self, times: u32) -> Self {
        let amounts = self.ioctls.values_mut().chain(self.exits.values_mut());
        amounts.chain(self.statistics.values_mut()).for_each(|amount| *amount /= f64::from(times));
        self
    }
}

fn since<K: Ord + Copy>(now: &BTreeMap<K, f64>, before: &BTreeMap<K, f64>) -> BTreeMap<K, f64> {
    let added = now.iter().map(|(key, n)| (*key, n - before.get(key).unwrap_or(&0.0)));
    added.filter(|(_, n)| *n != 0.0).collect()
}

/// The name of a request to KVM.
pub fn ioctl_name(number: u64) -> String {
    let name = match number {
        0x00 => "GET_API_VERSION",
        0x01 => "CREATE_VM",
        0x03 => "CHECK_EXTENSION",
        0x04 => "GET_VCPU_MMAP_SIZE",
        0x05 => "GET_SUPPORTED_CPUID",
        0x41 => "CREATE_VCPU",
        0x46 => "SET_USER_MEMORY_REGION",
        0x47 => "SET_TSS_ADDR",
        0x48 => "SET_IDENTITY_MAP_ADDR",
        0x80 => "RUN",
        0x81 => "GET_REGS",
        0x82 => "SET_REGS",
        0x83 => "GET_SREGS",
        0x84 => "SET_SREGS",
        0x88 => "GET_MSRS",
        0x89 => "SET_MSRS",
        0x8b => "SET_SIGNAL_MASK",
        0x8c => "GET_FPU",
        0x8d => "SET_FPU",
        0x90 => "SET_CPUID2",
        0x98 => "GET_MP_STATE",
        0x99 => "SET_MP_STATE",
        0x9f => "GET_VCPU_EVENTS",
        0xa0 => "SET_VCPU_EVENTS",
        0xa1 => "GET_DEBUGREGS",
        0xa2 => "SET_DEBUGREGS",
        0xa3 => "ENABLE_CAP",
        0xa4 => "GET_XSAVE",
        0xa5 => "SET_XSAVE",
        0xa6 => "GET_XCRS",
        0xa7 => "SET_XCRS",
        _ => return format!("0x{number:02x}"),
    };
    name.to_owned()
}

/// AMD's code for a nested page fault.
pub const NESTED_PAGE_FAULT: u64 = 0x400;

/// Exits that something outside of the guest causes: how many there are depends on time.
pub const FROM_OUTSIDE: [u64; 3] = [0x60, 0x61, 0x62];

/// The name of an exit's reason, for AMD's CPUs.
pub fn exit_name(reason: u64) -> String {
    let name = match reason {
        0x60 => "interrupt",
        0x61 => "NMI",
        0x62 => "SMI",
        0x64 => "interrupt window",
        0x72 => "cpuid",
        0x78 => "hlt",
        0x7b => "port",
        0x7c => "MSR",
        0x7f => "shutdown",
        0x8d => "xsetbv",
        NESTED_PAGE_FAULT => "nested page fault",
        0x40..0x60 => return format!("exception {}", reason - 0x40),
        _ => return format!("0x{reason:x}"),
    };
    name.to_owned()
}
