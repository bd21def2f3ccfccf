//! What functions and tenants may use, and the VMs that are made for them ahead of requests.

use std::time::Duration;

use super::table::{Table, Text};
use crate::report::quoted;

/// What a function may use. The first ten are `sandgrain::Limits`, with the same names and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that each linear memory can grow to.
    pub memory: u64,
    /// Bytes of stack for WebAssembly.
    pub stack: u64,
    /// Bytes of heap for the runtime in the VM.
    pub heap: u64,
    /// How long the function may take for one request; `None` for as long as it likes.
    pub deadline: Option<Duration>,
    /// Tables.
    pub tables: u64,
    /// Elements of each table.
    pub table_elements: u64,
    /// Instances.
    pub instances: u64,
    /// Bytes that one call of a host function passes.
    pub call_bytes: u64,
    /// Bytes of standard output.
    pub stdout: u64,
    /// Bytes of standard error.
    pub stderr: u64,
    /// Bytes of a request's body.
    pub request_body: u64,
    /// Bytes of a response's body.
    pub response_body: u64,
    /// Bytes of the headers of a request, and of those of a response.
    pub header_bytes: u64,
    /// Requests that the function works on at a time.
    pub concurrency: u32,
    /// Requests that wait for their turn.
    pub queue: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let library = sandgrain::Limits::default();
        Self {
            memory: library.memory,
            stack: library.stack,
            heap: library.heap,
            deadline: library.deadline,
            tables: library.tables,
            table_elements: library.table_elements,
            instances: library.instances,
            call_bytes: library.call_bytes,
            stdout: library.stdout,
            stderr: library.stderr,
            request_body: 64 << 20,
            response_body: 64 << 20,
            header_bytes: 64 << 10,
            concurrency: 64,
            queue: 256,
        }
    }
}

/// Limits as a section has them, and elsewhere as `base` has them.
pub(super) fn limits(table: &Table<'_>, mut base: Limits) -> Limits {
    // Those that may be 0 mean then that there is none of it.
    table.size("memory", 1, &mut base.memory);
    table.size("stack", 1, &mut base.stack);
    table.size("heap", 1, &mut base.heap);
    table.time("deadline", &mut base.deadline);
    table.count("tables", 0, &mut base.tables);
    table.count("table_elements", 0, &mut base.table_elements);
    table.count("instances", 1, &mut base.instances);
    table.size("call_bytes", 1, &mut base.call_bytes);
    table.size("stdout", 0, &mut base.stdout);
    table.size("stderr", 0, &mut base.stderr);
    table.size("request_body", 0, &mut base.request_body);
    table.size("response_body", 0, &mut base.response_body);
    table.size("header_bytes", 1, &mut base.header_bytes);
    table.count("concurrency", 1, &mut base.concurrency);
    table.count("queue", 0, &mut base.queue);
    base
}

/// What becomes of a VM after a request: `sandgrain::pool::Policy`, without the one by which a request would see
/// what the one before it left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It is dropped: each request gets a VM that nobody has used before.
    #[default]
    Fresh,
    /// It is made what it was before the first request, and waits for the next one of the same tenant.
    Reset,
}

/// The VMs that are made for a function ahead of requests, as `sandgrain::PoolBuilder` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pool {
    /// What becomes of a VM after a request.
    pub policy: Policy,
    /// How many VMs wait for requests at least.
    pub parked_min: u32,
    /// How many VMs wait for requests at most.
    pub parked_max: u32,
    /// How many VMs there are at most, those in use included.
    pub at_most: u32,
    /// Bytes of memory that VMs may take while they wait.
    pub memory: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            policy: Policy::Fresh,
            parked_min: 1,
            parked_max: 16,
            at_most: 64,
            memory: 256 << 20,
        }
    }
}

/// More VMs than this no pool can have.
pub const MAX_VMS: u32 = 1_000_000;

