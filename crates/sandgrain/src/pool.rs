//! Pools: sandboxes made ahead of the calls that they are for.
//!
//! Making a VM takes longer than running a small function in it. A pool makes VMs of a snapshot ahead,
//! in a thread of its own, and has each touch the pages that calls are going to touch, so that nothing is
//! left to do for a call but the call.

mod failure;
mod stock;
mod threads;

use crate::error::{BoxError, Error, Result};
use crate::sandbox::{Sandbox, SandboxBuilder};
use crate::snapshot::Snapshot;
use crate::workers::Workers;
use std::fmt;
use std::ops::{Deref, DerefMut, RangeInclusive};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use stock::{Bounds, Stock, Taken, Tenant};
use threads::Parked;

pub use failure::PoolFailure;
pub use stock::PoolStats;

/// What becomes of a VM that has served a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It is dropped: each caller gets a VM that nobody has used before.
    #[default]
    Fresh,
    /// It is made what it was in the snapshot, all memory and all registers, and waits for another call of
    /// the same tenant. Host functions keep what state they have.
    Reset,
    /// It waits as it is for another call of the same tenant.
    Keep,
}

type Configure = dyn Fn(SandboxBuilder) -> SandboxBuilder + Send + Sync;
type WarmUp = dyn Fn(&mut Sandbox) -> Result<(), BoxError> + Send + Sync;

/// How a pool's sandboxes are made.
struct Recipe {
    snapshot: Snapshot,
    workers: Option<Workers>,
    configure: Box<Configure>,
    warm_up: Option<Box<WarmUp>>,
}

/// What a pool is to be.
pub struct PoolBuilder {
    recipe: Recipe,
    policy: Policy,
    bounds: Bounds,
    kept: Option<usize>,
    memory: u64,
}

impl PoolBuilder {
    /// What becomes of a VM that has served a caller. Default: [`Policy::Fresh`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How many VMs wait for callers: the pool keeps as many as the demand asks for, within these bounds.
    /// Default: 1 to 16.
    #[must_use]
    pub fn parked(mut self, count: RangeInclusive<usize>) -> Self {
        (self.bounds.min_ready, self.bounds.max_ready) = count.into_inner();
        self
    }

    /// How many VMs that have served a tenant wait for it at the most, with [`Policy::Reset`] and [`Policy::Keep`]. Those
    /// that are more than may be parked go again when they are not needed. Default: as many as may be parked.
    #[must_use]
    pub fn kept(mut self, most: usize) -> Self {
        self.kept = Some(most);
        self
    }

    /// How many VMs there may be, those in use included. Default: 64, which is also about what a process
    /// should have: the kernel takes longer for everything the more VMs a process has. For many more there are
    /// [worker processes](Self::workers).
    #[must_use]
    pub fn at_most(mut self, total: usize) -> Self {
        self.bounds.max_total = total;
        self
    }

    /// Bytes of memory that VMs may take while they wait. Default: 256 MiB.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Has the VMs in worker processes, some dozens in each, instead of in this one.
    #[must_use]
    pub fn workers(mut self, workers: &Workers) -> Self {
        self.recipe.workers = Some(workers.clone());
        self
    }

    /// What each sandbox is given before it is built: host functions, WASI. Called from the pool's threads.
    #[must_use]
    pub fn configure(
        mut self,
        configure: impl Fn(SandboxBuilder) -> SandboxBuilder + Send + Sync + 'static,
    ) -> Self {
        self.recipe.configure = Box::new(configure);
        self
    }

    /// What each sandbox does once, before it is made what it was and waits for a caller; a call like those
    /// that it is for, say. Not needed for speed as a rule: a pool sees which pages calls touch, and has
    /// them touched ahead without running anything of the guest's.
    #[must_use]
    pub fn warm_up(
        mut self,
        warm_up: impl Fn(&mut Sandbox) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.recipe.warm_up = Some(Box::new(warm_up));
        self
    }

