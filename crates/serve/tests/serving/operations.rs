//! What those who run the server see and do.

use std::time::{Duration, Instant};

use crate::client::{Client, get};
use crate::host::{Host, read_records, unruly};

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_answers_for_each_of_its_pages() {
    let host = Host::start(&unruly("")).await;
    assert_eq!(host.admin("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(host.admin("/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(host.admin("/nothing").await.0, 404);
    let (status, page) = host.admin("/").await;
    assert!(status == 200 && page.contains("<html") && page.contains("status.json"), "{page}");
    get(host.address(), "/tag?x").await.unwrap();
    let status = host.status().await;
    let function = &status["applications"][0]["functions"][0];
    assert_eq!((&function["id"], &function["requests"]), (&"unruly".into(), &1.into()));
    assert_eq!(function["duration"]["count"], 1);
    assert_eq!(function["routes"][0], "/...");
    // The function's port has nothing of this.
    for path in ["/metrics", "/status.json", "/healthz"] {
        assert_eq!(get(host.address(), path).await.unwrap().status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_as_prometheus_reads_them() {
    let host = Host::start(&unruly("")).await;
    get(host.address(), "/tag?x").await.unwrap();
    let text = host.admin("/metrics").await.1;
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(!families.contains(&name), "{name} twice");
            families.push(name);
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let name = series.split('{').next().unwrap();
            let of_family = |family: &&&str| {
                name == **family
                    || ["_bucket", "_sum", "_count"]
                        .iter()
                        .any(|end| name == format!("{family}{end}"))
            };
            assert!(families.last().iter().any(of_family), "{line} is in no family");
        }
    }
    for name in
        ["faas_invoke_duration_seconds", "faas_init_duration_seconds", "faas_coldstarts_total"]
    {
        assert!(families.contains(&name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_being_served_when_the_server_is_to_end_is_served() {
    let host = Host::start(&unruly("")).await;
    let address = host.address();
    let mut idle = Client::connect(address).await.unwrap();
    assert_eq!(idle.request("GET", "/tag?x", b"").await.unwrap().status, 200);
    let slow = tokio::spawn(async move { get(address, "/sleep?1000").await.unwrap() });
    host.eventually("it runs", async |host| {
        host.metric("sandgrain_requests_running", &[]).await == 1.0
    })
    .await;
    let Host { server, dir } = host;
    let begun = Instant::now();
    let drained = tokio::spawn(server.drain());
    let answer = slow.await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "slept"));
    assert!(drained.await.unwrap(), "all have ended by themselves");
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert!(idle.is_closed().await);
    assert!(Client::connect(address).await.is_err(), "nobody listens any more");
    let records = read_records(dir.path());
    assert!(records.iter().any(|record| record["event"] == "end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_end_is_cut_off() {
    let host = Host::start_with(&unruly("limits = { deadline = \"none\" }"), |settings| {
        settings.drain_timeout = Duration::from_millis(500);
    })
    .await;
    let address = host.address();
    let stuck = tokio::spawn(async move { get(address, "/spin").await });
    host.eventually("it runs", async |host| {
        host.metric("sandgrain_requests_running", &[]).await == 1.0
    })
    .await;
    assert!(!host.server.drain().await);
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_one_record() {
    let host = Host::start(&unruly("")).await;
    get(host.address(), "/tag?secret").await.unwrap();
    get(host.address(), "/bytes?5000").await.unwrap();
    let records = host.records().await;
    let accesses: Vec<_> = records.iter().filter(|record| record["record"] == "access").collect();
    assert_eq!(accesses.len(), 2);
    assert_eq!((&accesses[1]["status"], &accesses[1]["bytes"]), (&200.into(), &5000.into()));
    assert_eq!(accesses[0]["path"], "/tag");
    assert!(!accesses[0].to_string().contains("secret"), "queries are not recorded");
    for record in &accesses {
        assert!(record["seconds"].as_f64().unwrap() > 0.0);
        assert_eq!(record["trace_id"].as_str().unwrap().len(), 32);
        assert_eq!(
            (&record["application"], &record["function"]),
            (&"tests".into(), &"unruly".into())
        );
    }
}
