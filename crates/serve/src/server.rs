//! The server: listeners, connections, deployments and their replacement, the end.

mod accept;
mod connection;
mod memory;
mod reload;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use sandgrain::EngineBuilder;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin;
use crate::cron;
use crate::deploy::{
    self, AllMetrics, DeployError, Deployment, Files, Parked, Share, TenantSettings, Tenants,
};
use crate::telemetry::export::Export;
use crate::telemetry::records::{Audit, RecordTarget, Records, unix_millis};

/// How a server is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Where requests are taken.
    pub listen: SocketAddr,
    /// Where those who run the server look: health, metrics, the status page. Nowhere if there is none. It has no
    /// access control of its own.
    pub admin: Option<SocketAddr>,
    /// The engine that functions run on; each tenant gets one of its own.
    pub engine: EngineBuilder,
    /// Where compiled code is kept, apart for each tenant; nothing is if there is none.
    pub state: Option<PathBuf>,
    /// The program that worker processes are, which calls `sandgrain::be_worker_if_asked` first. `None` has all VMs in
    /// this process, with one wall less around each tenant.
    pub worker: Option<PathBuf>,
    /// Where records go.
    pub records: RecordTarget,
    /// Whether each request has a record.
    pub accesses: bool,
    /// The URL of a collector that takes traces and logs by OTLP over HTTP, below which `/v1/traces` and `/v1/logs` are.
    pub otlp: Option<String>,
    /// Requests that functions work on at a time, all tenants' together.
    pub concurrency: usize,
    /// Connections at a time. More wait to be accepted.
    pub connections: usize,
    /// How long a client may take for a request's headers, and stay without one.
    pub header_timeout: Duration,
    /// How long it may take for the next piece of a request's body, and to take the next piece of an answer.
    pub body_timeout: Duration,
    /// How long a request may wait for its turn.
    pub queue_timeout: Duration,
    /// How long requests under way may take to end once the server is told to.
    pub drain_timeout: Duration,
    /// How often files are looked at for changes; never if there is none.
    pub watch: Option<Duration>,
}

impl Settings {
    /// The defaults: requests at 127.0.0.1:3000, no admin port, VMs in this process, no files kept.
    #[must_use]
    pub fn new(engine: EngineBuilder) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            admin: None,
            engine,
            state: None,
            worker: None,
            records: RecordTarget::Stdout,
            accesses: true,
            otlp: None,
            concurrency: 1024,
            connections: 16_384,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            watch: Some(Duration::from_secs(1)),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An application cannot be served.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// An address cannot be listened at.
    #[error(
        "cannot listen at {address}: {source}; try: another address, or ending what listens there"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing can be sent to the collector that was named.
    #[error("the collector {0}")]
    Collector(String),
    /// Records cannot be written.
    #[error("records cannot be written: {0}; try: another file for them")]
    Records(std::io::Error),
}

/// Counts of the server as a whole.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    /// Requests that no function is there for.
    pub(crate) unrouted: AtomicU64,
    /// Requests that are none that could be passed on.
    pub(crate) malformed: AtomicU64,
    pub(crate) reloads: AtomicU64,
    pub(crate) failed_reloads: AtomicU64,
}

/// A manifest that is served, and what has become of it.
pub(crate) struct Slot {
    pub(crate) path: PathBuf,
    pub(crate) deployment: Mutex<Arc<Deployment>>,
    /// Why its last change is not served.
    pub(crate) error: Mutex<Option<String>>,
    /// Its files as they were when it was last deployed, or that was tried.
    files: Mutex<Files>,
}

