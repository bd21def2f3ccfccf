//! Servers for the tests.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandgrain::Engine;
use sandgrain_serve::{RecordTarget, Server, Settings};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::get;

/// A server, and the directory that its manifest and files are in.
pub struct Host {
    pub server: Server,
    pub dir: TempDir,
}

/// The examples' handlers and those that misbehave.
pub fn example(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/components").join(name);
    let found = path.canonicalize();
    found.unwrap_or_else(|_| panic!("no {}; try: examples/build components", path.display()))
}

/// The program that worker processes are: built beside the tests.
pub fn worker() -> PathBuf {
    let own = std::env::current_exe().expect("the tests' path");
    let dir = own.parent().and_then(Path::parent).expect("a directory of builds");
    let path = dir.join("sandgrain-worker");
    assert!(path.exists(), "no {}; try: cargo build --release --workspace", path.display());
    path
}

/// Settings for tests: any free ports, records into a file, worker processes.
pub fn settings(dir: &Path) -> Settings {
    let available = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
    let mut settings = Settings::new(Engine::builder().available_tss(available));
    settings.listen = "127.0.0.1:0".parse().expect("an address");
    settings.admin = Some(settings.listen);
    settings.worker = Some(worker());
    settings.state = Some(cache());
    settings.records = RecordTarget::File(dir.join("records"));
    settings.watch = None;
    settings.drain_timeout = Duration::from_secs(20);
    settings
}

/// Compiled functions, for all tests.
fn cache() -> PathBuf {
    let own = std::env::current_exe().expect("the tests' path");
    own.parent().expect("a directory of builds").join("serving-cache")
}

impl Host {
    /// Serves a manifest, in which `{examples}` is the directory of the example components and `{dir}` that of the
    /// manifest.
    pub async fn start(manifest: &str) -> Self {
        Self::start_with(manifest, |_| {}).await
    }

    pub async fn start_with(manifest: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = TempDir::new().expect("a directory");
        let path = write_manifest(dir.path(), manifest);
        let mut settings = settings(dir.path());
        change(&mut settings);
        let server = Server::start(settings, &[path]).await.expect("a server");
        Self { server, dir }
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    /// A page of the admin port.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let address = self.server.admin_address().expect("an admin port");
        let answer = get(address, path).await.expect("the admin port answers");
        (answer.status, answer.text())
    }

    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.admin("/status.json").await.1).expect("JSON")
    }

    /// A value of the metrics, of all series whose line has these parts in it.
    pub async fn metric(&self, name: &str, parts: &[&str]) -> f64 {
        let text = self.admin("/metrics").await.1;
        let lines = text.lines().filter(|line| {
            line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{"))
        });
        let lines = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Failures of one kind, or of all, as the metrics count them.
    pub async fn failures(&self, reason: &str) -> f64 {
        let part = if reason.is_empty() { String::new() } else { format!("reason=\"{reason}\"") };
        self.metric("faas_errors_total", &[&part]).await
    }

    /// Waits until a condition holds, for things that are to happen soon.
    pub async fn eventually(&self, what: &str, mut check: impl AsyncFnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !check(self).await {
            assert!(begun.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many requests run: a function can go on for a moment when its answer is complete.
    pub async fn runs(&self, count: u32) {
        self.eventually("so many run", async |host| {
            host.metric("sandgrain_requests_running", &[]).await == f64::from(count)
        })
        .await;
    }

    /// Ends the server, and reads all of its records.
    pub async fn records(self) -> Vec<Value> {
        let Self { server, dir } = self;
        server.drain().await;
        read_records(dir.path())
    }
}

pub fn read_records(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("records")).expect("records");
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// Writes `app.toml`.
pub fn write_manifest(dir: &Path, manifest: &str) -> PathBuf {
    let path = dir.join("app.toml");
    let examples = example("rust").display().to_string();
    let text =
        manifest.replace("{examples}", &examples).replace("{dir}", &dir.display().to_string());
    // In one step, as whoever changes it under a running server should.
    let temporary = dir.join("app.toml.new");
    std::fs::write(&temporary, text).expect("a file");
    std::fs::rename(&temporary, &path).expect("a file");
    path
}

/// A manifest with the misbehaving handler for every path, and more keys for it.
pub fn unruly(keys: &str) -> String {
    format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "tests"
        [[trigger.http]]
        route = "/..."
        component = "unruly"
        [component.unruly]
        source = "{{examples}}/unruly.wasm"
        {keys}
        "#
    )
}

/// A program in the text format, as a file in a directory.
pub fn program(dir: &Path, name: &str, text: &str) {
    let bytes = wat::parse_str(text).expect("a program");
    std::fs::write(dir.join(name), bytes).expect("a file");
}
