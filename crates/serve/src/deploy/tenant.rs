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

    /// Looks how much memory the workers have. While it is more than the tenant may have, no request begins. Whether
    /// that has changed.
    pub(crate) fn look_at_memory(&self) -> Option<bool> {
        let used = self.processes().iter().map(|(_, _, bytes)| bytes).sum();
        self.memory.store(used, Ordering::Relaxed);
        let is_over = used > self.memory_limit.load(Ordering::Relaxed);
        let changed = self.is_over.swap(is_over, Ordering::Relaxed) != is_over;
        self.gate.pause(self.number, is_over);
        changed.then_some(is_over)
    }
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
