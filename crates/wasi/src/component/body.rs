//! Bodies of HTTP messages, with their limits.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error;

/// The body of a guest's response, as the guest writes it.
pub struct Body {
    body: UnsyncBoxBody<Bytes, Error>,
    broken: Arc<AtomicBool>,
}

impl Body {
    pub(super) fn new(
        body: UnsyncBoxBody<Bytes, Error>,
        limit: u64,
        broken: Arc<AtomicBool>,
    ) -> Self {
        let body = Limited::new(body, limit, Error::HttpResponseBodySize).boxed_unsync();
        Self { body, broken }
    }
}

/// Whether a guest's body can come to its end. Unless it is told that the guest has returned, the body breaks off
/// with an error when this is dropped, instead of looking as if it was complete. It has to be dropped before the
/// guest's handles are.
#[derive(Debug)]
pub struct BodyEnd(Option<Arc<AtomicBool>>);

impl BodyEnd {
    /// That of a new body, and what the body looks at.
    pub(super) fn new() -> (Self, Arc<AtomicBool>) {
        let broken = Arc::<AtomicBool>::default();
        (Self(Some(Arc::clone(&broken))), broken)
    }

    /// The guest has returned: it has written what it wanted to.
    pub fn returned(mut self) {
        self.0 = None;
    }
}

impl Drop for BodyEnd {
    fn drop(&mut self) {
        if let Some(broken) = &self.0 {
            broken.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            // With a guest's handles go its bodies, and end where they are.
            None if self.broken.swap(false, Ordering::AcqRel) => {
                Some(Err(BodyError("its guest ended before it was complete".to_owned())))
            }
            frame => frame.map(|frame| frame.map_err(|error| BodyError(error.to_string()))),
        })
    }

    fn is_end_stream(&self) -> bool {
        !self.broken.load(Ordering::Acquire) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a guest's body ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest's body: {0}")]
pub struct BodyError(String);

/// A body that may have so many bytes, and take so long for each part of it.
pub(super) struct Limited<B> {
    body: Pin<Box<B>>,
    left: u64,
    limit: u64,
    over: fn(Option<u64>) -> Error,
    patience: Option<(Duration, Pin<Box<Sleep>>)>,
    has_failed: bool,
}

impl<B> Limited<B> {
    pub(super) fn new(body: B, limit: u64, over: fn(Option<u64>) -> Error) -> Self {
        let body = Box::pin(body);
        Self { body, left: limit, limit, over, patience: None, has_failed: false }
    }

    /// Lets each part of the body take only so long. This has to be called in a tokio runtime.
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some((patience, Box::pin(tokio::time::sleep(patience))));
        self
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.has_failed = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl<B> HttpBody for Limited<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.has_failed {
            return Poll::Ready(None);
        }
        let frame = match this.body.as_mut().poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some((_, sleep)) = &mut this.patience else { return Poll::Pending };
                ready!(sleep.as_mut().poll(context));
                return this.fail(Error::ConnectionReadTimeout);
            }
        };
        if let Some((patience, sleep)) = &mut this.patience {
            // Far enough in the future is never.
            let far = || Instant::now() + Duration::from_secs(1 << 31);
            let until = Instant::now().checked_add(*patience).unwrap_or_else(far);
            sleep.as_mut().reset(until);
        }
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return this.fail(error.into()),
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        match this.left.checked_sub(bytes) {
            Some(left) => {
                this.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => this.fail((this.over)(Some(this.limit))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_failed || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
