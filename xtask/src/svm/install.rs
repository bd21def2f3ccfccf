//! What the emulated machine is made of: QEMU and busybox of this machine, and a kernel with its modules
//! from Debian, kept in the user's cache directory.

use super::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the parts are.
pub struct Installed {
    /// For files of a run.
    pub directory: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

/// Kernel modules, each after those that it needs.
const MODULES: [&str; 15] = [
    "virt/lib/irqbypass",
    "arch/x86/kvm/kvm",
    "drivers/crypto/ccp/ccp",
    "arch/x86/kvm/kvm-amd",
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "net/9p/9pnet",
    "net/9p/9pnet_virtio",
    "fs/netfs/netfs",
    "fs/fscache/fscache",
    "fs/9p/9p",
    "fs/overlayfs/overlay",
];

/// Debian's packages with the programs that are needed, and the programs.
const PACKAGES: [(&str, &str); 3] =
    [("qemu-system-x86", "qemu-system-x86_64"), ("busybox-static", "busybox"), ("cpio", "cpio")];

const INIT: &str = include_str!("init");

/// Installs what is missing.
pub fn install() -> Result<Installed, Error> {
    programs()?;
    let directory = cache()?;
    let kernel = kernel(&directory)?;
    let version = kernel.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let version = version.trim_start_matches("vmlinuz-").to_owned();
    let initrd = initrd(&directory, &version)?;
    Ok(Installed { directory, kernel, initrd })
}

fn cache() -> Result<PathBuf, Error> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => {
            PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set; set it")?).join(".cache")
        }
    };
    let directory = base.join("sandgrain-dev/svm");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn programs() -> Result<(), Error> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, program)| find(program).is_none())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let install = || {
        run(Command::new("apt-get")
            // Somebody else may be installing something.
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    with_fresh_lists(install).map_err(|error| {
        format!("{error}; try: as root, apt-get update && apt-get install {list}").into()
    })
}

/// Tries again with new package lists: a fresh machine has none, others old ones.
fn with_fresh_lists<T>(attempt: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    attempt().or_else(|error| match run(Command::new("apt-get").args(["update", "--quiet"])) {
        Ok(()) => attempt(),
        Err(_) => Err(error),
    })
}

/// Runs a command quietly; on failure, its last words.
fn run(command: &mut Command) -> Result<(), Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.trim().lines().last().unwrap_or_default();
    Err(format!("{name} failed, {}: {last}", output.status).into())
}

/// The kernel, unpacked from Debian's package for generic AMD64 machines. The one for clouds lacks 9p.
fn kernel(directory: &Path) -> Result<PathBuf, Error> {
    let unpacked = directory.join("kernel");
    if let Some(kernel) = vmlinuz(&unpacked) {
        return Ok(kernel);
    }
    let fresh = directory.join(format!("kernel-{}", std::process::id()));
    let downloaded = with_fresh_lists(|| download(&fresh));
    if let Err(error) = downloaded {
        fs::remove_dir_all(&fresh)?;
        return Err(format!("{error}; try: as root, apt-get update, on Debian").into());
    }
    // A complete one appears at once, whoever else is doing the same.
    if fs::rename(&fresh, &unpacked).is_err() {
        fs::remove_dir_all(&fresh)?;
    }
    vmlinuz(&unpacked).ok_or_else(|| "the package of linux-image-amd64 holds no kernel".into())
}

/// Downloads the package and unpacks it.
fn download(fresh: &Path) -> Result<(), Error> {
    fs::create_dir_all(fresh)?;
    let output = Command::new("apt-cache")
        .args(["depends", "linux-image-amd64"])
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| format!("cannot run apt-cache: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let package = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .ok_or("apt-cache knows no linux-image-amd64")?;
    run(Command::new("apt-get").args(["download", "--quiet", package]).current_dir(fresh))?;
    let file = fs::read_dir(fresh)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt-get download left no package")?;
    run(Command::new("dpkg").arg("-x").arg(&file).arg(fresh))?;
    fs::remove_file(&file)?;
    Ok(())
}

fn vmlinuz(unpacked: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(unpacked.join("boot")).ok()?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-")))
}

/// The first file system: busybox, the modules, and `init`. Made anew when any of them changes.
fn initrd(directory: &Path, version: &str) -> Result<PathBuf, Error> {
    let initrd = directory.join(format!("initrd-{version}-{:016x}", fingerprint(INIT)));
    if initrd.is_file() {
        return Ok(initrd);
    }
    let root = directory.join(format!("initrd-{}", std::process::id()));
    for folder in ["bin", "dev", "proc", "sys", "modules", "host", "overlay", "root", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(find("busybox").ok_or("busybox is gone")?, root.join("bin/busybox"))?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let modules = directory.join("kernel/lib/modules").join(version).join("kernel");
    let mut order = String::new();
    for module in MODULES {
        let name = module.rsplit('/').next().unwrap_or(module);
        let from = modules.join(format!("{module}.ko"));
        fs::copy(&from, root.join("modules").join(format!("{name}.ko")))
            .map_err(|error| format!("the kernel lacks {}: {error}", from.display()))?;
        order += name;
        order += "\n";
    }
    fs::write(root.join("modules/order"), order)?;
    let unfinished = directory.join(format!("initrd-{}.part", std::process::id()));
    let pack =
        "cd \"$1\" && find . | cpio --create --format=newc --quiet --owner=0:0 | gzip -1 > \"$2\"";
    run(Command::new("sh").args(["-c", pack, "sh"]).arg(&root).arg(&unfinished))?;
    fs::rename(&unfinished, &initrd)?;
    fs::remove_dir_all(&root)?;
    Ok(initrd)
}

/// FNV-1a: enough to tell one version of a script from the next.
fn fingerprint(text: &str) -> u64 {
    text.bytes().chain(MODULES.join(" ").bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