impl Slot {
    pub(crate) fn deployment(&self) -> Arc<Deployment> {
        Arc::clone(&self.deployment.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Which application answers for which host.
#[derive(Default)]
pub(crate) struct Sites {
    by_host: HashMap<String, Arc<Deployment>>,
    other: Option<Arc<Deployment>>,
}

impl Sites {
    /// # Errors
    /// If two applications want the same host.
    fn of(deployments: &[Arc<Deployment>]) -> Result<Self, DeployError> {
        let mut sites = Self::default();
        let conflict = |what: String, a: &Deployment, b: &Deployment| {
            DeployError::Conflict(format!(
                "the applications {} and {} both answer for {what}; try: hosts in the [tenant] of one of them",
                a.name, b.name
            ))
        };
        for deployment in deployments {
            for host in &deployment.hosts {
                let before = sites.by_host.insert(host.clone(), Arc::clone(deployment));
                if let Some(before) = before {
                    return Err(conflict(host.clone(), &before, deployment));
                }
            }
            if deployment.hosts.is_empty()
                && let Some(before) = sites.other.replace(Arc::clone(deployment))
            {
                return Err(conflict("all other hosts".to_owned(), &before, deployment));
            }
        }
        Ok(sites)
    }

    /// The application for a host, as a request names it.
    pub(crate) fn find(&self, host: &str) -> Option<&Arc<Deployment>> {
        if self.by_host.is_empty() {
            return self.other.as_ref();
        }
        let name = match host.rsplit_once(':') {
            // The colon of an IPv6 address is within brackets.
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        self.by_host.get(&name.to_ascii_lowercase()).or(self.other.as_ref())
    }
}

/// How far a server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// It serves, and says that it will not for long.
    Leaving,
    /// It takes no more requests; those under way go on.
    Draining,
}

/// What all parts of a server share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// Where requests are taken.
    pub(crate) address: SocketAddr,
    pub(crate) slots: Vec<Slot>,
    sites: RwLock<Arc<Sites>>,
    pub(crate) tenants: Tenants,
    pub(crate) metrics: AllMetrics,
    pub(crate) records: Arc<Records>,
    pub(crate) counts: Counts,
    /// Unix time in milliseconds.
    pub(crate) started: u64,
    phase: watch::Sender<Phase>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

impl Shared {
    pub(crate) fn sites(&self) -> Arc<Sites> {
        Arc::clone(&self.sites.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is about to end, and others should be sent elsewhere; it may still take requests.
    pub(crate) fn is_leaving(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    /// Whether it takes no more requests.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() == Phase::Draining
    }
}

/// A server that runs. To drop it ends it at once.
pub struct Server {
    shared: Arc<Shared>,
    admin: Option<SocketAddr>,
    connections: tokio::task::JoinHandle<()>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Starts to serve manifests, or programs by themselves. Returns when all functions are ready and connections are
    /// accepted. To be called in a multi-threaded tokio runtime with time and I/O.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(settings: Settings, paths: &[PathBuf]) -> Result<Self, StartError> {
        let export = settings.otlp.as_deref().map(Export::start).transpose();
        let export = export.map_err(StartError::Collector)?;
        let records = Records::start(&settings.records, settings.accesses, export);
        let records = Arc::new(records.map_err(StartError::Records)?);
        // Before anything is compiled: a mistake here should not take minutes to be told.
        let listener = listen(settings.listen).await?;
        let admin_listener = match settings.admin {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let tenants = Tenants::new(
            TenantSettings {
                engine: settings.engine.clone(),
                state: settings.state.clone(),
                worker: settings.worker.clone(),
            },
            settings.concurrency,
        );
        let paths = paths.to_vec();
        let made = tokio::task::spawn_blocking(move || {
            let metrics = AllMetrics::default();
            let deployed = deploy_all(&paths, &tenants, &metrics, &records);
            (deployed, paths, tenants, metrics, records)
        });
        let (deployed, paths, tenants, metrics, records) = match made.await {
            Ok(made) => made,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let (deployments, files): (Vec<_>, Vec<_>) = deployed?.into_iter().unzip();
        let sites = Sites::of(&deployments)?;
        let slots = paths.into_iter().zip(deployments).zip(files);
        let slots = slots.map(|((path, deployment), files)| Slot {
            path,
            deployment: Mutex::new(deployment),
            error: Mutex::default(),
            files: Mutex::new(files),
        });
        let failed = |source| StartError::Listen { address: settings.listen, source };
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            settings,
            address,
            slots: slots.collect(),
            sites: RwLock::new(Arc::new(sites)),
            tenants,
            metrics,
            records,
            counts: Counts::default(),
            started: unix_millis(),
            phase: watch::Sender::new(Phase::Serving),
            reloading: Mutex::new(()),
        });
        let admin_address = admin_listener.as_ref().and_then(|l| l.local_addr().ok());
        let connections = tokio::spawn(accept::run(listener, Arc::clone(&shared)));
        let mut tasks = JoinSet::new();
        if let Some(listener) = admin_listener {
            tasks.spawn(admin::run(listener, Arc::clone(&shared)));
        }
        tasks.spawn(cron::run(Arc::clone(&shared)));
        tasks.spawn(memory::watch(Arc::clone(&shared)));
        if let Some(period) = shared.settings.watch {
            tasks.spawn(reload::watch(Arc::clone(&shared), period));
        }
        shared.records.audit(&Audit {
            event: "start",
            detail: format!("listening at {address}"),
            ..Audit::default()
        });
        Ok(Self { shared, admin: admin_address, connections, tasks })
    }

    /// Where requests are taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Where those who run the server look.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Serves the manifests as they are now. Those with errors, or whose functions cannot be made ready, go on as they
    /// were; what is wrong with them is returned, and on the status page.
    pub async fn reload(&self) -> Vec<DeployError> {
        reload::reload(&self.shared, true).await
    }

    /// Says where those look who send requests here that it is about to end, while it goes on to take and to answer them:
    /// they need a while to notice. Then it is to be [drained](Self::drain).
    pub fn announce_end(&self) {
        self.shared.phase.send_replace(Phase::Leaving);
    }

    /// Takes no more connections, lets requests under way end for as long as the settings say, and ends. Whether all
    /// of them have ended by themselves.
    pub async fn drain(mut self) -> bool {
        self.shared.phase.send_replace(Phase::Draining);
        let ended = async {
            // A panic in it has been reported by the panic hook, and has ended it.
            let _ = (&mut self.connections).await;
            // A function can go on for a moment when its answer is complete.
            while self.shared.tenants.running() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let is_clean =
            tokio::time::timeout(self.shared.settings.drain_timeout, ended).await.is_ok();
        let left = self.shared.counts.connections.load(Ordering::Relaxed);
        self.shared.records.audit(&Audit {
            event: "end",
            detail: format!("{left} connections were cut off"),
            ..Audit::default()
        });
        if let Some(export) = self.shared.records.export() {
            export.flush().await;
        }
        let shared = Arc::clone(&self.shared);
        // A thread that may wait. If there is none any more, nothing is written either.
        let _ = tokio::task::spawn_blocking(move || shared.records.flush()).await;
        is_clean
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.connections.abort();
        self.tasks.abort_all();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address())
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

/// Lets this process have as many descriptors as it may: each connection is one, and each VM two. To be called by the
/// program that a server is, before it starts one.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "the number of descriptors stays as it is");
    }
}

/// Waits until the server is about to end.
async fn leaving_begins(phase: &mut watch::Receiver<Phase>) {
    // As below.
    let _ = phase.wait_for(|phase| *phase != Phase::Serving).await.map(|_| ());
}

/// Waits until the server takes no more requests.
async fn end_begins(phase: &mut watch::Receiver<Phase>) {
    // Without a sender the server is gone.
    let _ = phase.wait_for(|phase| *phase == Phase::Draining).await.map(|_| ());
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

fn deploy_all(
    paths: &[PathBuf],
    tenants: &Tenants,
    metrics: &AllMetrics,
    records: &Arc<Records>,
) -> Result<Vec<(Arc<Deployment>, Files)>, DeployError> {
    // All of them are read first: how a tenant's VMs are shared out depends on all of its applications, and a mistake
    // in the last manifest is told before the first one's functions are compiled.
    let mut all: Vec<(Files, deploy::Read)> = Vec::new();
    for path in paths {
        let (files, read) = deploy::read(path);
        let read = read?;
        let name = &read.manifest.application.name;
        if all.iter().any(|(_, before)| before.manifest.application.name == *name) {
            return Err(DeployError::Conflict(format!(
                "two applications are called {name}; try: another name in one of them"
            )));
        }
        all.push((files, read));
    }
    let share = |(at, (_, read)): (usize, &(Files, deploy::Read))| {
        let others = all.iter().enumerate().filter(|(other, _)| *other != at);
        let wanted =
            others.map(|(_, (_, other))| (&other.manifest.tenant, Parked::wanted(&other.manifest)));
        Share::of(&read.manifest, wanted).map_err(DeployError::Conflict)
    };
    let shares: Vec<Share> = all.iter().enumerate().map(share).collect::<Result<_, _>>()?;
    let deploy_one = |((files, read), share)| {
        let deployment = deploy_read(read, share, tenants, metrics, records, 1);
        deployment.map(|deployment| (Arc::new(deployment), files))
    };
    all.into_iter().zip(shares).map(deploy_one).collect()
}

fn deploy_read(
    read: deploy::Read,
    share: Share,
    tenants: &Tenants,
    metrics: &AllMetrics,
    records: &Arc<Records>,
    generation: u64,
) -> Result<Deployment, DeployError> {
    let tenant = tenants.of(&read.manifest.tenant, &share)?;
    deploy::deploy(read, &tenant, share, metrics, records, generation)
}
