//! Sandgrain's own ways to start a function, and the floors.

use super::crowd::pool_of;
use super::figures::{Floor, Goal, Statistic};
use super::functions::Function;
use super::in_process;
use super::turns::{Block, Member, Sample};
use crate::floor;
use sandgrain::{Engine, Module, Policy, Pool, PoolBuilder, Result, Sandbox, Snapshot, Workers};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Targets, for a function that does nothing.
const FROM_SNAPSHOT: [Goal; 1] = [(Statistic::Median, 1.25)];
const PARKED: [Goal; 2] = [(Statistic::Median, 2.5), (Statistic::P99, 6.0)];
const RESET: [Goal; 1] = [(Statistic::Median, 2.0)];
const WARM: [Goal; 1] = [(Statistic::Median, 1.2)];

/// For how long VMs that were used go on being dropped after new ones are parked.
const REST: Duration = Duration::from_millis(3);
/// How long to wait for a VM to be parked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever calls.
const TENANT: &str = "bench";

/// What rows are called that are measured in this process, and in workers.
type Names = [&'static str; 2];

pub(super) const FRESH: Names = ["parked, fresh", "parked, fresh, in a worker"];
const CALL_AND_RESET: Names = ["call and reset", "call and reset, in a worker"];
const OF_SNAPSHOT: Names = ["from a snapshot", "from a snapshot, in a worker"];

/// A function's snapshot, and what else its ways start from.
struct Ways {
    function: Arc<Function>,
    module: Module,
    snapshot: Snapshot,
    /// Where VMs are, if not in this process.
    workers: Option<Workers>,
}

impl Ways {
    fn new(engine: &Engine, function: &Arc<Function>) -> Result<Self> {
        let module = Module::new(engine, &function.wasm)?;
        let snapshot = Sandbox::new(&module)?.snapshot()?;
        Ok(Self { function: Arc::clone(function), module, snapshot, workers: None })
    }

    /// The same in worker processes.
    fn in_workers(self, workers: &Workers) -> Self {
        Self { workers: Some(workers.clone()), ..self }
    }

    fn name(&self, names: Names) -> &'static str {
        names[usize::from(self.workers.is_some())]
    }

    fn pool(&self) -> PoolBuilder {
        pool_of(&self.snapshot, self.workers.as_ref())
    }

    fn goals(&self, goals: &'static [Goal]) -> &'static [Goal] {
        // Those are for VMs in the process that calls.
        if self.function.has_targets && self.workers.is_none() { goals } else { &[] }
    }

    /// A VM of the pool's for each sample, that has waited for it and that nobody has used before.
    fn fresh(&self, callers: usize) -> Result<Member> {
        let pool = Arc::new(self.pool().parked(callers..=callers).build()?);
        // The first calls show the pool what calls touch.
        for _ in 0..8 {
            settle(&pool, callers);
            self.function.call(&mut *pool.take(TENANT)?)?;
        }
        quiet(&pool, callers);
        let sample = || -> Sample {
            let (pool, function) = (Arc::clone(&pool), Arc::clone(&self.function));
            Box::new(move || {
                let misses = pool.stats().misses;
                let started = Instant::now();
                let mut sandbox = pool.take(TENANT)?;
                function.call(&mut sandbox)?;
                let taken = started.elapsed();
                drop(sandbox);
                Ok((pool.stats().misses == misses).then_some(taken))
            })
        };
        let samples = (0..callers).map(|_| sample()).collect();
        let mut member = Member::new(self.name(FRESH), Floor::RoundTrip, samples);
        member.goals = self.goals(&PARKED);
        member.settle = Box::new(move || settle(&pool, callers));
        Ok(member)
    }

    /// A pool that has a VM for each caller, used before, and nothing to do but to give it and take it back.
    fn still_pool(&self, policy: Policy, callers: usize) -> Result<Arc<Pool>> {
        let pool = self.pool().policy(policy).parked(callers..=callers);
        let pool = pool.at_most(2 * callers).build()?;
        quiet(&pool, callers);
        let mut sandboxes = Vec::new();
        for _ in 0..callers {
            sandboxes.push(pool.take(TENANT)?);
        }
        for mut sandbox in sandboxes {
            self.function.call(&mut sandbox)?;
        }
        quiet(&pool, callers);
        Ok(Arc::new(pool))
    }

    /// From one call to the next: the call, and giving the VM back.
    fn call_and_give_back(&self, pool: &Arc<Pool>) -> Sample {
        let (pool, function) = (Arc::clone(pool), Arc::clone(&self.function));
        let cycle = move || -> Result<Option<Duration>> {
            let misses = pool.stats().misses;
            let started = Instant::now();
            let mut sandbox = pool.take(TENANT)?;
            function.call(&mut sandbox)?;
            drop(sandbox);
            let taken = started.elapsed();
            Ok((pool.stats().misses == misses).then_some(taken))
        };
        Box::new(move || {
            cycle()?;
            cycle()
        })
    }

    fn reset(&self, callers: usize) -> Result<Member> {
        let pool = self.still_pool(Policy::Reset, callers)?;
        let samples = (0..callers).map(|_| self.call_and_give_back(&pool)).collect();
        let member = Member::new(self.name(CALL_AND_RESET), Floor::RoundTrip, samples);
        Ok(Member { goals: self.goals(&RESET), ..member })
    }

    /// The part of it that a caller waits for.
    fn after_reset(&self) -> Result<Member> {
        let pool = self.still_pool(Policy::Reset, 1)?;
        let function = Arc::clone(&self.function);
        let mut cycle = self.call_and_give_back(&pool);
        let sample: Sample = Box::new(move || {
            cycle()?;
            let started = Instant::now();
            let mut sandbox = pool.take(TENANT)?;
            function.call(&mut sandbox)?;
            Ok(Some(started.elapsed()))
        });
        Ok(Member::new("call after a reset", Floor::RoundTrip, vec![sample]))
    }

    fn keep(&self) -> Result<Member> {
        let pool = self.still_pool(Policy::Keep, 1)?;
        let sample = self.call_and_give_back(&pool);
        Ok(Member::new("kept, with giving back", Floor::RoundTrip, vec![sample]))
    }

    fn warm(&self) -> Result<Member> {
        let mut sandbox = self.snapshot.sandbox().build()?;
        let function = Arc::clone(&self.function);
        let sample = after_its_own(move || {
            let started = Instant::now();
            function.call(&mut sandbox)?;
            Ok(started.elapsed())
        });
        let member = Member::new("warm call", Floor::RoundTrip, vec![sample]);
        Ok(Member { goals: self.goals(&WARM), ..member })
    }

    fn creation_from_nothing(&self) -> Member {
        let (module, function) = (self.module.clone(), Arc::clone(&self.function));
        self.creation("from nothing", move || {
            let started = Instant::now();
            let mut sandbox = Sandbox::new(&module)?;
            function.call(&mut sandbox)?;
            Ok(started.elapsed())
        })
    }

    fn creation_from_snapshot(&self) -> Member {
        let (snapshot, function) = (self.snapshot.clone(), Arc::clone(&self.function));
        let workers = self.workers.clone();
        let member = self.creation(self.name(OF_SNAPSHOT), move || {
            let started = Instant::now();
            let mut builder = snapshot.sandbox();
            if let Some(workers) = &workers {
                builder = builder.workers(workers);
            }
            let mut sandbox = builder.build()?;
            function.call(&mut sandbox)?;
            Ok(started.elapsed())
        });
        Member { goals: self.goals(&FROM_SNAPSHOT), ..member }
    }

    /// Taking the VM down again is not part of the sample.
    fn creation(
        &self,
        name: &'static str,
        mut once: impl FnMut() -> Result<Duration> + Send + 'static,
    ) -> Member {
        Member::new(name, Floor::FreshVm, vec![Box::new(move || once().map(Some))])
    }
}

/// A call is measured in the state in which one of its own kind leaves the machine.
fn after_its_own(mut once: impl FnMut() -> Result<Duration> + Send + 'static) -> Sample {
    Box::new(move || {
        once()?;
        once().map(Some)
    })
}

/// E, for each caller.
pub(super) fn round_trip(callers: usize) -> Result<Member> {
    let floor = floor::Floor::new()?;
    let sample = |_| {
        let mut vm = floor.start()?;
        Ok(after_its_own(move || vm.once()))
    };
    let samples = (0..callers).map(sample).collect::<Result<_>>()?;
    Ok(Member::floor("bare exit and back (E)", Floor::RoundTrip, samples))
}

/// E, but as long after the last one as a call of a parked VM is after whatever came before it.
fn round_trip_after_a_rest() -> Result<Member> {
    let mut vm = floor::Floor::new()?.start()?;
    let sample: Sample = Box::new(move || {
        sleep(REST);
        vm.once().map(Some)
    });
    Ok(Member::new("bare exit, after a rest", Floor::RoundTrip, vec![sample]))
}

/// F.
pub(super) fn fresh_vm() -> Result<Member> {
    let floor = floor::Floor::new()?;
    let sample: Sample = Box::new(move || floor.first_exit().map(Some));
    Ok(Member::floor("fresh VM to first exit (F)", Floor::FreshVm, vec![sample]))
}

/// All that one caller can do, with no VMs around but those of this block.
pub(super) fn every_way(
    engine: &Engine,
    workers: &Workers,
    function: &Arc<Function>,
) -> Result<Block> {
    let ways = Ways::new(engine, function)?;
    let there = Ways::new(engine, function)?.in_workers(workers);
    let mut members = vec![
        round_trip(1)?,
        round_trip_after_a_rest()?,
        ways.warm()?,
        ways.keep()?,
        ways.after_reset()?,
        ways.reset(1)?,
        ways.fresh(1)?,
        there.reset(1)?,
        there.fresh(1)?,
        fresh_vm()?,
        ways.creation_from_snapshot(),
        there.creation_from_snapshot(),
        ways.creation_from_nothing(),
    ];
    members.extend(in_process::members(engine, function)?);
    Ok(Block { function: function.name, callers: 1, parked: 1, members })
}

/// What callers of a pool can do, several at once or with other VMs parked meanwhile.
pub(super) fn parked(
    engine: &Engine,
    workers: Option<&Workers>,
    function: &Arc<Function>,
    callers: usize,
    parked: usize,
) -> Result<Block> {
    let mut ways = Ways::new(engine, function)?;
    if let Some(workers) = workers {
        ways = ways.in_workers(workers);
    }
    let members = vec![round_trip(callers)?, ways.reset(callers)?, ways.fresh(callers)?];
    Ok(Block { function: function.name, callers, parked, members })
}

/// Waits until VMs are parked, and those that were used are gone. If it takes too long, the next samples
/// are misses, and count as such.
pub(crate) fn settle(pool: &Pool, parked: usize) {
    let started = Instant::now();
    while pool.stats().parked < parked && started.elapsed() < PATIENCE {
        sleep(Duration::from_micros(300));
    }
    sleep(REST);
}

/// Waits until VMs are parked and stay so: the pool has nothing more to do. Whether it came to that.
pub(super) fn quiet(pool: &Pool, parked: usize) -> bool {
    let patience = PATIENCE + parked as u32 * Duration::from_millis(50);
    let (started, mut seen) = (Instant::now(), 0);
    while seen < 30 && started.elapsed() < patience {
        seen = if pool.stats().parked == parked { seen + 1 } else { 0 };
        sleep(Duration::from_millis(1));
    }
    seen >= 30
}
