//! Looking how much memory tenants have, and holding them to their quotas.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::Shared;
use crate::deploy::Tenant;
use crate::telemetry::records::Audit;

/// How often tenants are looked at that have more than half of what they may have: what each CPU can touch meanwhile is
/// some fifty megabytes.
const PERIOD: Duration = Duration::from_millis(50);
/// The others are looked at once in so many times.
const OTHERS: u32 = 5;

/// Looks until this is dropped, on a thread that may wait and that nobody else has: a look can take as long as a worker
/// takes to start, must not hold up tasks, and must not wait until they make room for it.
pub(super) async fn watch(shared: Arc<Shared>) {
    let (goes_on, ended) = mpsc::channel::<()>();
    let looks = tokio::task::spawn_blocking(move || {
        for round in (0..OTHERS).cycle() {
            // Nothing is ever sent.
            if ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            for tenant in shared.tenants.all() {
                if round == 0 || tenant.is_near_its_memory() {
                    look(&shared, &tenant);
                }
            }
        }
    });
    // A panic in it has been reported by the panic hook.
    let _ = looks.await;
    drop(goes_on);
}

fn look(shared: &Shared, tenant: &Tenant) {
    let look = tenant.look_at_memory();
    if let Some(is_over) = look.changed {
        let event = if is_over { "memory-quota-reached" } else { "memory-quota-kept" };
        shared.records.audit(&Audit {
            event,
            tenant: Some(&tenant.name),
            detail: format!("its VMs take {} bytes", tenant.memory()),
            ..Audit::default()
        });
    }
    if let Some(ended) = look.ended {
        shared.records.audit(&Audit {
            event: "memory-quota-enforced",
            tenant: Some(&tenant.name),
            process: Some(ended.process),
            bytes: Some(ended.bytes),
            detail: ended.why,
            ..Audit::default()
        });
    }
}
