//! KVM's device: opening it, and what it must be able to do.

use std::{
    ffi::CString,
    fs, io,
    os::{fd::FromRawFd, unix::ffi::OsStrExt},
    path::Path,
};

use kvm_ioctls::Cap;

use crate::Error;

/// The one version of KVM's interface there is.
const API_VERSION: i32 = 12;

/// Something that a KVM may be able to do.
pub(super) struct Capability {
    pub(super) cap: Cap,
    pub(super) name: &'static str,
    pub(super) why: &'static str,
}

/// What VMs cannot do without. All of it is in Linux since 4.12.
pub(super) const REQUIRED: [Capability; 7] = [
    Capability { cap: Cap::UserMemory, name: "KVM_CAP_USER_MEMORY", why: "to give guests memory" },
    Capability { cap: Cap::ExtCpuid, name: "KVM_CAP_EXT_CPUID", why: "to give guests a CPU" },
    Capability {
        cap: Cap::ImmediateExit,
        name: "KVM_CAP_IMMEDIATE_EXIT",
        why: "to stop a guest at any moment",
    },
    Capability { cap: Cap::MpState, name: "KVM_CAP_MP_STATE", why: "to save and reset a vCPU" },
    Capability {
        cap: Cap::VcpuEvents,
        name: "KVM_CAP_VCPU_EVENTS",
        why: "to save and reset a vCPU",
    },
    Capability { cap: Cap::Debugregs, name: "KVM_CAP_DEBUGREGS", why: "to save and reset a vCPU" },
    Capability {
        cap: Cap::Xsave,
        name: "KVM_CAP_XSAVE",
        why: "to save and reset vector registers",
    },
];

/// What VMs can do without.
pub(super) const OPTIONAL: [Capability; 1] =
    [Capability { cap: Cap::Xcrs, name: "KVM_CAP_XCRS", why: "to let guests use AVX" }];

pub(super) const UPGRADE: &str = "a host kernel of version 5.10 or later";

/// Opens the device and makes sure that it is one.
pub(super) fn open(path: &Path) -> Result<kvm_ioctls::Kvm, Error> {
    let kvm = open_device(path).map_err(|error| open_failed(path, error))?;
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(Error::NotAvailable {
            what: format!("{} is not KVM with API version {API_VERSION}", path.display()),
            hint: "the device node that the kernel itself makes, usually /dev/kvm".to_owned(),
        });
    }
    Ok(kvm)
}

fn open_device(path: &Path) -> io::Result<kvm_ioctls::Kvm> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = kvm_ioctls::Kvm::open_with_cloexec_at(path, true)?;
    // SAFETY: the call has just made this descriptor, and nothing else knows of it.
    Ok(unsafe { kvm_ioctls::Kvm::from_raw_fd(fd) })
}

/// The error for a device that cannot be opened.
fn open_failed(path: &Path, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            Error::NoPermission { path: path.to_owned(), hint: permission_hint(path), source }
        }
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR) => Error::NotAvailable {
            what: format!("{} cannot be opened ({source})", path.display()),
            hint: absence_hint(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()).to_owned(),
        },
        Some(libc::EISDIR) => Error::NotAvailable {
            what: format!("{} is a directory", path.display()),
            hint: "the device of KVM, which is /dev/kvm nearly everywhere".to_owned(),
        },
        _ => Error::Host { call: "opening the KVM device", source },
    }
}

/// How to get permission to use the device at `path`.
pub(super) fn permission_hint(path: &Path) -> String {
    let path = path.display();
    format!(
        "join the group that owns the device (sudo usermod -aG kvm $USER, then log in again), or have \
         its permissions changed (sudo chmod 666 {path}, or a udev rule); in a container, start it \
         with --device {path}"
    )
}

/// How to get a device that is not there, on a machine with this `/proc/cpuinfo`.
fn absence_hint(cpuinfo: &str) -> &'static str {
    let has = |flag| {
        let mut lines = cpuinfo.lines().filter(|line| line.starts_with("flags"));
        lines.any(|line| line.split_whitespace().any(|word| word == flag))
    };
    if has("svm") {
        "sudo modprobe kvm_amd; in a container, start it with --device /dev/kvm"
    } else if has("vmx") {
        "sudo modprobe kvm_intel; in a container, start it with --device /dev/kvm"
    } else {
        "switch virtualization on in the firmware (AMD-V or VT-x) or, if this is a virtual machine \
         itself, nested virtualization at its host, then load kvm_amd or kvm_intel; in a container, \
         start it with --device /dev/kvm"
    }
}

/// Makes sure that the KVM can do what VMs cannot do without.
pub(super) fn require_capabilities(kvm: &kvm_ioctls::Kvm) -> Result<(), Error> {
    match REQUIRED.iter().find(|capability| !kvm.check_extension(capability.cap)) {
        Some(Capability { name, why, .. }) => {
            Err(Error::MissingCapability { name, why, hint: UPGRADE })
        }
        None => Ok(()),
    }
}

/// Turns an error of KVM's into ours. For `map_err`.
pub(super) fn failed(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |error| Error::of_call(call, error.into())
}

/// As [`failed`], where the cause may be a value that KVM does not take.
pub(super) fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |error| match error.errno() {
        libc::EINVAL => Error::Rejected { what: what.to_owned(), source: error.into() },
        _ => Error::Host { call: what, source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use super::{absence_hint, open, open_failed};
    use crate::Error;

    #[test]
    fn a_missing_device_is_not_available() {
        let error = open(Path::new("/nonexistent/kvm")).err().unwrap();
        assert!(matches!(error, Error::NotAvailable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("/nonexistent/kvm") && text.contains("try: "), "{text}");
    }

    #[test]
    fn a_directory_is_not_available() {
        let error = open(Path::new("/")).err().unwrap();
        assert!(matches!(&error, Error::NotAvailable { what, .. } if what.contains("directory")));
    }

    #[test]
    fn another_device_is_not_available() {
        let error = open(Path::new("/dev/null")).err().unwrap();
        assert!(matches!(error, Error::NotAvailable { .. }), "{error}");
    }

    #[test]
    fn a_denied_device_says_how_to_get_permission() {
        // A test that runs as root can open anything.
        for code in [libc::EACCES, libc::EPERM] {
            let error = open_failed(Path::new("/dev/kvm"), io::Error::from_raw_os_error(code));
            assert!(matches!(error, Error::NoPermission { .. }), "{error}");
            assert!(error.to_string().contains("usermod -aG kvm"), "{error}");
        }
    }

    #[test]
    fn other_failures_are_the_hosts() {
        let error = open_failed(Path::new("/dev/kvm"), io::Error::from_raw_os_error(libc::EMFILE));
        assert!(matches!(error, Error::Host { .. }), "{error}");
    }

    #[test]
    fn the_hint_fits_the_cpu() {
        assert!(absence_hint("flags\t\t: fpu svm sse").contains("kvm_amd"));
        assert!(absence_hint("flags\t\t: fpu vmx sse").contains("kvm_intel"));
        assert!(absence_hint("flags\t\t: fpu sse").contains("nested virtualization"));
        assert!(absence_hint("").contains("firmware"));
    }
}
