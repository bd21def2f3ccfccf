//! The admin port: health, metrics and the status page, for those who run the server.

mod exposition;
mod readiness;
mod status;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::server::Shared;
use readiness::Readiness;

/// Connections at a time: people, and what scrapes.
const CONNECTIONS: usize = 64;
/// How long one may take for a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing is accepted after that has failed.
const PAUSE: Duration = Duration::from_millis(50);
const PAGE: &str = include_str!("admin/page.html");
/// Nothing but what is on the page itself, whatever a function's text may be taken for.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'";

/// Serves the admin port, also while the server drains.
pub(crate) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // It is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the admin port cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            serve(stream, shared).await;
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, &request)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(TIMEOUT);
    let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the admin port has ended early");
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/" => page(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()),
        "/healthz" => page(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => match readiness::of(shared) {
            Readiness { is_ready: true, text } => page(StatusCode::OK, TEXT, text),
            Readiness { text, .. } => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text),
        },
        "/metrics" => page(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            exposition::text(shared),
        ),
        "/status.json" => match serde_json::to_string(&status::of(shared)) {
            Ok(text) => page(StatusCode::OK, "application/json", text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        },
        _ => page(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /, /healthz, /readyz, /metrics and /status.json\n".to_owned(),
        ),
    }
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
