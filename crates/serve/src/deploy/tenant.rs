//! Tenants: what the functions of one share, and nobody else has.

use std::collections::HashMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sandgrain::{Engine, EngineBuilder, Workers};

use super::{DeployError, Share};
use crate::admission::Gate;
use crate::manifest;

/// On whose behalf functions run: an engine, a cache and worker processes of their own.
pub(crate) struct Tenant {
    pub(crate) name: Arc<str>,
    pub(crate) engine: Engine,
    /// The processes that its VMs are in; none if they are in this one.
    pub(crate) workers: Option<Workers>,
    pub(crate) gate: Arc<Gate>,
    /// Its number at the gate.
    pub(crate) number: u64,
    /// Bytes that all of its VMs together may take.
    memory_limit: AtomicU64,
    memory: AtomicU64,
    is_over: AtomicBool,
    /// Workers that were ended for that.
    workers_ended: AtomicU64,
}

/// What a look at a tenant's memory has come to.
#[derive(Debug)]
pub(crate) struct MemoryLook {
    /// Whether more is taken than the tenant may have, if that has changed.
    pub(crate) changed: Option<bool>,
    pub(crate) ended: Option<EndedWorker>,
}

/// A worker process that was ended since its tenant had too much memory.
#[derive(Debug)]
pub(crate) struct EndedWorker {
    pub(crate) process: u32,
    /// Memory that it had to itself.
    pub(crate) bytes: u64,
    /// What its calls have failed with.
    pub(crate) why: String,
}

/// How a server's tenants are set up.
#[derive(Clone, Debug)]
pub(crate) struct TenantSettings {
    pub(crate) engine: EngineBuilder,
    /// Where compiled code is kept, a directory for each tenant; nothing is if there is none.
    pub(crate) state: Option<PathBuf>,
    /// The program that workers are; none to have all VMs in this process.
    pub(crate) worker: Option<PathBuf>,
}

/// The tenants of a server, each once for all of its applications.
pub(crate) struct Tenants {
    settings: TenantSettings,
    gate: Arc<Gate>,
    all: Mutex<HashMap<String, Weak<Tenant>>>,
}

impl Tenants {
    pub(crate) fn new(settings: TenantSettings, most: usize) -> Self {
        // Of those that this process may use.
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { settings, gate: Gate::new(most, cpus), all: Mutex::default() }
    }

    /// The tenant that a manifest describes, as it is or new.
    ///
    /// What it may use stays as it is until the manifest is [served](Tenant::change).
    ///
    /// # Errors
    /// If it cannot be set up.
    pub(crate) fn of(
        &self,
        described: &manifest::Tenant,
        share: &Share,
    ) -> Result<Arc<Tenant>, DeployError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = all.get(&described.name).and_then(Weak::upgrade) {
            return Ok(tenant);
        }
        let mut engine = self.settings.engine.clone();
        engine = match &self.settings.state {
            // Names of tenants are names of files: the manifest's reader has seen to that.
            Some(dir) => engine.cache_dir(dir.join("tenants").join(&described.name)),
            None => engine.without_cache(),
        };
        let tenant = Arc::new(Tenant {
            name: described.name.as_str().into(),
            engine: engine.build().map_err(DeployError::Engine)?,
            workers: self.settings.worker.as_ref().map(Workers::of_program),
            gate: Arc::clone(&self.gate),
            number: self.gate.add_tenant(share.tenant_bounds(described)),
            memory_limit: AtomicU64::new(described.memory),
            memory: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            workers_ended: AtomicU64::new(0),
        });
        all.insert(described.name.clone(), Arc::downgrade(&tenant));
        Ok(tenant)
    }

    /// Requests that functions work on, all tenants' together.
    pub(crate) fn running(&self) -> usize {
        self.gate.running()
    }

    /// All that there are.
    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, tenant| tenant.strong_count() > 0);
        all.values().filter_map(Weak::upgrade).collect()
    }
}

impl Tenant {
    /// It may use what a manifest says, from now on.
    pub(crate) fn change(&self, described: &manifest::Tenant, share: &Share) {
        self.memory_limit.store(described.memory, Ordering::Relaxed);
        self.gate.set_bounds(self.number, share.tenant_bounds(described));
    }

