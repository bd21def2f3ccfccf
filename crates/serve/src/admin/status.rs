//! What the status page shows, as JSON.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use serde_json::{Value, json};

use super::readiness;
use crate::deploy::{Deployment, Function};
use crate::manifest::{Executor, Policy};
use crate::server::{Shared, Slot};
use crate::telemetry::Failure;
use crate::telemetry::metrics::{BOUNDS, Distribution};
use crate::telemetry::records::{Recent, unix_millis};

/// A server at one moment. Times are Unix time in milliseconds, durations seconds, sizes bytes.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    started: u64,
    now: u64,
    ready: bool,
    /// What `/readyz` says.
    readiness: String,
    draining: bool,
    connections: usize,
    applications: Vec<Application>,
    failures: Vec<Recent>,
}

#[derive(Serialize)]
struct Application {
    name: String,
    tenant: String,
    version: Option<String>,
    manifest: String,
    hosts: Vec<String>,
    generation: u64,
    deployed: u64,
    last_reload_error: Option<String>,
    workers: Vec<Value>,
    functions: Vec<Value>,
}

/// The server as it is now.
pub(super) fn of(shared: &Shared) -> Status {
    let readiness = readiness::of(shared);
    Status {
        version: env!("CARGO_PKG_VERSION"),
        started: shared.started,
        now: unix_millis(),
        ready: readiness.is_ready,
        readiness: readiness.text,
        draining: shared.is_draining(),
        connections: shared.counts.connections.load(Relaxed),
        applications: shared.slots.iter().map(application).collect(),
        failures: shared.records.recent(),
    }
}

fn application(slot: &Slot) -> Application {
    let deployment = slot.deployment();
    let workers = deployment.tenant.processes().into_iter();
    let workers = workers.map(
        |(pid, sandboxes, memory)| json!({ "pid": pid, "sandboxes": sandboxes, "memory": memory }),
    );
    let functions = deployment.functions.iter().enumerate();
    Application {
        name: deployment.name.to_string(),
        tenant: deployment.tenant.name.to_string(),
        version: deployment.version.clone(),
        manifest: slot.path.display().to_string(),
        hosts: deployment.hosts.clone(),
        generation: deployment.generation,
        deployed: deployment.deployed,
        last_reload_error: slot.error(),
        workers: workers.collect(),
        functions: functions.map(|(at, function)| of_function(&deployment, at, function)).collect(),
    }
}

fn of_function(deployment: &Deployment, at: usize, function: &Function) -> Value {
    let triggers = || deployment.routes.iter().filter(|(_, trigger)| trigger.function == at);
    let routes: Vec<_> = triggers().map(|(route, _)| route.to_string()).collect();
    let is_wagi = triggers().any(|(_, t)| matches!(t.executor, Executor::Wagi { .. }));
    let metrics = &function.metrics;
    let (running, waiting) = function.seat.counts();
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let statuses: BTreeMap<_, _> = classes.into_iter().zip(metrics.statuses()).collect();
    let failures = Failure::ALL.iter().map(|failure| failure.name());
    let errors: BTreeMap<_, _> = failures.zip(metrics.failures()).collect();
    let pool = function.pool();
    json!({
        "id": &*function.id,
        "digest": function.digest,
        "routes": routes,
        "executor": match (is_wagi, function.is_program) {
            (true, _) => "wagi",
            (false, true) => "cron",
            (false, false) => "http",
        },
        "policy": match function.policy { Policy::Fresh => "fresh", Policy::Reset => "reset" },
        "requests": metrics.requests.load(Relaxed),
        "scheduled": metrics.scheduled.load(Relaxed),
        "in_flight": running,
        "queued": waiting,
        "statuses": statuses,
        "errors": errors,
        "duration": distribution(&metrics.invoke.read()),
        "init_duration": distribution(&metrics.init.read()),
        "cold_starts": metrics.cold_starts.load(Relaxed),
        "exits": metrics.exits.load(Relaxed),
        "pool": {
            "parked": pool.parked,
            "kept": pool.kept,
            "in_use": pool.in_use,
            "target": pool.target,
            "hits": pool.hits,
            "misses": pool.misses,
            "refused": pool.refused,
            "failed": pool.failed,
        },
    })
}

fn distribution(read: &Distribution) -> Value {
    let bounds = BOUNDS.iter().map(|bound| json!(bound)).chain([json!("+Inf")]);
    let buckets: Vec<_> =
        bounds.zip(read.cumulative).map(|(le, count)| json!([le, count])).collect();
    json!({ "count": read.count(), "sum": read.sum, "buckets": buckets })
}
