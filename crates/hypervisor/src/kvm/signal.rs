//! The signal that takes a thread out of KVM_RUN.

use std::{cell::Cell, io, mem, ptr, sync::OnceLock};

use crate::Error;

/// The signal, its handler installed. One for the whole process, chosen at the first call: a real-time
/// signal that nothing has a handler for.
pub(super) fn install() -> Result<libc::c_int, Error> {
    static SIGNAL: OnceLock<Option<libc::c_int>> = OnceLock::new();
    // From the top: programs that use such signals take them from the bottom.
    let choose = || (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|signal| take(*signal));
    SIGNAL.get_or_init(choose).ok_or_else(|| Error::Host {
        call: "sigaction",
        source: io::Error::other("every real-time signal of this process is in use"),
    })
}

/// Installs the handler unless the signal has one, or is ignored, already.
fn take(signal: libc::c_int) -> bool {
    // SAFETY: all zeros is a value of this plain C struct: default action, empty mask, no flags.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: with no new action the call only writes to `old`.
    let known = unsafe { libc::sigaction(signal, ptr::null(), &mut old) } == 0;
    if !known || old.sa_sigaction != libc::SIG_DFL {
        return false;
    }
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handle as *const () as libc::sighandler_t;
    // KVM_RUN returns all the same; any other call of the thread should go on.
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `handle` does nothing, so that it can run at any point of any thread.
    let installed = unsafe { libc::sigaction(signal, &action, &mut old) } == 0;
    if installed && old.sa_sigaction != libc::SIG_DFL {
        // Somebody was faster. It stays theirs.
        // SAFETY: `old` is the action that was in force until the call before.
        unsafe { libc::sigaction(signal, &old, ptr::null_mut()) };
        return false;
    }
    installed
}

/// Does nothing: that the signal arrives is all.
extern "C" fn handle(_: libc::c_int) {}

/// Lets the signal through to the calling thread, whose creator may have blocked it.
pub(super) fn unblock(signal: libc::c_int) {
    thread_local! {
        static UNBLOCKED: Cell<bool> = const { Cell::new(false) };
    }
    if UNBLOCKED.get() {
        return;
    }
    // SAFETY: the set is initialised by `sigemptyset` before it is used, and the calls touch nothing
    // but it and the calling thread's mask.
    let result = unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut())
    };
    UNBLOCKED.set(result == 0);
}
