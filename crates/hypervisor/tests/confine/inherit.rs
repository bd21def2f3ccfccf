//! What a child has of its parent's.

use std::{
    fs::{self, File},
    os::fd::{AsRawFd, FromRawFd},
};

use crate::process::{assert_done, done, role, start};

#[test]
fn a_descriptor_that_exec_would_keep_stays_behind() {
    if let Some(role) = role() {
        assert!(fs::metadata(format!("/proc/self/fd/{role}")).is_err(), "{role} is here");
        // The one by which the directory is read is the only one besides.
        let here = fs::read_dir("/proc/self/fd").unwrap().count();
        assert_eq!(here, 4);
        done();
    }
    let file = File::open("/dev/null").unwrap();
    // SAFETY: the descriptor is open; the copy, which exec keeps, is nobody else's.
    let kept = unsafe {
        let copy = libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 100);
        assert!(copy >= 100);
        File::from_raw_fd(copy)
    };
    assert_done(&start(&kept.as_raw_fd().to_string()).output().unwrap());
}
