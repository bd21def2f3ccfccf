//! Whether requests should be sent here.
//!
//! Not while the server is about to end; nor while no function can have VMs, or the host's own failure keeps those of
//! several tenants from it. Where it is one tenant's, the others' requests are not to be lost for that: then it is only
//! said. A function that traps, or a tenant that is at a quota of its own, has nothing to do with it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use crate::deploy::Function;
use crate::server::{Shared, Slot};

/// VMs of a function that could not be made, one after the other, before it counts. The second one is tried within
/// milliseconds.
const TIMES: u64 = 3;
/// How long after the last one it counts. Where VMs are parked another one is tried every second. Where none are, only
/// requests have one tried, of which there are to be some again.
const LASTS: Duration = Duration::from_secs(60);

/// Whether they should, and why not.
pub(super) struct Readiness {
    pub(super) is_ready: bool,
    /// What `/readyz` says.
    pub(super) text: String,
}

/// A function of which no VMs can be made.
struct Failing {
    /// Its application and its id.
    name: String,
    tenant: String,
    count: u64,
    error: String,
    is_hosts: bool,
}

/// A server's, as it is now.
pub(super) fn of(shared: &Shared) -> Readiness {
    if shared.is_leaving() {
        return Readiness { is_ready: false, text: "the server is about to end\n".to_owned() };
    }
    let deployments: Vec<_> = shared.slots.iter().map(Slot::deployment).collect();
    let functions = || deployments.iter().flat_map(|deployment| &deployment.functions);
    let failing: Vec<_> = functions().filter_map(|function| failing(function)).collect();
    readiness(functions().count(), &failing)
}

fn failing(function: &Function) -> Option<Failing> {
    let failure = function.failure()?;
    counts(failure.count, failure.last.elapsed()).then(|| Failing {
        name: format!("{}/{}", function.application, function.id),
        tenant: function.tenant.to_string(),
        count: failure.count,
        error: failure.error,
        is_hosts: failure.is_hosts,
    })
}

fn counts(count: u64, since: Duration) -> bool {
    count >= TIMES && since < LASTS
}

/// That of a server with so many functions.
fn readiness(functions: usize, failing: &[Failing]) -> Readiness {
    if failing.is_empty() {
        return Readiness { is_ready: true, text: "ok\n".to_owned() };
    }
    let of_host = failing.iter().filter(|function| function.is_hosts);
    let tenants: BTreeSet<&str> = of_host.map(|function| &*function.tenant).collect();
    let is_ready = failing.len() < functions && tenants.len() < 2;
    let mut text = match is_ready {
        true => "ok, but there are no VMs for some functions\n".to_owned(),
        false => "there are no VMs for functions\n".to_owned(),
    };
    for Failing { name, tenant, count, error, .. } in failing {
        let _ = writeln!(text, "{name} of the tenant {tenant}, {count} in a row: {error}");
    }
    Readiness { is_ready, text }
}

#[cfg(test)]
mod tests {
    use super::{Failing, LASTS, TIMES, counts, readiness};
    use std::time::Duration;

    /// A failing function of a tenant's, by the host's fault or not.
    fn failing(&(tenant, is_hosts): &(&str, bool)) -> Failing {
        Failing {
            name: format!("shop-{tenant}/api"),
            tenant: tenant.to_owned(),
            count: 7,
            error: "no descriptors".to_owned(),
            is_hosts,
        }
    }

    #[test]
    fn what_fails_now_and_several_times_counts() {
        assert!(
            counts(TIMES, Duration::ZERO) && counts(u64::MAX, LASTS - Duration::from_millis(1))
        );
        assert!(!counts(TIMES - 1, Duration::ZERO) && !counts(TIMES, LASTS));
    }

    #[test]
    fn a_server_is_ready_unless_no_function_has_vms_or_the_host_fails_several_tenants() {
        /// Functions, those that fail (of which tenant, by the host's fault or not), whether the server is ready.
        type Case = (usize, &'static [(&'static str, bool)], bool);
        let cases: [Case; 10] = [
            (0, &[], true),
            (3, &[], true),
            // One tenant's affair, whatever it is.
            (3, &[("a", true)], true),
            (3, &[("a", true), ("a", true)], true),
            (3, &[("a", false), ("b", false)], true),
            (3, &[("a", true), ("b", false)], true),
            // The host's, since others have it, too.
            (3, &[("a", true), ("b", true)], false),
            // There is nothing left to send requests for.
            (1, &[("a", false)], false),
            (2, &[("a", true), ("a", false)], false),
            (3, &[("a", false), ("b", false), ("c", false)], false),
        ];
        for (functions, fail, is_ready) in cases {
            let fail: Vec<_> = fail.iter().map(failing).collect();
            let said = readiness(functions, &fail);
            assert_eq!(said.is_ready, is_ready, "{functions}: {}", said.text);
            assert_eq!(said.text.starts_with("ok"), is_ready);
            assert_eq!(said.text.lines().count(), 1 + fail.len());
            for function in &fail {
                let line =
                    format!("{} of the tenant {}, 7 in a row", function.name, function.tenant);
                assert!(said.text.contains(&line), "{}", said.text);
            }
        }
    }
}
