//! How a tenant's VMs are shared out.

#[cfg(test)]
mod tests;

use crate::admission::Bounds;
use crate::manifest::{self, Manifest, Policy};

/// How a tenant's VMs are shared out: so many for requests at a time, whichever of its applications they are for, and
/// for each function of one application so many that wait. Those of all of its applications together are no more than
/// the tenant may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) running: usize,
    /// For each function: how many VMs wait at the least and at the most, and how many there are at the most.
    pub(crate) pools: Vec<PoolShare>,
    /// VMs that wait at the most, in all of these pools.
    parked: usize,
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

/// VMs of an application that wait, used ones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    least: usize,
    most: usize,
}

impl Parked {
    /// What a manifest that is not served yet asks for.
    pub(crate) fn wanted(manifest: &Manifest) -> Self {
        let sum = |count: fn(&manifest::Pool) -> u32| -> usize {
            let pools = manifest.functions.iter().map(|function| &function.pool);
            pools.map(|pool| count(pool) as usize * kinds(pool)).sum()
        };
        Self { least: sum(|pool| pool.parked_min), most: sum(|pool| pool.parked_max) }
    }
}

/// A pool that resets keeps used VMs beside new ones, as many of each.
fn kinds(pool: &manifest::Pool) -> usize {
    match pool.policy {
        Policy::Fresh => 1,
        Policy::Reset => 2,
    }
}

impl Share {
    /// That of a manifest beside other applications, of this tenant and of others: what each says of its tenant, and
    /// how many VMs it parks.
    ///
    /// # Errors
    /// If the tenant's applications park as many VMs as it may have, so that none is left for a request; or if another
    /// one of them says something else about it.
    pub(crate) fn of<'a>(
        manifest: &Manifest,
        others: impl Iterator<Item = (&'a manifest::Tenant, Parked)>,
    ) -> Result<Self, String> {
        let tenant = &manifest.tenant;
        let others: Vec<_> = others.filter(|(of, _)| of.name == tenant.name).collect();
        let quotas = |of: &manifest::Tenant| (of.concurrency, of.queue, of.memory, of.vms);
        if others.iter().any(|(of, _)| quotas(of) != quotas(tenant)) {
            return Err(format!(
                "two applications of the tenant {} give it different quotas; try: the same [tenant] in both, and, if \
                 they are served already, a new start",
                tenant.name
            ));
        }
        let vms = tenant.vms as usize;
        let own = Parked::wanted(manifest);
        let theirs: usize = others.iter().map(|(_, parked)| parked.least).sum();
        let least = own.least + theirs;
        let most = own.most + others.iter().map(|(_, parked)| parked.most).sum::<usize>();
        if least >= vms {
            let beside = match theirs {
                0 => String::new(),
                count => format!(", and other applications of the tenant {} {count}", tenant.name),
            };
            return Err(format!(
                "the functions of {} park at least {} VMs{beside}, used ones included; the tenant may have {vms}, so \
                 none is left for requests; try: vms = {} in [tenant], or a smaller parked_min",
                manifest.application.name,
                own.least,
                least + 1
            ));
        }
        // Parked VMs are for speed, others for requests at all: no more than half is for speed.
        let budget = most.min(least.max(vms / 2)).min(vms - 1);
        let running = (tenant.concurrency as usize).min(vms - budget);
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
        if others.is_empty() && pools.iter().map(|pool| pool.at_most).sum::<usize>() <= vms {
            // Whatever each of them keeps, they are not too many together.
            pools.iter_mut().for_each(|pool| pool.kept = pool.at_most);
        }
        let parked =
            |(pool, function): (&PoolShare, &manifest::Function)| match function.pool.policy {
                Policy::Fresh => pool.parked_max,
                Policy::Reset => (pool.parked_max + pool.kept).min(pool.at_most),
            };
        let parked = pools.iter().zip(&manifest.functions).map(parked).sum();
        Ok(Self { running, pools, parked })
    }

    /// What the application parks that this is served as.
    pub(crate) fn parked(&self) -> Parked {
        Parked { least: self.parked, most: self.parked }
    }

    pub(super) fn tenant_bounds(&self, described: &manifest::Tenant) -> Bounds {
        Bounds { running: self.running, waiting: described.queue as usize }
    }
}
