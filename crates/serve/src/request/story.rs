//! What is told of a request, once, when it is over.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{HeaderMap, Request, Version, header};

use crate::deploy::Function;
use crate::server::Shared;
use crate::telemetry::Failure;
use crate::telemetry::records::{Access, Crash, cut};
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
    function: Option<Arc<Function>>,
    status: AtomicU16,
    bytes: AtomicU64,
    failure: OnceLock<Failure>,
}

/// What stands in place of a method where a schedule has a function run.
const SCHEDULE: &str = "SCHEDULE";
/// Bytes of a path or a host that are kept.
const MAX_KEPT: usize = 1024;

fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_KEPT)].to_owned()
}

impl Story {
    pub(super) fn new<B>(
        shared: Arc<Shared>,
        client: SocketAddr,
        request: &Request<B>,
        trace: TraceContext,
    ) -> Self {
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
            function: None,
            status: AtomicU16::new(0),
            bytes: AtomicU64::new(0),
            failure: OnceLock::new(),
        }
    }

    /// That of a run that nobody has asked for but a schedule.
    pub(super) fn scheduled(shared: Arc<Shared>, schedule: &str) -> Self {
        let client = shared.address;
        let mut story =
            Self::new(shared, client, &Request::new(()), super::trace_of(&HeaderMap::new()));
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

    pub(super) fn trace(&self) -> &TraceContext {
        &self.trace
    }

    pub(super) fn trace_id(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace.trace_id))
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

    /// Reports that the function has failed.
    pub(super) fn crashed(&self, failure: Failure, error: &sandgrain::Error, exits: u64) {
        let Some(function) = &self.function else { return };
        let backtrace = match error {
            sandgrain::Error::Trap(trap) => trap.backtrace().collect(),
            _ => Vec::new(),
        };
        self.shared.records.crash(Crash {
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
        });
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if self.status.load(Ordering::Relaxed) == 0 && self.method != SCHEDULE {
            // It went while it waited.
            self.fail(Failure::ClientGone);
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
