//! Calls that end a confined process.

use std::ffi::c_long;

use sandgrain_hypervisor::{Confinement, GuestMemory, MemoryImage};

use crate::{
    machine::*,
    process::{PLAIN, about_to, assert_ended_by_call, done, role, start},
};

/// A call by its number, with up to six arguments. Paths and structures are at address 0, and processes get
/// signal 0, so that little would happen if it were made.
struct Call(&'static str, c_long, &'static [u64]);

/// The parent, in place of a number that is known only then.
const PARENT: u64 = u64::MAX - 1;
const NOWHERE: u64 = u64::MAX;
const EXECUTABLE: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;
const PRIVATE: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;

/// Makes each of the calls in a confined process of its own, which has to end with it.
fn all_end_it(confinement: Confinement, calls: &[Call]) {
    if let Some(role) = role() {
        let Call(name, number, arguments) = &calls[role.parse::<usize>().unwrap()];
        // SAFETY: it has no requirements.
        let parent = unsafe { libc::getppid() };
        let mut six = [0; 6];
        for (to, from) in six.iter_mut().zip(*arguments) {
            *to = if *from == PARENT { parent as u64 } else { *from };
        }
        let [a, b, c, d, e, f] = six;
        confinement.apply().unwrap();
        about_to(name);
        // SAFETY: the kernel ends the process before it looks at what the arguments mean, which is what is
        // tested. If it did not, nearly all would fail for their null pointers and empty ranges.
        unsafe { libc::syscall(*number, a, b, c, d, e, f) };
        done();
    }
    for (index, Call(name, ..)) in calls.iter().enumerate() {
        assert_ended_by_call(&start(&index.to_string()).output().unwrap(), name);
    }
}

#[test]
fn there_is_no_file_system() {
    const HERE: u64 = libc::AT_FDCWD as u64;
    all_end_it(
        PLAIN,
        &[
            Call("open", libc::SYS_open, &[]),
            Call("openat", libc::SYS_openat, &[HERE]),
            Call("openat2", libc::SYS_openat2, &[HERE]),
            Call("creat", libc::SYS_creat, &[]),
            Call("stat", libc::SYS_stat, &[]),
            Call("newfstatat", libc::SYS_newfstatat, &[HERE]),
            Call("statx", libc::SYS_statx, &[HERE]),
            Call("readlink", libc::SYS_readlink, &[]),
            Call("unlink", libc::SYS_unlink, &[]),
            Call("rename", libc::SYS_rename, &[]),
            Call("chdir", libc::SYS_chdir, &[]),
            Call("chroot", libc::SYS_chroot, &[]),
            Call("mount", libc::SYS_mount, &[]),
            Call("name_to_handle_at", libc::SYS_name_to_handle_at, &[]),
            Call("open_by_handle_at", libc::SYS_open_by_handle_at, &[]),
            Call("getdents64", libc::SYS_getdents64, &[]),
        ],
    );
}

#[test]
fn there_are_no_new_sockets() {
    const UNIX: u64 = libc::AF_UNIX as u64;
    all_end_it(
        PLAIN,
        &[
            Call("socket", libc::SYS_socket, &[UNIX, 1]),
            Call("socketpair", libc::SYS_socketpair, &[UNIX, 1]),
            Call("connect", libc::SYS_connect, &[NOWHERE]),
            Call("bind", libc::SYS_bind, &[NOWHERE]),
            Call("listen", libc::SYS_listen, &[NOWHERE]),
            Call("accept4", libc::SYS_accept4, &[NOWHERE]),
            Call("sendto elsewhere", libc::SYS_sendto, &[NOWHERE, 0, 0, 0, 1, 0]),
        ],
    );
}

