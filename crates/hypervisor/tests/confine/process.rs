//! The other process of a test.

use std::{
    env,
    ffi::OsStr,
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Command, Output, Stdio},
    thread,
};

use sandgrain_hypervisor::{Confinement, inherit_nothing};

/// Which test the process plays the child of, and what it is told.
const ROLE: &str = "SANDGRAIN_TEST_CONFINED";
/// How a child ends that has come to its end: no other program's way.
const DONE: i32 = 77;

pub const PLAIN: Confinement = Confinement { descriptors: 256, new_images: false };

/// What the child is told, in the child.
pub fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// Runs the calling test in a process of its own, where [`role`] is `role`.
pub fn start(role: &str) -> Command {
    // The harness names the thread of a test after it.
    let thread = thread::current();
    let name = thread.name().expect("a test has a thread of its own");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"].map(OsStr::new));
    command.env(ROLE, role).stdin(Stdio::null());
    inherit_nothing(&mut command).unwrap();
    command
}

/// The child is at its end.
pub fn done() -> ! {
    std::process::exit(DONE)
}

/// Makes sure that the child came to its end.
pub fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(DONE), "{output:#?}");
}

/// Makes sure that the child said that it was about to make a call, and that the call ended it.
pub fn assert_ended_by_call(output: &Output, call: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("about to: {call}\n")), "{call}: {output:#?}");
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{call}: {output:#?}");
}

/// Says so, unbuffered.
pub fn about_to(call: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "about to: {call}").unwrap();
    stdout.flush().unwrap();
}

/// Runs a test's second half in a confined process: `prepare` before it is confined, `then` after.
pub fn confined<T>(confinement: Confinement, prepare: impl FnOnce() -> T, then: impl FnOnce(T)) {
    if role().is_some() {
        let prepared = prepare();
        confinement.apply().unwrap();
        then(prepared);
        done();
    }
    assert_done(&start("confined").output().unwrap());
}
