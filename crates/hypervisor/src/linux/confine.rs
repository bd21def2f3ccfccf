//! Confinement of a process that does nothing but run VMs.
//!
//! Whoever breaks out of a guest is in the process that runs it. Here that process gives up all that it does
//! not need for running VMs, so that it finds itself with the guests of this one process, the sockets that
//! work arrives on, and the calls of `allowed.rs`.

mod allowed;

use std::{
    ffi::c_long,
    io::{self, Write},
    os::unix::process::CommandExt,
    panic::{self, PanicHookInfo},
    process::Command,
    thread,
};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use super::pagemap;
use crate::Error;

const NEW_KERNEL: &str = "a host kernel of version 5.11 or later, and in a container a seccomp profile that lets \
                          close_range through";
const SECCOMP_KERNEL: &str = "a host kernel with CONFIG_SECCOMP_FILTER, as all distributions' are, and in a \
                              container a seccomp profile that lets seccomp and prctl through";

/// Has the child that `command` starts inherit the descriptors 0 to 2 and no other one, also of those that
/// somebody has opened without close-on-exec. What the child is to have besides, it is sent.
///
/// # Errors
/// [`Error::NotConfined`] if the kernel cannot do that.
pub fn inherit_nothing(command: &mut Command) -> Result<(), Error> {
    // Of the child only a number would come back.
    close_later(u32::MAX).map_err(cannot("leave descriptors behind", NEW_KERNEL))?;
    // SAFETY: in the child it makes one system call, and allocates nothing: an `io::Error` of a number.
    unsafe { command.pre_exec(|| close_later(3)) };
    Ok(())
}

/// Marks descriptors from `first` on as closed by exec. Those that `Command` itself uses on the way there still
/// work.
fn close_later(first: u32) -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: it takes numbers only, and closes nothing as long as this program runs.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a process is left with when it is confined.
///
/// ```no_run
/// use sandgrain_hypervisor::{Confinement, open};
///
/// // First what needs the file system.
/// let hypervisor = open()?;
/// Confinement { descriptors: 256, new_images: false }.apply()?;
/// // From here on: VMs, threads, and the sockets that are there.
/// # Ok::<(), sandgrain_hypervisor::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// How many descriptors it may have open: two for each VM, one for each layer of an image, and its own.
    pub descriptors: u64,
    /// Whether it may make new images, of bytes ([`MemoryImage::new`](crate::MemoryImage::new)) or of a VM's
    /// memory ([`GuestMemory::capture`](crate::GuestMemory::capture)). Images of files that it is sent it can
    /// use in any case.
    pub new_images: bool,
}

impl Confinement {
    /// Makes sure that this machine's kernel can do all of it.
    ///
    /// # Errors
    /// [`Error::NotConfined`], which says what it cannot do.
    pub fn check() -> Result<(), Error> {
        check_seccomp()?;
        close_later(u32::MAX).map_err(cannot("leave descriptors behind", NEW_KERNEL))
    }

    /// Confines this process, all threads of it, for as long as it lives.
    ///
    /// From now on it can create VMs of hypervisors that are open already, run, change and stop them, map memory
    /// that is not executable, start threads, use the descriptors that it has or is sent, and exit. There
    /// are no files for it to open, no processes to start or signal, no new sockets, no network. Any call
    /// that is not for one of these purposes ends the process with SIGSYS, and the kernel's log says which
    /// call it was (`type=1326`). Nothing dumps its memory to disk, and only root can trace it.
    ///
    /// What of `std` it must not use any more: `available_parallelism`, `File::metadata`, time-outs and
    /// `set_nonblocking` of sockets, and backtraces, all of which open files or make calls that are not on
    /// the list. So panics are reported without a backtrace from now on, whatever `RUST_BACKTRACE` says, by
    /// a hook that replaces the present one. And glibc's allocator keeps small blocks that were freed,
    /// since it would open a file before it gives them back.
    ///
    /// What it does not limit: threads, which the kernel counts by user and not by process, memory, and the size
    /// of files that it already has open. The first two are for a cgroup to limit; a standard error that is
    /// a pipe has no size. Of its sockets none should be for datagrams, which can be sent anywhere in the
    /// file system.
    ///
    /// # Errors
    /// [`Error::NotConfined`], or [`Error::Host`] where there is no /proc: the process is not confined then, or
    /// not fully, and should end.
    pub fn apply(self) -> Result<(), Error> {
        check_seccomp()?;
        // Before it is hidden from this very process, along with all that is in its directory under /proc.
        pagemap::pagemap()?;
        settle_allocator()?;
        limit(libc::RLIMIT_CORE, 0)
            .map_err(cannot("forbid core dumps", "running it where setrlimit is not forbidden"))?;
        limit(libc::RLIMIT_NOFILE, self.descriptors).map_err(cannot(
            "set how many descriptors it may have open",
            "a hard limit of that many at least (ulimit -Hn, or LimitNOFILE of its service), or fewer",
        ))?;
        // SAFETY: it takes numbers only.
        if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
            let failed = cannot("hide its memory from other processes", SECCOMP_KERNEL);
            return Err(failed(io::Error::last_os_error()));
        }
        panic::set_hook(Box::new(report_panic));

