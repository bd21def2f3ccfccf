//! Handlers of HTTP requests, in five languages.

use crate::table::{component, list, text};
use http_body_util::Full;
use sandgrain::wasi::WasiConfig;
use sandgrain::{Limits, Module, Sandbox, SandboxBuilder};
use serde_json::Value;
use std::time::Duration;

fn limits() -> Limits {
    Limits::default().memory(1 << 30).deadline(Some(Duration::from_secs(120)))
}

fn repeated(entry: &Value, text: &str, times: &str) -> String {
    let times = entry[times].as_u64().unwrap_or(1) as usize;
    entry[text].as_str().unwrap_or_default().repeat(times)
}

fn request(entry: &Value) -> http::Request<Full<bytes::Bytes>> {
    let mut request = http::Request::builder()
        .method(text(entry, "method"))
        .uri(text(entry, "path"))
        .header("host", "example.com");
    for (name, value) in entry["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().expect("a header's value"));
    }
    let body = repeated(entry, "body", "body_times");
    request.body(Full::new(body.into())).expect("a request")
}

/// Has each request answered by a sandbox of its own.
#[allow(clippy::print_stdout, reason = "figures for people")]
fn answers(name: &str, sandbox: impl Fn() -> SandboxBuilder) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for entry in list("requests") {
        let case = format!("{name}, {}", text(entry, "name"));
        let mut sandbox = sandbox().build().unwrap_or_else(|error| panic!("{case}: {error}"));
        let response = runtime.block_on(sandbox.answer_http(request(entry)));
        let errors = sandbox.take_stderr();
        let response = response.unwrap_or_else(|error| {
            panic!("{case}: {error}\n{}", String::from_utf8_lossy(&errors))
        });
        assert_eq!(
            response.status().as_u16(),
            entry["expect_status"].as_u64().unwrap() as u16,
            "{case}"
        );
        for (name, value) in entry["expect_headers"].as_object().into_iter().flatten() {
            let found = response.headers().get(name).map(|value| value.to_str().expect("text"));
            assert_eq!(found, value.as_str(), "{case}: {name}");
        }
        let body = repeated(entry, "expect_body", "expect_body_times");
        assert!(*response.body() == body, "{case}: {:?}", response.body());
        let asked = sandbox.stats().hypercalls;
        println!("{case}: {asked} hypercalls");
        // JavaScript's and Python's libraries ask for more than they need.
        let is_lean = ["rust", "c-", "go"].iter().any(|language| name.starts_with(language));
        assert!(!is_lean || entry["name"] != "hello" || asked <= 3, "{case}: {asked} hypercalls");
    }
}

fn wasi() -> WasiConfig {
    WasiConfig::new().stderr(sandgrain::wasi::Output::Capture)
}

fn new(name: &str) -> Module {
    let module = component(name);
    answers(name, || Sandbox::builder(&module).limits(limits()).wasi(wasi()));
    module
}

#[test]
fn rust_answers_requests() {
    new("rust-http");
}

#[test]
fn c_answers_requests() {
    new("c-http");
}

#[test]
fn go_answers_requests() {
    new("go-http");
}

#[test]
fn javascript_answers_requests() {
    new("js-http");
}

#[test]
fn python_answers_requests() {
    new("py-http");
}

#[test]
fn requests_are_answered_in_sandboxes_of_a_snapshot() {
    for name in ["rust-http", "c-http", "js-http", "py-http"] {
        let module = component(name);
        let first = Sandbox::builder(&module).limits(limits()).wasi(wasi()).build();
        let snapshot = first.expect("a sandbox").snapshot().expect("a snapshot");
        answers(name, || snapshot.sandbox().wasi(wasi()));
    }
}
