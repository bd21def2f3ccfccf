//! HTTP requests that a guest is to answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::body::{Body, BodyEnd, Limited};
use super::http::header_bytes;
use crate::{Error, Wasi};

/// A request for a guest: the arguments with which its export `handle` of `wasi:http/incoming-handler` is
/// called, and what it answers.
#[derive(Debug)]
pub struct Incoming {
    /// The handle of the `incoming-request`, which the guest gets as its own.
    pub request: u32,
    /// The handle of the `response-outparam`, which the guest gets as its own.
    pub response_outparam: u32,
    /// The response. It can come before the guest returns, whose body may be written until then.
    pub response: Response,
    /// To be told when the guest has returned.
    pub end: BodyEnd,
}

/// A guest's response, to be awaited on any executor.
pub struct Response {
    received: oneshot::Receiver<Result<http::Response<HyperOutgoingBody>, ErrorCode>>,
    body_limit: u64,
    broken: Arc<AtomicBool>,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoResponse {
    /// The guest says that it failed.
    #[error("the guest answers the request with the error {0}")]
    Failed(String),
    /// The guest has not answered, and will not: it has dropped the `response-outparam`, or has ended.
    #[error("the guest did not answer the request")]
    Dropped,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}

impl Future for Response {
    type Output = Result<http::Response<Body>, NoResponse>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let received = ready!(Pin::new(&mut self.received).poll(context));
        Poll::Ready(match received {
            Ok(Ok(response)) => {
                let (limit, broken) = (self.body_limit, Arc::clone(&self.broken));
                Ok(response.map(|body| Body::new(body, limit, broken)))
            }
            Ok(Err(error)) => Err(NoResponse::Failed(error.to_string())),
            Err(_) => Err(NoResponse::Dropped),
        })
    }
}

impl Wasi {
    /// Takes a request that a component is to answer.
    ///
    /// The request's URI has an authority, or it has a `host` header. Whether it came over TLS, for which the
    /// guest may ask, its scheme says, and is not if it has none. The body is read when the guest asks for it,
    /// and may have as many bytes as [`HttpLimits`](crate::HttpLimits) say.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] for headers that are too large, or if the guest has no handles left, and
    /// [`Error::Config`] for a request without a host. Otherwise those that the first call of
    /// [`call_component`](Self::call_component) may have.
    pub fn incoming_request<B>(&mut self, request: http::Request<B>) -> Result<Incoming, Error>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: fmt::Display,
    {
        let limits = self.config().http;
        if header_bytes(request.headers()) > limits.header_bytes {
            let (what, setting) = ("bytes of headers in a request", "http_limits");
            return Err(Error::Limit { what, limit: limits.header_bytes as u64, setting });
        }
        let scheme = match request.uri().scheme_str() {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        let request = request.map(|body| {
            let body = body.map_err(|error| {
                wasmtime_wasi_http::Error::InternalError(Some(format!("the body: {error}")))
            });
            Limited::new(body, limits.body_bytes, wasmtime_wasi_http::Error::HttpRequestBodySize)
        });
        let has_host = request.uri().authority().is_some()
            || request.headers().get(http::header::HOST).is_some_and(|host| host.to_str().is_ok());
        if !has_host {
            return Err(Error::Config(
                "the request names no host; give its URI an authority or add a host header"
                    .to_owned(),
            ));
        }
        let mut lent = self.lend()?;
        let limit = self.config().max_handles.into();
        let full = |_| Error::Limit { what: "handles", limit, setting: "max_handles" };
        let (sender, received) = oneshot::channel();
        let mut view = lent.http();
        let request = view.new_incoming_request(scheme, request).map_err(full)?;
        let outparam = match view.new_response_outparam(sender) {
            Ok(outparam) => outparam,
            Err(error) => {
                // Nobody has the other handle.
                let _ = view.table.delete(request);
                return Err(full(error));
            }
        };
        let (end, broken) = BodyEnd::new();
        let response = Response { received, body_limit: limits.body_bytes, broken };
        let (request, response_outparam) = (request.rep(), outparam.rep());
        Ok(Incoming { request, response_outparam, response, end })
    }
}
