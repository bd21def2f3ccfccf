//! `sandgrain serve`: the function server.

use crate::exit::Class;
use crate::failure::Failure;
use crate::options::EngineOptions;
use clap::Args;
use sandgrain::compile::Cache;
use sandgrain_serve::{DeployError, RecordTarget, Server, Settings, StartError};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Options of `sandgrain serve`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Manifests, such as app.toml; or a component or module by itself, which answers every path
    #[arg(required = true)]
    applications: Vec<PathBuf>,
    /// Where requests are taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Where health, metrics and the status page are; without access control
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Keeps compiled functions here, apart for each tenant, instead of in the user's cache directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cache_dir", "no_cache"])]
    state: Option<PathBuf>,
    /// Records of requests: - for the standard output, none, or a file
    #[arg(long, value_name = "FILE", default_value = "-")]
    access_log: String,
    /// Sends traces and logs to a collector, by OTLP over HTTP in JSON: http://127.0.0.1:4318
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Requests that functions work on at a time, all tenants' together
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    concurrency: usize,
    /// Connections at a time
    #[arg(long, value_name = "COUNT", default_value_t = 16_384)]
    connections: usize,
    /// Threads that serve connections [default: as many as there are CPUs]. Each tenant has as many that run its
    /// functions, and sixteen at the least
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Seconds that requests under way may take to end once the server is told to
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
    /// Seconds for which the server, told to end, goes on to take requests, while /readyz says that it will not for
    /// long: for load balancers, which need a while to notice
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain_delay: u64,
    /// Does not look for changes of the manifests and of what they name; SIGHUP has them read again all the same
    #[arg(long)]
    no_watch: bool,
    /// Runs all VMs in this process instead of in worker processes: faster, with one wall less between tenants
    #[arg(long)]
    in_process: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

/// Threads that run a tenant's functions, at the least.
const MIN_VCPU_THREADS: usize = 16;

/// Serves until it is told to end.
pub fn execute(arguments: &Arguments) -> Result<(), Failure> {
    sandgrain_serve::raise_descriptor_limit();
    let threads = arguments.threads.map(usize::from);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().map_err(|error| {
        Failure::new(Class::Host, format!("no threads for the server: {error}"), "fewer --threads")
    })?;
    let settings = settings(arguments, threads)?;
    runtime.block_on(serve(settings, arguments))
}

fn settings(arguments: &Arguments, threads: Option<usize>) -> Result<Settings, Failure> {
    let cpus = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // A function that computes has its thread until it ends: a few of them must not hold up all others.
    let vcpus = threads.unwrap_or_else(cpus).max(MIN_VCPU_THREADS);
    let mut settings = Settings::new(arguments.engine.builder().vcpu_threads(vcpus));
    settings.listen = arguments.listen;
    settings.admin = arguments.admin;
    settings.state = match &arguments.state {
        Some(dir) => Some(dir.clone()),
        None => arguments.engine.cache().map_err(sandgrain::Error::from)?.map(of_user),
    };
    settings.records = match arguments.access_log.as_str() {
        "-" => RecordTarget::Stdout,
        "none" => RecordTarget::None,
        path => RecordTarget::File(path.into()),
    };
    settings.otlp.clone_from(&arguments.otlp);
    settings.concurrency = arguments.concurrency.max(1);
    settings.connections = arguments.connections.max(1);
    settings.drain_timeout = Duration::from_secs(arguments.drain);
    if arguments.no_watch {
        settings.watch = None;
    }
    if !arguments.in_process {
        let program = std::env::current_exe().map_err(|error| {
            let what = format!("the path of this program, for its worker processes: {error}");
            Failure::new(Class::Host, what, "--in-process")
        })?;
        settings.worker = Some(program);
    }
    Ok(settings)
}

/// Where the server's own files are in a cache.
fn of_user(cache: Cache) -> PathBuf {
    cache.dir().join("serve")
}

/// The signals that a server heeds.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

async fn serve(settings: Settings, arguments: &Arguments) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Class::Host, format!("signals cannot be taken: {error}"), "another process")
    };
    // Before anything takes long: who is told to end while it compiles ends.
    let mut signals = Signals {
        hangup: signal(SignalKind::hangup()).map_err(failed)?,
        terminate: signal(SignalKind::terminate()).map_err(failed)?,
        interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
    };
    let server = tokio::select! {
        server = Server::start(settings, &arguments.applications) => server.map_err(start_failure)?,
        _ = signals.terminate.recv() => return Ok(()),
        _ = signals.interrupt.recv() => return Ok(()),
    };
    let admin = server.admin_address().map(|address| format!(", status at http://{address}/"));
    let listening =
        format!("serving at http://{}{}\n", server.address(), admin.unwrap_or_default());
    crate::terminal::print_error(&listening);
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => {
                // What fails is logged, and on the status page; the old ones go on.
                let _ = server.reload().await;
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    if arguments.drain_delay > 0 {
        server.announce_end();
        // A signal more, and it begins to end at once.
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(arguments.drain_delay)) => {}
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
    }
    // One more does not wait for anybody.
    tokio::select! {
        _ = server.drain() => Ok(()),
        _ = signals.terminate.recv() => Ok(()),
        _ = signals.interrupt.recv() => Ok(()),
    }
}

fn start_failure(error: StartError) -> Failure {
    let class = match error {
        StartError::Deploy(DeployError::Engine(error)) => return Failure::from(error),
        StartError::Deploy(DeployError::Manifest(report)) => {
            // Each of its lines is an error with its place.
            crate::terminal::print_error(&report);
            let what = "an application cannot be served";
            return Failure::new(Class::Manifest, what, "correcting the lines above");
        }
        StartError::Deploy(_) => Class::Manifest,
        _ => Class::Host,
    };
    let text = error.to_string();
    let (what, advice) = text.rsplit_once("; try: ").unwrap_or((&text, "correcting that"));
    Failure::new(class, what, advice)
}
