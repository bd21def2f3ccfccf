//! What a pool does behind its callers' backs: making VMs, and dropping them.

use super::{Policy, Recipe, Shared};
use crate::error::{Error, Result};
use crate::learned::{Learned, PageSet};
use crate::pool::stock::{Stock, Tenant};
use crate::sandbox::{Sandbox, SandboxBuilder};
use crate::workers::in_background;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the pool looks whether it has more VMs than are needed.
const LOOK_BACK: Duration = Duration::from_secs(1);
/// How long it waits after a VM could not be made, at first and at the most.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// How long after a VM is taken another one is begun, and after it is given back it is dropped. What the kernel does
/// for that cannot be interrupted for some hundred microseconds at a time, and callers, who may need the same
/// CPU, go first.
const COURTESY: Duration = Duration::from_micros(300);
/// Bytes that a VM takes besides its memory: the kernel's, for its structures.
const OVERHEAD: u64 = 128 << 10;

/// A VM that waits, or has waited.
pub(super) struct Parked {
    pub(super) sandbox: Box<Sandbox>,
    /// Of the set of pages that it has touched ahead.
    generation: u32,
}

/// What the thread that makes VMs does next.
enum Task {
    Make,
    /// Has a parked VM touch the pages that are known by now.
    WarmAgain(Parked),
    /// Drops a parked VM that is too many.
    Drop(Parked),
}

/// When that thread does something by itself.
struct Clock {
    /// When it looks whether the pool has more VMs than are needed.
    look_back: Instant,
    /// Until when it makes none, after one could not be made.
    pause: Option<Instant>,
    /// When it makes the first one of those that are wanted.
    begin: Option<Instant>,
}

/// Starts the threads.
pub(super) fn start(
    shared: &Arc<Shared>,
    retired: mpsc::Receiver<Option<Box<Sandbox>>>,
) -> Result<Vec<JoinHandle<()>>> {
    let failed = |error| Error::Host(format!("no thread for a pool: {error}"));
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(name.to_owned()).spawn(run)
    };
    let (maker, reaper) = (Arc::clone(shared), Arc::clone(shared));
    let reaper =
        spawn("sandgrain-reaper", Box::new(move || reaper.reap(&retired))).map_err(failed)?;
    match spawn("sandgrain-maker", Box::new(move || maker.make())) {
        Ok(maker) => Ok(vec![maker, reaper]),
        Err(error) => {
            shared.close();
            Err(failed(error))
        }
    }
}

impl Recipe {
    /// A sandbox as it is at first.
    pub(super) fn build(&self) -> Result<Sandbox> {
        self.configured().build()
    }

    fn build_parked(&self) -> Result<Sandbox> {
        self.configured().build_parked()
    }

    fn configured(&self) -> SandboxBuilder {
        let builder = (self.configure)(self.snapshot.sandbox());
        match &self.workers {
            Some(workers) => builder.workers(workers),
            None => builder,
        }
    }

    /// A sandbox whose first call finds all pages mapped that calls are known to touch.
    fn build_warm(&self, pages: &PageSet) -> Result<Sandbox> {
        let mut sandbox = self.build_parked()?;
        if let Some(warm_up) = &self.warm_up {
            warm_up(&mut sandbox)
                .map_err(|error| Error::Host(format!("the pool's warm-up: {error}")))?;
            if !sandbox.reset()? {
                // What it did cannot be undone.
                sandbox = self.build_parked()?;
            }
        }
        if sandbox.touch(pages)? && !sandbox.reset()? {
            return Err(Error::Host("a sandbox that has done nothing cannot be reset".to_owned()));
        }
        Ok(sandbox)
    }
}

impl Shared {
    /// Makes VMs, and drops some, until the pool is closed.
    fn make(&self) {
        in_background();
        let mut back_off = BACK_OFF[0];
        let mut clock = Clock { look_back: Instant::now() + LOOK_BACK, pause: None, begin: None };
        while let Some(task) = self.wait_for_task(&mut clock) {
            match task {
                Task::Drop(parked) => drop(self.retire(parked.sandbox)),
                Task::WarmAgain(parked) => self.warm_again(parked),
                Task::Make => {
                    let (pages, generation) = self.learned().set();
                    let made = self.make_one(&pages);
                    self.tried(&made);
                    match made {
                        Ok(sandbox) => {
                            self.bound_memory(&sandbox);
                            let sandbox = Box::new(sandbox);
                            self.finish(Some(Parked { sandbox, generation }));
                            back_off = BACK_OFF[0];
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a pool could not make a sandbox");
                            self.finish(None);
                            clock.pause = Some(Instant::now() + back_off);
                            back_off = (back_off * 2).min(BACK_OFF[1]);
                        }
                    }
                }
            }
        }
    }

