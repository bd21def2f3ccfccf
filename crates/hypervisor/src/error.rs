//! What can go wrong, one variant for each thing a caller can do about it.

use std::{io, path::PathBuf};

/// Why an operation on a hypervisor, a VM or its memory failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no hypervisor on this machine that this crate can use. Set the machine up first.
    #[error("no hypervisor: {what}; try: {hint}")]
    NotAvailable {
        /// What was looked for and not found.
        what: String,
        /// How to get it.
        hint: String,
    },

    /// There is a hypervisor, and this process may not use it. Change its permissions.
    #[error("no permission to use {}: {source}; try: {hint}", path.display())]
    NoPermission {
        /// The hypervisor's device.
        path: PathBuf,
        /// How to get the permission.
        hint: String,
        /// The system's answer.
        source: io::Error,
    },

    /// The hypervisor lacks something that VMs are built on. Use another one, or a newer one.
    #[error("the hypervisor lacks {name}, which is needed {why}; try: {hint}")]
    MissingCapability {
        /// The hypervisor's own name for it.
        name: &'static str,
        /// What it is needed for.
        why: &'static str,
        /// How to get it.
        hint: &'static str,
    },

    /// A range of guest-physical addresses is not within the VM's memory. Check the range: if it
    /// came from the guest, the guest is broken or hostile.
    #[error("guest-physical range {start:#x}..{end:#x} is not within {len:#x} bytes of memory")]
    OutOfBounds {
        /// First address of the range.
        start: u64,
        /// First address after the range.
        end: u64,
        /// Bytes of memory.
        len: u64,
    },

    /// The host has no memory or address space left for this. Free some, then try again.
    #[error("cannot get {bytes} bytes of memory: {source}; try: fewer or smaller VMs")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// The system's answer.
        source: io::Error,
    },

    /// The hypervisor refused a value. Correct the value.
    #[error("the hypervisor refused {what}: {source}")]
    Rejected {
        /// What was to be set, and its value where that says more.
        what: String,
        /// The hypervisor's answer.
        source: io::Error,
    },

    /// The VM's last exit was one that nothing can follow. Create another VM.
    #[error("the VM cannot go on after its last exit ({exit}); create another one")]
    Finished {
        /// That exit.
        exit: String,
    },

    /// The process has as many descriptors open as it may. Raise the limit, or have fewer VMs.
    #[error(
        "{call} failed: this process has all {limit} descriptors open that it may have; a VM takes 2; try: a \
         limit of {} at least (ulimit -n, or LimitNOFILE of its service), or fewer VMs",
        limit.saturating_add(2)
    )]
    NoDescriptors {
        /// The call that failed.
        call: &'static str,
        /// How many it may have open.
        limit: u64,
    },

    /// A process cannot be confined as it should. Do not give it anything to do: what has been done to it so far
    /// is not enough.
    #[error("cannot confine a process: {what}: {source}; try: {hint}")]
    NotConfined {
        /// What could not be done.
        what: &'static str,
        /// How to make it possible.
        hint: &'static str,
        /// The system's answer.
        source: io::Error,
    },

    /// The host's system failed in a way that this crate does not expect. Report it.
    #[error("{call} failed: {source}")]
    Host {
        /// The call that failed.
        call: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// The failure of `call`, as the system reports it for the calling thread right now.
    #[cfg(target_os = "linux")]
    pub(crate) fn last_os_error(call: &'static str) -> Self {
        Error::of_call(call, io::Error::last_os_error())
    }

    /// The failure of `call`.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_call(call: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EMFILE) => {
                Error::NoDescriptors { call, limit: crate::platform::descriptor_limit() }
            }
            _ => Error::Host { call, source },
        }
    }
}
