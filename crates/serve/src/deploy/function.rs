//! A function that is served: its code, its pool of VMs, its place at the gate.

use std::sync::Arc;
use std::time::Instant;

use sandgrain::types::ExternType;
use sandgrain::wasi::WasiConfig;
use sandgrain::{Module, Pool, Pooled, Sandbox};

use super::share::PoolShare;
use super::{Tenant, grants};
use crate::admission::{Bounds, Seat};
use crate::manifest::{self, Executor};
use crate::telemetry::Metrics;
use crate::telemetry::denials::Denials;

/// A function that is served.
pub(crate) struct Function {
    pub(crate) id: Arc<str>,
    pub(crate) application: Arc<str>,
    pub(crate) tenant: Arc<str>,
    /// Of its WebAssembly, in hexadecimal.
    pub(crate) digest: String,
    pub(crate) limits: manifest::Limits,
    pub(crate) policy: manifest::Policy,
    /// Whether it is called as a program; else it handles requests itself.
    pub(crate) is_program: bool,
    /// What it is granted but its environment: a program gets that of its request, and streams.
    pub(crate) wasi: WasiConfig,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) seat: Seat,
    pub(crate) metrics: Arc<Metrics>,
    pool: Arc<Pool>,
    _tenant: Arc<Tenant>,
}

/// A VM for a request, and whether it had to be made.
pub(crate) struct TakenVm {
    pub(crate) sandbox: Pooled,
    pub(crate) is_cold: bool,
}

impl Function {
    /// Makes a function ready.
    ///
    /// # Errors
    /// Why that cannot be, and what to do.
    pub(super) fn make(
        described: &manifest::Function,
        executors: &[&Executor],
        tenant: &Arc<Tenant>,
        share: PoolShare,
        denials: Denials,
    ) -> Result<Self, String> {
        let started = Instant::now();
        let bytes = std::fs::read(&described.source)
            .map_err(|error| format!("{}: {error}", described.source.display()))?;
        let digest = blake3::hash(&bytes).to_hex().to_string();
        let module = Module::new(&tenant.engine, &bytes).map_err(|error| error.to_string())?;
        drop(bytes);
        // One that only runs by a schedule is a program, too.
        let is_program = executors.iter().all(|executor| matches!(executor, Executor::Wagi { .. }));
        let (id, application) = (Arc::clone(&denials.function), Arc::clone(&denials.application));
        let metrics = Arc::clone(&denials.metrics);
        let wasi = grants::wasi(described)?.on_denied(move |denied| denials.add(denied));
        let mut limits = grants::limits(&described.limits);
        if is_program {
            // What it prints is the answer, which the server limits.
            let answer =
                described.limits.header_bytes.saturating_add(described.limits.response_body);
            limits = limits.stdout(answer.max(described.limits.stdout));
        }
        let environment = &described.environment;
        let granted =
            environment.iter().fold(wasi.clone(), |wasi, (name, value)| wasi.env(name, value));
        let sandbox = Sandbox::builder(&module).limits(limits).wasi(granted.clone()).build();
        let sandbox = sandbox.map_err(|error| error.to_string())?;
        if is_program {
            let entrypoints = executors.iter().filter_map(|executor| match executor {
                Executor::Wagi { entrypoint, .. } => Some(entrypoint.as_str()),
                Executor::Http => None,
            });
            entrypoints
                .chain(executors.is_empty().then_some("_start"))
                .try_for_each(|name| check_entrypoint(&module, name))?;
        } else if sandbox.http_handler().is_none() {
            return Err(
                "it exports no wasi:http/incoming-handler; try: executor = { type = \"wagi\" } in its trigger, \
                 if it is a program"
                    .to_owned(),
            );
        }
        let snapshot = sandbox.snapshot().map_err(|error| error.to_string())?;
        drop(sandbox);
        let mut pool = Pool::builder(&snapshot)
            .policy(grants::policy(described.pool.policy))
            .parked(share.parked_min..=share.parked_max)
            .kept(share.kept)
            .at_most(share.at_most)
            .memory(described.pool.memory)
            .configure(move |builder| builder.wasi(granted.clone()));
        if let Some(workers) = &tenant.workers {
            pool = pool.workers(workers);
        }
        let pool = pool.build().map_err(|error| error.to_string())?;
        let bounds = Bounds { running: share.running, waiting: described.limits.queue as usize };
        tracing::info!(
            application = &*application,
            function = described.id,
            compiled = ?module.compile_time(),
            took = ?started.elapsed(),
            "a function is ready"
        );
        Ok(Self {
            id,
            application,
            tenant: Arc::clone(&tenant.name),
            digest,
            limits: described.limits.clone(),
            policy: described.pool.policy,
            is_program,
            wasi,
            environment: described.environment.clone(),
            seat: tenant.gate.seat(tenant.number, bounds),
            metrics,
            pool: Arc::new(pool),
            _tenant: Arc::clone(tenant),
        })
    }

    /// A VM: one that waits, or a new one, made by another thread.
    ///
    /// # Errors
    /// As `Pool::take`.
    pub(crate) async fn take(&self) -> sandgrain::Result<TakenVm> {
        if let Some(sandbox) = self.pool.take_ready(&self.tenant) {
            return Ok(TakenVm { sandbox, is_cold: false });
        }
        let (pool, tenant) = (Arc::clone(&self.pool), Arc::clone(&self.tenant));
        let taken = tokio::task::spawn_blocking(move || pool.take(&tenant)).await;
        let made = taken
            .unwrap_or_else(|error| Err(sandgrain::Error::Host(format!("making a VM: {error}"))));
        Ok(TakenVm { sandbox: made?, is_cold: true })
    }

    /// That no VMs can be made for it, and why, if that is so.
    pub(crate) fn failure(&self) -> Option<sandgrain::PoolFailure> {
        self.pool.failure()
    }

    pub(crate) fn pool(&self) -> sandgrain::PoolStats {
        self.pool.stats()
    }
}

/// Whether a program can be entered by this name.
fn check_entrypoint(module: &Module, name: &str) -> Result<(), String> {
    match module.component_info() {
        Some(info) => {
            let is_run = |path: &[String]| match path {
                [instance, function] => {
                    instance.starts_with("wasi:cli/run@0.2.") && function == "run"
                }
                _ => false,
            };
            if name != "_start" {
                return Err(format!(
                    "entrypoint is {name:?}, and a component that is a program is entered by wasi:cli/run; try: \
                     leaving it out"
                ));
            }
            match info.exports.iter().any(|function| is_run(&function.path)) {
                true => Ok(()),
                false => {
                    Err("it is no program: it exports no wasi:cli/run; try: a trigger without \
                              executor, if it handles requests itself"
                        .to_owned())
                }
            }
        }
        None => match module.export(name) {
            Some(ExternType::Func(ty)) if ty.params.is_empty() && ty.results.is_empty() => Ok(()),
            _ => Err(format!(
                "it exports no function {name:?} without parameters and results; try: building it as a WASI \
                 command, or another entrypoint"
            )),
        },
    }
}
