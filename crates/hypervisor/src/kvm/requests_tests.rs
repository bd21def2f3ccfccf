//! Every interleaving of a vCPU's thread with threads that stop it and withdraw the stop.
//!
//! The model is that of `entrance.rs`: `Requests` is behind a lock, `immediate_exit` and the signal are the
//! kernel's, which looks at them when it likes.

use std::collections::HashSet;

use super::{Enter, Requests, Then};

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    requests: Requests<()>,
    lock_free: bool,
    immediate_exit: bool,
    signal_pending: bool,
    vcpu: Vcpu,
    runs_left: u8,
    honoured: u8,
    others: Vec<Other>,
}

/// Where the vCPU's thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Vcpu {
    /// About to take the lock and enter.
    Entering,
    /// In the kernel, which has not looked at `immediate_exit` yet.
    Starting,
    /// In the kernel or the guest, until a signal or the guest's own exit.
    Inside,
    /// Back, about to take the lock; `interrupted` is what KVM_RUN said.
    Leaving { interrupted: bool },
    /// All runs are over.
    Done,
}

/// Where another thread is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Other {
    Interrupt,
    /// Holds the lock and has a run to kick.
    SetFlag,
    /// Holds the lock and has set the flag.
    Signal,
    /// The signal could not be queued: about to take the lock again.
    Retry,
    Clear,
    Done,
}

/// What may happen in a world.
#[derive(Clone, Copy)]
struct Rules {
    guest_exits: bool,
    signals_fail: bool,
}

impl World {
    fn new(runs: u8, others: &[Other]) -> Self {
        World {
            requests: Requests::new(),
            lock_free: true,
            immediate_exit: false,
            signal_pending: false,
            vcpu: Vcpu::Entering,
            runs_left: runs,
            honoured: 0,
            others: others.to_vec(),
        }
    }

    /// Every world that one step leads to.
    fn next(&self, rules: Rules) -> Vec<World> {
        let mut worlds = self.vcpu_steps(rules);
        for index in 0..self.others.len() {
            worlds.extend(self.other_steps(index, rules));
        }
        worlds
    }

    fn with(&self, change: impl FnOnce(&mut World)) -> World {
        let mut world = self.clone();
        change(&mut world);
        world
    }

    fn vcpu_steps(&self, rules: Rules) -> Vec<World> {
        let leave_with = |interrupted| self.with(|w| w.vcpu = Vcpu::Leaving { interrupted });
        let mut worlds = Vec::new();
        match self.vcpu {
            Vcpu::Entering if self.lock_free => worlds.push(self.with(World::enter)),
            Vcpu::Starting if self.immediate_exit => worlds.push(leave_with(true)),
            Vcpu::Starting => worlds.push(self.with(|w| w.vcpu = Vcpu::Inside)),
            Vcpu::Inside => {
                if self.signal_pending {
                    worlds.push(leave_with(true).with(|w| w.signal_pending = false));
                }
                if rules.guest_exits {
                    worlds.push(leave_with(false));
                }
            }
            Vcpu::Leaving { interrupted } if self.lock_free => {
                worlds.push(self.with(|w| w.leave(interrupted)));
            }
            Vcpu::Entering | Vcpu::Leaving { .. } | Vcpu::Done => {}
        }
        // Outside the kernel a signal arrives when it likes.
        let in_user_mode = matches!(self.vcpu, Vcpu::Entering | Vcpu::Leaving { .. });
        if in_user_mode && self.signal_pending {
            worlds.push(self.with(|w| w.signal_pending = false));
        }
        worlds
    }

    fn enter(&mut self) {
        self.immediate_exit = false;
        match self.requests.enter(()) {
            Enter::Run => self.vcpu = Vcpu::Starting,
            Enter::Interrupted => self.end_run(true),
        }
    }

    fn leave(&mut self, interrupted: bool) {
        let requested = self.requests.requested;
        let leave = self.requests.leave(interrupted);
        if leave.kicked {
            self.signal_pending = false;
        }
        assert!(!self.signal_pending, "a signal outlives the run it was for");
        match leave.then {
            Then::Exit => self.end_run(false),
            Then::Interrupted => {
                assert!(requested, "a run stops that nobody asked to stop, or not any more");
                self.end_run(true);
            }
            Then::Again => self.vcpu = Vcpu::Entering,
        }
    }

