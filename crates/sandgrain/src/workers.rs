//! Worker processes: sandboxes outside of this process, some dozens in each.
//!
//! What the kernel does for a VM takes longer the more VMs its process has, so that many of them are spread
//! over several processes. A worker can do nothing but run VMs: no file can be opened there, no connection
//! made, no program started; it has no descriptors but its sockets and its guests' memory. Host functions,
//! WASI and all that they are granted stay in this process. So a worker is also one wall more, around whatever
//! gets out of a VM into the process that runs it.

mod calls;
#[cfg(test)]
mod hostile_tests;
mod in_call;
mod line;
mod message;
mod process;
mod remote;
mod talk;
#[cfg(test)]
mod tests;
mod watch;
mod window;
mod worker;

use crate::error::{Error, Result};
use crate::learned::PageSet;
use crate::snapshot::Snapshot;
use crate::store::Origin;
pub(crate) use remote::Remote;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use watch::watch;
use window::Rooms;
use worker::{ASKED, Worker};
pub(crate) use worker::{Device, in_background};

/// Sandboxes in a worker at the most, by default: from about so many on, the kernel takes notably longer.
const SANDBOXES_EACH: usize = 64;

/// Worker processes, which sandboxes are [made in](crate::SandboxBuilder::workers). Cheap to clone. They are
/// started as they are needed, and end when they are not, or with the last clone and the last sandbox.
///
/// A worker that ends, or does not do as it is told, takes the sandboxes in it along: their calls fail, also while a
/// guest waits in [`Sandbox::call_async`](crate::Sandbox::call_async), and new ones are made in another.
///
/// ```no_run
/// use sandgrain::{Engine, Module, Pool, Sandbox, Workers};
///
/// fn main() -> sandgrain::Result<()> {
///     // Does not return in a worker, which is this program once more.
///     sandgrain::be_worker_if_asked();
///     let engine = Engine::new()?;
///     let module = Module::new(&engine, br#"(module (func (export "f") (result i32) i32.const 42))"#)?;
///     let snapshot = Sandbox::new(&module)?.snapshot()?;
///     let workers = Workers::of_this_program()?;
///     let pool = Pool::builder(&snapshot).workers(&workers).parked(100..=1000).at_most(2000).build()?;
///     assert_eq!(pool.take("a tenant")?.call::<_, u32>("f", ())?, 42);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Workers {
    inner: Arc<Inner>,
}

struct Inner {
    program: PathBuf,
    sandboxes_each: usize,
    workers: Mutex<Vec<Arc<Worker>>>,
    rooms: Rooms,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A guest that a panic has left is never used again; nothing else behind these locks can be left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves as a worker process and ends, if that is what this program was started for; does nothing if not. To be
/// called first in the `main` of a program that has [workers of itself](Workers::of_this_program).
pub fn be_worker_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == OsStr::new(ASKED)) {
        let ended = process::run();
        // There is nobody to tell but who reads the exit status.
        std::process::exit(i32::from(ended.is_err()));
    }
}

impl Workers {
    /// Workers that are this program once more, which must call [`be_worker_if_asked`] first.
    ///
    /// # Errors
    /// [`Error::Host`] if the kernel does not say where this program is.
    pub fn of_this_program() -> Result<Self> {
        let path = std::env::current_exe().map_err(|error| {
            Error::Host(format!("the path of this program, for its worker processes: {error}"))
        })?;
        Ok(Self::of_program(path))
    }

