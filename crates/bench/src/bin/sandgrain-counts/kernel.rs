//! What the kernel tells: histograms of its trace events, and KVM's statistics, both files of text.

use crate::counts::Counts;
use sandgrain::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where trace events are; the second where debugfs has been mounted and tracefs has not.
const TRACING: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The entry of each system call for a device, and each exit of a VM; with what tells one from another.
const IOCTL: (&str, &str) = ("syscalls/sys_enter_ioctl", "cmd");
const EXIT: (&str, &str) = ("kvm/kvm_exit", "exit_reason");

/// The ioctl's type that is KVM's.
const KVM: u64 = 0xae;

/// KVM's statistics that are wanted.
const STATISTICS: [&str; 2] = ["pf_fixed", "tlb_flush"];
const STATISTICS_AT: &str = "/sys/kernel/debug/kvm";

/// A failure of this program.
pub fn failed(what: &str) -> Error {
    Error::Host(format!("cannot count: {what}; try: cargo xtask counts"))
}

/// The kernel, counting what this process's first thread does until this is dropped.
pub struct Kernel {
    events: PathBuf,
    /// Only events in this thread: those of a pool's threads are nobody's call.
    only: String,
}

impl Kernel {
    /// Has the kernel count.
    pub fn open() -> Result<Self> {
        let events = TRACING.iter().map(|at| Path::new(at).join("events"));
        let events = events
            .into_iter()
            .find(|events| events.join(EXIT.0).is_dir())
            .ok_or_else(|| failed("no trace events of KVM in /sys/kernel/tracing"))?;
        // A process and its first thread have the same number.
        let kernel = Self { events, only: format!("if common_pid == {}", std::process::id()) };
        for event in [IOCTL, EXIT] {
            kernel.trigger(event, "")?;
        }
        Ok(kernel)
    }

    fn trigger(&self, (event, key): (&str, &str), sign: &str) -> Result<()> {
        let file = self.events.join(event).join("trigger");
        fs::write(&file, format!("{sign}hist:keys={key} {}\n", self.only))
            .map_err(|error| failed(&format!("{} cannot be written: {error}", file.display())))
    }

    /// All that it has counted until now.
    pub fn read(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        for (request, times) in self.histogram(IOCTL)? {
            if request >> 8 & 0xff == KVM {
                *counts.ioctls.entry(request & 0xff).or_default() += times;
            }
        }
        counts.exits = self.histogram(EXIT)?;
        for name in STATISTICS {
            let text = read(&Path::new(STATISTICS_AT).join(name))?;
            let value = text.trim().parse::<u32>();
            let value = value.map_err(|_| failed(&format!("{name} is {:?}", text.trim())))?;
            counts.statistics.insert(name, f64::from(value));
        }
        Ok(counts)
    }

    fn histogram(&self, (event, _): (&str, &str)) -> Result<BTreeMap<u64, f64>> {
        histogram(&read(&self.events.join(event).join("hist"))?)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for event in [IOCTL, EXIT] {
            // The machine is the better for it, and no worse off where it fails.
            let _ = self.trigger(event, "!");
        }
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file)
        .map_err(|error| failed(&format!("{} cannot be read: {error}", file.display())))
}

/// Reads lines such as `{ cmd:      44672 } hitcount:          3`. What was dropped makes the rest wrong.
fn histogram(text: &str) -> Result<BTreeMap<u64, f64>> {
    let mut histogram = BTreeMap::new();
    for line in text.lines() {
        if let Some((_, dropped)) = line.split_once("Dropped:")
            && dropped.trim() != "0"
        {
            return Err(failed(&format!("the kernel has dropped {} events", dropped.trim())));
        }
        let Some(entry) = line.strip_prefix("{ ") else { continue };
        let parsed = entry.split_once('}').and_then(|(key, value)| {
            let key = key.split_once(':')?.1.trim().parse::<u64>().ok()?;
            let times = value.split_once("hitcount:")?.1.trim().parse::<u32>().ok()?;
            Some((key, f64::from(times)))
        });
        let (key, times) =
            parsed.ok_or_else(|| failed(&format!("{line:?} is no line of a histogram")))?;
        histogram.insert(key, times);
    }
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::histogram;

    const TEXT: &str = "# event histogram\n#\n\n\
        { cmd:      44672 } hitcount:        100\n{ cmd: 2150674050 } hitcount:          3\n\n\
        Totals:\n    Hits: 103\n    Entries: 2\n    Dropped: 0\n";

    #[test]
    fn each_key_has_its_hits() {
        let histogram = histogram(TEXT).expect("a histogram");
        assert_eq!(
            histogram.into_iter().collect::<Vec<_>>(),
            [(44672, 100.0), (2_150_674_050, 3.0)]
        );
    }

    #[test]
    fn dropped_events_are_an_error() {
        assert!(histogram(&TEXT.replace("Dropped: 0", "Dropped: 7")).is_err());
    }

    #[test]
    fn a_line_of_another_form_is_an_error() {
        assert!(histogram("{ cmd: many } hitcount: 3\n").is_err());
    }
}
