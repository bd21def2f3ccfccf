//! What functions ask of other hosts.

use std::net::SocketAddr;

use sandgrain_serve::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::client::Client;
use crate::host::{Host, program};
use crate::operations::collector;

/// A component that asks the host that its path names.
const ASKS: &str = include_str!("asks.wat");

/// Serves that component for every path.
async fn serve(keys: &str, change: impl FnOnce(&mut Settings)) -> Host {
    let programs = tempfile::tempdir().unwrap();
    program(programs.path(), "asks.wasm", ASKS);
    let manifest = format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "tests"
        [[trigger.http]]
        route = "/..."
        component = "asks"
        [component.asks]
        source = "{}/asks.wasm"
        {keys}
        "#,
        programs.path().display()
    );
    Host::start_with(&manifest, change).await
}

/// A server that answers everybody alike: where it is, and the heads of the requests that it gets.
async fn server() -> (SocketAddr, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            sender.send(String::from_utf8(head).unwrap()).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    (address, receiver)
}

/// Has the function ask a host, on behalf of a request with these headers. The status of its answer.
async fn ask(host: &Host, whom: &str, headers: &str) -> u16 {
    let mut client = Client::connect(host.address()).await.unwrap();
    let request = format!("GET /{whom} HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    client.send(request.as_bytes()).await.unwrap();
    client.answer(false).await.unwrap().status
}

/// The value of a header; nothing if it is not there.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// A trace that a client is in.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_asks_is_part_of_its_requests_trace() {
    let (address, mut heads) = server().await;
    let (otlp, mut received) = collector().await;
    let keys = format!("allowed_outbound_hosts = [\"http://{address}\"]");
    let host = serve(&keys, |settings| settings.otlp = Some(format!("http://{otlp}"))).await;
    let whom = address.to_string();
    let mut parents = Vec::new();
    for (headers, flags, state) in [
        ("-b7ad6b7169203331-01\r\ntracestate: vendor=1\r\n", "01", Some("vendor=1")),
        ("-b7ad6b7169203331-00\r\n", "00", None),
    ] {
        let headers = format!("traceparent: 00-{TRACE}{headers}");
        assert_eq!(ask(&host, &whom, &headers).await, 200);
        let head = heads.recv().await.unwrap();
        let parent = header(&head, "traceparent").unwrap();
        let [version, trace, span, own_flags] = parent.split('-').collect::<Vec<_>>()[..] else {
            panic!("{head}")
        };
        assert_eq!((version, trace, own_flags), ("00", TRACE, flags), "{head}");
        assert_eq!(header(&head, "tracestate"), state, "{head}");
        parents.push(span.to_owned());
    }
    // One begins here if the client is in none.
    assert_eq!(ask(&host, &whom, "tracestate: vendor=1\r\n").await, 200);
    let head = heads.recv().await.unwrap();
    let parent = header(&head, "traceparent").unwrap();
    assert!(!parent.contains(TRACE) && parent.ends_with("-01"), "{head}");
    assert_eq!(header(&head, "tracestate"), None, "{head}");

    // The span that others are children of is the one that the collector is sent.
    host.server.drain().await;
    let mut spans = Vec::new();
    while let Ok((path, body)) = received.try_recv() {
        if path == "/v1/traces" {
            let of_scope = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
            spans.extend(of_scope.as_array().unwrap().clone());
        }
    }
    let own: Vec<_> = spans.iter().filter(|span| span["name"] == "asks").collect();
    assert_eq!(own.len(), 2, "those that are sampled: {spans:?}");
    assert!(own.iter().any(|span| span["spanId"] == *parents[0]), "{spans:?}");
    assert!(own.iter().all(|span| span["spanId"] != *parents[1]), "{spans:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_may_not_ask_is_counted_each_time_and_recorded_once() {
    let (address, mut heads) = server().await;
    let host = serve("allowed_outbound_hosts = [\"http://127.0.0.1:9\"]", |_| {}).await;
    let whom = address.to_string();
    for _ in 0..3 {
        assert_eq!(ask(&host, &whom, "").await, 403);
    }
    let headers = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n");
    assert_eq!(ask(&host, "169.254.169.254", &headers).await, 403);
    assert!(heads.try_recv().is_err(), "nobody was asked");
    let labels = ["faas_name=\"asks\"", "capability=\"http\""];
    assert_eq!(host.metric("sandgrain_denied_total", &labels).await, 4.0);
    assert_eq!(host.metric("sandgrain_denied_total", &[]).await, 4.0);
    assert_eq!(host.failures("").await, 0.0, "the function has dealt with it");

    let records = host.records().await;
    let denied: Vec<_> = records.iter().filter(|record| record["event"] == "denied").collect();
    assert_eq!(denied.len(), 2, "{denied:?}");
    for (record, target) in denied.iter().zip([&*whom, "169.254.169.254:80"]) {
        assert_eq!((&record["record"], &record["capability"]), (&"audit".into(), &"http".into()));
        assert_eq!(record["target"], target);
        for name in ["application", "tenant"] {
            assert_eq!(record[name], "tests");
        }
        assert_eq!(record["function"], "asks");
    }
    let traces = |trace: &serde_json::Value| {
        records.iter().any(|record| record["record"] == "access" && record["trace_id"] == *trace)
    };
    assert!(traces(&denied[0]["trace_id"]), "{denied:?}");
    assert_eq!(denied[1]["trace_id"], TRACE);
    assert!(denied[1]["detail"].as_str().unwrap().contains("; 2 denials"), "{denied:?}");
}
