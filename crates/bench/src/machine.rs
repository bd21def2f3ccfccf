//! What the measurements were made on.

use sandgrain::{Error, Result};
use serde::Serialize;

/// The machine, as far as it explains the figures.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The operating system's kernel.
    pub kernel: String,
    /// The CPU's model.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// The hypervisor, and whether the CPU says that it supports it.
    pub hypervisor: String,
    /// This library's version.
    pub sandgrain: &'static str,
}

impl Machine {
    /// This machine.
    ///
    /// # Errors
    /// [`Error::NoHypervisor`].
    pub fn this() -> Result<Self> {
        let hypervisor = sandgrain::hypervisor::open()
            .map_err(|error| Error::NoHypervisor(error.to_string()))?;
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim())
        };
        let flags = field("flags").unwrap_or_default();
        let supported = flags.split(' ').any(|flag| flag == "svm" || flag == "vmx");
        let how = if supported { "hardware" } else { "software, or not shown by the CPU" };
        let known = |text: &str| match text.trim() {
            "" => "unknown".to_owned(),
            text => text.to_owned(),
        };
        Ok(Self {
            kernel: known(&read("/proc/sys/kernel/osrelease")),
            cpu: known(field("model name").unwrap_or_default()),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            hypervisor: format!("{:?} ({how})", hypervisor.kind()),
            sandgrain: env!("CARGO_PKG_VERSION"),
        })
    }
}
