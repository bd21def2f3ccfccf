//! Every order in which the steps of threads at the entrance can come, tried by loom. KVM_RUN is a model
//! of what the kernel does; what waits for ever in any order fails the test.
//!
//! The tests in `requests_tests.rs` do the same for the decisions alone: there the kernel may do more,
//! and the entrance is a model too.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use loom::{
    model,
    model::Builder,
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{Entrance, Runner};

/// What the kernel keeps of a vCPU and its thread.
struct Kernel {
    immediate_exit: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// A run is under way.
    running: bool,
    signal_pending: bool,
    /// The guest comes to an exit of its own.
    guest_exits: bool,
    /// So many signals cannot be sent.
    full: u32,
    /// Nobody wants the run to stop any more.
    withdrawn: bool,
    /// KVM_RUN returned for a kick after that.
    interrupted_too_late: bool,
}

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel {
        immediate_exit: AtomicBool::new(false),
        state: Mutex::new(State::default()),
        changed: Condvar::new(),
    };
}

fn kernel() -> MutexGuard<'static, State> {
    KERNEL.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The one vCPU.
#[derive(Clone, Copy)]
struct Vcpu;

impl Runner for Vcpu {
    unsafe fn set_immediate_exit(self, value: bool) {
        assert!(kernel().running, "the flag of a run that is over");
        KERNEL.immediate_exit.store(value, Ordering::Relaxed);
    }

    unsafe fn signal(self) -> bool {
        let mut kernel = kernel();
        assert!(kernel.running, "a kick reaches a thread that has left");
        if kernel.full > 0 {
            kernel.full -= 1;
            return false;
        }
        kernel.signal_pending = true;
        KERNEL.changed.notify_all();
        true
    }
}

fn kvm_run() -> io::Result<()> {
    // Until here a signal arrives without effect, and is gone.
    kernel().signal_pending = false;
    let at_once = KERNEL.immediate_exit.load(Ordering::Relaxed);
    let mut kernel = kernel();
    loop {
        if at_once || std::mem::take(&mut kernel.signal_pending) {
            kernel.interrupted_too_late = kernel.withdrawn;
            return Err(io::Error::from_raw_os_error(libc::EINTR));
        }
        if std::mem::take(&mut kernel.guest_exits) {
            return Ok(());
        }
        kernel = KERNEL.changed.wait(kernel).unwrap_or_else(PoisonError::into_inner);
    }
}

fn guest_exits() {
    kernel().guest_exits = true;
    KERNEL.changed.notify_all();
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Interrupted,
    Guest,
}

fn run(entrance: &Entrance<Vcpu>) -> End {
    kernel().running = true;
    let result = entrance.run(Vcpu, kvm_run, || kernel().signal_pending = false);
    let mut kernel = kernel();
    kernel.running = false;
    assert!(!kernel.signal_pending, "a signal outlives the run it was for");
    match result {
        None => End::Interrupted,
        Some(Ok(())) => End::Guest,
        Some(Err(error)) => panic!("{error}"),
    }
}

fn spawn(
    entrance: &Arc<Entrance<Vcpu>>,
    steps: impl FnOnce(&Entrance<Vcpu>) + 'static,
) -> JoinHandle<()> {
    let entrance = Arc::clone(entrance);
    thread::spawn(move || steps(&entrance))
}

#[test]
fn an_interrupt_stops_a_spinning_guest() {
    model(|| {
        let entrance = Arc::new(Entrance::new());
        let thread = spawn(&entrance, Entrance::interrupt);
        assert_eq!(run(&entrance), End::Interrupted);
        thread.join().unwrap();
    });
}

#[test]
fn a_signal_that_cannot_be_sent_is_sent_again() {
    model(|| {
        kernel().full = 1;
        let entrance = Arc::new(Entrance::new());
        let thread = spawn(&entrance, Entrance::interrupt);
        assert_eq!(run(&entrance), End::Interrupted);
        thread.join().unwrap();
    });
}

#[test]
fn two_interrupts_stop_one_run_or_two() {
    model(|| {
        let entrance = Arc::new(Entrance::new());
        let threads = [(); 2].map(|()| spawn(&entrance, Entrance::interrupt));
        assert_eq!(run(&entrance), End::Interrupted);
        for thread in threads {
            thread.join().unwrap();
        }
        // The second one either came to that run or waits for the next, and not for the one after that.
        guest_exits();
        let next = run(&entrance);
        if next == End::Interrupted {
            assert_eq!(run(&entrance), End::Guest);
        }
    });
}

#[test]
fn neither_an_interrupt_nor_the_guests_own_exit_gets_lost() {
    // All orders take half a minute; those in which threads are held up four times, a second.
    let mut few = Builder::new();
    few.preemption_bound = Some(4);
    few.check(|| {
        let entrance = Arc::new(Entrance::new());
        let interrupting = spawn(&entrance, Entrance::interrupt);
        let exiting = thread::spawn(guest_exits);
        let ends = [run(&entrance), run(&entrance)];
        assert!(ends.contains(&End::Interrupted) && ends.contains(&End::Guest), "{ends:?}");
        interrupting.join().unwrap();
        exiting.join().unwrap();
    });
}

#[test]
fn a_withdrawn_interrupt_stops_nothing() {
    model(|| {
        let entrance = Arc::new(Entrance::new());
        guest_exits();
        let thread = spawn(&entrance, |entrance| {
            entrance.interrupt();
            entrance.clear();
            kernel().withdrawn = true;
        });
        let first = run(&entrance);
        // A kick may well come after the withdrawal.
        assert!(first == End::Guest || !kernel().interrupted_too_late, "by a withdrawn interrupt");
        thread.join().unwrap();
        guest_exits();
        assert_eq!(run(&entrance), End::Guest);
    });
}
