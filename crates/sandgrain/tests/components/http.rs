//! Handlers of HTTP requests, in five languages.

use crate::table::{component, list, text};
use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use sandgrain::wasi::WasiConfig;
use sandgrain::wasi::component::Body;
use sandgrain::{Error, Limits, Module, Sandbox, SandboxBuilder};
use serde_json::Value;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

fn limits() -> Limits {
    Limits::default().memory(1 << 30).deadline(Some(Duration::from_secs(120)))
}

fn repeated(entry: &Value, text: &str, times: &str) -> String {
    let times = entry[times].as_u64().unwrap_or(1) as usize;
    entry[text].as_str().unwrap_or_default().repeat(times)
}

/// A path at some host that is never asked.
fn uri(path: &str) -> http::Uri {
    let uri = http::Uri::builder().scheme("http").authority("example.com").path_and_query(path);
    uri.build().expect("a URI")
}

fn request(entry: &Value) -> http::Request<Full<bytes::Bytes>> {
    let mut request =
        http::Request::builder().method(text(entry, "method")).uri(uri(text(entry, "path")));
    for (name, value) in entry["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().expect("a header's value"));
    }
    let body = repeated(entry, "body", "body_times");
    request.body(Full::new(body.into())).expect("a request")
}

/// Names, unless they are too many.
fn few(names: &[String]) -> String {
    match names.len() {
        0..=12 => names.join(", "),
        _ => format!("{}, ...", names[..12].join(", ")),
    }
}

/// Has each request answered by a sandbox of its own.
#[allow(clippy::print_stdout, reason = "figures for people")]
fn answers(name: &str, sandbox: impl Fn() -> SandboxBuilder) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for entry in list("requests") {
        let case = format!("{name}, {}", text(entry, "name"));
        let mut sandbox = sandbox().build().unwrap_or_else(|error| panic!("{case}: {error}"));
        let trace = crate::trace::begin();
        let response = runtime.block_on(sandbox.answer_http(request(entry)));
        let functions = trace.end();
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
        println!("{case}: {asked} hypercalls, {} of them for {}", functions.len(), few(&functions));
        let language = name.split('-').next().unwrap_or_default();
        let most = match (text(entry, "name"), language) {
            ("hello", "js") => 3,
            ("hello", "py") => 3,
            ("hello", _) => 1,
            // What was read brings that there is no more.
            ("echo", "js") => 5,
            ("echo", "py") => 4,
            ("echo", _) => 2,
            _ => u64::MAX,
        };
        // The clock is asked for again after a while; a machine that has much to do takes its time.
        let clocks = functions.iter().filter(|function| *function == "now").count() as u64;
        let asked = asked.saturating_sub(clocks.saturating_sub(1));
        assert!(asked <= most, "{case}: {asked} hypercalls, for {functions:?}");
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

/// A body whose chunks come while it is read.
struct Chunks(mpsc::Receiver<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// Has a handler's `/echo` answer a request whose body the client sends, and reads, as it likes.
fn echo<F: Future<Output = ()>>(
    name: &str,
    client: impl FnOnce(mpsc::Sender<Bytes>, oneshot::Receiver<Response<Body>>) -> F,
) -> sandgrain::Result<()> {
    let module = component(name);
    let sandbox = Sandbox::builder(&module).limits(limits()).wasi(wasi()).build();
    let mut sandbox = sandbox.expect("a sandbox");
    let (send, chunks) = mpsc::channel(1);
    let request = http::Request::post(uri("/echo")).body(Chunks(chunks));
    let (give, response) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let respond = |response| drop(give.send(response));
        let handled = sandbox.handle_http(request.expect("a request"), respond);
        tokio::join!(handled, client(send, response)).0
    })
}

/// Those whose example passes a body on as it comes.
const STREAMING: [&str; 1] = ["rust-http"];

#[test]
fn bodies_pass_in_both_directions_at_once() {
    for name in STREAMING {
        let client = |send: mpsc::Sender<Bytes>, response: oneshot::Receiver<Response<Body>>| async move {
            let mut body = None;
            let mut response = Some(response);
            for n in 0..20 {
                let text = format!("chunk {n}\n").repeat(n * n + 1);
                send.send(text.clone().into()).await.expect("it reads");
                if let Some(response) = response.take() {
                    body = Some(response.await.expect("a response").into_body());
                }
                let body = body.as_mut().expect("a body");
                let mut back = Vec::new();
                // The next chunk is sent when this one has come back.
                while back.len() < text.len() {
                    let frame = body.frame().await.expect("more").expect("no error");
                    back.extend_from_slice(&frame.into_data().expect("data"));
                }
                assert!(back == text.as_bytes(), "{name}, {n}");
            }
            drop(send);
            while let Some(frame) = body.as_mut().expect("a body").frame().await {
                let data = frame.expect("no error").into_data();
                assert!(data.is_err() || data.is_ok_and(|data| data.is_empty()), "{name}: more");
            }
        };
        echo(name, client).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_handler_whose_response_nobody_reads_comes_to_an_end() {
    for name in ["rust-http", "c-http"] {
        let client = |send: mpsc::Sender<Bytes>, response: oneshot::Receiver<Response<Body>>| async move {
            drop(response);
            let send = || timeout(Duration::from_secs(1), send.send(vec![b'x'; 4096].into()));
            // Until nobody takes it any more.
            while let Ok(Ok(())) = send().await {}
        };
        let handled = echo(name, client);
        // It may trap, since it cannot write.
        let is_over = matches!(handled, Ok(()) | Err(Error::Trap(_) | Error::Exit(_)));
        assert!(is_over, "{name}: {handled:?}");
        let module = component(name);
        answers(name, || Sandbox::builder(&module).limits(limits()).wasi(wasi()));
    }
}

#[test]
fn an_answer_whose_body_the_guest_leaves_is_an_error() {
    let module = component("rust-http");
    let limits = limits().deadline(Some(Duration::from_secs(2)));
    let sandbox = Sandbox::builder(&module).limits(limits).wasi(wasi()).build();
    let mut sandbox = sandbox.expect("a sandbox");
    // It is answered as it comes, and never ends.
    let (send, chunks) = mpsc::channel(1);
    send.try_send(Bytes::from("some of it")).expect("room for one");
    let request = http::Request::post(uri("/echo")).body(Chunks(chunks)).expect("a request");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answered = runtime.expect("a runtime").block_on(sandbox.answer_http(request));
    assert!(matches!(answered, Err(Error::Deadline(_))), "{answered:?}");
    drop(send);
}

#[test]
fn a_sandbox_that_is_reset_answers_again() {
    let module = component("rust-http");
    let first = Sandbox::builder(&module).limits(limits()).wasi(wasi()).build();
    let snapshot = first.expect("a sandbox").snapshot().expect("a snapshot");
    let pool = sandgrain::Pool::builder(&snapshot)
        .policy(sandgrain::Policy::Reset)
        .at_most(1)
        .parked(0..=1)
        .configure(|builder| builder.wasi(wasi()))
        .build()
        .expect("a pool");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for _ in 0..4 {
        let mut sandbox = pool.take("a tenant").expect("a sandbox");
        let response = runtime.block_on(sandbox.answer_http(request(&list("requests")[0])));
        assert_eq!(response.expect("a response").status(), 200);
    }
}
