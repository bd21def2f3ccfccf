//! `doctor`.

use crate::command::Place;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn json(place: &Place, arguments: &[&str]) -> (i32, Value) {
    let ended = place.run(&[&["doctor", "--json"], arguments].concat());
    let line = ended.stdout.lines().next().unwrap_or_default();
    (ended.code, serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {ended:?}")))
}

#[test]
fn a_machine_with_a_hypervisor_is_fine() {
    let ended = Place::new().run(&["doctor"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    for part in [
        "ok: /dev/kvm",
        "ok: KVM_CAP_IMMEDIATE_EXIT",
        "ok: a module in a VM",
        "engine: wasmtime",
        "the gate, all that runs in ring 0",
        "CPU features in the VM:",
        "ok: ",
    ] {
        assert!(ended.stdout.contains(part), "no {part:?} in {}", ended.stdout);
    }
}

#[test]
fn programs_can_read_it() {
    let (code, report) = json(&Place::new(), &[]);
    assert_eq!(code, 0);
    assert_eq!(report["usable"], true);
    assert_eq!(report["trial"]["ok"], true);
    assert_eq!(report["hypervisor"]["checks"][0]["name"], "/dev/kvm");
    let (runtime, gate) = (report["runtime_bytes"].as_u64(), report["gate_bytes"].as_u64());
    assert!(runtime > gate && gate > Some(0), "{report}");
    assert!(report["cpu_features"].as_array().unwrap().len() > 1, "{report}");
}

#[test]
fn a_missing_device_is_shown_with_what_to_try() {
    let place = Place::new();
    let ended = place.run(&["doctor", "--kvm-device", "/nonexistent/kvm"]);
    let line = ended.fails_with_one_line(201);
    assert!(line.contains("/nonexistent/kvm"), "{line}");
    assert!(ended.stdout.contains("missing: /nonexistent/kvm"), "{ended:?}");
    assert!(ended.stdout.contains("try: "), "{ended:?}");
    assert!(ended.stdout.contains("not tried"), "{ended:?}");

    let (code, report) = json(&place, &["--kvm-device", "/nonexistent/kvm"]);
    assert_eq!((code, &report["usable"]), (201, &Value::Bool(false)));
    assert_eq!(report["trial"], Value::Null);
    assert!(!report["hypervisor"]["checks"][0]["try"].as_str().unwrap().is_empty(), "{report}");
}

#[test]
fn the_cache_is_counted_and_not_made() {
    let place = Place::with("plain.wat", "(module (func (export \"_start\")))");
    let modules = || json(&place, &[]).1["cache"]["modules"].as_u64();
    assert_eq!(modules(), Some(0));
    assert!(!place.path("cache").exists());
    place.run(&["run", "plain.wat"]).prints("");
    assert_eq!(modules(), Some(1));
}

#[test]
fn a_cache_that_others_can_write_to_is_shown() {
    let place = Place::new();
    fs::create_dir(place.path("shared")).unwrap();
    fs::set_permissions(place.path("shared"), fs::Permissions::from_mode(0o777)).unwrap();
    let (code, report) = json(&place, &["--cache-dir", "shared"]);
    assert_eq!((code, &report["cache"]["state"]), (0, &Value::from("unusable")), "{report}");
    let ended = place.run(&["doctor", "--cache-dir", "shared"]);
    assert!(ended.stdout.contains("chmod 700"), "{ended:?}");
}
