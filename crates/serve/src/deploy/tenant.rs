//! Tenants: what the functions of one share, and nobody else has.

use std::collections::HashMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sandgrain::{Engine, EngineBuilder, Workers};

use super::DeployError;
use crate::admission::{Bounds, Gate};
use crate::manifest::{self, Manifest};

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
    all: Mutex<HashMap<String, (Weak<Tenant>, manifest::Tenant)>>,
}

impl Tenants {
    pub(crate) fn new(settings: TenantSettings, most: usize) -> Self {
        // Of those that this process may use.
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { settings, gate: Gate::new(most, cpus), all: Mutex::default() }
    }

    /// The tenant of a manifest, as it is or new.
    ///
    /// What it may use stays as it is until the manifest is [served](Self::change).
    ///
    /// # Errors
    /// If it cannot be set up, or another application of the same tenant's says something else about it.
    pub(crate) fn of(
        &self,
        manifest: &Manifest,
        is_shared: bool,
    ) -> Result<Arc<Tenant>, DeployError> {
        let described = &manifest.tenant;
        let share = Share::of(manifest).map_err(DeployError::Conflict)?;
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&described.name);
        if let Some((tenant, before)) = known.and_then(|(weak, d)| Some((weak.upgrade()?, d))) {
            let quotas = |tenant: &manifest::Tenant| {
                (tenant.concurrency, tenant.queue, tenant.memory, tenant.vms)
            };
            if is_shared && quotas(before) != quotas(described) {
                return Err(DeployError::Conflict(format!(
                    "two applications of the tenant {} give it different quotas; try: the same [tenant] in both",
                    described.name
                )));
            }
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
        all.insert(described.name.clone(), (Arc::downgrade(&tenant), described.clone()));
        Ok(tenant)
    }

    /// Requests that functions work on, all tenants' together.
    pub(crate) fn running(&self) -> usize {
        self.gate.running()
    }

    /// A manifest's tenant is what the manifest says, from now on.
    pub(crate) fn change(&self, tenant: &Tenant, described: &manifest::Tenant, share: &Share) {
        tenant.memory_limit.store(described.memory, Ordering::Relaxed);
        tenant.gate.set_bounds(tenant.number, share.tenant_bounds(described));
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = all.get_mut(&described.name) {
            before.clone_from(described);
        }
    }

    /// All that there are.
    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (tenant, _)| tenant.strong_count() > 0);
        all.values().filter_map(|(tenant, _)| tenant.upgrade()).collect()
    }
}

impl Tenant {
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

/// How a tenant's VMs are shared out: so many for requests at a time, and for each function so many that wait. All of
/// them together are no more than the tenant may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) running: usize,
    /// For each function: how many VMs wait at the least and at the most, and how many there are at the most.
    pub(crate) pools: Vec<PoolShare>,
}

/// The VMs of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolShare {
    pub(crate) parked_min: usize,
    pub(crate) parked_max: usize,
    pub(crate) running: usize,
    pub(crate) at_most: usize,
    /// VMs that were used and are kept for the next request.
    pub(crate) kept: usize,
}

impl Share {
    /// # Errors
    /// If the functions park as many VMs as the tenant may have, so that none is left for a request.
    pub(crate) fn of(manifest: &Manifest) -> Result<Self, String> {
        let vms = manifest.tenant.vms as usize;
        // A pool that resets keeps used VMs beside new ones, as many of each.
        let kinds = |pool: &manifest::Pool| match pool.policy {
            manifest::Policy::Fresh => 1,
            manifest::Policy::Reset => 2,
        };
        let pools = || manifest.functions.iter().map(|function| &function.pool);
        let sum = |count: fn(&manifest::Pool) -> u32| -> usize {
            pools().map(|pool| count(pool) as usize * kinds(pool)).sum()
        };
        let (least, most) = (sum(|pool| pool.parked_min), sum(|pool| pool.parked_max));
        if least >= vms {
            return Err(format!(
                "the functions of {} park at least {least} VMs, used ones included, and the tenant may have {vms}, \
                 so none is left for requests; try: vms = {} in [tenant], or a smaller parked_min",
                manifest.application.name,
                least + 1
            ));
        }
        // Parked VMs are for speed, others for requests at all: no more than half is for speed.
        let budget = most.min(least.max(vms / 2)).min(vms - 1);
        let running = (manifest.tenant.concurrency as usize).min(vms - budget);
        let pools = manifest.functions.iter().map(|function| {
            let pool = &function.pool;
            let (min, max) = (pool.parked_min as usize, pool.parked_max as usize);
            let spare = (max - min) * (budget - least) / (most - least).max(1);
            let parked_max = if most <= budget { max } else { min + spare };
            let running = running.min(function.limits.concurrency as usize);
            let running = running.min(pool.at_most as usize);
            let at_most = (running + parked_max * kinds(pool)).min(pool.at_most as usize).max(1);
            let parked_max = parked_max.min(at_most);
            let parked_min = min.min(parked_max);
            PoolShare { parked_min, parked_max, running, at_most, kept: parked_max }
        });
        let mut pools: Vec<PoolShare> = pools.collect();
        if pools.iter().map(|pool| pool.at_most).sum::<usize>() <= vms {
            // Whatever each of them keeps, they are not too many together.
            pools.iter_mut().for_each(|pool| pool.kept = pool.at_most);
        }
        Ok(Self { running, pools })
    }

