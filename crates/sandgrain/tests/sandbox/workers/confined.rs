//! What a worker has, as the kernel sees it.

use super::{counter, workers};
use std::fs;

#[test]
fn a_worker_has_a_filter_no_new_privileges_and_no_environment() {
    let (snapshot, workers) = (counter(), workers());
    let _sandbox = snapshot.sandbox().workers(&workers).build().expect("a sandbox");
    let id = workers.processes()[0].0;
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{status}")).trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2", "system calls are filtered");
    // What a process that is not dumpable has is root's, who can look all the same.
    if let Ok(environment) = fs::read(format!("/proc/{id}/environ")) {
        assert_eq!(environment, b"SANDGRAIN_WORKER=1\0", "nothing of this process's environment");
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "what is left out is said")]
fn a_worker_has_sockets_memory_and_kvm_open_and_nothing_else() {
    // Something that is not closed when a program is started, as a careless library would have it.
    let (read, _write) = std::io::pipe().expect("a pipe");
    rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::empty()).expect("a flag");
    let (snapshot, workers) = (counter(), workers());
    let _sandbox = snapshot.sandbox().workers(&workers).build().expect("a sandbox");
    let id = workers.processes()[0].0;
    let Ok(files) = fs::read_dir(format!("/proc/{id}/fd")) else {
        println!("skipped: only root can see what a confined process has open");
        return;
    };
    for file in files {
        let path = file.expect("a descriptor").path();
        // One that has been closed in the meantime.
        let Ok(target) = fs::read_link(&path) else { continue };
        let target = target.to_string_lossy().into_owned();
        let known = ["socket:", "anon_inode:kvm", "/memfd:sandgrain", "/dev/null", "/dev/kvm"];
        let pagemap = format!("/proc/{id}/pagemap");
        let is_known = known.iter().any(|known| target.starts_with(known)) || target == pagemap;
        assert!(is_known, "{} is {target}", path.display());
    }
}
