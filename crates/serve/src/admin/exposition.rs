//! The page that Prometheus reads.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sandgrain::wasi::Capability;

use super::readiness;
use crate::deploy::Function;
use crate::server::Shared;
use crate::telemetry::Failure;
use crate::telemetry::export::Export;
use crate::telemetry::metrics::{Exposition, Histogram};

/// All metrics, as they are now.
pub(super) fn text(shared: &Shared) -> String {
    let mut page = Exposition::default();
    of_server(shared, &mut page);
    let deployments: Vec<_> = shared.slots.iter().map(|slot| slot.deployment()).collect();
    let functions: Vec<_> = deployments
        .iter()
        .flat_map(|deployment| &deployment.functions)
        .map(|function| (labels(function), function))
        .collect();
    of_functions(&functions, &mut page);
    of_tenants(shared, &mut page);
    page.into_text()
}

/// What tells functions apart. All of it is from manifests, which have no quotes in names.
fn labels(function: &Function) -> String {
    let Function { application, tenant, id, .. } = function;
    format!("application=\"{application}\",tenant=\"{tenant}\",faas_name=\"{id}\"")
}

fn of_server(shared: &Shared, page: &mut Exposition) {
    let counts = &shared.counts;
    let started = shared.started as f64 / 1000.0;
    let connections = counts.connections.load(Relaxed);
    page.family("sandgrain_start_time_seconds", "gauge", "Unix time when the server was started.");
    page.value("sandgrain_start_time_seconds", "", started);
    page.family("sandgrain_ready", "gauge", "1 while requests should be sent here.");
    page.value("sandgrain_ready", "", u8::from(readiness::of(shared).is_ready));
    page.family("sandgrain_connections", "gauge", "Connections of clients at the moment.");
    page.value("sandgrain_connections", "", connections);
    for (name, help, value) in [
        (
            "sandgrain_connections_accepted_total",
            "Connections taken.",
            counts.accepted.load(Relaxed),
        ),
        (
            "sandgrain_accept_errors_total",
            "Times that no connection could be taken, for want of descriptors, say.",
            counts.accept_errors.load(Relaxed),
        ),
        (
            "sandgrain_unrouted_requests_total",
            "Requests that no function answers for.",
            counts.unrouted.load(Relaxed),
        ),
        (
            "sandgrain_malformed_requests_total",
            "Requests that cannot be passed on, or read at all.",
            counts.malformed.load(Relaxed),
        ),
        ("sandgrain_reloads_total", "New versions put in place.", counts.reloads.load(Relaxed)),
        (
            "sandgrain_failed_reloads_total",
            "New versions that could not be put in place.",
            counts.failed_reloads.load(Relaxed),
        ),
        (
            "sandgrain_lost_records_total",
            "Records that could not be written.",
            shared.records.lost(),
        ),
        (
            "sandgrain_lost_telemetry_total",
            "Spans and log records that no collector has taken.",
            shared.records.export().map_or(0, Export::lost),
        ),
    ] {
        page.family(name, "counter", help);
        page.value(name, "", value);
    }
}

fn of_functions(functions: &[(String, &Arc<Function>)], page: &mut Exposition) {
    type Value = fn(&Function) -> u64;
    let values: [(&str, &str, &str, Value); 12] = [
        ("faas_invocations_total", "counter", "Requests, those refused included.", |f| {
            f.metrics.requests.load(Relaxed)
        }),
        ("sandgrain_scheduled_total", "counter", "Runs by a schedule.", |f| {
            f.metrics.scheduled.load(Relaxed)
        }),
        ("faas_coldstarts_total", "counter", "Requests for which a VM had to be made.", |f| {
            f.metrics.cold_starts.load(Relaxed)
        }),
        ("faas_timeouts_total", "counter", "Calls that were stopped at their deadline.", |f| {
            f.metrics.failures()[Failure::Deadline as usize]
        }),
        ("sandgrain_vm_exits_total", "counter", "Times that calls left their VM.", |f| {
            f.metrics.exits.load(Relaxed)
        }),
        ("sandgrain_requests_running", "gauge", "Requests that the function works on.", |f| {
            f.seat.counts().0 as u64
        }),
        ("sandgrain_requests_waiting", "gauge", "Requests that wait for their turn.", |f| {
            f.seat.counts().1 as u64
        }),
        ("sandgrain_vms_parked", "gauge", "VMs that wait and that no request has seen.", |f| {
            f.pool().parked as u64
        }),
        ("sandgrain_vms_kept", "gauge", "VMs that wait after a reset.", |f| f.pool().kept as u64),
        ("sandgrain_vms_in_use", "gauge", "VMs that requests have.", |f| f.pool().in_use as u64),
        ("sandgrain_vms_failed_total", "counter", "VMs that could not be made.", |f| {
            f.pool().failed
        }),
        ("sandgrain_vms_replaced_total", "counter", "VMs that could not be kept.", |f| {
            f.pool().replaced
        }),
    ];
    for (name, kind, help, value) in values {
        page.family(name, kind, help);
        for (labels, function) in functions {
            page.value(name, labels, value(function));
        }
    }
    let name = "faas_errors_total";
    page.family(name, "counter", "Requests that were not answered as they should be, by reason.");
    for (labels, function) in functions {
        for (failure, count) in Failure::ALL.iter().zip(function.metrics.failures()) {
            page.value(name, &format!("{labels},reason=\"{}\"", failure.name()), count);
        }
    }
    let name = "sandgrain_denied_total";
    page.family(name, "counter", "Times that the function was denied what it was not granted.");
    for (labels, function) in functions {
        for (capability, count) in Capability::ALL.iter().zip(function.metrics.denials()) {
            page.value(name, &format!("{labels},capability=\"{}\"", capability.name()), count);
        }
    }
    let name = "sandgrain_responses_total";
    page.family(name, "counter", "Answers, by the class of their status.");
    for (labels, function) in functions {
        for (class, count) in function.metrics.statuses().iter().enumerate() {
            page.value(name, &format!("{labels},class=\"{}xx\"", class + 1), count);
        }
    }
    type Times = fn(&Function) -> &Histogram;
    let times: [(&str, &str, Times); 3] = [
        ("faas_invoke_duration_seconds", "From a call's start to its end.", |f| &f.metrics.invoke),
        ("faas_init_duration_seconds", "How long requests waited for a VM.", |f| &f.metrics.init),
        ("sandgrain_queue_duration_seconds", "How long requests waited for their turn.", |f| {
            &f.metrics.wait
        }),
    ];
    for (name, help, histogram) in times {
        page.family(name, "histogram", help);
        for (labels, function) in functions {
            page.histogram(name, labels, &histogram(function).read());
        }
    }
}

fn of_tenants(shared: &Shared, page: &mut Exposition) {
    let tenants = shared.tenants.all();
    let name = "sandgrain_tenant_memory_bytes";
    page.family(name, "gauge", "Memory of a tenant's worker processes.");
    for tenant in &tenants {
        page.value(name, &format!("tenant=\"{}\"", tenant.name), tenant.memory());
    }
    let name = "sandgrain_workers_ended_total";
    page.family(name, "counter", "Worker processes of a tenant's that were ended, by reason.");
    for tenant in &tenants {
        let labels = format!("tenant=\"{}\",reason=\"memory\"", tenant.name);
        page.value(name, &labels, tenant.workers_ended());
    }
}
