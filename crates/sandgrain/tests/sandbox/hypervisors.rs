//! Machines without a hypervisor that can be used: there is no silent way without.

use crate::support::{builder, vm, works};
use sandgrain::{Engine, Error};

fn without(device: &str) -> String {
    let result = Engine::builder().kvm_device(device).without_cache().build();
    let text = match result {
        Err(Error::NoHypervisor(text)) => text,
        other => panic!("{device}: {other:?}"),
    };
    works(vm());
    text
}

#[test]
fn no_device() {
    let text = without("/nonexistent/kvm");
    assert!(text.contains("/nonexistent/kvm") && text.contains("try: "), "{text}");
}

#[test]
fn no_permission() {
    // A file that not even root may open for writing, so that the test is the same for all users.
    let text = without("/proc/sys/kernel/ostype");
    assert!(text.contains("no permission") && text.contains("try: "), "{text}");
}

#[test]
fn another_device() {
    for device in ["/dev/null", "/dev/zero"] {
        let text = without(device);
        assert!(text.contains(device) && text.contains("is not KVM"), "{text}");
    }
}

#[test]
fn what_is_no_device() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("kvm");
    std::fs::write(&file, "not a device").expect("a file");
    let text = without(file.to_str().expect("UTF-8"));
    assert!(text.contains("is not KVM"), "{text}");
    without(dir.path().to_str().expect("UTF-8"));
}

#[test]
fn without_a_vm_only_if_asked_for() {
    assert!(!vm().is_without_vm());
    let engine = Engine::builder()
        .kvm_device("/nonexistent/kvm")
        .without_cache()
        .dangerously_without_vm()
        .build()
        .expect("it needs no hypervisor");
    assert!(engine.is_without_vm());
    works(&engine);
}

#[test]
fn the_device_can_be_named() {
    let engine = builder().kvm_device("/dev/kvm").without_cache().build().expect("an engine");
    assert!(!engine.is_without_vm());
    works(&engine);
}
