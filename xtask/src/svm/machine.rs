//! QEMU: how it is started, and how it ended.

use super::install::Installed;
use super::{Arguments, Error};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// How the machine ended.
#[derive(Debug, PartialEq)]
pub enum Ended {
    /// The program has, and left its status.
    Finished,
    /// It was stopped.
    TimedOut,
    /// It did not get so far as to run the program, or not to the program's end.
    Failed(String),
}

/// Runs the machine, which leaves its files in `results`.
pub fn run(arguments: &Arguments, installed: &Installed, results: &Path) -> Result<Ended, Error> {
    let mut console = OsString::from("file:");
    console.push(results.join("console"));
    // setpriv has the kernel end QEMU when this process ends, however that happens.
    let mut qemu = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        // Two CPUs in turn on one thread. With a thread each, QEMU 7.2 corrupts memory once both have guests
        // (docs/kvm.md).
        .args(["-accel", "tcg,thread=single", "-machine", "q35", "-cpu", "max,+svm", "-smp", "2"])
        .args(["-m", &arguments.memory, "-nodefaults", "-display", "none", "-no-reboot"])
        .arg("-serial")
        .arg(console)
        .arg("-kernel")
        .arg(&installed.kernel)
        .arg("-initrd")
        .arg(&installed.initrd)
        .arg("-append")
        .arg("console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=reliable")
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .arg("-fsdev")
        .arg(share("root", Path::new("/"), ",readonly=on"))
        .args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=hostroot"])
        .arg("-fsdev")
        .arg(share("results", results, ""))
        .args(["-device", "virtio-9p-pci,fsdev=results,mount_tag=results"])
        .spawn()
        .map_err(|error| format!("cannot run setpriv, of util-linux: {error}"))?;
    let started = Instant::now();
    loop {
        if let Some(status) = qemu.try_wait()? {
            return Ok(ended(status));
        }
        if started.elapsed() >= Duration::from_secs(arguments.timeout) {
            qemu.kill()?;
            qemu.wait()?;
            return Ok(Ended::TimedOut);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// isa-debug-exit turns init's 2 into 5, and its 3 into 7. QEMU's own failures are 1.
fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(5), _) => Ended::Finished,
        (Some(7), _) => Ended::Failed("the emulated machine could not be set up".to_owned()),
        (_, Some(signal)) => Ended::Failed(format!("QEMU was ended by signal {signal}")),
        _ => Ended::Failed(format!("QEMU ended by itself: {status}")),
    }
}

/// A directory to share. Within an option a comma is written twice.
fn share(id: &str, path: &Path, options: &str) -> OsString {
    let path = path.display().to_string().replace(',', ",,");
    format!("local,id={id},path={path},security_model=none,multidevs=remap{options}").into()
}

#[cfg(test)]
mod tests {
    use super::{Ended, ended, share};
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::ExitStatus;

    #[test]
    fn a_status_of_init_tells_how_it_ended() {
        assert_eq!(ended(ExitStatus::from_raw(5 << 8)), Ended::Finished);
        assert!(matches!(ended(ExitStatus::from_raw(7 << 8)), Ended::Failed(_)));
    }

    #[test]
    fn qemus_own_end_is_a_failure() {
        let Ended::Failed(how) = ended(ExitStatus::from_raw(11)) else { panic!("a failure") };
        assert!(how.contains("signal 11"), "{how}");
        for status in [0, 1] {
            assert!(matches!(ended(ExitStatus::from_raw(status << 8)), Ended::Failed(_)));
        }
    }

    #[test]
    fn commas_in_a_path_are_doubled() {
        let share = share("x", Path::new("/a,b c"), "");
        assert!(share.to_string_lossy().contains("path=/a,,b c,"), "{share:?}");
    }
}
