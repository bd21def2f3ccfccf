//! What becomes of a request: its function, its turn, its VM, its answer.

mod answer;
mod call;
mod program;
mod story;
mod upload;

pub(crate) use answer::{Outgoing, refusal};
pub(crate) use program::run_scheduled;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use sandgrain::wasi::Trace;

use crate::admission::Full;
use crate::deploy::Function;
use crate::headers::{content_length, is_of_one_connection};
use crate::manifest::Executor;
use crate::routes::HEADER_PREFIX;
use crate::server::Shared;
use crate::telemetry::Failure;
use crate::telemetry::trace_context::{TraceContext, tracestate};
use story::Story;
use upload::Upload;

/// How long those who are refused are asked to stay away, in seconds.
const RETRY_AFTER: &str = "1";

/// Answers a request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    client: SocketAddr,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    let mut story = Story::new(Arc::clone(&shared), client, &request);
    if let Err(problem) = check_framing(&request) {
        shared.counts.malformed.fetch_add(1, Ordering::Relaxed);
        return refusal(story, Failure::BadRequest, StatusCode::BAD_REQUEST, problem);
    }
    let sites = shared.sites();
    let deployment = sites.find(story.host());
    let path = request.uri().path().to_owned();
    let found =
        deployment.and_then(|deployment| Some((deployment, deployment.routes.find(&path)?)));
    let Some((deployment, route)) = found else {
        shared.counts.unrouted.fetch_add(1, Ordering::Relaxed);
        return answer::unrouted(story);
    };
    let trigger = route.function;
    let Some(function) = deployment.functions.get(trigger.function) else {
        shared.counts.unrouted.fetch_add(1, Ordering::Relaxed);
        return answer::unrouted(story);
    };
    let function = Arc::clone(function);
    let executor = trigger.executor.clone();
    let is_handler = matches!(executor, Executor::Http);
    let routed = Routed {
        // A program is told in its environment.
        headers: if is_handler { route.headers() } else { Vec::new() },
        parameters: route
            .parameters()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        script_name: path[..path.len() - route.rest().map_or(0, str::len)].to_owned(),
        path_info: route.rest().unwrap_or_default().to_owned(),
        route: route.route.to_string(),
    };
    function.metrics.requests.fetch_add(1, Ordering::Relaxed);
    story.is_for(&function);
    drop(sites);
    if let Some((failure, status, text)) = check_sizes(&request, &function) {
        return refusal(story, failure, status, text);
    }
    let permit = match turn(&shared, &function).await {
        Ok(permit) => permit,
        Err((failure, status, text)) => return refusal(story, failure, status, text),
    };
    let begun = Instant::now();
    let vm = match function.take().await {
        Ok(vm) => vm,
        Err(error) => {
            tracing::error!(function = &*function.id, %error, "no VM for a request");
            let text = "there is no VM for the function at the moment";
            return refusal(story, Failure::Host, StatusCode::SERVICE_UNAVAILABLE, text);
        }
    };
    function.metrics.init.add(begun.elapsed());
    if vm.is_cold {
        function.metrics.cold_starts.fetch_add(1, Ordering::Relaxed);
    }
    let story = Arc::new(story);
    let request = passed_on(request, &story, &routed);
    let under_way = call::UnderWay::new(vm, story, permit, function, shared);
    match executor {
        Executor::Http => call::handler(under_way, request).await,
        Executor::Wagi { argv, entrypoint } => {
            program::wagi(under_way, request, routed, &argv, entrypoint).await
        }
    }
}

/// How a request was routed.
struct Routed {
    headers: Vec<(String, String)>,
    parameters: Vec<(String, String)>,
    script_name: String,
    path_info: String,
    route: String,
}

