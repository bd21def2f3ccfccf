//! What a pool has, and what it should have: the decisions, without threads and VMs, so that they can be
//! checked by themselves. `V` is a VM.

use std::collections::VecDeque;
use std::sync::Arc;

/// A tenant's name: VMs that have served one never serve another.
pub(super) type Tenant = Arc<str>;

/// How many VMs there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// VMs ready for use that are kept even when nobody asks for any.
    pub(super) min_ready: usize,
    /// VMs ready for use at the most.
    pub(super) max_ready: usize,
    /// VMs at the most that have served a tenant and wait for it.
    pub(super) max_kept: usize,
    /// VMs at the most, those in use included.
    pub(super) max_total: usize,
}

/// Events so far, and what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// VMs that wait and that no caller has seen.
    pub parked: usize,
    /// VMs that wait for the tenant that they have served before.
    pub kept: usize,
    /// VMs that callers have now.
    pub in_use: usize,
    /// How many parked VMs the pool wants to have.
    pub target: usize,
    /// Times that a VM was ready for a caller.
    pub hits: u64,
    /// Times that one had to be made while the caller waited.
    pub misses: u64,
    /// Times that a caller got none, because of the pool's bounds.
    pub refused: u64,
    /// VMs that have served a caller and were dropped, not kept: all of them with the policy `Fresh`.
    pub retired: u64,
    /// VMs that could not be kept although the policy said so: they had failed, or changed too much.
    pub replaced: u64,
    /// VMs that could not be made.
    pub failed: u64,
}

/// Where the VM for a caller comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<V> {
    Ready(V),
    /// None is ready: make one. If there is a VM here, it has to go first.
    Make(Option<V>),
    /// There are as many as there may be, but one of them is about to be parked: ask again when it is.
    Wait,
    /// There are as many as there may be.
    Refused,
}

/// VMs, and numbers of them.
pub(super) struct Stock<V> {
    bounds: Bounds,
    /// Never shown to a caller. The last one was parked last, and its memory is the warmest.
    parked: Vec<V>,
    /// Those that have served a tenant and wait for it. The first one has waited longest.
    kept: VecDeque<(Tenant, V)>,
    in_use: usize,
    making: usize,
    target: usize,
    /// The fewest that were parked since the last look.
    low: usize,
    /// The fewest that were kept since the last look.
    low_kept: usize,
    /// How many of the kept ones are too many.
    spare_kept: usize,
    events: PoolStats,
}

