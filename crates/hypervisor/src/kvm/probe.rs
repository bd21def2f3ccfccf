//! What this machine's KVM offers.

use std::path::Path;

use super::{
    DEVICE, Kvm,
    device::{self, Capability, OPTIONAL, REQUIRED, UPGRADE},
};
use crate::{
    Check, CpuFeatures, Error, GuestMemory, Hypervisor, HypervisorKind, Importance, Outcome,
    Registers, Report, SystemRegisters, VmExit,
};

/// Checks [`DEVICE`] and everything VMs need of it, up to running one.
pub fn probe() -> Report {
    probe_path(Path::new(DEVICE))
}

/// Checks the device at `path`, as [`probe`] does.
pub fn probe_path(path: &Path) -> Report {
    let mut checks = Vec::new();
    let cpu_features = run_checks(path, &mut checks);
    Report { kind: HypervisorKind::Kvm, checks, cpu_features }
}

/// Makes one check after another, until one fails that the next ones depend on.
fn run_checks(path: &Path, checks: &mut Vec<Check>) -> Option<CpuFeatures> {
    let name = path.display().to_string();
    let (why, importance) = ("to run guests at all", Importance::Required);
    let kvm = match device::open(path) {
        Ok(kvm) => kvm,
        Err(error) => {
            let outcome = absent(&error);
            checks.push(Check { name, why, importance, outcome });
            return None;
        }
    };
    let detail = format!("readable and writable, API version {}", kvm.get_api_version());
    checks.push(Check { name, why, importance, outcome: Outcome::Present { detail } });
    check_capabilities(&kvm, &REQUIRED, Importance::Required, checks);
    check_capabilities(&kvm, &OPTIONAL, Importance::Optional, checks);

    let opened = Kvm::open_path(path);
    let result = opened.as_ref().map_err(absent).and_then(|kvm| {
        run_guest(kvm).map_err(|detail| Outcome::Absent { detail, hint: RUN_HINT.to_owned() })
    });
    checks.push(Check {
        name: "a guest of three bytes".to_owned(),
        why: "to know that guests really run",
        importance: Importance::Required,
        outcome: match result {
            Ok(()) => Outcome::Present { detail: "ran to its `out`".to_owned() },
            Err(outcome) => outcome,
        },
    });
    opened.ok().map(|kvm| *kvm.cpu_features())
}

const RUN_HINT: &str = "the kernel's log (sudo dmesg | grep -i kvm); on a virtual machine, another \
                        host or instance type with nested virtualization";

fn check_capabilities(
    kvm: &kvm_ioctls::Kvm,
    capabilities: &[Capability],
    importance: Importance,
    checks: &mut Vec<Check>,
) {
    checks.extend(capabilities.iter().map(|capability| {
        let outcome = if kvm.check_extension(capability.cap) {
            Outcome::Present { detail: String::new() }
        } else {
            Outcome::Absent { detail: "not offered".to_owned(), hint: UPGRADE.to_owned() }
        };
        Check { name: capability.name.to_owned(), why: capability.why, importance, outcome }
    }));
}

/// What an error of opening says.
fn absent(error: &Error) -> Outcome {
    let (detail, hint) = match error {
        Error::NotAvailable { what, hint } => (what.clone(), hint.clone()),
        Error::NoPermission { source, hint, .. } => (source.to_string(), hint.clone()),
        Error::MissingCapability { name, hint, .. } => {
            (format!("{name} is not offered"), (*hint).to_owned())
        }
        other => (other.to_string(), String::new()),
    };
    Outcome::Absent { detail, hint }
}

/// Runs the smallest guest there is. The error is for a person to read.
fn run_guest(hypervisor: &dyn Hypervisor) -> Result<(), String> {
    const TABLES: u64 = 0x1000;
    const CODE: u64 = 0x4000;
    const PORT: u8 = 0xe0;
    let run = || {
        let mut memory = GuestMemory::new(0x5000)?;
        // Three levels of page tables, and the first 2 MiB as they are.
        memory.write_u64(TABLES, (TABLES + 0x1000) | 0x3)?;
        memory.write_u64(TABLES + 0x1000, (TABLES + 0x2000) | 0x3)?;
        memory.write_u64(TABLES + 0x2000, 0x83)?;
        // out PORT, al; hlt
        memory.write(CODE, &[0xe6, PORT, 0xf4])?;
        let mut vm = hypervisor.create_vm(memory)?;
        let mut system = SystemRegisters::long_mode();
        system.cr3 = TABLES;
        system.code_selector = 0x8;
        system.data_selector = 0x10;
        vm.set_system_registers(&system)?;
        vm.set_registers(&Registers { rax: 42, rip: CODE, ..Default::default() })?;
        vm.run()
    };
    match run() {
        Ok(VmExit::PortOut { port, size: 1, data: 42 }) if port == u16::from(PORT) => Ok(()),
        Ok(exit) => Err(format!("it ended with {exit:?}")),
        Err(error) => Err(Error::to_string(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{probe, probe_path};
    use crate::Outcome;

    #[test]
    fn a_machine_with_kvm_is_usable() {
        let report = probe();
        assert!(report.is_usable(), "{report}");
        assert!(report.checks.len() > 7 && report.cpu_features.is_some(), "{report}");
    }

    #[test]
    fn a_missing_device_ends_the_checks_with_a_hint() {
        let report = probe_path(Path::new("/nonexistent/kvm"));
        assert!(!report.is_usable());
        let [check] = &report.checks[..] else { panic!("{report}") };
        assert!(
            matches!(&check.outcome, Outcome::Absent { hint, .. } if !hint.is_empty()),
            "{check}"
        );
        assert!(report.to_string().contains("try: "), "{report}");
    }
}
