//! Who may run now, and who waits: limits of functions, of tenants and of the server, and turns between them.
//!
//! Tenants that wait take turns, whatever each has waiting, and so do a tenant's functions; within a function the
//! first to come is the first to go. So nobody who asks for much makes another wait for more than one turn of each.
//!
//! Of those who run, only as many begin at once as there are CPUs: more would not be done sooner, and each would have a VM
//! of its own in the CPU's caches. Whoever waits for something, or computes for long, makes room for the next one and
//! goes on beside it, so that nobody who holds a turn holds up others.

mod gate;
#[cfg(test)]
mod tests;

pub(crate) use gate::{Gate, Permit, Seat};

use std::collections::{BTreeMap, VecDeque};

/// How many may run, and how many may wait for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
}

/// Whose limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The function's queue.
    Function,
    /// The tenant's queue.
    Tenant,
}

/// What becomes of somebody who asks to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// They run, under this number.
    Runs(u64),
    /// They wait, under this number.
    Waits(u64),
    /// There are too many already.
    Refused(Full),
}

/// Somebody whose turn has come, and who counts as running.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Granted<W> {
    /// For which function.
    pub(crate) function: u64,
    /// Under which number.
    pub(crate) number: u64,
    pub(crate) waiter: W,
}

struct Tenant {
    bounds: Bounds,
    running: usize,
    waiting: usize,
    /// Whether its memory is all taken, so that nobody begins.
    paused: bool,
    /// Its functions for which somebody waits. The first one is next.
    turns: VecDeque<u64>,
}

struct Function<W> {
    tenant: u64,
    bounds: Bounds,
    running: usize,
    waiting: VecDeque<(u64, W)>,
    /// It gets nobody any more, and is forgotten when it has nobody.
    is_closed: bool,
}

/// Who runs and who waits. `W` is what those who wait are told by.
pub(crate) struct Admission<W> {
    /// How many more may run, whoever they are.
    free: usize,
    /// How many of those who run may be at their beginning.
    cpus: usize,
    /// Those of them, by their numbers, and in which round they began.
    beginning: BTreeMap<u64, u64>,
    round: u64,
    tenants: BTreeMap<u64, Tenant>,
    functions: BTreeMap<u64, Function<W>>,
    /// Tenants for whom somebody waits. The first one is next.
    turns: VecDeque<u64>,
    next: u64,
}

