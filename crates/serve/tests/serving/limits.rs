//! Limits: of functions, tenants and the server.

use std::time::Duration;

use crate::client::{Client, get, post};
use crate::host::{Host, unruly};

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_whether_its_size_is_told_or_not() {
    let host = Host::start(&unruly("limits = { request_body = \"1K\" }")).await;
    assert_eq!(post(host.address(), "/length", &[0; 1024]).await.unwrap().text(), "1024");
    let answer = post(host.address(), "/length", &[0; 1025]).await.unwrap();
    assert_eq!(answer.status, 413);
    let mut client = Client::connect(host.address()).await.unwrap();
    let chunk = [b"401\r\n".as_slice(), &[b'x'; 1025], b"\r\n0\r\n\r\n"].concat();
    client
        .send(b"POST /length HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    client.send(&chunk).await.unwrap();
    assert_eq!(client.answer(false).await.unwrap().status, 413);
    assert_eq!(host.failures("body_size").await, 2.0);
    assert_eq!(host.failures("").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_breaks_off() {
    let host = Host::start(&unruly("limits = { response_body = \"10K\" }")).await;
    let answer = get(host.address(), "/bytes?10240").await.unwrap();
    assert!(answer.is_complete && answer.body.len() == 10240);
    let answer = get(host.address(), "/bytes?100000").await.unwrap();
    assert!(!answer.is_complete && answer.body.len() <= 10240);
    assert_eq!(host.failures("limit").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_are_refused() {
    let host = Host::start(&unruly("limits = { header_bytes = \"2K\" }")).await;
    for (size, status) in [(1500, 200), (2500, 431), (200_000, 431)] {
        let mut client = Client::connect(host.address()).await.unwrap();
        let value = "x".repeat(size);
        let request = format!("GET /tag?a HTTP/1.1\r\nhost: t\r\nx-large: {value}\r\n\r\n");
        // The server may answer before it has read it all.
        let _ = client.send(request.as_bytes()).await;
        assert_eq!(client.answer(false).await.unwrap().status, status, "{size}");
    }
    assert_eq!(host.failures("header_size").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_in_the_queue_is_asked_to_come_back() {
    let keys = "limits = { concurrency = 1, queue = 1, deadline = \"20s\" }";
    let host = Host::start(&unruly(keys)).await;
    let address = host.address();
    let ask = move || tokio::spawn(async move { get(address, "/sleep?1500").await.unwrap() });
    let first = ask();
    host.runs(1).await;
    let second = ask();
    host.eventually("one waits", async |host| {
        host.metric("sandgrain_requests_waiting", &[]).await == 1.0
    })
    .await;
    let third = ask().await.unwrap();
    assert_eq!((third.status, third.header("retry-after")), (429, "1"));
    assert_eq!((first.await.unwrap().status, second.await.unwrap().status), (200, 200));
    assert_eq!(host.failures("busy").await, 1.0);
    assert_eq!(host.failures("").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_is_asked_to_come_back() {
    let keys = "limits = { concurrency = 1, deadline = \"20s\" }";
    let host = Host::start_with(&unruly(keys), |settings| {
        settings.queue_timeout = Duration::from_millis(300);
    })
    .await;
    let address = host.address();
    let first = tokio::spawn(async move { get(address, "/sleep?3000").await.unwrap() });
    host.runs(1).await;
    let answer = get(host.address(), "/tag?x").await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait() {
    let host = Host::start_with(&unruly(""), |settings| settings.connections = 2).await;
    let mut first = Client::connect(host.address()).await.unwrap();
    let mut second = Client::connect(host.address()).await.unwrap();
    for client in [&mut first, &mut second] {
        assert_eq!(client.request("GET", "/tag?x", b"").await.unwrap().status, 200);
    }
    let address = host.address();
    let third = tokio::spawn(async move { get(address, "/tag?third").await.unwrap() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!third.is_finished());
    drop(first);
    assert_eq!(third.await.unwrap().text(), "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_beyond_its_limit_is_told_whatever_requests_may_have() {
    for request_body in ["1K", "10K", "1M"] {
        let keys =
            format!("limits = {{ response_body = \"10K\", request_body = \"{request_body}\" }}");
        let host = Host::start(&unruly(&keys)).await;
        assert!(!get(host.address(), "/bytes?100000").await.unwrap().is_complete);
        assert_eq!(host.failures("limit").await, 1.0, "{request_body}");
    }
}