    /// Makes the pool; its first VMs are made in the background.
    ///
    /// # Errors
    /// [`Error::BadCall`] for bounds that contradict each other; [`Error::Host`] without threads for it. What is
    /// wrong with the sandboxes themselves, the first [`Pool::take`] says.
    pub fn build(mut self) -> Result<Pool> {
        self.bounds.max_kept = self.kept.unwrap_or(self.bounds.max_ready);
        let Bounds { min_ready, max_ready, max_total, .. } = self.bounds;
        if min_ready > max_ready || max_ready > max_total || max_total == 0 {
            return Err(Error::BadCall(format!(
                "a pool with {min_ready} to {max_ready} parked VMs and at most {max_total} in all; the first \
                 must not be larger than the second, nor that than the third, nor that be 0"
            )));
        }
        let (most, whose, try_this) = match &self.recipe.workers {
            None => (MAX_TOTAL, "one process", "fewer, or worker processes"),
            Some(_) => (MAX_IN_WORKERS, "with worker processes it", "fewer"),
        };
        if max_total > most {
            return Err(Error::BadCall(format!(
                "a pool of {max_total} VMs; {whose} can have {most} at the most; try: {try_this}"
            )));
        }
        let (bin, retired) = mpsc::sync_channel(MAX_RETIRED);
        let shared = Arc::new(Shared {
            recipe: self.recipe,
            policy: self.policy,
            memory: self.memory,
            stock: Mutex::new(Stock::new(self.bounds)),
            wanted: Condvar::new(),
            finished: Condvar::new(),
            bin,
            closed: std::sync::atomic::AtomicBool::new(false),
            failure: Mutex::default(),
        });
        let threads = threads::start(&shared, retired)?;
        Ok(Pool { shared, threads })
    }
}

/// VMs that wait for the thread that drops them, at the most.
const MAX_RETIRED: usize = 16;

/// More VMs than this no process has use for: each is two descriptors and dozens of mappings.
const MAX_TOTAL: usize = 1000;

/// No machine of today has memory for more.
const MAX_IN_WORKERS: usize = 1_000_000;

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("policy", &self.policy)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

/// Sandboxes of one snapshot, made ahead of the calls that they are for. Dropping it drops those that wait.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What callers and the pool's threads share.
struct Shared {
    recipe: Recipe,
    policy: Policy,
    memory: u64,
    stock: Mutex<Stock<Parked>>,
    /// Tells the thread that makes VMs to look again.
    wanted: Condvar,
    /// Tells callers that a VM has been made, or could not be.
    finished: Condvar,
    /// For the thread that drops VMs.
    bin: mpsc::SyncSender<Option<Box<Sandbox>>>,
    closed: std::sync::atomic::AtomicBool,
    /// That VMs cannot be made, if they cannot.
    failure: Mutex<Option<PoolFailure>>,
}

impl Shared {
    fn stock(&self) -> MutexGuard<'_, Stock<Parked>> {
        // No panic can leave it half changed.
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A VM for a tenant. Where the last one that there may be is just being made, it waits for that.
    fn take(&self, tenant: &Tenant) -> Taken<Parked> {
        let mut stock = self.stock();
        loop {
            match stock.take(tenant) {
                Taken::Wait => {
                    let waited = self.finished.wait(stock);
                    stock = waited.unwrap_or_else(PoisonError::into_inner);
                }
                taken => {
                    self.release(stock);
                    return taken;
                }
            }
        }
    }

    /// A VM has been made, or could not be.
    fn finish(&self, parked: Option<Parked>) {
        self.stock().finish(parked);
        self.finished.notify_all();
    }
}

impl Pool {
    /// Describes a pool of sandboxes of a snapshot.
    #[must_use]
    pub fn builder(snapshot: &Snapshot) -> PoolBuilder {
        PoolBuilder {
            recipe: Recipe {
                snapshot: snapshot.clone(),
                workers: None,
                configure: Box::new(|builder| builder),
                warm_up: None,
            },
            policy: Policy::default(),
            bounds: Bounds { min_ready: 1, max_ready: 16, max_kept: 16, max_total: 64 },
            kept: None,
            memory: 256 << 20,
        }
    }