impl<W> Admission<W> {
    /// Nobody runs; so many may, in all, and begin on so many CPUs.
    pub(crate) fn new(most: usize, cpus: usize) -> Self {
        Self {
            free: most,
            cpus: cpus.max(1),
            beginning: BTreeMap::new(),
            round: 0,
            tenants: BTreeMap::new(),
            functions: BTreeMap::new(),
            turns: VecDeque::new(),
            next: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A new tenant.
    pub(crate) fn add_tenant(&mut self, bounds: Bounds) -> u64 {
        let number = self.number();
        let turns = VecDeque::new();
        self.tenants
            .insert(number, Tenant { bounds, running: 0, waiting: 0, paused: false, turns });
        number
    }

    /// Changes a tenant's limits, for those who come from now on.
    pub(crate) fn set_bounds(&mut self, tenant: u64, bounds: Bounds) {
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.bounds = bounds;
        }
    }

    /// A new function of a tenant.
    pub(crate) fn add_function(&mut self, tenant: u64, bounds: Bounds) -> u64 {
        let number = self.number();
        let (waiting, is_closed) = (VecDeque::new(), false);
        self.functions.insert(number, Function { tenant, bounds, running: 0, waiting, is_closed });
        number
    }

    /// A function that nobody will ask for any more. Those who run and wait go on.
    pub(crate) fn close_function(&mut self, function: u64) {
        if let Some(entry) = self.functions.get_mut(&function) {
            entry.is_closed = true;
        }
        self.forget_if_done(function);
    }

    fn forget_if_done(&mut self, function: u64) {
        let done = self.functions.get(&function);
        if done.is_some_and(|f| f.is_closed && f.running == 0 && f.waiting.is_empty()) {
            self.functions.remove(&function);
        }
    }

    /// Whether somebody could run for a function at once, as far as its own and its tenant's limits go.
    fn has_room(&self, function: u64) -> bool {
        let Some(function) = self.functions.get(&function) else { return false };
        let Some(tenant) = self.tenants.get(&function.tenant) else { return false };
        !tenant.paused
            && tenant.running < tenant.bounds.running
            && function.running < function.bounds.running
    }

    /// Whether anybody could run at once, as far as limits of functions and tenants go.
    fn is_open(&self) -> bool {
        self.free > 0 && self.beginning.len() < self.cpus
    }

    /// Somebody begins to run, under this number.
    fn run(&mut self, function: u64) -> u64 {
        let number = self.number();
        let Some(entry) = self.functions.get_mut(&function) else { return number };
        entry.running += 1;
        if let Some(tenant) = self.tenants.get_mut(&entry.tenant) {
            tenant.running += 1;
        }
        self.free -= 1;
        self.beginning.insert(number, self.round);
        number
    }

    /// Somebody asks to run. `waiter` makes what they are told by, if they have to wait.
    pub(crate) fn enter(&mut self, function: u64, waiter: impl FnOnce() -> W) -> Entered {
        // Whoever waits already could not go either: they would have.
        if self.is_open() && self.has_room(function) {
            return Entered::Runs(self.run(function));
        }
        let ticket = self.number();
        let Some(entry) = self.functions.get_mut(&function) else {
            return Entered::Refused(Full::Function);
        };
        let Some(tenant) = self.tenants.get_mut(&entry.tenant) else {
            return Entered::Refused(Full::Tenant);
        };
        // Those who only wait for a CPU have a place among those who run.
        let places = |bounds: Bounds| bounds.running.saturating_add(bounds.waiting);
        if entry.running + entry.waiting.len() >= places(entry.bounds) {
            return Entered::Refused(Full::Function);
        }
        if tenant.running + tenant.waiting >= places(tenant.bounds) {
            return Entered::Refused(Full::Tenant);
        }
        if tenant.waiting == 0 {
            self.turns.push_back(entry.tenant);
        }
        if entry.waiting.is_empty() {
            tenant.turns.push_back(function);
        }
        tenant.waiting += 1;
        entry.waiting.push_back((ticket, waiter()));
        Entered::Waits(ticket)
    }

    /// Somebody waits for something, or is to be treated so. Those who can run now beside it.
    pub(crate) fn make_room(&mut self, number: u64) -> Vec<Granted<W>> {
        match self.beginning.remove(&number) {
            Some(_) => self.grant(),
            None => Vec::new(),
        }
    }

    /// Ends a round: who began before it is at the beginning no more. Those who can run now, and whether anybody still
    /// waits.
    pub(crate) fn end_round(&mut self) -> (Vec<Granted<W>>, bool) {
        let round = self.round;
        self.beginning.retain(|_, began| *began == round);
        self.round += 1;
        let granted = self.grant();
        (granted, !self.turns.is_empty())
    }

    /// Somebody has run. Those who can run now instead.
    pub(crate) fn leave(&mut self, function: u64, number: u64) -> Vec<Granted<W>> {
        self.beginning.remove(&number);
        if let Some(entry) = self.functions.get_mut(&function) {
            entry.running -= 1;
            if let Some(tenant) = self.tenants.get_mut(&entry.tenant) {
                tenant.running -= 1;
            }
            self.free += 1;
        }
        self.forget_if_done(function);
        self.grant()
    }

    /// Somebody does not wait any more. Nothing, if they do not wait.
    pub(crate) fn give_up(&mut self, function: u64, ticket: u64) {
        let Some(entry) = self.functions.get_mut(&function) else { return };
        let Some(at) = entry.waiting.iter().position(|(of, _)| *of == ticket) else { return };
        entry.waiting.remove(at);
        self.settle_turns(function);
        self.forget_if_done(function);
    }

    /// After somebody has left a function's queue: counts them, and takes turns off that are nobody's any more.
    fn settle_turns(&mut self, function: u64) {
        let Some(entry) = self.functions.get(&function) else { return };
        let number = entry.tenant;
        let Some(tenant) = self.tenants.get_mut(&number) else { return };
        tenant.waiting -= 1;
        if entry.waiting.is_empty() {
            tenant.turns.retain(|turn| *turn != function);
        }
        if tenant.waiting == 0 {
            self.turns.retain(|turn| *turn != number);
        }
    }

    /// Lets nobody of a tenant begin, or lets them again. Those who can run now.
    pub(crate) fn pause(&mut self, tenant: u64, paused: bool) -> Vec<Granted<W>> {
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.paused = paused;
        }
        self.grant()
    }

    /// Gives whatever is free to those whose turn it is.
    fn grant(&mut self) -> Vec<Granted<W>> {
        let mut granted = Vec::new();
        while self.is_open() {
            let Some(function) = self.next_turn() else { break };
            let waiter = self.functions.get_mut(&function).and_then(|f| f.waiting.pop_front());
            let Some((_, waiter)) = waiter else { break };
            self.settle_turns(function);
            let number = self.run(function);
            granted.push(Granted { function, number, waiter });
        }
        granted
    }

    /// The function whose turn it is among those with room. It goes to the end of its tenant's turns, and the tenant to
    /// the end of all.
    fn next_turn(&mut self) -> Option<u64> {
        for at in 0..self.turns.len() {
            let number = self.turns[at];
            let turns = self.tenants.get(&number)?.turns.iter();
            let found = turns.copied().enumerate().find(|(_, function)| self.has_room(*function));
            let Some((place, function)) = found else { continue };
            let tenant = self.tenants.get_mut(&number)?;
            tenant.turns.remove(place);
            tenant.turns.push_back(function);
            self.turns.remove(at);
            self.turns.push_back(number);
            return Some(function);
        }
        None
    }

    /// How many run for a function, and how many wait.
    pub(crate) fn counts(&self, function: u64) -> (usize, usize) {
        self.functions.get(&function).map_or((0, 0), |f| (f.running, f.waiting.len()))
    }

    /// How many run, for whomever.
    pub(crate) fn running(&self) -> usize {
        self.functions.values().map(|function| function.running).sum()
    }
}
