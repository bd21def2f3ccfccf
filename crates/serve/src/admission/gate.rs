//! Admission for tasks: waiting for one's turn without a thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Admission, Bounds, Entered, Full, Granted};

type Waiter = oneshot::Sender<Permit>;

/// A round, while somebody waits: who has run for longer makes room for others.
const ROUND: Duration = Duration::from_millis(5);

/// Lets tasks run, and has others wait.
pub(crate) struct Gate {
    turns: Mutex<Turns>,
}

/// Whose turn it is.
struct Turns {
    admission: Admission<Waiter>,
    /// Whether there is a task that ends rounds.
    has_rounds: bool,
}

/// The right to run. To drop it is to leave.
pub(crate) struct Permit {
    gate: Arc<Gate>,
    function: u64,
    number: u64,
}

/// A function's place at the gate, which goes when this is dropped; those who run and wait go on.
pub(crate) struct Seat {
    gate: Arc<Gate>,
    function: u64,
}

/// Somebody in a queue, who leaves it when this is dropped.
struct Ticket<'a> {
    seat: &'a Seat,
    number: u64,
}

impl Gate {
    /// One that lets so many run, in all, and begin on so many CPUs.
    pub(crate) fn new(most: usize, cpus: usize) -> Arc<Self> {
        let turns = Turns { admission: Admission::new(most, cpus), has_rounds: false };
        Arc::new(Self { turns: Mutex::new(turns) })
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        // Nothing in there panics half way: it only counts and moves.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many run, for whomever.
    pub(crate) fn running(&self) -> usize {
        self.turns().admission.running()
    }

    /// A new tenant.
    pub(crate) fn add_tenant(&self, bounds: Bounds) -> u64 {
        self.turns().admission.add_tenant(bounds)
    }

    /// Changes a tenant's limits.
    pub(crate) fn set_bounds(&self, tenant: u64, bounds: Bounds) {
        self.turns().admission.set_bounds(tenant, bounds);
    }

    /// Lets nobody of a tenant begin, or lets them again.
    pub(crate) fn pause(self: &Arc<Self>, tenant: u64, paused: bool) {
        let granted = self.turns().admission.pause(tenant, paused);
        self.tell(granted);
    }

    /// A new function of a tenant.
    pub(crate) fn seat(self: &Arc<Self>, tenant: u64, bounds: Bounds) -> Seat {
        let function = self.turns().admission.add_function(tenant, bounds);
        Seat { gate: Arc::clone(self), function }
    }

    /// Tells those whose turn has come. Not under the lock: who is not there any more leaves at once, which takes it.
    fn tell(self: &Arc<Self>, granted: Vec<Granted<Waiter>>) {
        for Granted { function, number, waiter } in granted {
            // If nobody takes the permit, it is dropped here.
            let _ = waiter.send(Permit { gate: Arc::clone(self), function, number });
        }
    }

    /// Has rounds come to an end for as long as somebody waits.
    fn keep_rounds(self: &Arc<Self>, turns: &mut Turns) {
        if std::mem::replace(&mut turns.has_rounds, true) {
            return;
        }
        let gate = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(ROUND).await;
                let Some(gate) = Weak::upgrade(&gate) else { return };
                let (granted, goes_on) = {
                    let mut turns = gate.turns();
                    let ended = turns.admission.end_round();
                    // Who waits next has another task, or is seen by this one.
                    turns.has_rounds = ended.1;
                    ended
                };
                gate.tell(granted);
                if !goes_on {
                    return;
                }
            }
        });
    }
}

impl Seat {
    /// Waits for one's turn.
    ///
    /// # Errors
    /// If there are too many who wait already, of the function or of its tenant.
    pub(crate) async fn admit(&self) -> Result<Permit, Full> {
        let mut receiver = None;
        let entered = {
            let mut turns = self.gate.turns();
            let entered = turns.admission.enter(self.function, || {
                let (sender, own) = oneshot::channel();
                receiver = Some(own);
                sender
            });
            if matches!(entered, Entered::Waits(_)) {
                self.gate.keep_rounds(&mut turns);
            }
            entered
        };
        let number = match entered {
            Entered::Runs(number) => {
                let gate = Arc::clone(&self.gate);
                return Ok(Permit { gate, function: self.function, number });
            }
            Entered::Refused(full) => return Err(full),
            Entered::Waits(number) => number,
        };
        let _ticket = Ticket { seat: self, number };
        match receiver {
            // A waiter is told, or dropped with its function.
            Some(receiver) => receiver.await.map_err(|_| Full::Function),
            None => Err(Full::Function),
        }
    }

    /// How many run, and how many wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.gate.turns().admission.counts(self.function)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.seat.gate.turns().admission.give_up(self.seat.function, self.number);
    }
}

impl Permit {
    /// What to call when who runs begins to wait for something: others may begin meanwhile.
    pub(crate) fn on_wait(&self) -> impl Fn() + Send + Sync + 'static {
        let (gate, number) = (Arc::clone(&self.gate), self.number);
        move || {
            let granted = gate.turns().admission.make_room(number);
            gate.tell(granted);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let granted = self.gate.turns().admission.leave(self.function, self.number);
        self.gate.tell(granted);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.turns().admission.close_function(self.function);
    }
}