    /// A sandbox for a tenant: one that waits, or a new one if none does. Until it is dropped it is the
    /// caller's own. With [`Policy::Reset`] and [`Policy::Keep`] a sandbox that has served a tenant never
    /// serves another.
    ///
    /// # Errors
    /// [`Error::Limit`] if there are as many as the pool's bounds allow; otherwise as
    /// [`SandboxBuilder::build`].
    pub fn take(&self, tenant: &str) -> Result<Pooled> {
        let tenant: Tenant = tenant.into();
        let taken = loop {
            match self.shared.take(&tenant) {
                // Gone with a worker.
                Taken::Ready(parked) if !parked.sandbox.is_alive() => self.shared.replace(parked),
                taken => break taken,
            }
        };
        let sandbox = match taken {
            Taken::Ready(parked) => parked.sandbox,
            Taken::Make(in_the_way) => {
                drop(in_the_way);
                let made = self.shared.recipe.build();
                self.shared.tried(&made);
                Box::new(made.inspect_err(|_| self.shared.stock().give_up())?)
            }
            Taken::Wait | Taken::Refused => {
                return Err(Error::Limit {
                    what: "the pool's sandboxes",
                    limit: format!("{}", self.shared.stock().stats().in_use),
                    detail: "all of them are in use".to_owned(),
                });
            }
        };
        Ok(Pooled { pool: Arc::clone(&self.shared), tenant, sandbox: Some(sandbox), is_out: false })
    }

    /// As [`take`](Self::take), if a sandbox waits; `None` if one would have to be made first, which takes a thread a
    /// while. For those who must not be held up, such as the threads of an asynchronous executor.
    #[must_use]
    pub fn take_ready(&self, tenant: &str) -> Option<Pooled> {
        let tenant: Tenant = tenant.into();
        loop {
            let mut stock = self.shared.stock();
            let parked = stock.take_ready(&tenant)?;
            self.shared.release(stock);
            if parked.sandbox.is_alive() {
                let pool = Arc::clone(&self.shared);
                return Some(Pooled { pool, tenant, sandbox: Some(parked.sandbox), is_out: false });
            }
            // Gone with a worker.
            self.shared.replace(parked);
        }
    }

    /// That VMs cannot be made, and why; `None` if the last one could be, or if none has been tried so far. A pool that
    /// parks VMs tries once a second.
    #[must_use]
    pub fn failure(&self) -> Option<PoolFailure> {
        self.shared.failure()
    }

    /// What the pool has, and what has happened so far.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.shared.stock().stats()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.close();
        for thread in self.threads.drain(..) {
            // A panic in it has been reported by the panic hook; there is nothing left to do.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A sandbox of a pool, in a caller's hands. When it is dropped, the pool's [`Policy`] says what becomes of it.
///
/// A handle that [stops its calls](Sandbox::interrupt_handle) stays good for the calls of those who get the same VM
/// later, which are the same tenant's: it should go with this.
pub struct Pooled {
    pool: Arc<Shared>,
    tenant: Tenant,
    /// Taken out when this is dropped.
    sandbox: Option<Box<Sandbox>>,
    /// Whether the pool has counted it out: it is only to be dropped.
    is_out: bool,
}

impl Pooled {
    /// The sandbox, for its caller's last call: with [`Policy::Reset`] it is made what it was along with that, which
    /// spares [worker processes](PoolBuilder::workers) a message and whoever drops this a wait for it. A further call
    /// fails.
    pub fn last_call(&mut self) -> &mut Sandbox {
        let resets = self.pool.policy == Policy::Reset;
        let sandbox = &mut **self;
        if resets {
            sandbox.next_call_is_last();
        }
        sandbox
    }

    /// Gives the sandbox back as dropping this does, but never waits for a worker process, which may take its time, or be
    /// somebody else's by now: for those who must not be held up, such as the threads of an asynchronous executor. A VM that
    /// was not reset with its [last call](Self::last_call) is replaced.
    ///
    /// # Errors
    /// The sandbox where the pool's own threads are behind: it is to be dropped by a thread that may wait.
    pub fn give_back_at_once(mut self) -> Result<(), Self> {
        let Some(sandbox) = self.sandbox.take() else { return Ok(()) };
        self.sandbox = self.pool.give_back(Arc::clone(&self.tenant), sandbox, false);
        self.is_out = true;
        if self.sandbox.is_some() { Err(self) } else { Ok(()) }
    }
}

impl Deref for Pooled {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        self.sandbox
            .as_deref()
            .unwrap_or_else(|| unreachable!("taken out only when this is dropped"))
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Sandbox {
        self.sandbox
            .as_deref_mut()
            .unwrap_or_else(|| unreachable!("taken out only when this is dropped"))
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(sandbox) = self.sandbox.take() else { return };
        if !self.is_out {
            // What comes back is dropped here.
            drop(self.pool.give_back(Arc::clone(&self.tenant), sandbox, true));
        }
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&self.sandbox).finish()
    }
}
