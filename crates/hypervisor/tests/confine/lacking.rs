//! What the machine lacks.

use sandgrain_hypervisor::{Confinement, Error};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::process::{PLAIN, assert_done, done, role, start};

/// Has the kernel seem to lack a call, from now on.
fn take_away(call: libc::c_long) {
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let calls = [(call, Vec::new())].into();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, unknown, TargetArch::x86_64);
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter_all_threads(&program).unwrap();
}

/// Makes sure that it is an error that says this.
fn assert_says(result: Result<(), Error>, words: &str) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::NotConfined { .. }), "{text}");
    assert!(text.contains(words) && text.contains("try: "), "{text}");
}

#[test]
fn this_machine_can_confine() {
    Confinement::check().unwrap();
}

#[test]
fn a_kernel_without_filters_is_an_error() {
    if role().is_some() {
        take_away(libc::SYS_seccomp);
        assert_says(Confinement::check(), "no seccomp filters");
        assert_says(PLAIN.apply(), "no seccomp filters");
        done();
    }
    assert_done(&start("").output().unwrap());
}

#[test]
fn a_kernel_that_cannot_leave_descriptors_behind_is_an_error() {
    if role().is_some() {
        take_away(libc::SYS_close_range);
        assert_says(Confinement::check(), "leave descriptors behind");
        let mut command = std::process::Command::new("true");
        assert_says(
            sandgrain_hypervisor::inherit_nothing(&mut command),
            "leave descriptors behind",
        );
        done();
    }
    assert_done(&start("").output().unwrap());
}

#[test]
fn more_descriptors_than_there_can_be_are_an_error() {
    if role().is_some() {
        let too_many = Confinement { descriptors: u64::MAX, ..PLAIN };
        assert_says(too_many.apply(), "how many descriptors");
        done();
    }
    assert_done(&start("").output().unwrap());
}