impl<V> Stock<V> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            parked: Vec::new(),
            kept: VecDeque::new(),
            in_use: 0,
            making: 0,
            target: bounds.min_ready,
            low: 0,
            low_kept: 0,
            spare_kept: 0,
            events: PoolStats::default(),
        }
    }

    fn total(&self) -> usize {
        self.parked.len() + self.kept.len() + self.in_use + self.making
    }

    /// A VM for a tenant. Unless it is refused, it counts as in use until [`give_up`](Self::give_up).
    pub(super) fn take(&mut self, tenant: &Tenant) -> Taken<V> {
        if let Some(vm) = self.take_ready(tenant) {
            return Taken::Ready(vm);
        }
        // Somebody has to wait: there should have been more.
        self.low = 0;
        self.target = (self.target * 2).clamp(1, self.bounds.max_ready.max(1));
        self.target = self.target.min(self.bounds.max_ready);
        self.low_kept = 0;
        // One that waits for another tenant makes room.
        let in_the_way =
            (self.total() >= self.bounds.max_total).then(|| self.kept.pop_front()).flatten();
        if self.total() >= self.bounds.max_total && self.making > 0 {
            return Taken::Wait;
        }
        if self.total() >= self.bounds.max_total {
            self.events.refused += 1;
            return Taken::Refused;
        }
        self.events.misses += 1;
        self.in_use += 1;
        Taken::Make(in_the_way.map(|(_, vm)| vm))
    }

    /// A VM for a tenant if one waits, which counts as in use then.
    pub(super) fn take_ready(&mut self, tenant: &Tenant) -> Option<V> {
        let own = self.kept.iter().rposition(|(of, _)| of == tenant);
        let ready = match own.and_then(|at| self.kept.remove(at)) {
            Some((_, vm)) => Some(vm),
            None => self.parked.pop(),
        };
        if ready.is_some() {
            self.low = self.low.min(self.parked.len());
            self.low_kept = self.low_kept.min(self.kept.len());
            self.events.hits += 1;
            self.in_use += 1;
        }
        ready
    }

    /// A VM is not in use any more; it is gone, or about to be kept.
    pub(super) fn give_up(&mut self) {
        self.in_use -= 1;
    }

    /// Keeps a VM for the tenant that it has served. What has to go for it.
    pub(super) fn keep(&mut self, tenant: Tenant, vm: V) -> Option<V> {
        self.kept.push_back((tenant, vm));
        let too_many = self.kept.len() > self.bounds.max_kept;
        too_many.then(|| self.kept.pop_front()).flatten().map(|(_, vm)| vm)
    }

    /// Whether another VM should be parked.
    pub(super) fn wants(&self) -> bool {
        self.parked.len() + self.making < self.target && self.total() < self.bounds.max_total
    }

    /// Whether another VM should be parked. If so, it is being made from now on.
    pub(super) fn begin(&mut self) -> bool {
        let wanted = self.wants();
        self.making += usize::from(wanted);
        wanted
    }

    /// A VM has been made, or could not be.
    pub(super) fn finish(&mut self, vm: Option<V>) {
        self.making -= 1;
        match vm {
            Some(vm) => self.parked.push(vm),
            None => self.events.failed += 1,
        }
    }

    /// Takes a parked VM out that is to be changed, by `finish` given back.
    pub(super) fn rework(&mut self, which: impl Fn(&V) -> bool) -> Option<V> {
        let at = self.parked.iter().position(which)?;
        self.making += 1;
        Some(self.parked.remove(at))
    }

    /// Looks back at the time since the last look: of VMs that nobody needed in it, half are too many.
    pub(super) fn look_back(&mut self) {
        let unneeded = std::mem::replace(&mut self.low, self.parked.len());
        self.target =
            (self.target - (unneeded.min(self.target)).div_ceil(2)).max(self.bounds.min_ready);
        // As many as may be parked are kept as long as the pool is there.
        let unneeded = std::mem::replace(&mut self.low_kept, self.kept.len());
        let above = self.kept.len().saturating_sub(self.bounds.max_ready);
        self.spare_kept = unneeded.div_ceil(2).min(above);
    }

    /// Never more parked VMs than that, whatever was asked for.
    pub(super) fn cap(&mut self, most: usize) {
        self.bounds.max_ready = self.bounds.max_ready.min(most);
        self.bounds.min_ready = self.bounds.min_ready.min(most);
        self.bounds.max_kept = self.bounds.max_kept.min(most);
        self.target = self.target.min(most);
    }

    /// A VM that waits and is too many.
    pub(super) fn surplus(&mut self) -> Option<V> {
        if self.spare_kept > 0 {
            self.spare_kept -= 1;
            // The one that has waited longest.
            return self.kept.pop_front().map(|(_, vm)| vm);
        }
        // The coldest.
        (self.parked.len() > self.target).then(|| self.parked.remove(0))
    }

    /// All VMs that are not in use.
    pub(super) fn clear(&mut self) -> Vec<V> {
        let kept = self.kept.drain(..).map(|(_, vm)| vm);
        self.parked.drain(..).chain(kept).collect()
    }

    pub(super) fn count(&mut self, event: impl FnOnce(&mut PoolStats)) {
        event(&mut self.events);
    }

    pub(super) fn stats(&self) -> PoolStats {
        PoolStats {
            parked: self.parked.len(),
            kept: self.kept.len(),
            in_use: self.in_use,
            target: self.target,
            ..self.events
        }
    }
}

#[cfg(test)]
#[path = "stock_tests.rs"]
mod tests;
