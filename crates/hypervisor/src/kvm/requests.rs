//! When to stop a run, and whether a thread must be kicked for it: the decisions, without the system
//! calls, so that they can be checked exhaustively.

/// Requests to stop a vCPU, and whether it runs. `R` is how to reach a run under way.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Requests<R> {
    requested: bool,
    run: Run<R>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Run<R> {
    /// Outside KVM_RUN, and not about to enter it.
    Idle,
    /// Inside KVM_RUN, or about to enter or leave it.
    Running(R),
    /// The same, and a kick is on its way. It needs no other.
    Kicked,
}

/// What to do before KVM_RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enter {
    /// Call it.
    Run,
    /// Do not: a request is honoured instead.
    Interrupted,
}

/// What to do after KVM_RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leave {
    /// A kick was sent, which may not have arrived yet.
    pub(super) kicked: bool,
    /// What to make of its result.
    pub(super) then: Then,
}

/// What to make of KVM_RUN's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is the guest's own exit.
    Exit,
    /// A request is honoured.
    Interrupted,
    /// Nobody asked for anything, any more or at all: go in again.
    Again,
}

impl<R: Copy> Requests<R> {
    /// None yet, of a vCPU that does not run.
    pub(super) fn new() -> Self {
        Requests { requested: false, run: Run::Idle }
    }

    /// Before KVM_RUN. From here to [`leave`](Self::leave), `run` reaches the run.
    pub(super) fn enter(&mut self, run: R) -> Enter {
        if std::mem::take(&mut self.requested) {
            return Enter::Interrupted;
        }
        self.run = Run::Running(run);
        Enter::Run
    }

    /// After KVM_RUN; `interrupted` if a kick or another signal ended it.
    pub(super) fn leave(&mut self, interrupted: bool) -> Leave {
        let kicked = matches!(self.run, Run::Kicked);
        self.run = Run::Idle;
        let then = match interrupted {
            // The guest's own exit came first, and must not get lost. The request stays.
            false => Then::Exit,
            true if std::mem::take(&mut self.requested) => Then::Interrupted,
            true => Then::Again,
        };
        Leave { kicked, then }
    }

    /// Asks for a stop.
    pub(super) fn request(&mut self) {
        self.requested = true;
    }

    /// The run to kick, if there is one and a kick is needed.
    pub(super) fn to_kick(&self) -> Option<R> {
        match self.run {
            Run::Running(run) if self.requested => Some(run),
            _ => None,
        }
    }

    /// The run that [`to_kick`](Self::to_kick) answered has been kicked.
    pub(super) fn kicked(&mut self) {
        self.run = Run::Kicked;
    }

    /// Withdraws the request.
    pub(super) fn clear(&mut self) {
        self.requested = false;
    }
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
