//! Answers on their way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use sandgrain::wasi::component::Body as GuestBody;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::RETRY_AFTER;
use super::story::Story;
use crate::telemetry::Failure;

/// Where an answer's body comes from.
pub(super) enum Source {
    /// A handler, as it writes.
    Guest(GuestBody),
    /// A program's standard output, and whether it is complete once it has ended.
    Output { pieces: mpsc::Receiver<Bytes>, is_complete: Arc<AtomicBool> },
}

/// The body of an answer.
pub(crate) struct Outgoing {
    kind: Kind,
    /// Bytes that it has, if that is known: by the answer's headers, say.
    promised: Option<u64>,
    story: Arc<Story>,
}

enum Kind {
    /// All of it.
    Whole(Bytes),
    /// What a function writes. Once nobody wants it any more, the function is stopped.
    Flowing {
        source: Source,
        limit: u64,
        call: AbortHandle,
    },
    /// It has broken off, which is still to be told.
    Broken(Broken),
    Over,
}

impl Outgoing {
    /// A body that a function writes.
    pub(super) fn flowing(
        source: Source,
        promised: Option<u64>,
        limit: u64,
        call: AbortHandle,
        story: Arc<Story>,
    ) -> Self {
        // A body that is known to be empty is not asked for its end.
        let known = match &source {
            Source::Guest(body) => body.size_hint().exact(),
            Source::Output { .. } => None,
        };
        let promised = promised.or(known);
        Self { kind: Kind::Flowing { source, limit, call }, promised, story }
    }

    /// Nothing more, of an answer whose function goes on.
    pub(super) fn none(story: Arc<Story>) -> Self {
        Self { kind: Kind::Over, promised: None, story }
    }

    /// The rest of a body whose bytes nobody is sent, as after HEAD.
    pub(super) async fn discard(mut self) {
        let mut body = Pin::new(&mut self);
        while let Some(Ok(_)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
    }
}

/// What an answer's body fails with. The client sees that its end is missing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(String);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let (source, limit) = match &mut this.kind {
            Kind::Over => return Poll::Ready(None),
            Kind::Broken(_) => {
                let broken = std::mem::replace(&mut this.kind, Kind::Over);
                let Kind::Broken(broken) = broken else { return Poll::Ready(None) };
                return Poll::Ready(Some(Err(broken)));
            }
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Over;
                this.story.sent(bytes.len());
                return Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::data(bytes))));
            }
            Kind::Flowing { source, limit, .. } => (source, *limit),
        };
        let polled = match source {
            Source::Guest(body) => {
                Pin::new(body).poll_frame(context).map_err(|error| Broken(error.to_string()))
            }
            Source::Output { pieces, is_complete } => {
                pieces.poll_recv(context).map(|piece| match piece {
                    Some(piece) => Some(Ok(Frame::data(piece))),
                    None if is_complete.load(Ordering::Acquire) => None,
                    None => Some(Err(Broken("the program has failed".to_owned()))),
                })
            }
        };
        let Poll::Ready(frame) = polled else { return Poll::Pending };
        let failed = match frame {
            Some(Ok(frame)) => {
                let sent = this.story.sent(frame.data_ref().map_or(0, Bytes::len));
                if sent <= limit {
                    return Poll::Ready(Some(Ok(frame)));
                }
                this.story.fail(Failure::Limit);
                Some(Broken("the answer is larger than the function may make it".to_owned()))
            }
            Some(Err(broken)) => Some(broken),
            None => None,
        };
        let before = std::mem::replace(&mut this.kind, Kind::Over);
        let Some(broken) = failed else { return Poll::Ready(None) };
        if let Kind::Flowing { call, .. } = before {
            call.abort();
        }
        // What was written up to here goes out first: an error would have the connection closed without it.
        this.kind = Kind::Broken(broken);
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Over => true,
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Flowing { .. } | Kind::Broken(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Over => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Flowing { source: Source::Guest(body), .. } => body.size_hint(),
            Kind::Flowing { .. } | Kind::Broken(_) => SizeHint::default(),
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // Of a promised length nobody asks for more than that; then the function may go on.
        if let Kind::Flowing { call, .. } = &self.kind
            && self.promised.is_none_or(|promised| self.story.bytes_sent() < promised)
        {
            // The connection has ended before the answer has.
            self.story.fail(Failure::ClientGone);
            call.abort();
        }
    }
}

/// An answer that says what is wrong.
pub(crate) fn refusal(
    story: Story,
    failure: Failure,
    status: StatusCode,
    text: &'static str,
) -> Response<Outgoing> {
    story.fail(failure);
    refuse(Arc::new(story), status, text)
}

/// An answer to a request that nobody is there for.
pub(super) fn unrouted(story: Story) -> Response<Outgoing> {
    refuse(Arc::new(story), StatusCode::NOT_FOUND, "no function answers for this path")
}

/// An answer of the server's own.
pub(super) fn refuse(
    story: Arc<Story>,
    status: StatusCode,
    text: &'static str,
) -> Response<Outgoing> {
    story.answered(status);
    let body = format!("{text}\ntrace: {}\n", story.trace_id());
    let mut response =
        Response::new(Outgoing { kind: Kind::Whole(Bytes::from(body)), promised: None, story });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    // What is left of a request that is not read, or was not understood, is nobody's next one.
    let closes = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
    );
    if closes {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The status and the text of an answer in place of one that a function owes.
pub(super) fn of_failure(failure: Failure) -> (StatusCode, &'static str) {
    match failure {
        Failure::Trap => (StatusCode::BAD_GATEWAY, "the function has failed"),
        Failure::NoAnswer => (StatusCode::BAD_GATEWAY, "the function has not answered"),
        Failure::Limit => (StatusCode::BAD_GATEWAY, "the function has reached a limit"),
        Failure::Deadline => (StatusCode::GATEWAY_TIMEOUT, "the function has taken too long"),
        Failure::BodySize => (StatusCode::PAYLOAD_TOO_LARGE, super::upload::TOO_LARGE),
        Failure::ClientSlow | Failure::ClientGone => {
            (StatusCode::REQUEST_TIMEOUT, "the request's body did not come")
        }
        Failure::HeaderSize => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")
        }
        Failure::BadRequest => (StatusCode::BAD_REQUEST, "the request cannot be passed on"),
        Failure::Busy | Failure::Draining => {
            (StatusCode::SERVICE_UNAVAILABLE, "the server is busy")
        }
        Failure::Host => (StatusCode::BAD_GATEWAY, "the function's VM was lost"),
    }
}
