//! The calls that a confined process may make, and what for.
//!
//! Derived from this crate's code, and from what strace and the kernel's log show of its tests. What differs
//! between machines shows in no trace: a KVM without XCR0 is never asked for it, another glibc names its
//! memory, a thread that is frozen while it sleeps goes on by a call of its own.

use std::{collections::BTreeMap, ffi::c_long};

use kvm_bindings as kvm;
use seccompiler::{
    SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompRule as Rule,
};

use super::super::{mapping::MADV_COLLAPSE, pagemap::PAGEMAP_SCAN};

/// Calls by number, with the cases in which each is on the list; without any, it always is.
pub(super) type Rules = BTreeMap<i64, Vec<Rule>>;

/// Calls that are harmless with any arguments, given the descriptors and the memory that the process has.
const ALWAYS: &[(c_long, &str)] = &[
    (libc::SYS_read, "from its sockets"),
    (libc::SYS_write, "to its sockets and to standard error"),
    (libc::SYS_readv, "the same in parts"),
    (libc::SYS_writev, "the same in parts"),
    (libc::SYS_recvfrom, "from its sockets"),
    (libc::SYS_recvmsg, "descriptors of memory and further sockets arrive with it"),
    (libc::SYS_sendmsg, "answers in parts"),
    (libc::SYS_shutdown, "ends a conversation"),
    (libc::SYS_poll, "waits for sockets"),
    (libc::SYS_ppoll, "waits for sockets"),
    (libc::SYS_close, "of a VM that goes"),
    (libc::SYS_fstat, "whose a layer's file is (`SealedFile::open`)"),
    (libc::SYS_geteuid, "whether that is this process's user"),
    (libc::SYS_pread64, "pages that were written, from pagemap on Linux before 6.7"),
    (libc::SYS_munmap, "memory of VMs, of the allocator, of threads that have ended"),
    (libc::SYS_brk, "the allocator"),
    (libc::SYS_clone3, "which the other filter answers: see `unknown`"),
    (libc::SYS_sched_yield, "lets a kick arrive (`kick.rs`), and threads take turns"),
    (libc::SYS_sched_getaffinity, "a thread asks for its own attributes when it starts"),
    (libc::SYS_set_robust_list, "a new thread's"),
    (libc::SYS_rseq, "a new thread's"),
    (libc::SYS_sigaltstack, "a new thread's, so that a stack overflow is reported"),
    (libc::SYS_rt_sigprocmask, "a new thread's, and to let kicks through"),
    (libc::SYS_rt_sigaction, "the kick's handler, and those of a crash"),
    (libc::SYS_rt_sigreturn, "after a kick"),
    (libc::SYS_restart_syscall, "goes on with a wait in which the process was stopped or frozen"),
    (libc::SYS_getpid, "for a kick, which names it"),
    (libc::SYS_gettid, "the same, and a panic's thread"),
    (libc::SYS_clock_gettime, "where the clock cannot be read without a call"),
    (libc::SYS_clock_nanosleep, "sleeping"),
    (libc::SYS_getrandom, "seeds of hash tables"),
    (libc::SYS_exit, "of a thread"),
    (libc::SYS_exit_group, "of the process"),
];

/// What must hold for an argument, which is counted from 0.
#[derive(Clone, Copy)]
enum Check {
    /// As an `int`, it is this.
    Is(u8, u32),
    /// It is this, all 64 bits of it.
    IsLong(u8, u64),
    /// It has none but these bits, of 64.
    Within(u8, u64),
    /// As an `int`, it is this without these bits.
    IsBut(u8, u32, i32),
    /// It is this process.
    IsSelf(u8),
}

use Check::{Is, IsBut, IsLong, IsSelf, Within};

const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const MAP_FLAGS: u64 = (libc::MAP_PRIVATE
    | libc::MAP_SHARED
    | libc::MAP_FIXED
    | libc::MAP_ANONYMOUS
    | libc::MAP_NORESERVE
    | libc::MAP_STACK) as u64;
const THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u64;
const MEMFD_FLAGS: u64 =
    (libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_NOEXEC_SEAL) as u64;
const FUTEX_FLAGS: i32 = libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME;
const PR_SET_VMA: u32 = 0x5356_4d41;
const MADV_GUARD_INSTALL: u32 = 102;
const MADV_GUARD_REMOVE: u32 = 103;