    fn end_run(&mut self, honoured: bool) {
        self.honoured += u8::from(honoured);
        self.runs_left -= 1;
        self.vcpu = if self.runs_left == 0 { Vcpu::Done } else { Vcpu::Entering };
    }

    fn other_steps(&self, index: usize, rules: Rules) -> Vec<World> {
        let at = self.others[index];
        let go = |to, change: &dyn Fn(&mut World)| {
            self.with(|w| {
                w.others[index] = to;
                change(w);
            })
        };
        let mut worlds = Vec::new();
        match at {
            Other::Interrupt | Other::Retry if self.lock_free => {
                let mut world = self.clone();
                if at == Other::Interrupt {
                    world.requests.request();
                }
                let kick = world.requests.to_kick().is_some();
                world.lock_free = !kick;
                world.others[index] = if kick { Other::SetFlag } else { Other::Done };
                worlds.push(world);
            }
            Other::SetFlag => worlds.push(go(Other::Signal, &|w| w.immediate_exit = true)),
            Other::Signal => {
                let reachable =
                    matches!(self.vcpu, Vcpu::Starting | Vcpu::Inside | Vcpu::Leaving { .. });
                assert!(reachable, "a kick reaches a thread that is {:?}", self.vcpu);
                worlds.push(go(Other::Done, &|w| {
                    w.signal_pending = true;
                    w.requests.kicked();
                    w.lock_free = true;
                }));
                if rules.signals_fail {
                    worlds.push(go(Other::Retry, &|w| w.lock_free = true));
                }
            }
            Other::Clear if self.lock_free => {
                worlds.push(go(Other::Done, &|w| w.requests.clear()));
            }
            Other::Interrupt | Other::Retry | Other::Clear | Other::Done => {}
        }
        worlds
    }
}

/// Walks through all worlds and returns those in which nothing can happen any more.
fn ends(start: World, rules: Rules) -> Vec<World> {
    let mut seen = HashSet::from([start.clone()]);
    let mut todo = vec![start];
    let mut ends = Vec::new();
    while let Some(world) = todo.pop() {
        let next = world.next(rules);
        if next.is_empty() {
            assert!(world.others.iter().all(|other| *other == Other::Done), "a thread is stuck");
            assert!(world.lock_free);
            ends.push(world);
            continue;
        }
        todo.extend(next.into_iter().filter(|world| seen.insert(world.clone())));
    }
    assert!(!ends.is_empty());
    ends
}

const FAIR: Rules = Rules { guest_exits: false, signals_fail: false };

#[test]
fn a_spinning_guest_always_stops() {
    for signals_fail in [false, true] {
        for threads in 1..=3 {
            let rules = Rules { signals_fail, ..FAIR };
            for end in ends(World::new(1, &vec![Other::Interrupt; threads]), rules) {
                assert_eq!((end.vcpu, end.honoured), (Vcpu::Done, 1));
            }
        }
    }
}

#[test]
fn a_run_stops_only_when_asked() {
    for runs in 1..=4 {
        for end in ends(World::new(runs, &[Other::Interrupt, Other::Interrupt]), FAIR) {
            assert!((1..=2).contains(&end.honoured));
            // It spins on in the run after the last request.
            let stopped = end.honoured >= runs;
            assert_eq!(end.vcpu, if stopped { Vcpu::Done } else { Vcpu::Inside });
        }
    }
}

#[test]
fn a_request_outlives_the_guests_own_exit() {
    let rules = Rules { guest_exits: true, signals_fail: true };
    for end in ends(World::new(3, &[Other::Interrupt]), rules) {
        let kept = end.requests.requested;
        assert_eq!(end.honoured + u8::from(kept), 1);
        assert!(!kept || end.vcpu == Vcpu::Done);
    }
}

#[test]
fn nothing_is_left_after_a_withdrawal() {
    let mut left_alone = 0;
    for end in ends(World::new(1, &[Other::Interrupt, Other::Clear, Other::Interrupt]), FAIR) {
        // Whichever came last: a request that nobody withdrew has stopped the run.
        assert!(end.vcpu == Vcpu::Done || !end.requests.requested);
        left_alone += u8::from(end.vcpu == Vcpu::Inside);
    }
    assert_ne!(left_alone, 0, "a withdrawal in time lets the guest run on");
}