    fn tenant_bounds(&self, described: &manifest::Tenant) -> Bounds {
        Bounds { running: self.running, waiting: described.queue as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::Share;
    use crate::manifest::Manifest;
    use proptest::prelude::*;

    fn manifest(tenant: &str, functions: &[&str]) -> Manifest {
        let mut text =
            format!("spin_manifest_version = 2\n[application]\nname = \"a\"\n[tenant]\n{tenant}\n");
        for (at, keys) in functions.iter().enumerate() {
            text += &format!("[component.c{at}]\nsource = \"x.wasm\"\n{keys}\n");
        }
        Manifest::parse(&text, "app.toml").into_manifest().expect("a good manifest")
    }

    #[test]
    fn by_default_a_function_gets_what_its_pool_says() {
        let share = Share::of(&manifest("", &[""])).unwrap();
        assert_eq!(share.running, 240);
        let pool = share.pools[0];
        assert_eq!((pool.parked_min, pool.parked_max, pool.running, pool.at_most), (1, 16, 64, 64));
    }

    #[test]
    fn a_tenant_that_only_may_park_is_told_so() {
        let error = Share::of(&manifest("vms = 2", &["pool = { parked_min = 2 }"])).unwrap_err();
        assert!(error.contains("vms = 3"), "{error}");
    }

    proptest! {
        #[test]
        fn the_shares_never_are_more_than_the_tenant_may_have(
            vms in 1..300_u32,
            concurrency in 1..300_u32,
            pools in prop::collection::vec((0..20_u32, 0..20_u32, any::<bool>(), 1..50_u32), 1..8),
        ) {
            let keys: Vec<String> = pools
                .iter()
                .map(|(min, more, reset, running)| {
                    let policy = if *reset { "reset" } else { "fresh" };
                    let max = min + more;
                    format!(
                        "pool = {{ policy = \"{policy}\", parked_min = {min}, parked_max = {max}, at_most = {} }}\n\
                         limits = {{ concurrency = {running} }}",
                        max.max(1)
                    )
                })
                .collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let least: u32 = pools.iter().map(|(min, ..)| min).sum();
            prop_assume!(least <= vms);
            let manifest = manifest(&format!("vms = {vms}\nconcurrency = {concurrency}"), &keys);
            let Ok(share) = Share::of(&manifest) else { return Ok(()) };
            let waiting: usize = share
                .pools
                .iter()
                .zip(&pools)
                .map(|(pool, (_, _, reset, _))| pool.parked_max * if *reset { 2 } else { 1 })
                .sum();
            prop_assert!(share.running >= 1 && share.running + waiting <= vms as usize);
            for pool in &share.pools {
                prop_assert!(pool.running >= 1 && pool.parked_min <= pool.parked_max);
                prop_assert!(pool.parked_max <= pool.at_most && pool.kept <= pool.at_most);
            }
            let all: usize = share.pools.iter().map(|pool| pool.at_most).sum();
            let keep_more = share.pools.iter().any(|pool| pool.kept > pool.parked_max);
            prop_assert!(!keep_more || all <= vms as usize);
        }
    }
}