/// A failure, the status that says it, and what else is said.
type Refused = (Failure, StatusCode, &'static str);

/// The trace that a request belongs to, the client's span in it, of which it is a part, and what others keep in its
/// `tracestate`; or a new trace.
fn trace_of(headers: &HeaderMap) -> (TraceContext, Option<[u8; 8]>, Option<HeaderValue>) {
    let mut random = [0; 24];
    // Without randomness traces cannot be told apart; requests are answered all the same.
    let _ = getrandom::fill(&mut random);
    let mut own = [0; 8];
    own.copy_from_slice(&random[16..]);
    match TraceContext::received(headers) {
        Some(parent) => {
            let state = tracestate(headers).and_then(|state| HeaderValue::try_from(state).ok());
            (parent.child(own), Some(parent.span_id), state)
        }
        None => (TraceContext::new(random, true), None, None),
    }
}

/// Whether the request says what it is for in one way only. Where it ends hyper has seen to: it refuses what can be
/// read in two ways, but for a length beside a chunked body, which it drops with the connection after the answer.
fn check_framing(request: &Request<Incoming>) -> Result<(), &'static str> {
    let headers = request.headers();
    if request.method() == Method::CONNECT {
        return Err("this is no proxy");
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err("the request has several Host headers");
    }
    if first.is_none() && request.uri().authority().is_none() {
        return Err("the request has no Host");
    }
    Ok(())
}

/// Whether the headers, and what is said of the body, are within the function's limits.
fn check_sizes(request: &Request<Incoming>, function: &Function) -> Option<Refused> {
    let headers = request.headers().iter();
    let bytes: usize = headers.map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if (bytes + target) as u64 > function.limits.header_bytes {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Some((
            Failure::HeaderSize,
            status,
            "the headers are larger than the function takes",
        ));
    }
    let length = content_length(request.headers());
    if length.is_some_and(|length| length > function.limits.request_body) {
        return Some((Failure::BodySize, StatusCode::PAYLOAD_TOO_LARGE, upload::TOO_LARGE));
    }
    None
}

/// Waits for the request's turn.
async fn turn(shared: &Shared, function: &Function) -> Result<crate::admission::Permit, Refused> {
    if shared.is_draining() {
        let text = "the server is about to end";
        return Err((Failure::Draining, StatusCode::SERVICE_UNAVAILABLE, text));
    }
    let begun = Instant::now();
    let most = function.limits.deadline.unwrap_or(Duration::MAX);
    let patience = shared.settings.queue_timeout.min(most);
    let admitted = tokio::time::timeout(patience, function.seat.admit()).await;
    function.metrics.wait.add(begun.elapsed());
    match admitted {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(Full::Function)) => Err((
            Failure::Busy,
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests wait for the function",
        )),
        Ok(Err(Full::Tenant)) => Err((
            Failure::Busy,
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests wait for functions of its tenant",
        )),
        Err(_) => Err((
            Failure::Busy,
            StatusCode::SERVICE_UNAVAILABLE,
            "the request has waited for its turn too long",
        )),
    }
}

/// The request as the function is given it: without what is about the connection, with what only the server knows.
fn passed_on(request: Request<Incoming>, story: &Arc<Story>, routed: &Routed) -> Request<Upload> {
    let (mut parts, body) = request.into_parts();
    let headers = &mut parts.headers;
    // What it names is about this connection, too.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in &named {
        // Where the body ends is known, and what the request is for stays.
        if *name != header::HOST && *name != header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    let is_not_passed_on =
        |name: &HeaderName| is_of_one_connection(name) || name.as_str().starts_with(HEADER_PREFIX);
    let others: Vec<HeaderName> =
        headers.keys().filter(|name| is_not_passed_on(name)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
    for (name, value) in &routed.headers {
        // Names and values are parts of a route and of a path, which are fit for headers as they are.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    headers.remove("tracestate");
    if let Some(Trace { parent, state }) = story.trace_headers() {
        headers.insert("traceparent", parent);
        if let Some(state) = state {
            headers.insert("tracestate", state);
        }
    }
    let upload = Upload::new(body, story);
    Request::from_parts(parts, upload)
}
