//! What those who run the server see and do.

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;

use crate::client::{Client, get, http_2, http_2_request};
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
    host.runs(0).await;
    let slow = tokio::spawn(async move { get(address, "/sleep?1000").await.unwrap() });
    host.runs(1).await;
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
async fn a_server_that_is_about_to_end_says_so_and_serves_on() {
    let host = Host::start(&unruly("")).await;
    let address = host.address();
    let mut client = Client::connect(address).await.unwrap();
    let answer = client.request("GET", "/tag?x", b"").await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, ""));
    host.server.announce_end();
    assert_eq!(host.admin("/readyz").await, (503, "the server is about to end\n".to_owned()));
    assert_eq!(host.admin("/healthz").await.0, 200);
    assert_eq!(host.metric("sandgrain_ready", &[]).await, 0.0);
    assert_eq!(host.status().await["ready"], false);
    // Who is connected is served, and sent elsewhere; so is who connects only now.
    let answer = client.request("GET", "/tag?old", b"").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "old"));
    assert_eq!(answer.header("connection"), "close");
    assert!(client.is_closed().await);
    assert_eq!(get(address, "/tag?new").await.unwrap().text(), "new");
    assert!(host.server.drain().await);
    assert!(Client::connect(address).await.is_err(), "nobody listens any more");
}

/// Waits until the server ends a connection of HTTP/2, as it should be ended.
async fn ends(connection: JoinHandle<hyper::Result<()>>) {
    let ended = tokio::time::timeout(Duration::from_secs(30), connection).await;
    ended.expect("it ends").unwrap().expect("in good order");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_http_2_end_when_the_server_says_that_it_will_and_lose_nothing() {
    let host = Host::start(&unruly("")).await;
    let (mut quiet, quiet_connection) = http_2(host.address()).await;
    assert_eq!(quiet.send_request(http_2_request("/tag?x")).await.unwrap().status(), 200);
    host.runs(0).await;
    let (sender, connection) = http_2(host.address()).await;
    let mut own = sender.clone();
    let slow =
        tokio::spawn(async move { own.send_request(http_2_request("/sleep?1500")).await.unwrap() });
    host.runs(1).await;
    host.server.announce_end();
    ends(quiet_connection).await;
    let response = slow.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "slept");
    ends(connection).await;
    // The server has ended them, not the client, which keeps what it would need for more requests.
    let none = async |host: &Host| host.metric("sandgrain_connections", &[]).await == 0.0;
    host.eventually("it has no connection", none).await;
    drop((quiet, sender));
    // Who connects now is served, with one request as by HTTP/1.1.
    let (mut sender, connection) = http_2(host.address()).await;
    let response = sender.send_request(http_2_request("/tag?new")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "new");
    ends(connection).await;
    assert_eq!(host.status().await["draining"], false);
    assert!(host.server.drain().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_end_is_cut_off() {
    let host = Host::start_with(&unruly("limits = { deadline = \"none\" }"), |settings| {
        settings.drain_timeout = Duration::from_millis(500);
    })
    .await;
    let address = host.address();
    let stuck = tokio::spawn(async move { get(address, "/spin").await });
    host.runs(1).await;
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

/// A collector that takes what it is sent: what it was asked for, and the JSON.
pub async fn collector()
-> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<(String, serde_json::Value)>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            let service =
                hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let sender = sender.clone();
                    async move {
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        sender.send((path, serde_json::from_slice(&body).unwrap())).unwrap();
                        Ok::<_, std::convert::Infallible>(http::Response::new(String::from("{}")))
                    }
                });
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(stream, service),
            );
        }
    });
    (address, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_and_logs_are_sent_to_a_collector() {
    let (address, mut received) = collector().await;
    let host = Host::start_with(&unruly(""), |settings| {
        settings.otlp = Some(format!("http://{address}/otel"));
    })
    .await;
    let mut client = Client::connect(host.address()).await.unwrap();
    client
        .send(
            b"GET /tag?x HTTP/1.1\r\nhost: test\r\n\
              traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
        )
        .await
        .unwrap();
    assert_eq!(client.answer(false).await.unwrap().status, 200);
    assert_eq!(get(host.address(), "/panic").await.unwrap().status, 502);
    host.server.drain().await;
    let (mut spans, mut logs) = (Vec::new(), Vec::new());
    while let Ok((path, body)) = received.try_recv() {
        match &*path {
            "/otel/v1/traces" => spans.extend(
                body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone(),
            ),
            "/otel/v1/logs" => logs.extend(
                body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone(),
            ),
            other => panic!("{other}"),
        }
    }
    assert_eq!(spans.len(), 4, "each request and each call: {spans:?}");
    let named = |name: &str| {
        let of = |span: &&serde_json::Value| {
            span["traceId"] == "0af7651916cd43dd8448eb211c80319c" && span["name"] == name
        };
        spans.iter().find(of).unwrap()
    };
    let (own, call) = (named("unruly"), named("call"));
    assert_eq!(own["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(call["parentSpanId"], own["spanId"]);
    let failed = spans.iter().find(|span| span["status"].is_object()).unwrap();
    let crash =
        logs.iter().find(|log| log["traceId"] == failed["traceId"]).expect("the crash's record");
    assert!(crash["body"]["stringValue"].as_str().unwrap().contains("trap"), "{crash}");
    assert!(logs.len() >= 3, "deploy, start, crash: {logs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_costs_no_request() {
    let host = Host::start_with(&unruly(""), |settings| {
        // Nobody listens at port 1.
        settings.otlp = Some("http://127.0.0.1:1".to_owned());
    })
    .await;
    for _ in 0..5 {
        assert_eq!(get(host.address(), "/tag?x").await.unwrap().status, 200);
    }
    host.eventually("the loss is counted", async |host| {
        host.metric("sandgrain_lost_telemetry_total", &[]).await >= 5.0
    })
    .await;
    let mut settings = crate::host::settings(host.dir.path());
    settings.otlp = Some("https://127.0.0.1:1".to_owned());
    let error = sandgrain_serve::Server::start(settings, &[]).await.err().unwrap().to_string();
    assert!(error.contains("http://") && error.contains("try:"), "{error}");
}
