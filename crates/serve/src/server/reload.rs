//! New versions of what is served, in place of the old ones.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Shared, Sites, Slot, deploy_read};
use crate::deploy::{self, DeployError, Deployment, Share};
use crate::telemetry::records::Audit;

/// Looks at the files of all that is served, and serves what has changed.
pub(super) async fn watch(shared: Arc<Shared>, period: Duration) {
    let mut clock = tokio::time::interval(period);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if !shared.is_draining() {
            reload(&shared, false).await;
        }
    }
}

/// Makes new deployments of those manifests that have changed, or of all, by another thread; requests go on meanwhile.
/// What is wrong with those that cannot be served.
pub(super) async fn reload(shared: &Arc<Shared>, all: bool) -> Vec<DeployError> {
    let shared = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || {
        let _one = shared.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = shared.slots.iter();
        slots.filter_map(|slot| reload_slot(&shared, slot, all).err()).collect()
    });
    done.await.unwrap_or_else(|error| {
        vec![DeployError::Conflict(format!("a reload was broken off: {error}"))]
    })
}

fn reload_slot(shared: &Shared, slot: &Slot, even_so: bool) -> Result<(), DeployError> {
    if !even_so && slot.files().are_unchanged() {
        return Ok(());
    }
    let (files, read) = deploy::read(&slot.path);
    let before = std::mem::replace(&mut *slot.files(), files.clone());
    if !even_so && files.are_as(&before) {
        return Ok(());
    }
    let current = slot.deployment();
    let (metrics, records) = (&shared.metrics, &shared.records);
    let generation = current.generation + 1;
    let made = read
        .and_then(|read| {
            let others = others(shared, slot);
            let parked = others.iter().map(|other| (&other.quotas.0, other.quotas.1.parked()));
            let share = Share::of(&read.manifest, parked).map_err(DeployError::Conflict)?;
            deploy_read(read, share, &shared.tenants, metrics, records, generation)
        })
        .and_then(|made| put_in_place(shared, slot, made));
    let mut error = slot.error.lock().unwrap_or_else(PoisonError::into_inner);
    let audit = |event, detail| {
        records.audit(&Audit {
            event,
            application: Some(&current.name),
            tenant: Some(&current.tenant.name),
            detail,
            ..Audit::default()
        });
    };
    match made {
        Ok(()) => {
            shared.counts.reloads.fetch_add(1, Ordering::Relaxed);
            *error = None;
            audit("reload", format!("generation {generation}"));
            Ok(())
        }
        Err(failed) => {
            let text = failed.to_string();
            shared.counts.failed_reloads.fetch_add(1, Ordering::Relaxed);
            tracing::error!(error = %text, "a new version is not served; the old one goes on");
            audit("reload-failed", text.clone());
            *error = Some(text);
            Err(failed)
        }
    }
}

/// The applications that are served beside that of a slot.
fn others(shared: &Shared, slot: &Slot) -> Vec<Arc<Deployment>> {
    let others = shared.slots.iter().filter(|other| !std::ptr::eq(*other, slot));
    others.map(Slot::deployment).collect()
}

/// Has new requests go to a new deployment. Requests under way go on with the old one, whose VMs end with the last
/// of them.
fn put_in_place(shared: &Shared, slot: &Slot, made: Deployment) -> Result<(), DeployError> {
    let made = Arc::new(made);
    let mut all = others(shared, slot);
    if let Some(same) = all.iter().find(|other| other.name == made.name) {
        return Err(DeployError::Conflict(format!(
            "two applications are called {}; try: another name in one of them",
            same.name
        )));
    }
    all.push(Arc::clone(&made));
    let sites = Sites::of(&all)?;
    *slot.deployment.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&made);
    *shared.sites.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sites);
    let (described, share) = &made.quotas;
    made.tenant.change(described, share);
    // The counts of functions that are gone.
    shared.metrics.retain(&made.name, &made.functions);
    Ok(())
}