/// A pool as a section has it, and elsewhere as `base` has it.
pub(super) fn pool(table: &Table<'_>, mut base: Pool) -> Pool {
    if let Some(policy) = table.string("policy") {
        match policy.text {
            "fresh" => base.policy = Policy::Fresh,
            "reset" => base.policy = Policy::Reset,
            "keep" => table.problems.error(
                policy.at,
                format!(
                    "policy in {} is \"keep\", by which a request would find what the one before it left",
                    table.name
                ),
                "policy = \"reset\"",
            ),
            other => table.wrong_value("policy", other, policy.at),
        }
    }
    table.count("parked_min", 0, &mut base.parked_min);
    table.count("parked_max", 0, &mut base.parked_max);
    table.count("at_most", 1, &mut base.at_most);
    table.size("memory", 1, &mut base.memory);
    let Pool { parked_min: min, parked_max: max, at_most, .. } = base;
    let contradict = |keys: &[&str], what: String, advice: String| {
        // With none of these keys here it is the section above that is told.
        if let Some(at) = table.place_of(keys) {
            table.problems.error(at, format!("{} {what}", table.name), advice);
        }
    };
    if min > max {
        contradict(
            &["parked_min", "parked_max"],
            format!("parks at least {min} VMs and at most {max}"),
            format!("parked_max = {min}"),
        );
    }
    if max > at_most {
        contradict(
            &["parked_max", "at_most"],
            format!("parks up to {max} VMs and has at most {at_most}"),
            format!("at_most = {max}, or parked_max = {at_most}"),
        );
    }
    if at_most > MAX_VMS {
        contradict(
            &["at_most"],
            format!("has up to {at_most} VMs; there can be {MAX_VMS}"),
            format!("at_most = {MAX_VMS}"),
        );
    }
    base
}

/// On whose behalf functions run, and what all of them together may use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tenant {
    /// The tenant's name. No VM, snapshot or cache is shared by tenants of different names.
    pub name: String,
    /// The hosts whose requests are for its functions, in lower case. None: all that no other manifest names.
    pub hosts: Vec<String>,
    /// Requests that the tenant's functions work on at a time.
    pub concurrency: u32,
    /// Requests that wait for their turn.
    pub queue: u32,
    /// Bytes of memory that the tenant's VMs may take.
    pub memory: u64,
    /// VMs, parked and in use.
    pub vms: u32,
}

impl Default for Tenant {
    fn default() -> Self {
        let (name, hosts) = (String::new(), Vec::new());
        Self { name, hosts, concurrency: 256, queue: 1024, memory: 4 << 30, vms: 256 }
    }
}

pub(super) fn tenant(table: &Table<'_>, mut base: Tenant) -> Tenant {
    if let Some(name) = table.name_of("name") {
        base.name = name.to_owned();
    }
    base.hosts = hosts(table);
    table.count("concurrency", 1, &mut base.concurrency);
    table.count("queue", 0, &mut base.queue);
    table.size("memory", 1, &mut base.memory);
    table.count("vms", 1, &mut base.vms);
    base
}

fn hosts(table: &Table<'_>) -> Vec<String> {
    let mut hosts = Vec::new();
    for Text { text, at } in table.strings("hosts") {
        let host = text.to_ascii_lowercase();
        let problem = match host_problem(&host) {
            None if hosts.contains(&host) => Some("is there twice"),
            problem => problem,
        };
        match problem {
            None => hosts.push(host),
            Some(problem) => table.problems.error(
                at,
                format!("hosts in {} has {}, which {problem}", table.name, quoted(text)),
                "names as clients ask for them, without a port, such as \"app.example.com\"",
            ),
        }
    }
    hosts
}

/// What is wrong with the name of a host.
fn host_problem(host: &str) -> Option<&'static str> {
    if host.is_empty() || host.len() > 253 {
        return Some("does not have 1 to 253 bytes");
    }
    let is_address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if inner.is_some_and(is_address) {
        return None;
    }
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(allowed)
    };
    (!host.split('.').all(is_label)).then_some("is not the name of a host")
}
