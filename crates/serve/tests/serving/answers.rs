//! What functions answer, and what becomes of it on the way.

use std::sync::Arc;

use http_body_util::BodyExt as _;

use crate::client::{Client, get, http_2, http_2_request, post};
use crate::host::{Host, unruly};

#[tokio::test(flavor = "multi_thread")]
async fn each_request_gets_a_vm_that_nobody_used_before() {
    let host = Host::start(&unruly("")).await;
    for _ in 0..5 {
        assert_eq!(get(host.address(), "/used").await.unwrap().text(), "0");
    }
    let host = Host::start(&unruly("pool = { policy = \"reset\" }")).await;
    let mut client = Client::connect(host.address()).await.unwrap();
    for _ in 0..20 {
        assert_eq!(client.request("GET", "/used", b"").await.unwrap().text(), "0");
    }
    // Some of them had the same VM, made what it was.
    host.eventually("a VM is kept", async |host| {
        host.metric("sandgrain_vms_kept", &[]).await > 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let manifest = unruly("").replace("unruly.wasm", "http.wasm");
    let host = Host::start(&manifest).await;
    let mut client = Client::connect(host.address()).await.unwrap();
    client
        .send(b"POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await
        .unwrap();
    // The function answers before the request has come to its end.
    let mut buffer = Vec::new();
    while !buffer.windows(5).any(|part| part == b"first") {
        use tokio::io::AsyncReadExt as _;
        let mut piece = [0; 1024];
        let read = client.stream.read(&mut piece).await.unwrap();
        assert_ne!(read, 0);
        buffer.extend_from_slice(&piece[..read]);
    }
    client.send(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
    while !buffer.ends_with(b"0\r\n\r\n") {
        use tokio::io::AsyncReadExt as _;
        let mut piece = [0; 1024];
        let read = client.stream.read(&mut piece).await.unwrap();
        assert_ne!(read, 0);
        buffer.extend_from_slice(&piece[..read]);
    }
    assert!(String::from_utf8_lossy(&buffer).contains("last"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_arrive_whole() {
    let host = Host::start(&unruly("")).await;
    let sent = vec![7; 3_000_001];
    assert_eq!(post(host.address(), "/length", &sent).await.unwrap().text(), "3000001");
    let answer = get(host.address(), "/bytes?3000001").await.unwrap();
    assert!(answer.is_complete);
    assert_eq!(answer.body.len(), 3_000_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_without_tls_carries_many_requests_at_a_time() {
    let host = Host::start(&unruly("")).await;
    let (sender, _connection) = http_2(host.address()).await;
    let requests = (0..40).map(|number| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let request = http_2_request(&format!("/tag?{number}"));
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, number.to_string());
        })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    drop(Arc::new(host));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_sees_how_it_was_routed_and_not_what_only_the_server_may_say() {
    let manifest = unruly("").replace("route = \"/...\"", "route = \"/shop/:user/...\"");
    let host = Host::start(&manifest).await;
    let mut client = Client::connect(host.address()).await.unwrap();
    client
        .send(
            b"GET /shop/ada/headers HTTP/1.1\r\nhost: test\r\nspin-path-info: /forged\r\nSpin-Other: x\r\n\
              x-own: kept\r\nconnection: x-hop, keep-alive\r\nx-hop: gone\r\nkeep-alive: 5\r\n\
              proxy-authorization: gone\r\nproxy-other: gone\r\n\
              traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=b\r\n\r\n",
        )
        .await
        .unwrap();
    let text = client.answer(false).await.unwrap().text();
    for expected in [
        "spin-path-info: /headers\n",
        "spin-matched-route: /shop/:user/...\n",
        "spin-component-route: /shop/:user\n",
        "spin-path-match-user: ada\n",
        "x-own: kept\n",
        "tracestate: a=b\n",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    for gone in ["forged", "spin-other", "x-hop", "keep-alive", "proxy-", "b7ad6b7169203331"] {
        assert!(!text.contains(gone), "{gone:?} in {text}");
    }
    assert_eq!(get(host.address(), "/shop").await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_bodies_have_none() {
    let host = Host::start(&unruly("")).await;
    let mut client = Client::connect(host.address()).await.unwrap();
    for (method, path, status) in
        [("HEAD", "/tag?x", 200), ("GET", "/status?204", 204), ("GET", "/status?304", 304)]
    {
        let answer = client.request(method, path, b"").await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}");
        // The connection is still good: nothing was sent that is no answer.
        assert_eq!(client.request("GET", "/tag?next", b"").await.unwrap().text(), "next");
    }
    host.runs(0).await;
    assert_eq!(host.failures("").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_is_granted_it_has_and_what_it_prints_is_recorded() {
    let host = Host::start(&unruly("environment = { GREETING = \"hej\" }")).await;
    let environment = get(host.address(), "/environment").await.unwrap().text();
    assert_eq!(environment, "GREETING=hej\n");
    assert_eq!(get(host.address(), "/output").await.unwrap().text(), "printed");
    let records = host.records().await;
    let output = |stream: &str| {
        let found = records.iter().find(|r| r["record"] == "output" && r["stream"] == stream);
        found.expect("a record of output")["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(output("stdout"), "to the output\n");
    assert_eq!(output("stderr"), "to the error output\n");
    let deploy = records.iter().find(|r| r["event"] == "deploy").unwrap();
    assert!(deploy["detail"].as_str().unwrap().contains("env GREETING"), "{deploy}");
    assert!(!deploy.to_string().contains("hej"), "values are not told: {deploy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_promised_length_is_complete_with_its_last_byte() {
    let host = Host::start(&unruly("pool = { policy = \"reset\" }")).await;
    let mut client = Client::connect(host.address()).await.unwrap();
    for _ in 0..3 {
        let answer = client.request("GET", "/promised?5000", b"").await.unwrap();
        assert_eq!(answer.header("content-length"), "5000");
        assert!(answer.is_complete && answer.body.len() == 5000);
    }
    host.runs(0).await;
    assert_eq!(host.failures("").await, 0.0);
    assert_eq!(host.metric("faas_invoke_duration_seconds_count", &[]).await, 3.0);
    // What is promised and not kept is seen by the client.
    let answer = client.request("GET", "/promised-more?5000", b"").await;
    assert!(answer.is_err() || !answer.unwrap().is_complete);
}
