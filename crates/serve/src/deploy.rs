//! Deployments: a manifest's functions, compiled, with a pool of VMs each.

mod files;
mod function;
mod grants;
mod share;
mod tenant;

pub(crate) use files::Files;
pub(crate) use function::{Function, TakenVm};
pub(crate) use share::{Parked, Share};
pub(crate) use tenant::{Tenant, TenantSettings, Tenants};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::check::check_seen;
use crate::manifest::{CronTrigger, HttpTrigger, Manifest};
use crate::routes::Routes;
use crate::telemetry::Metrics;
use crate::telemetry::denials::Denials;
use crate::telemetry::records::{Audit, Records, unix_millis};

/// Why an application is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The manifest has errors, or what it names is not there: the report.
    #[error("{0}")]
    Manifest(String),
    /// A function cannot be made ready.
    #[error("the function {function} of {manifest} cannot be served: {problem}")]
    Function {
        /// Its id.
        function: String,
        /// The manifest's path.
        manifest: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
    /// What functions run on cannot be had: no hypervisor, say.
    #[error("{0}")]
    Engine(#[source] sandgrain::Error),
    /// Two applications want the same requests, or one wants more than there is.
    #[error("{0}")]
    Conflict(String),
}

/// An application as it is served at the moment.
pub(crate) struct Deployment {
    pub(crate) name: Arc<str>,
    pub(crate) version: Option<String>,
    /// The names of hosts whose requests are its own; none for all that are nobody else's.
    pub(crate) hosts: Vec<String>,
    pub(crate) tenant: Arc<Tenant>,
    /// What the manifest says of its tenant, and how that is shared out.
    pub(crate) quotas: (crate::manifest::Tenant, Share),
    pub(crate) functions: Vec<Arc<Function>>,
    pub(crate) routes: Routes<HttpTrigger>,
    pub(crate) schedules: Vec<CronTrigger>,
    /// 1 for the first, and one more for each that took its place.
    pub(crate) generation: u64,
    /// Unix time in milliseconds.
    pub(crate) deployed: u64,
}

/// Counts by application and function, which outlive deployments.
#[derive(Debug, Default)]
pub(crate) struct AllMetrics(Mutex<HashMap<(String, String), Arc<Metrics>>>);

impl AllMetrics {
    fn of(&self, application: &str, function: &str) -> Arc<Metrics> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry((application.to_owned(), function.to_owned())).or_default())
    }

    /// Forgets all that are of an application's functions other than these.
    pub(crate) fn retain(&self, application: &str, functions: &[Arc<Function>]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, id), _| of != application || functions.iter().any(|f| *f.id == **id));
    }
}

/// A manifest that has been read, and what it was read from.
pub(crate) struct Read {
    pub(crate) manifest: Manifest,
    pub(crate) path: PathBuf,
}

/// What a server is given to serve: a manifest, or a program by itself; or [`DeployError::Manifest`]. With the files
/// that it is made from, each as it was before it was read: what changes meanwhile has changed at the next look, too.
pub(crate) fn read(path: &Path) -> (Files, Result<Read, DeployError>) {
    let mut files = Files::of(path);
    let report = match is_wasm(path) {
        true => Manifest::of_program(path),
        false => check_seen(path, |manifest| {
            manifest.functions.iter().for_each(|function| files.add(&function.source));
        }),
    };
    let read = match report.into_manifest() {
        Ok(manifest) => Ok(Read { manifest, path: path.to_owned() }),
        Err(report) => Err(DeployError::Manifest(report.to_string())),
    };
    (files, read)
}

/// Whether a file is WebAssembly, by its first four bytes.
fn is_wasm(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    is_file
        && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"\0asm"
}

/// Makes a deployment: compiles what is not compiled yet, makes snapshots and pools. It takes as long as that takes,
/// and a thread.
///
/// # Errors
/// [`DeployError`]; then nothing has changed.
pub(crate) fn deploy(
    read: Read,
    tenant: &Arc<Tenant>,
    share: Share,
    metrics: &AllMetrics,
    records: &Arc<Records>,
    generation: u64,
) -> Result<Deployment, DeployError> {
    let Read { manifest, path } = read;
    let name: Arc<str> = manifest.application.name.as_str().into();
    let mut functions = Vec::new();
    for (at, described) in manifest.functions.iter().enumerate() {
        let triggers = manifest.routes.iter().map(|(_, trigger)| trigger);
        let executors: Vec<_> = triggers
            .filter(|trigger| trigger.function == at)
            .map(|trigger| &trigger.executor)
            .collect();
        let denials = Denials {
            application: Arc::clone(&name),
            tenant: Arc::clone(&tenant.name),
            function: described.id.as_str().into(),
            metrics: metrics.of(&name, &described.id),
            records: Arc::clone(records),
            told: Mutex::default(),
        };
        let made = Function::make(described, &executors, tenant, share.pools[at], denials);
        let function = made.map_err(|problem| DeployError::Function {
            function: described.id.clone(),
            manifest: path.clone(),
            problem,
        })?;
        functions.push(Arc::new(function));
    }
    for (function, described) in functions.iter().zip(&manifest.functions) {
        records.audit(&Audit {
            event: "deploy",
            application: Some(&name),
            tenant: Some(&tenant.name),
            function: Some(&function.id),
            digest: Some(&function.digest),
            detail: format!("generation {generation}; grants: {}", grants::described(described)),
            ..Audit::default()
        });
    }
    Ok(Deployment {
        name,
        version: manifest.application.version,
        hosts: manifest.tenant.hosts.clone(),
        tenant: Arc::clone(tenant),
        quotas: (manifest.tenant, share),
        functions,
        routes: manifest.routes,
        schedules: manifest.schedules,
        generation,
        deployed: unix_millis(),
    })
}