    /// Workers that are another program: one that calls [`be_worker_if_asked`] first, and was built with the same
    /// release of this library, such as `sandgrain-worker`.
    #[must_use]
    pub fn of_program(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), SANDBOXES_EACH)
    }

    /// Others of the same program, with so many sandboxes in each at the most. Default: 64.
    #[must_use]
    pub fn sandboxes_each(self, most: usize) -> Self {
        Self::new(self.inner.program.clone(), most.max(1))
    }

    fn new(program: PathBuf, sandboxes_each: usize) -> Self {
        let (workers, rooms) = (Mutex::default(), Rooms::default());
        Self { inner: Arc::new(Inner { program, sandboxes_each, workers, rooms }) }
    }

    /// The program that workers are.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.inner.program
    }

    /// The numbers of the processes that there are now, and of the sandboxes in each.
    #[must_use]
    pub fn processes(&self) -> Vec<(u32, usize)> {
        let workers = self.workers();
        let alive = workers.iter().filter(|worker| !worker.is_lost());
        alive.map(|worker| (worker.id(), worker.guests().load(Ordering::Acquire))).collect()
    }

    /// Ends the worker process with this number, if it is [one of these](Self::processes), because it has more memory than
    /// it may have, say: the sandboxes in it are lost, and their calls fail with an [`Error::Host`] that says why. New ones
    /// are made in another. Whether there was such a process that was not lost already.
    pub fn end_process(&self, process: u32, why: &str) -> bool {
        // One that is lost may have given its number to another.
        let is_it = |worker: &&Arc<Worker>| worker.id() == process && !worker.is_lost();
        let worker = self.workers().iter().find(is_it).cloned();
        worker.is_some_and(|worker| worker.kill(why))
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        lock(&self.inner.workers)
    }

    /// A guest of a snapshot, with copies of these pages.
    pub(crate) fn make(&self, snapshot: &Snapshot, pages: &PageSet) -> Result<Remote> {
        let (worker, is_new) = self.with_room(snapshot)?;
        let made = Remote::make(self, Arc::clone(&worker), snapshot, pages);
        if let Err(error) = &made
            && !is_new
            && worker.is_lost()
        {
            // It has ended since it was last asked for something. Nothing of the guest has run: another may have it.
            tracing::debug!(%error, "a sandbox is made in another worker process");
            let (worker, _) = self.with_room(snapshot)?;
            return Remote::make(self, worker, snapshot, pages);
        }
        made
    }

    /// A worker with room for another guest, which is counted from now on, and whether it has just been started.
    fn with_room(&self, snapshot: &Snapshot) -> Result<(Arc<Worker>, bool)> {
        // Locked while one is started: whoever wants another can use the same.
        let mut workers = self.workers();
        workers.retain(|worker| !worker.is_lost());
        let most = self.inner.sandboxes_each;
        let guests = |worker: &Arc<Worker>| worker.guests().load(Ordering::Acquire);
        // The fullest one: so those that are not needed any more get empty.
        let roomy = workers.iter().filter(|worker| guests(worker) < most).max_by_key(|w| guests(w));
        let is_new = roomy.is_none();
        let worker = match roomy {
            Some(worker) => Arc::clone(worker),
            None => {
                let platform = snapshot.state().engine.virtual_machines()?;
                let origin = Origin::here(&*platform.hypervisor);
                let worker = Worker::start(&self.inner.program, most, &platform.device, origin)?;
                let worker = Arc::new(worker);
                if let Err(error) = watch(&worker) {
                    // Then its end is seen when it is asked for something.
                    tracing::warn!(%error, id = worker.id(), "a worker process is not watched");
                }
                workers.push(Arc::clone(&worker));
                worker
            }
        };
        worker.guests().fetch_add(1, Ordering::AcqRel);
        Ok((worker, is_new))
    }

    /// A worker has a guest less. Those without any end, but for one that the next guest can use.
    fn is_left(&self, worker: &Worker) {
        if worker.guests().fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let mut workers = self.workers();
        let all = std::mem::take(&mut *workers);
        let (idle, busy): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|worker| worker.is_lost() || worker.guests().load(Ordering::Acquire) == 0);
        *workers = busy;
        let mut idle = idle.into_iter();
        workers.extend(idle.by_ref().find(|worker| !worker.is_lost()));
        drop(workers);
        // To see the others end takes a moment, in which nobody else has to wait.
        drop(idle);
    }

    fn rooms(&self) -> &Rooms {
        &self.inner.rooms
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("program", &self.inner.program)
            .field("processes", &self.processes())
            .finish_non_exhaustive()
    }
}