/// Calls that are on the list in these cases.
const SOMETIMES: &[(c_long, &[Check], &str)] = &[
    (libc::SYS_mmap, &[Within(2, READ_WRITE), Within(3, MAP_FLAGS)], "memory, never executable"),
    (libc::SYS_mprotect, &[Within(2, READ_WRITE)], "guard pages, and the allocator's arenas"),
    (libc::SYS_mremap, &[IsLong(3, libc::MREMAP_MAYMOVE as u64)], "the allocator's large blocks"),
    (libc::SYS_madvise, &[Is(2, libc::MADV_DONTNEED as u32)], "gives pages back"),
    (libc::SYS_madvise, &[Is(2, libc::MADV_POPULATE_WRITE as u32)], "`GuestMemory::populate`"),
    (libc::SYS_madvise, &[Is(2, MADV_GUARD_INSTALL)], "a thread's guard pages, glibc 2.42"),
    (libc::SYS_madvise, &[Is(2, MADV_GUARD_REMOVE)], "the same, of a stack that is used again"),
    (libc::SYS_clone, &[IsLong(0, THREAD)], "a thread, and nothing but a thread"),
    (libc::SYS_futex, &[IsBut(1, libc::FUTEX_WAIT as u32, FUTEX_FLAGS)], "locks of glibc's"),
    (libc::SYS_futex, &[IsBut(1, libc::FUTEX_WAIT_BITSET as u32, FUTEX_FLAGS)], "all other waits"),
    (libc::SYS_futex, &[IsBut(1, libc::FUTEX_WAKE as u32, FUTEX_FLAGS)], "ends any of them"),
    (libc::SYS_tgkill, &[IsSelf(0)], "a kick, or an abort: of this process's own threads"),
    (libc::SYS_prctl, &[Is(0, libc::PR_SET_NAME as u32)], "a thread's name"),
    (libc::SYS_prctl, &[Is(0, PR_SET_VMA), Is(1, 0)], "glibc names memory when it is told to"),
    (libc::SYS_setpriority, &[Is(0, libc::PRIO_PROCESS), Is(1, 0)], "a thread steps back"),
    (libc::SYS_fcntl, &[Is(1, libc::F_DUPFD_CLOEXEC as u32)], "`try_clone` of a socket"),
    (libc::SYS_fcntl, &[Is(1, libc::F_GETFD as u32)], "`std` checks descriptors in debug builds"),
    (libc::SYS_fcntl, &[Is(1, libc::F_GETFL as u32)], "how a descriptor that arrived was opened"),
    (libc::SYS_fcntl, &[Is(1, libc::F_GET_SEALS as u32)], "whether memory that arrived is sealed"),
    (libc::SYS_sendto, &[IsLong(4, 0)], "to a socket's other end, and to no other address"),
    (libc::SYS_prlimit64, &[Is(0, 0), IsLong(2, 0)], "what the limit was, for an error's text"),
];

/// Those with which images are made.
const OF_NEW_IMAGES: &[(c_long, &[Check], &str)] = &[
    (libc::SYS_memfd_create, &[Within(1, MEMFD_FLAGS)], "the file of an image"),
    (libc::SYS_ftruncate, &[], "whole pages of it"),
    (libc::SYS_pwrite64, &[], "its content, but for pages of zeros"),
    (libc::SYS_madvise, &[Is(2, MADV_COLLAPSE as u32)], "its large pages in one piece each"),
    (libc::SYS_fcntl, &[Is(1, libc::F_ADD_SEALS as u32)], "so that it stays as it is"),
];

/// Requests of `ioctl`, by frequency. What is only for opening a hypervisor is not among them.
const REQUESTS: &[(u32, &[Check], &str)] = &[
    (io(0x80), &[], "KVM_RUN"),
    (ior::<kvm::kvm_regs>(0x81), &[], "KVM_GET_REGS"),
    (iow::<kvm::kvm_regs>(0x82), &[], "KVM_SET_REGS"),
    (PAGEMAP_SCAN as u32, &[], "pages that were written, for a reset"),
    (iow::<kvm::kvm_xsave>(0xa5), &[], "KVM_SET_XSAVE"),
    (iow::<kvm::kvm_msrs>(0x89), &[], "KVM_SET_MSRS"),
    (iow::<kvm::kvm_debugregs>(0xa2), &[], "KVM_SET_DEBUGREGS"),
    (iow::<kvm::kvm_mp_state>(0x99), &[], "KVM_SET_MP_STATE"),
    (iow::<kvm::kvm_xcrs>(0xa7), &[], "KVM_SET_XCRS"),
    (ior::<kvm::kvm_sregs>(0x83), &[], "KVM_GET_SREGS"),
    (iow::<kvm::kvm_sregs>(0x84), &[], "KVM_SET_SREGS"),
    (iow::<kvm::kvm_vcpu_events>(0xa0), &[], "KVM_SET_VCPU_EVENTS"),
    (iow::<kvm::kvm_userspace_memory_region>(0x46), &[], "KVM_SET_USER_MEMORY_REGION"),
    (io(0x01), &[IsLong(2, 0)], "KVM_CREATE_VM, of the ordinary kind"),
    (io(0x04), &[], "KVM_GET_VCPU_MMAP_SIZE, asked for with each VM"),
    (io(0x41), &[IsLong(2, 0)], "KVM_CREATE_VCPU, the only one"),
    (iow::<kvm::kvm_cpuid2>(0x90), &[], "KVM_SET_CPUID2"),
    (ior::<kvm::kvm_mp_state>(0x98), &[], "KVM_GET_MP_STATE"),
    (ior::<kvm::kvm_xsave>(0xa4), &[], "KVM_GET_XSAVE"),
    (ior::<kvm::kvm_xcrs>(0xa6), &[], "KVM_GET_XCRS"),
    (ior::<kvm::kvm_debugregs>(0xa1), &[], "KVM_GET_DEBUGREGS"),
    (iow::<kvm::kvm_msrs>(0x88) | ior::<kvm::kvm_msrs>(0x88), &[], "KVM_GET_MSRS"),
    (ior::<kvm::kvm_vcpu_events>(0x9f), &[], "KVM_GET_VCPU_EVENTS"),
];

