//! The body of a request, on its way to the function.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::story::Story;
use crate::telemetry::Failure;

/// What a client is told whose body is too large.
pub(super) const TOO_LARGE: &str = "the body is larger than the function takes";

/// A request's body, which may have so many bytes, each piece of which may take so long.
pub(crate) struct Upload {
    body: Incoming,
    left: u64,
    patience: Duration,
    /// Runs while the client does not send.
    stalled: Option<Pin<Box<Sleep>>>,
    /// A VM that waits to be dropped may have the body still, and must not hold back what is told of the request.
    story: Weak<Story>,
}

impl Upload {
    pub(super) fn new(body: Incoming, story: &Arc<Story>) -> Self {
        let patience = story.shared().settings.body_timeout;
        let left = story.body_limit();
        Self { body, left, patience, stalled: None, story: Arc::downgrade(story) }
    }

    fn fail(&mut self, failure: Failure, text: &str) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        if let Some(story) = self.story.upgrade() {
            story.fail(failure);
        }
        Poll::Ready(Some(Err(text.to_owned())))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let patience = this.patience;
                let stalled = this.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
                ready!(stalled.as_mut().poll(context));
                stalled.as_mut().reset(Instant::now() + patience);
                return this.fail(Failure::ClientSlow, "the client has stopped sending");
            }
        };
        this.stalled = None;
        match frame {
            None => Poll::Ready(None),
            Some(Err(error)) => {
                let text = format!("the client's connection: {error}");
                this.fail(Failure::ClientGone, &text)
            }
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                match this.left.checked_sub(bytes) {
                    Some(left) => {
                        this.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => this.fail(Failure::BodySize, TOO_LARGE),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
