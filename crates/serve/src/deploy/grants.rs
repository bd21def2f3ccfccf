//! What a manifest says, as the library takes it: limits, grants, pools.

use std::fmt::Write as _;

use sandgrain::wasi::{Access, Destination, HttpLimits, Output, WasiConfig};
use sandgrain::{Limits, Policy};

use crate::manifest::{self, Function};

/// The library's limits.
pub(super) fn limits(limits: &manifest::Limits) -> Limits {
    Limits::default()
        .memory(limits.memory)
        .stack(limits.stack)
        .heap(limits.heap)
        .deadline(limits.deadline)
        .tables(limits.tables)
        .table_elements(limits.table_elements)
        .instances(limits.instances)
        .call_bytes(limits.call_bytes)
        .stdout(limits.stdout)
        .stderr(limits.stderr)
}

/// What becomes of a VM after a request.
pub(super) fn policy(policy: manifest::Policy) -> Policy {
    match policy {
        manifest::Policy::Fresh => Policy::Fresh,
        manifest::Policy::Reset => Policy::Reset,
    }
}

/// All that a function is granted but its environment. What it prints is captured.
///
/// # Errors
/// What is wrong with a destination or a directory, and what to do.
pub(super) fn wasi(function: &Function) -> Result<WasiConfig, String> {
    let limits = &function.limits;
    let bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
    // The server holds each body to its own limit, and is to be the one that sees it reached; the guest's own
    // requests are held to the larger one and a little more.
    let bodies = limits.request_body.max(limits.response_body).saturating_add(1 << 20);
    let http = HttpLimits::default().header_bytes(bytes).body_bytes(bodies);
    let captured = || Output::Capture;
    let mut wasi = WasiConfig::new().http_limits(http).stdout(captured()).stderr(captured());
    for directory in &function.directories {
        wasi = wasi.preopen(&directory.host, &directory.guest, Access::ReadOnly);
    }
    for outbound in &function.outbound {
        let destination: Destination = outbound.destination.parse().map_err(|error| {
            format!("allowed_outbound_hosts has {}: {error}", outbound.destination)
        })?;
        if outbound.is_for_http() {
            wasi = wasi.allow_http(destination.clone());
        }
        if outbound.is_for_tcp() {
            wasi = wasi.allow_tcp(destination.clone());
        }
        if outbound.is_for_udp() {
            wasi = wasi.allow_udp(destination);
        }
    }
    wasi.check().map_err(|error| error.to_string())?;
    Ok(wasi)
}

/// What a function is granted, in words; the values of its environment are not told.
pub(super) fn described(function: &Function) -> String {
    let mut text = String::new();
    for (name, _) in &function.environment {
        let _ = write!(text, "env {name}; ");
    }
    for directory in &function.directories {
        let _ = write!(text, "read {} as {}; ", directory.host.display(), directory.guest);
    }
    for outbound in &function.outbound {
        let _ = write!(text, "{:?} {}; ", outbound.scheme, outbound.destination);
    }
    if text.is_empty() { "none".to_owned() } else { text.trim_end_matches("; ").to_owned() }
}
