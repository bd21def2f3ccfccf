//! What a process may have.

use sandgrain_hypervisor::{Error, GuestMemory, PAGE_SIZE};

use crate::machine::*;

/// Runs one test of this program in a process of its own, with few descriptors.
fn alone(test: &str) -> std::process::Output {
    std::process::Command::new("sh")
        .args(["-c", "ulimit -n 24; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env("SANDGRAIN_TEST_FEW_DESCRIPTORS", "1")
        .output()
        .unwrap()
}

#[test]
fn too_few_descriptors_are_said_to_be_the_cause() {
    if std::env::var_os("SANDGRAIN_TEST_FEW_DESCRIPTORS").is_none() {
        let output = alone("limits::too_few_descriptors_are_said_to_be_the_cause");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
        return;
    }
    // Opened before there are none left.
    let hypervisor = hypervisor();
    let mut vms = Vec::new();
    let error = loop {
        let memory = GuestMemory::new(PAGE_SIZE).unwrap();
        match hypervisor.create_vm(memory) {
            Ok(vm) => vms.push(vm),
            Err(error) => break error,
        }
        assert!(vms.len() < 24, "VMs take no descriptors");
    };
    assert!(matches!(error, Error::NoDescriptors { limit: 24, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("24 descriptors") && text.contains("limit of 26"), "{text}");
    // One that goes makes room for another.
    vms.pop();
    hypervisor.create_vm(GuestMemory::new(PAGE_SIZE).unwrap()).unwrap();
}