    /// The tenant's workers: their process numbers, sandboxes and bytes of memory that nobody else has.
    pub(crate) fn processes(&self) -> Vec<(u32, usize, u64)> {
        let processes = self.workers.as_ref().map(Workers::processes).unwrap_or_default();
        let with_memory = |(id, sandboxes)| (id, sandboxes, own_memory(id));
        processes.into_iter().map(with_memory).collect()
    }

    /// Bytes that its workers had when they were last looked at.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Whether it has more than half of what it may have, so that it may soon have all of it.
    pub(crate) fn is_near_its_memory(&self) -> bool {
        self.memory() > self.memory_limit.load(Ordering::Relaxed) / 2
    }

    /// Workers that were ended since all of them had too much memory.
    pub(crate) fn workers_ended(&self) -> u64 {
        self.workers_ended.load(Ordering::Relaxed)
    }

    /// Looks how much memory the workers have. While it is more than the tenant may have, no request begins; if it is
    /// far more, which those that run have taken since, [one of them](worker_to_end) is ended. Waits for the workers'
    /// lock, under which one may be starting.
    pub(crate) fn look_at_memory(&self) -> MemoryLook {
        let workers = self.processes();
        let used = sum(&workers);
        let limit = self.memory_limit.load(Ordering::Relaxed);
        let is_over = used > limit;
        self.gate.pause(self.number, is_over);
        // Only now: who sees that it is too much can rely on that no request begins.
        self.memory.store(used, Ordering::Relaxed);
        let changed = self.is_over.swap(is_over, Ordering::Relaxed) != is_over;
        let ended = worker_to_end(&workers, limit).and_then(|(process, bytes)| {
            let why = format!(
                "ended for its tenant's memory quota: {used} bytes are taken, and {limit} are allowed"
            );
            // It may have ended by itself.
            let is_ended = self.workers.as_ref()?.end_process(process, &why);
            is_ended.then_some(EndedWorker { process, bytes, why })
        });
        if ended.is_some() {
            self.workers_ended.fetch_add(1, Ordering::Relaxed);
        }
        MemoryLook { changed: changed.then_some(is_over), ended }
    }
}

fn sum(workers: &[(u32, usize, u64)]) -> u64 {
    workers.iter().map(|(_, _, bytes)| bytes).sum()
}

/// The worker that has to end, and its memory: the one that has most, while all together have more than their tenant
/// may have by more than an eighth. Up to that the tenant only waits: requests may be about to end, and the workers'
/// own memory counts, too.
fn worker_to_end(workers: &[(u32, usize, u64)], limit: u64) -> Option<(u32, u64)> {
    if sum(workers) <= limit.saturating_add(limit / 8) {
        return None;
    }
    let most = workers.iter().max_by_key(|(_, _, bytes)| *bytes);
    most.map(|(process, _, bytes)| (*process, *bytes))
}

/// Memory that a process has to itself; 0 if it is gone, or cannot be looked at, which is said once.
fn own_memory(process: u32) -> u64 {
    static WAS_TOLD: AtomicBool = AtomicBool::new(false);
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        if error.kind() != std::io::ErrorKind::NotFound && !WAS_TOLD.swap(true, Ordering::Relaxed) {
            tracing::error!(
                %error, path,
                "how much memory tenants have cannot be seen, so their memory quotas do not hold"
            );
        }
        String::new()
    });
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::worker_to_end;

    #[test]
    fn the_worker_with_most_memory_ends_where_all_have_an_eighth_too_much() {
        let all = |bytes: [u64; 3]| [(7, 64, bytes[0]), (8, 1, bytes[1]), (9, 0, bytes[2])];
        for (bytes, limit, ended) in [
            ([0, 0, 0], 80, None),
            ([80, 0, 0], 80, None),
            ([30, 40, 20], 80, None),
            ([30, 40, 21], 80, Some((8, 40))),
            ([91, 0, 0], 80, Some((7, 91))),
            ([0, 1, 1000], 80, Some((9, 1000))),
            ([1, u64::MAX / 2, 0], u64::MAX, None),
            ([0, 0, 1], 0, Some((9, 1))),
        ] {
            assert_eq!(worker_to_end(&all(bytes), limit), ended, "{bytes:?} of {limit}");
        }
        assert_eq!(worker_to_end(&[], 0), None);
    }
}
