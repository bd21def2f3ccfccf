//! What is told of a request, once, when it is over.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Version, header};
use sandgrain::wasi::Trace;

use crate::deploy::Function;
use crate::server::Shared;
use crate::telemetry::Failure;
use crate::telemetry::export::Export;
use crate::telemetry::otlp_json::{Span, SpanKind, Value};
use crate::telemetry::records::{Access, Crash, cut, unix_nanos};
use crate::telemetry::trace_context::TraceContext;

/// A request from its beginning to its end. Dropped when both its answer and its function are done: then it is
/// recorded.
pub(crate) struct Story {
    shared: Arc<Shared>,
    client: SocketAddr,
    method: String,
    path: String,
    host: String,
    protocol: &'static str,
    begun: Instant,
    trace: TraceContext,
    /// The client's span, if it has said which.
    parent: Option<[u8; 8]>,
    /// The client's `tracestate`.
    state: Option<HeaderValue>,
    function: Option<Arc<Function>>,
    status: AtomicU16,
    bytes: AtomicU64,
    failure: OnceLock<Failure>,
    /// How long after the beginning the function was called, and for how long.
    call: OnceLock<(Duration, Duration)>,
}

/// What stands in place of a method where a schedule has a function run.
const SCHEDULE: &str = "SCHEDULE";
/// Bytes of a path or a host that are kept.
const MAX_KEPT: usize = 1024;

fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_KEPT)].to_owned()
}

impl Story {
    pub(super) fn new<B>(shared: Arc<Shared>, client: SocketAddr, request: &Request<B>) -> Self {
        let (trace, parent, state) = super::trace_of(request.headers());
        let of_header = || request.headers().get(header::HOST)?.to_str().ok();
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        Self {
            shared,
            client,
            method: request.method().as_str().to_owned(),
            path: kept(request.uri().path()),
            host: kept(authority.or_else(of_header).unwrap_or_default()),
            protocol: match request.version() {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_11 => "HTTP/1.1",
                _ => "HTTP/2",
            },
            begun: Instant::now(),
            trace,
            parent,
            state,
            function: None,
            status: AtomicU16::new(0),
            bytes: AtomicU64::new(0),
            failure: OnceLock::new(),
            call: OnceLock::new(),
        }
    }

    /// That of a run that nobody has asked for but a schedule.
    pub(super) fn scheduled(shared: Arc<Shared>, schedule: &str) -> Self {
        let client = shared.address;
        let mut story = Self::new(shared, client, &Request::new(()));
        story.method = SCHEDULE.to_owned();
        story.path = schedule.to_owned();
        story
    }

    pub(super) fn is_for(&mut self, function: &Arc<Function>) {
        self.function = Some(Arc::clone(function));
    }

    /// Bytes that the request's body may have.
    pub(super) fn body_limit(&self) -> u64 {
        self.function.as_ref().map_or(0, |function| function.limits.request_body)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.client
    }

    /// The trace as the function is told of it, and those that it asks.
    pub(super) fn trace_headers(&self) -> Option<Trace> {
        let parent = HeaderValue::try_from(self.trace.to_string()).ok()?;
        Some(Trace { parent, state: self.state.clone() })
    }

    pub(super) fn trace_id(&self) -> String {
        self.trace.trace_id_text()
    }

    /// Something has gone wrong. Only the first is counted: what follows from it is no failure of its own. Whether this
    /// is the first.
    pub(super) fn fail(&self, failure: Failure) -> bool {
        let is_first = self.failure.set(failure).is_ok();
        if is_first && let Some(function) = &self.function {
            function.metrics.failed(failure);
        }
        is_first
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.get().copied()
    }

    /// The function has run, from then until now.
    pub(super) fn called(&self, begun: Instant) {
        let took = begun.elapsed();
        if let Some(function) = &self.function {
            function.metrics.invoke.add(took);
        }
        // There is one call for each request.
        let _ = self.call.set((begun.saturating_duration_since(self.begun), took));
    }