#[test]
fn there_are_no_other_processes() {
    const CHILD: u64 = libc::SIGCHLD as u64;
    const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;
    all_end_it(
        PLAIN,
        &[
            Call("execve", libc::SYS_execve, &[]),
            Call("execveat", libc::SYS_execveat, &[NOWHERE]),
            Call("fork", libc::SYS_fork, &[]),
            Call("vfork", libc::SYS_vfork, &[]),
            Call("clone of a process", libc::SYS_clone, &[CHILD]),
            Call("clone of an odd thread", libc::SYS_clone, &[THREAD]),
            Call("kill", libc::SYS_kill, &[PARENT]),
            Call("tkill", libc::SYS_tkill, &[PARENT]),
            Call("tgkill", libc::SYS_tgkill, &[PARENT, PARENT]),
            Call("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, &[PARENT]),
            Call("pidfd_open", libc::SYS_pidfd_open, &[PARENT]),
            Call("ptrace", libc::SYS_ptrace, &[NOWHERE]),
            Call("process_vm_readv", libc::SYS_process_vm_readv, &[PARENT]),
            Call("process_vm_writev", libc::SYS_process_vm_writev, &[PARENT]),
            Call("prlimit64 of another", libc::SYS_prlimit64, &[PARENT]),
            Call("wait4", libc::SYS_wait4, &[]),
            Call("unshare", libc::SYS_unshare, &[]),
            Call("setns", libc::SYS_setns, &[NOWHERE]),
            Call("setuid", libc::SYS_setuid, &[]),
            Call("capset", libc::SYS_capset, &[]),
        ],
    );
}

#[test]
fn memory_does_not_become_executable() {
    const HUGE: u64 = PRIVATE | libc::MAP_HUGETLB as u64;
    all_end_it(
        PLAIN,
        &[
            Call("mmap", libc::SYS_mmap, &[0, 0x1000, EXECUTABLE, PRIVATE, NOWHERE]),
            Call("mmap of huge pages", libc::SYS_mmap, &[0, 0x1000, 1, HUGE, NOWHERE]),
            Call("mprotect", libc::SYS_mprotect, &[0, 0, EXECUTABLE]),
            Call("mprotect, odd bits", libc::SYS_mprotect, &[0, 0, 1 << 40]),
            Call("pkey_mprotect", libc::SYS_pkey_mprotect, &[0, 0, EXECUTABLE]),
            Call("shmat", libc::SYS_shmat, &[NOWHERE]),
            Call("remap_file_pages", libc::SYS_remap_file_pages, &[]),
            Call("personality", libc::SYS_personality, &[0x040_0000]),
            Call("modify_ldt", libc::SYS_modify_ldt, &[]),
        ],
    );
}

#[test]
fn the_rest_of_the_kernel_is_out_of_reach() {
    all_end_it(
        PLAIN,
        &[
            Call("io_uring_setup", libc::SYS_io_uring_setup, &[]),
            Call("bpf", libc::SYS_bpf, &[]),
            Call("userfaultfd", libc::SYS_userfaultfd, &[]),
            Call("keyctl", libc::SYS_keyctl, &[]),
            Call("perf_event_open", libc::SYS_perf_event_open, &[]),
            Call("seccomp", libc::SYS_seccomp, &[NOWHERE]),
            Call("prctl", libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 1]),
            Call("madvise", libc::SYS_madvise, &[0, 0, libc::MADV_MERGEABLE as u64]),
            Call("futex", libc::SYS_futex, &[0, libc::FUTEX_LOCK_PI as u64]),
            Call("fcntl", libc::SYS_fcntl, &[0, libc::F_SETOWN as u64, PARENT]),
            Call("setrlimit", libc::SYS_setrlimit, &[]),
            Call("prlimit64", libc::SYS_prlimit64, &[0, 7, 1]),
            Call("memfd_create", libc::SYS_memfd_create, &[]),
            Call("memfd_secret", libc::SYS_memfd_secret, &[]),
            Call("ftruncate", libc::SYS_ftruncate, &[NOWHERE]),
            Call("reboot", libc::SYS_reboot, &[]),
            Call("init_module", libc::SYS_init_module, &[]),
            Call("a call of the x32 ABI", 0x4000_0000 | libc::SYS_getpid, &[]),
            Call("a number without a call", 5000, &[]),
        ],
    );
}

#[test]
fn descriptors_take_only_requests_that_vms_need() {
    all_end_it(
        PLAIN,
        &[
            Call("TIOCSTI", libc::SYS_ioctl, &[0, 0x5412]),
            Call("FIONBIO", libc::SYS_ioctl, &[NOWHERE, 0x5421]),
            Call("KVM_CREATE_DEVICE", libc::SYS_ioctl, &[NOWHERE, 0xc00c_aee0]),
            Call("KVM_CREATE_VM of a kind", libc::SYS_ioctl, &[NOWHERE, 0xae01, 1]),
            Call("KVM_IRQFD", libc::SYS_ioctl, &[NOWHERE, 0x4020_ae76]),
            Call("KVM_IOEVENTFD", libc::SYS_ioctl, &[NOWHERE, 0x4040_ae79]),
            Call("KVM_CREATE_IRQCHIP", libc::SYS_ioctl, &[NOWHERE, 0xae60]),
            Call("KVM_ENABLE_CAP", libc::SYS_ioctl, &[NOWHERE, 0x4068_aea3]),
            Call("KVM_SET_NESTED_STATE", libc::SYS_ioctl, &[NOWHERE, 0x4080_aebf]),
        ],
    );
}

#[test]
fn files_are_out_of_reach_with_new_images_too() {
    let images = Confinement { new_images: true, ..PLAIN };
    all_end_it(
        images,
        &[
            Call("openat", libc::SYS_openat, &[libc::AT_FDCWD as u64]),
            Call("truncate", libc::SYS_truncate, &[]),
            Call("memfd_create, huge", libc::SYS_memfd_create, &[0, libc::MFD_HUGETLB as u64]),
            Call("execveat", libc::SYS_execveat, &[NOWHERE]),
        ],
    );
}

#[test]
fn images_are_not_made_unless_they_may_be() {
    if role().is_some() {
        hypervisor();
        PLAIN.apply().unwrap();
        let memory = GuestMemory::new(0x1000).unwrap();
        assert!(memory.written_pages().unwrap().is_empty());
        about_to("MemoryImage::new");
        let _ = MemoryImage::new(&[1]);
        done();
    }
    assert_ended_by_call(&start("").output().unwrap(), "MemoryImage::new");
}