/// KVM's request of that number, without an argument.
const fn io(number: u32) -> u32 {
    kvm::KVMIO << 8 | number
}

/// One that reads a structure.
const fn ior<T>(number: u32) -> u32 {
    2 << 30 | (size_of::<T>() as u32) << 16 | io(number)
}

/// One that writes it.
const fn iow<T>(number: u32) -> u32 {
    1 << 30 | (size_of::<T>() as u32) << 16 | io(number)
}

/// All calls that process `process` may make.
pub(super) fn calls(process: i32, new_images: bool) -> Rules {
    let mut rules: Rules = ALWAYS.iter().map(|(number, _why)| (*number, Vec::new())).collect();
    let images = if new_images { OF_NEW_IMAGES } else { &[] };
    for (number, checks, _why) in SOMETIMES.iter().chain(images) {
        let cases = rules.entry(*number).or_default();
        if !checks.is_empty() {
            cases.push(rule(checks, process));
        }
    }
    let requests = REQUESTS.iter().map(|(request, checks, _why)| {
        let checks = [&[Is(1, *request)], *checks].concat();
        rule(&checks, process)
    });
    rules.insert(libc::SYS_ioctl, requests.collect());
    rules
}

/// Calls that the kernel seems not to have. glibc starts threads with `clone3`, whose flags a filter cannot see,
/// and goes back to `clone` where there is none.
pub(super) fn unknown() -> Rules {
    Rules::from([(libc::SYS_clone3, Vec::new())])
}

fn rule(checks: &[Check], process: i32) -> Rule {
    let conditions = checks.iter().map(|check| {
        let (argument, len, operator, value) = match *check {
            Is(argument, value) => (argument, Len::Dword, Op::Eq, value.into()),
            IsLong(argument, value) => (argument, Len::Qword, Op::Eq, value),
            Within(argument, bits) => (argument, Len::Qword, Op::MaskedEq(!bits), 0),
            IsBut(argument, value, bits) => {
                let mask = !bits.cast_unsigned();
                (argument, Len::Dword, Op::MaskedEq(mask.into()), value.into())
            }
            IsSelf(argument) => (argument, Len::Dword, Op::Eq, process.cast_unsigned().into()),
        };
        SeccompCondition::new(argument, len, operator, value).expect("a call has six arguments")
    });
    Rule::new(conditions.collect()).expect("a case has checks")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALWAYS, OF_NEW_IMAGES, REQUESTS, SOMETIMES};

    #[test]
    fn requests_have_the_kernels_numbers() {
        let number = |name: &str| {
            let (number, ..) = REQUESTS.iter().find(|(.., why)| why.starts_with(name)).unwrap();
            *number
        };
        for (name, expected) in [
            ("KVM_RUN", 0xae80),
            ("KVM_CREATE_VM", 0xae01),
            ("KVM_SET_USER_MEMORY_REGION", 0x4020_ae46),
            ("KVM_GET_REGS", 0x8090_ae81),
            ("KVM_GET_MSRS", 0xc008_ae88),
            ("KVM_SET_MSRS", 0x4008_ae89),
            ("KVM_GET_XSAVE", 0x9000_aea4),
            ("KVM_SET_XCRS", 0x4188_aea7),
            ("pages that were written", 0xc060_6610),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }

    #[test]
    fn no_call_is_listed_with_and_without_a_condition() {
        let always: BTreeSet<_> = ALWAYS.iter().map(|(number, _)| *number).collect();
        assert_eq!(always.len(), ALWAYS.len());
        for (number, checks, why) in SOMETIMES.iter().chain(OF_NEW_IMAGES) {
            assert!(!always.contains(number), "{why}");
            let others = SOMETIMES.iter().filter(|(other, ..)| other == number);
            assert!(!checks.is_empty() || others.count() == 0, "{why}");
        }
    }
}
