//! Tenants: apart from each other in everything, and within their quotas.

use std::time::{Duration, Instant};

use sandgrain_serve::Server;

use crate::client::Client;
use crate::host::{read_records, settings, unruly, write_manifest};

fn tenant(name: &str, host: &str) -> String {
    let manifest = unruly(&format!("environment = {{ TENANT = \"{name}\" }}"));
    let manifest = manifest.replace("name = \"tests\"", &format!("name = \"{name}\""));
    format!("{manifest}\n[tenant]\nhosts = [{host}]")
}

/// Serves manifests together.
async fn serve(dir: &std::path::Path, manifests: &[String]) -> Result<Server, String> {
    let paths = manifests.iter().enumerate().map(|(at, manifest)| {
        let dir = dir.join(at.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        write_manifest(&dir, manifest)
    });
    let paths: Vec<_> = paths.collect();
    Server::start(settings(dir), &paths).await.map_err(|error| error.to_string())
}

async fn asks(server: &Server, host: &str) -> (u16, String) {
    let mut client = Client::connect(server.address()).await.unwrap();
    let request = format!("GET /environment HTTP/1.1\r\nhost: {host}\r\n\r\n");
    client.send(request.as_bytes()).await.unwrap();
    let answer = client.answer(false).await.unwrap();
    (answer.status, answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_is_its_tenants_own_and_so_are_its_processes_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let manifests = [
        tenant("ada", "\"ada.example\""),
        tenant("bob", "\"Bob.example\", \"bob.test\""),
        tenant("rest", ""),
    ];
    let paths = manifests.iter().enumerate().map(|(at, manifest)| {
        let dir = dir.path().join(at.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        write_manifest(&dir, manifest)
    });
    let paths: Vec<_> = paths.collect();
    let mut own = settings(dir.path());
    own.state = Some(state.clone());
    let server = Server::start(own, &paths).await.unwrap();
    for (host, name) in [
        ("ada.example", "ada"),
        ("ADA.example:3000", "ada"),
        ("bob.example", "bob"),
        ("bob.test", "bob"),
        ("other.example", "rest"),
    ] {
        assert_eq!(asks(&server, host).await, (200, format!("TENANT={name}\n")), "{host}");
    }
    let admin = server.admin_address().unwrap();
    let status = crate::client::get(admin, "/status.json").await.unwrap().text();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let mut pids: Vec<_> = status["applications"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|application| application["workers"].as_array().unwrap())
        .map(|worker| worker["pid"].as_u64().unwrap())
        .collect();
    assert!(pids.len() >= 3, "{status}");
    pids.sort_unstable();
    let count = pids.len();
    pids.dedup();
    assert_eq!(pids.len(), count, "no process is of two tenants");
    for name in ["ada", "bob", "rest"] {
        assert!(state.join("tenants").join(name).is_dir(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_want_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let same = [tenant("ada", "\"a.example\""), tenant("bob", "\"a.example\"")];
    let error = serve(dir.path(), &same).await.unwrap_err();
    assert!(
        error.contains("a.example") && error.contains("ada") && error.contains("bob"),
        "{error}"
    );
    let error = serve(dir.path(), &[tenant("ada", ""), tenant("bob", "")]).await.unwrap_err();
    assert!(error.contains("all other hosts"), "{error}");
    let error = serve(dir.path(), &[tenant("ada", ""), tenant("ada", "\"b.example\"")]).await;
    assert!(error.unwrap_err().contains("two applications are called ada"));
    // Each by itself would leave two VMs for requests.
    let parks = |name: &str, host: &str| {
        let manifest = tenant(name, host);
        let manifest = manifest.replace("environment", "pool = { parked_min = 2 }\nenvironment");
        manifest + "\nname = \"both\"\nvms = 4"
    };
    let error = serve(dir.path(), &[parks("ada", "\"a.example\""), parks("bob", "")]).await;
    let error = error.unwrap_err();
    assert!(error.contains("the tenant both") && error.contains("vms = 5"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_without_vms_is_told_of_and_takes_no_requests_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("0/data");
    std::fs::create_dir_all(&data).unwrap();
    let granted =
        tenant("ada", "\"ada.example\"").replace("environment", "files = [\"data\"]\nenvironment");
    let server = serve(dir.path(), &[granted, tenant("rest", "")]).await.unwrap();
    let admin = server.admin_address().unwrap();
    let readiness = async || {
        let answer = crate::client::get(admin, "/readyz").await.unwrap();
        (answer.status, answer.text())
    };
    assert_eq!(readiness().await, (200, "ok\n".to_owned()));
    // What it is granted is there no more, so nothing can be made that has it.
    std::fs::remove_dir(&data).unwrap();
    let begun = Instant::now();
    let said = loop {
        asks(&server, "ada.example").await;
        let (status, said) = readiness().await;
        assert_eq!(status, 200, "{said}");
        if said != "ok\n" {
            break said;
        }
        assert!(begun.elapsed().as_secs() < 30, "nothing is told within 30 s");
    };
    assert!(said.starts_with("ok, but") && said.contains("ada/unruly of the tenant ada"), "{said}");
    assert!(said.contains("data") && !said.contains("rest/"), "{said}");
    assert_eq!(asks(&server, "rest.example").await.0, 200);
}

/// A tenant that may have so much memory, and whose function takes 100 MB for each request that it is asked to hold.
fn greedy(memory: &str) -> String {
    tenant("greedy", "\"greedy.example\"")
        .replace("hosts", &format!("memory = \"{memory}\"\nhosts"))
        .replace("environment", "limits = { memory = \"112M\", heap = \"8M\", stack = \"512K\", deadline = \"none\" }\nenvironment")
}

/// Asks for a request that takes 100 MB and keeps it.
async fn hold(address: std::net::SocketAddr) -> Client {
    let mut client = Client::connect(address).await.unwrap();
    let request = b"GET /hold?100000000 HTTP/1.1\r\nhost: greedy.example\r\n\r\n";
    client.send(request).await.unwrap();
    client
}

/// A value of the metrics, of the first series of a tenant's.
async fn value(server: &Server, name: &str, tenant: &str) -> f64 {
    let admin = server.admin_address().unwrap();
    let text = crate::client::get(admin, "/metrics").await.unwrap().text();
    let label = format!("tenant=\"{tenant}\"");
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(&label));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap()
}

/// Waits until a value of the greedy tenant's is so large.
async fn until_greedy(server: &Server, name: &str, least: f64) {
    let begun = Instant::now();
    while value(server, name, "greedy").await < least {
        assert!(begun.elapsed().as_secs() < 30, "{name} is not {least} within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_beyond_its_memory_waits_and_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    // Two requests are a little more than that.
    let server = serve(dir.path(), &[greedy("190M"), tenant("calm", "")]).await.unwrap();
    let address = server.address();
    let mut holding = Vec::new();
    for memory in [90e6, f64::from(190 << 20) + 1.0] {
        holding.push(hold(address).await);
        until_greedy(&server, "sandgrain_tenant_memory_bytes", memory).await;
    }
    holding.push(hold(address).await);
    until_greedy(&server, "sandgrain_requests_waiting", 1.0).await;
    assert_eq!(asks(&server, "calm.example").await.0, 200);
    assert_eq!(value(&server, "sandgrain_workers_ended_total", "greedy").await, 0.0);
    // When they are gone, so is their memory, and the tenant is served again.
    drop(holding);
    assert_eq!(asks(&server, "greedy.example").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_far_beyond_its_memory_loses_a_worker_and_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    // One request fits, and two are more by half.
    let server = serve(dir.path(), &[greedy("128M"), tenant("calm", "")]).await.unwrap();
    let address = server.address();
    let (sender, mut lost) = tokio::sync::mpsc::unbounded_channel();
    let mut holding = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let sender = sender.clone();
        holding.spawn(async move {
            let answer = hold(address).await.answer(false).await;
            if answer.is_ok_and(|answer| answer.status == 502) {
                sender.send(()).unwrap();
            }
        });
    }
    let begun = Instant::now();
    while lost.try_recv().is_err() {
        assert_eq!(asks(&server, "calm.example").await, (200, "TENANT=calm\n".to_owned()));
        assert!(begun.elapsed().as_secs() < 60, "no request is lost within 60 s");
    }
    until_greedy(&server, "sandgrain_workers_ended_total", 1.0).await;
    assert_eq!(value(&server, "sandgrain_workers_ended_total", "calm").await, 0.0);
    drop(holding);
    // Requests that go take a moment, in which another worker may be ended.
    let begun = Instant::now();
    while asks(&server, "greedy.example").await != (200, "TENANT=greedy\n".to_owned()) {
        assert!(begun.elapsed().as_secs() < 60, "it is not served again within 60 s");
    }
    assert_eq!(asks(&server, "calm.example").await.0, 200);
    server.drain().await;

    let records = read_records(dir.path());
    let ended: Vec<_> = records.iter().filter(|r| r["event"] == "memory-quota-enforced").collect();
    assert!(!ended.is_empty());
    for record in ended {
        assert_eq!((&record["record"], &record["tenant"]), (&"audit".into(), &"greedy".into()));
        assert!(record["process"].as_u64().unwrap() > 1, "{record}");
        assert!(record["bytes"].as_u64().unwrap() > 0, "{record}");
    }
    let crashes: Vec<_> = records.iter().filter(|r| r["record"] == "crash").collect();
    let is_told = |crash: &serde_json::Value| {
        crash["kind"] == "host" && crash["message"].as_str().unwrap().contains("memory quota")
    };
    assert!(crashes.iter().any(|crash| is_told(crash)), "{crashes:?}");
    assert!(crashes.iter().all(|crash| crash["tenant"] == "greedy"), "{crashes:?}");
}
