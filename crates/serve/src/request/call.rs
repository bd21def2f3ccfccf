//! A function's call for a request: a task of its own, which ends with the client's connection, or with the call.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::{Method, Request, Response, StatusCode};
use sandgrain::{Error, Pooled, Sandbox};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::answer::{self, Outgoing, Source};
use super::story::Story;
use super::upload::Upload;
use crate::admission::Permit;
use crate::deploy::{Function, TakenVm};
use crate::headers::content_length;
use crate::server::Shared;
use crate::telemetry::Failure;
use crate::telemetry::records::{Output, cut};

/// A request whose turn has come, and its VM. Dropped in the order of its fields: the next one, whose turn it is then,
/// finds room for a VM, and who waits for the last one to leave finds all told of it.
pub(super) struct UnderWay {
    /// Taken out when this is dropped.
    vm: Option<Pooled>,
    pub(super) story: Arc<Story>,
    /// Taken out when this is dropped and its VM is not gone at once.
    permit: Option<Permit>,
    pub(super) function: Arc<Function>,
    pub(super) shared: Arc<Shared>,
}

impl UnderWay {
    pub(super) fn new(
        vm: TakenVm,
        story: Arc<Story>,
        permit: Permit,
        function: Arc<Function>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { vm: Some(vm.sandbox), story, permit: Some(permit), function, shared }
    }

    pub(super) fn sandbox(&mut self) -> &mut Pooled {
        self.vm.as_mut().unwrap_or_else(|| unreachable!("taken out only when this is dropped"))
    }

    /// The sandbox, for its one call, which is part of the request's trace and makes room for others while it waits.
    pub(super) fn for_its_call(&mut self) -> &mut Sandbox {
        let trace = self.story.trace_headers();
        let told = self.permit.as_ref().map(Permit::on_wait);
        let sandbox = self.sandbox().last_call();
        if let Some(told) = told {
            sandbox.on_wait(told);
        }
        sandbox.set_trace(trace);
        sandbox
    }

    /// Counts and records what the call has come to, while the VM is still there.
    pub(super) fn settle(&mut self, error: Option<Error>, give: &Give) {
        let sandbox = self.sandbox();
        let (exits, printed) =
            (sandbox.stats().exits, [sandbox.take_stdout(), sandbox.take_stderr()]);
        let Self { story, function, shared, .. } = self;
        function.metrics.exits.fetch_add(exits, Ordering::Relaxed);
        for (stream, text) in ["stdout", "stderr"].into_iter().zip(printed) {
            if !text.is_empty() {
                shared.records.output(&Output {
                    application: &function.application,
                    function: &function.id,
                    stream,
                    text: cut(&text),
                    trace_id: &story.trace_id(),
                });
            }
        }
        let Some(error) = error else { return };
        let failure = failure_of(&error);
        // A function that fails for want of its request has not failed by itself.
        if story.fail(failure) && failure.is_crash() {
            story.crashed(failure, &error, exits);
        }
        give.give(Err(story.failure().unwrap_or(failure)));
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Some(vm) = self.vm.take() else { return };
        // No tenant's worker holds up a thread that serves others; whose turn is next waits for it all the same.
        if let Err(left) = vm.give_back_at_once()
            && let Ok(runtime) = Handle::try_current()
        {
            let permit = self.permit.take();
            runtime.spawn_blocking(move || drop((left, permit)));
        }
    }
}

/// What a function's call has come to: an answer whose body is still to come, or that there is none.
pub(super) type Answered = Result<Response<Source>, Failure>;

/// Gives the answer to who waits for it, once.
#[derive(Clone)]
pub(super) struct Give(Arc<Mutex<Option<oneshot::Sender<Answered>>>>);

impl Give {
    pub(super) fn new() -> (Self, oneshot::Receiver<Answered>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    /// Whether it was the first one, and somebody waits.
    pub(super) fn give(&self, answered: Answered) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        sender.is_some_and(|sender| sender.send(answered).is_ok())
    }
}

/// Stops a call that nobody waits for any more.
struct StopOnDrop {
    call: tokio::task::AbortHandle,
    story: Arc<Story>,
    is_armed: bool,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if self.is_armed {
            self.story.fail(Failure::ClientGone);
            self.call.abort();
        }
    }
}

/// Has a component handle a request.
pub(super) async fn handler(under_way: UnderWay, request: Request<Upload>) -> Response<Outgoing> {
    let method = request.method().clone();
    let (give, answered) = Give::new();
    let (story, limit) = (Arc::clone(&under_way.story), under_way.function.limits.response_body);
    // It is some kilobytes, which `spawn` would move several times.
    let task = tokio::spawn(Box::pin(async move {
        let mut under_way = under_way;
        let begun = Instant::now();
        let own = give.clone();
        let handled = under_way.for_its_call().handle_http(request, move |response| {
            own.give(Ok(response.map(Source::Guest)));
        });
        let result = handled.await;
        under_way.story.called(begun);
        under_way.settle(result.err(), &give);
    }));
    finish(method, story, limit, answered, task.abort_handle()).await
}

/// What an error of a call is for those who wait for its answer.
pub(super) fn failure_of(error: &Error) -> Failure {
    match error {
        Error::Trap(_) => Failure::Trap,
        Error::Exit(_) | Error::HostFunction { .. } => Failure::NoAnswer,
        Error::Deadline(_) => Failure::Deadline,
        Error::Limit { .. } => Failure::Limit,
        _ => Failure::Host,
    }
}

/// Waits for the answer, and passes it on.
pub(super) async fn finish(
    method: Method,
    story: Arc<Story>,
    limit: u64,
    answered: oneshot::Receiver<Answered>,
    call: tokio::task::AbortHandle,
) -> Response<Outgoing> {
    let mut stop = StopOnDrop { call: call.clone(), story: Arc::clone(&story), is_armed: true };
    let answered = answered.await;
    stop.is_armed = false;
    let answered = match (answered, story.failure()) {
        // What is wrong with the request comes before what the function makes of it.
        (_, Some(failure @ (Failure::BodySize | Failure::ClientSlow))) => {
            call.abort();
            Err(failure)
        }
        // It has begun an answer, and failed already.
        (Ok(Ok(_)), Some(failure)) if failure.is_crash() => Err(failure),
        (Ok(answered), _) => answered,
        // The call has panicked.
        (Err(_), failure) => Err(failure.unwrap_or(Failure::Host)),
    };
    let response = match answered {
        Ok(response) => response,
        Err(failure) => {
            let (status, text) = answer::of_failure(failure);
            return answer::refuse(story, status, text);
        }
    };
    let (mut parts, source) = response.into_parts();
    // An interim answer cannot be the answer.
    if parts.status.is_informational() {
        story.fail(Failure::NoAnswer);
        call.abort();
        let (status, text) = answer::of_failure(Failure::NoAnswer);
        return answer::refuse(story, status, text);
    }
    story.answered(parts.status);
    parts.version = http::Version::default();
    let has_no_body = method == Method::HEAD
        || parts.status == StatusCode::NO_CONTENT
        || parts.status == StatusCode::NOT_MODIFIED;
    let promised = content_length(&parts.headers);
    let body = Outgoing::flowing(source, promised, limit, call, Arc::clone(&story));
    if has_no_body {
        // The function may write one all the same, and goes on when somebody takes it.
        tokio::spawn(body.discard());
        return Response::from_parts(parts, Outgoing::none(story));
    }
    Response::from_parts(parts, body)
}
