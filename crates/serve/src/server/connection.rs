//! One connection of a client's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::stream::Paced;
use super::{Shared, end_begins, leaving_begins};
use crate::request;
use crate::telemetry::records::Malformed;

/// Bytes of a request's headers that a connection takes in at the most; functions have limits of their own below.
const MAX_HEAD: usize = 128 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 128;
/// Requests at a time on one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// How often a silent connection of HTTP/2 is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, client: SocketAddr, shared: Arc<Shared>) {
    struct Counted(Arc<Shared>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.counts.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
    shared.counts.connections.fetch_add(1, Ordering::Relaxed);
    let counted = Counted(Arc::clone(&shared));
    // Answers are small as a rule, and are written at once. A socket that refuses that is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let settings = &shared.settings;
    let io = TokioIo::new(Paced::new(stream, settings.body_timeout));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(settings.header_timeout);
    // Told of each request that comes by HTTP/2: before the first one it is not known which kind the connection is of.
    let by_http2 = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        if request.version() == Version::HTTP_2 {
            by_http2.notify_one();
        }
        // Later versions have no such header, and earlier ones close as a rule.
        let is_http11 = request.version() == Version::HTTP_11;
        async move {
            let mut response = request::answer(Arc::clone(&shared), client, request).await;
            if is_http11 && shared.is_leaving() {
                // The next request of this client's is for another server.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut phase = shared.phase.subscribe();
    let goes_away = async {
        leaving_begins(&mut phase).await;
        // One of HTTP/2 is told at once, as those of HTTP/1.1 are with their next answer: what is under way, or on the
        // wire, goes on. One that has had no request is told with its first: its client would only come back. One of
        // HTTP/1 that waits for a request is closed when there are to be no more: one may be on the wire.
        tokio::select! {
            () = by_http2.notified() => {}
            () = end_begins(&mut phase) => {}
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = goes_away => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // What clients do wrong is theirs to see. What it comes to is in the records of their requests; what was none
        // has one of its own.
        let error: &(dyn std::error::Error + 'static) = &*error;
        if let Some(error) = error.downcast_ref::<hyper::Error>().filter(|error| error.is_parse()) {
            shared.counts.malformed.fetch_add(1, Ordering::Relaxed);
            // What is too large is sent one of two others, and a preface of HTTP/2 with something else behind it none.
            let is_other = error.is_parse_too_large() || error.is_parse_version_h2();
            shared.records.malformed(&Malformed {
                client: &client.to_string(),
                status: (!is_other).then_some(400),
                detail: &error.to_string(),
            });
        }
        tracing::debug!(%client, %error, "a connection has ended early");
    }
    drop(counted);
}