    /// What is to be done next, once there is something; `None` when the pool is closed. It is looked for and
    /// waited for under one lock, so that no notification gets lost.
    fn wait_for_task(&self, clock: &mut Clock) -> Option<Task> {
        let mut stock = self.stock();
        loop {
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            let now = Instant::now();
            if now >= clock.look_back {
                stock.look_back();
                clock.look_back = now + LOOK_BACK;
            }
            if let Some(parked) = stock.surplus() {
                return Some(Task::Drop(parked));
            }
            clock.pause = clock.pause.filter(|end| now < *end);
            let begin = if stock.wants() {
                let first = *clock.begin.get_or_insert(now + COURTESY);
                Some(clock.pause.unwrap_or(first))
            } else {
                clock.begin = None;
                None
            };
            if begin.is_some_and(|begin| now >= begin) && stock.begin() {
                return Some(Task::Make);
            }
            let generation = self.learned().set().1;
            if let Some(parked) = stock.rework(|parked| parked.generation != generation) {
                return Some(Task::WarmAgain(parked));
            }
            let end = begin.map_or(clock.look_back, |begin| begin.min(clock.look_back));
            let waited = self.wanted.wait_timeout(stock, end.saturating_duration_since(now));
            stock = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes a VM, with the embedder's closures, whose panic is a failure like any other.
    fn make_one(&self, pages: &PageSet) -> Result<Sandbox> {
        let make = AssertUnwindSafe(|| self.recipe.build_warm(pages));
        let panicked = |_| Err(Error::Host("making a pool's sandbox panicked".to_owned()));
        std::panic::catch_unwind(make).unwrap_or_else(panicked)
    }

    /// Has a parked VM touch what has been learned since it was made.
    fn warm_again(&self, mut parked: Parked) {
        let (pages, generation) = self.learned().set();
        match parked.sandbox.touch(&pages).and_then(|_| parked.sandbox.reset()) {
            Ok(true) => {
                parked.generation = generation;
                self.bound_memory(&parked.sandbox);
                self.finish(Some(parked));
            }
            _ => {
                self.finish(None);
                drop(self.retire(parked.sandbox));
            }
        }
    }

    /// Keeps the number of VMs that wait within the pool's memory.
    fn bound_memory(&self, sandbox: &Sandbox) {
        match sandbox.resident_bytes() {
            Ok(bytes) => {
                let most = self.memory / bytes.saturating_add(OVERHEAD);
                self.stock().cap(usize::try_from(most).unwrap_or(usize::MAX));
            }
            Err(error) => {
                tracing::warn!(%error, "a pool cannot tell how much memory a sandbox takes")
            }
        }
    }

    /// Deals with a VM that a caller does not want any more; one that is [retired](Self::retire) may come back. Who must
    /// not wait for another process has a VM that is not reset yet replaced.
    pub(super) fn give_back(
        &self,
        tenant: Tenant,
        mut sandbox: Box<Sandbox>,
        may_wait: bool,
    ) -> Option<Box<Sandbox>> {
        let fit = sandbox.is_alive() && sandbox.is_of(&self.recipe.snapshot);
        let kept = match self.policy {
            Policy::Fresh => false,
            Policy::Keep => fit,
            Policy::Reset => {
                let can = fit && (may_wait || sandbox.resets_at_once());
                can && sandbox.reset().unwrap_or_else(|error| {
                    tracing::warn!(%error, "a sandbox could not be reset");
                    false
                })
            }
        };
        let generation = self.learned().set().1;
        let mut stock = self.stock();
        stock.give_up();
        let out = if kept {
            stock.keep(tenant, Parked { sandbox, generation }).map(|parked| parked.sandbox)
        } else {
            let planned = self.policy == Policy::Fresh;
            stock.count(|events| if planned { events.retired += 1 } else { events.replaced += 1 });
            Some(sandbox)
        };
        self.release(stock);
        self.retire(out?)
    }

    /// Lets go of the stock, whose thread is told if it has another VM to make now: only then, since that is a call of
    /// the kernel's, and whoever is served from the VMs that are kept changes nothing for it.
    pub(super) fn release(&self, stock: MutexGuard<'_, Stock<Parked>>) {
        let wants = stock.wants();
        drop(stock);
        if wants {
            self.wanted.notify_one();
        }
    }

    /// Drops a VM that was taken and turned out to be of no use.
    pub(super) fn replace(&self, parked: Parked) {
        let mut stock = self.stock();
        stock.give_up();
        stock.count(|events| events.replaced += 1);
        self.release(stock);
        drop(self.retire(parked.sandbox));
    }

    fn learned(&self) -> &Learned {
        &self.recipe.snapshot.state().learned
    }

    /// Has a VM dropped by the thread that does that. When it is behind, the VM comes back to be dropped by the caller:
    /// what is on its way out takes memory and descriptors too.
    fn retire(&self, sandbox: Box<Sandbox>) -> Option<Box<Sandbox>> {
        match self.bin.try_send(Some(sandbox)) {
            Ok(()) => None,
            Err(mpsc::TrySendError::Full(left) | mpsc::TrySendError::Disconnected(left)) => left,
        }
    }

    /// Drops VMs until there are no more.
    fn reap(&self, retired: &mpsc::Receiver<Option<Box<Sandbox>>>) {
        in_background();
        while let Ok(first) = retired.recv() {
            // Other callers go first here as well. At the end there are none.
            if first.is_some() {
                thread::sleep(COURTESY);
            }
            for sandbox in std::iter::once(first).chain(retired.try_iter()) {
                let Some(sandbox) = sandbox else { return };
                let curious = self.learned().is_curious();
                drop(sandbox);
                if curious {
                    // It may have taught something.
                    self.wanted.notify_one();
                }
            }
        }
    }

    /// Ends the threads, after the VMs that are on their way out.
    pub(super) fn close(&self) {
        let mut stock = self.stock();
        self.closed.store(true, Ordering::Release);
        let left = stock.clear();
        drop(stock);
        self.wanted.notify_all();
        left.into_iter().for_each(|parked| drop(self.retire(parked.sandbox)));
        // Without the thread there is nothing to end.
        let _ = self.bin.send(None);
    }
}
