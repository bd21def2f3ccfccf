//! Memory the Linux way.

#[cfg(target_arch = "x86_64")]
pub(crate) mod confine;
mod mapping;
mod pagemap;
mod sealed_file;

/// Descriptors that this process may have open.
pub(crate) fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes to the struct that it is given, which outlives the call. It fails only for a
    // resource that there is not.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

pub(crate) use self::{
    mapping::Mapping,
    pagemap::{Pages, pages},
    sealed_file::SealedFile,
};