        // Two, since a filter has one answer for all calls on its list. The one that allows nothing else has to
        // be the last: with it, there are no more filters.
        install(
            allowed::unknown(),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::ENOSYS as u32),
        )?;
        // SAFETY: it has no requirements.
        let process = unsafe { libc::getpid() };
        let calls = allowed::calls(process, self.new_images);
        install(calls, SeccompAction::KillProcess, SeccompAction::Allow)?;
        tracing::debug!(process, ?self, "confined");
        Ok(())
    }
}

/// For `map_err`.
fn cannot(what: &'static str, hint: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::NotConfined { what, hint, source }
}

/// Makes sure that the kernel has filters that end a whole process: before 4.14 they would end a thread.
fn check_seccomp() -> Result<(), Error> {
    for action in [libc::SECCOMP_RET_KILL_PROCESS, libc::SECCOMP_RET_ERRNO] {
        // SAFETY: the kernel reads the action, which outlives the call.
        let result = unsafe {
            let number = libc::SECCOMP_GET_ACTION_AVAIL;
            libc::syscall(libc::SYS_seccomp, number, 0 as c_long, &raw const action)
        };
        if result != 0 {
            let failed = cannot("the kernel has no seccomp filters", SECCOMP_KERNEL);
            return Err(failed(io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// Has the kernel answer this process's calls by a list, with `no_new_privs` set, in all its threads.
fn install(
    calls: allowed::Rules,
    otherwise: SeccompAction,
    on_the_list: SeccompAction,
) -> Result<(), Error> {
    let failed = cannot("its system calls cannot be filtered", SECCOMP_KERNEL);
    let filter = SeccompFilter::new(calls, otherwise, on_the_list, TargetArch::x86_64);
    let program: BpfProgram =
        filter.and_then(TryInto::try_into).map_err(|error| failed(io::Error::other(error)))?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| {
        failed(match error {
            seccompiler::Error::Seccomp(source) | seccompiler::Error::Prctl(source) => source,
            other => io::Error::other(other.to_string()),
        })
    })
}

/// Sets a limit of this process, for good.
fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: it reads the struct that it is given, which outlives the call.
    match unsafe { libc::setrlimit(resource, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keeps glibc's allocator from opening files at moments of its own choosing: it reads how many CPUs there are
/// before it makes one arena too many, and how the kernel overcommits memory before it gives the end of an
/// arena back.
fn settle_allocator() -> Result<(), Error> {
    // As many arenas as it would choose itself. Asking opens files too.
    let arenas = thread::available_parallelism().map_or(8, |cpus| cpus.get().saturating_mul(8));
    let arenas = i32::try_from(arenas).unwrap_or(i32::MAX);
    // -1 is more than there can be at the end of an arena, so that it stays. Large blocks are mappings, which go.
    for (parameter, value) in [(libc::M_ARENA_MAX, arenas), (libc::M_TRIM_THRESHOLD, -1)] {
        // SAFETY: it takes numbers only, at any time.
        if unsafe { libc::mallopt(parameter, value) } == 0 {
            let failed = cannot("the allocator would open files", "a program that uses glibc's");
            return Err(failed(io::ErrorKind::Unsupported.into()));
        }
    }
    Ok(())
}

/// What `std` would print, but for the backtrace.
fn report_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    // With nobody there to read it, it is lost.
    let _ = writeln!(io::stderr(), "\nthread '{name}' {info}");
}