    /// The status that the client is sent.
    pub(super) fn answered(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
        if let Some(function) = &self.function {
            function.metrics.answered(status.as_u16());
        }
    }

    /// So many more bytes have been sent.
    pub(super) fn sent(&self, bytes: usize) -> u64 {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64
    }

    /// Bytes that have been sent so far.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Reports that the function has failed.
    pub(super) fn crashed(&self, failure: Failure, error: &sandgrain::Error, exits: u64) {
        let Some(function) = &self.function else { return };
        let backtrace = match error {
            sandgrain::Error::Trap(trap) => trap.backtrace().collect(),
            _ => Vec::new(),
        };
        let crash = Crash {
            application: function.application.to_string(),
            tenant: function.tenant.to_string(),
            function: function.id.to_string(),
            digest: function.digest.clone(),
            kind: failure.name(),
            status: match self.status.load(Ordering::Relaxed) {
                0 => super::answer::of_failure(failure).0.as_u16(),
                sent => sent,
            },
            message: cut(error.to_string().as_bytes()),
            backtrace,
            exits,
            trace_id: self.trace_id(),
        };
        self.shared.records.crash(crash, &self.trace);
    }

    /// The request as a span, for a collector, and its function's call as another.
    fn export(&self, export: &Export) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let end = unix_nanos();
        let start = end.saturating_sub(nanos(self.begun.elapsed()));
        if let Some((after, took)) = self.call.get() {
            let mut random = [0; 8];
            // As for all spans: without randomness they cannot be told apart.
            let _ = getrandom::fill(&mut random);
            let start = start.saturating_add(nanos(*after));
            export.span(Span {
                span_id: self.trace.child(random).span_id,
                trace_id: self.trace.trace_id,
                parent: Some(self.trace.span_id),
                name: "call".to_owned(),
                kind: SpanKind::Internal,
                start_unix_nano: start,
                end_unix_nano: start.saturating_add(nanos(*took)),
                attributes: Vec::new(),
                error: None,
            });
        }
        let status = self.status.load(Ordering::Relaxed);
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("http.request.method", self.method.as_str().into()),
            ("url.path", self.path.as_str().into()),
            ("server.address", self.host.as_str().into()),
            ("client.address", self.client.ip().to_string().into()),
            ("http.response.status_code", i64::from(status).into()),
        ];
        let name = match &self.function {
            Some(function) => {
                attributes.extend([
                    ("faas.name", Value::from(&*function.id)),
                    ("sandgrain.application", Value::from(&*function.application)),
                    ("sandgrain.tenant", Value::from(&*function.tenant)),
                ]);
                function.id.to_string()
            }
            None => "unrouted".to_owned(),
        };
        export.span(Span {
            trace_id: self.trace.trace_id,
            span_id: self.trace.span_id,
            parent: self.parent,
            name,
            kind: SpanKind::Server,
            start_unix_nano: start,
            end_unix_nano: end,
            attributes,
            error: self.failure().map(|failure| failure.name().to_owned()),
        });
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if self.status.load(Ordering::Relaxed) == 0 && self.method != SCHEDULE {
            // It went while it waited.
            self.fail(Failure::ClientGone);
        }
        if self.trace.sampled
            && let Some(export) = self.shared.records.export()
        {
            self.export(export);
        }
        if !self.shared.records.has_accesses() {
            return;
        }
        let function = self.function.as_deref();
        self.shared.records.access(&Access {
            client: &self.client.to_string(),
            method: &self.method,
            path: &self.path,
            host: &self.host,
            protocol: self.protocol,
            status: self.status.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            seconds: self.begun.elapsed().as_secs_f64(),
            application: function.map(|function| &*function.application),
            tenant: function.map(|function| &*function.tenant),
            function: function.map(|function| &*function.id),
            failure: self.failure().map(Failure::name),
            trace_id: &self.trace_id(),
        });
    }
}
