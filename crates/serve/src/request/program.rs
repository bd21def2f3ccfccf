//! Functions that are programs: called as CGI programs are, or by a schedule.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Buf, Bytes};
use http::{Request, Response, header};
use http_body_util::BodyExt as _;
use sandgrain::wasi::{Input, Output, WasiConfig};
use sandgrain::{Error, Sandbox};
use tokio::sync::mpsc;

use super::answer::{Outgoing, Source};
use super::call::{Answered, Give, UnderWay, finish};
use super::story::Story;
use super::upload::Upload;
use super::{Routed, turn};
use crate::deploy::Function;
use crate::headers::content_length;
use crate::manifest::Argument;
use crate::server::Shared;
use crate::telemetry::Failure;
use crate::wagi::cgi;
use crate::wagi::head::{HeadError, Parser};

/// Pieces of a body, either way, that wait for who takes them.
const PIECES: usize = 4;
/// The export that a program begins with.
const START: &str = "_start";

/// Has a program answer a request.
pub(super) async fn wagi(
    under_way: UnderWay,
    request: Request<Upload>,
    routed: Routed,
    argv: &[Argument],
    entrypoint: String,
) -> Response<Outgoing> {
    let (mut parts, body) = request.into_parts();
    // HTTP/2 says in another place which host is asked for.
    if !parts.headers.contains_key(header::HOST)
        && let Ok(host) = http::HeaderValue::from_str(under_way.story.host())
    {
        parts.headers.insert(header::HOST, host);
    }
    let method = parts.method.clone();
    let query = parts.uri.query().unwrap_or_default();
    let described = cgi::Request {
        method: &parts.method,
        version: parts.version,
        headers: &parts.headers,
        content_length: content_length(&parts.headers),
        script_name: &routed.script_name,
        path_info: &routed.path_info,
        query,
        route: &routed.route,
        parameters: routed.parameters.iter().map(|(name, value)| (&**name, &**value)).collect(),
        remote: under_way.story.client(),
        local: under_way.shared.address,
    };
    let function = &under_way.function;
    let environment = cgi::environment(&described, &function.environment);
    let arguments = cgi::arguments(argv, &routed.script_name, query);
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::spawn(pump(body, sender));
    let mut config = function.wasi.clone().args(arguments);
    for (name, value) in environment {
        config = config.env(name, value);
    }
    let input = Input::pipe(BodyReader { pieces: receiver, left: Bytes::new() });
    let (give, answered) = Give::new();
    let head_limit = usize::try_from(function.limits.header_bytes).unwrap_or(usize::MAX);
    let printed = Printed::new(give.clone(), head_limit);
    let config = config.stdin(input).stdout(Output::pipe(printed.clone()));
    let (story, limit) = (Arc::clone(&under_way.story), function.limits.response_body);
    let task = tokio::spawn(run(under_way, config, entrypoint, printed, give));
    finish(method, story, limit, answered, task.abort_handle()).await
}

/// Runs a program to its end.
async fn run(
    mut under_way: UnderWay,
    config: WasiConfig,
    entrypoint: String,
    printed: Printed,
    give: Give,
) {
    let begun = Instant::now();
    let result = match under_way.sandbox().set_wasi(config) {
        Ok(()) => enter(under_way.for_its_call(), &entrypoint).await,
        Err(error) => Err(error),
    };
    under_way.story.called(begun);
    let failed = match (error_of(result), printed.end()) {
        (None, Err(problem)) => Some(bad_head(&problem)),
        (failed, _) => failed,
    };
    let is_complete = failed.is_none();
    under_way.settle(failed, &give);
    // Before the VM is dropped, which takes a moment: the client need not wait for that.
    printed.close(is_complete);
}

/// What is wrong with a run that has ended with an exit code, if anything is.
fn error_of(result: Result<i32, Error>) -> Option<Error> {
    match result {
        Ok(0) => None,
        Ok(code) => Some(Error::Exit(code)),
        Err(error) => Some(error),
    }
}

fn bad_head(problem: &HeadError) -> Error {
    Error::HostFunction { function: "its output".to_owned(), source: problem.to_string().into() }
}

/// Calls a program. Its exit code.
async fn enter(sandbox: &mut Sandbox, entrypoint: &str) -> Result<i32, Error> {
    if entrypoint == START {
        return sandbox.run_async().await;
    }
    match sandbox.call_async::<(), ()>(entrypoint, ()).await {
        Ok(()) => Ok(0),
        Err(Error::Exit(code)) => Ok(code),
        Err(error) => Err(error),
    }
}

/// Runs a function as its schedule says: as a program without input, whose output is recorded.
pub(crate) async fn run_scheduled(shared: Arc<Shared>, function: Arc<Function>, schedule: String) {
    let mut story = Story::scheduled(Arc::clone(&shared), &schedule);
    story.is_for(&function);
    function.metrics.scheduled.fetch_add(1, Ordering::Relaxed);
    let permit = match turn(&shared, &function).await {
        Ok(permit) => permit,
        Err((failure, _, why)) => {
            story.fail(failure);
            tracing::warn!(function = &*function.id, why, "a scheduled run is left out");
            return;
        }
    };
    let vm = match function.take().await {
        Ok(vm) => vm,
        Err(error) => {
            story.fail(Failure::Host);
            tracing::error!(function = &*function.id, %error, "no VM for a scheduled run");
            return;
        }
    };
    let mut under_way = UnderWay::new(vm, Arc::new(story), permit, function, shared);
    let begun = Instant::now();
    let result = under_way.for_its_call().run_async().await;
    under_way.story.called(begun);
    let (give, _nobody) = Give::new();
    under_way.settle(error_of(result), &give);
}

/// Passes a request's body on, as fast as it is taken. Its end, or that it breaks off, is the end of what the program
/// reads.
async fn pump(mut body: Upload, pieces: mpsc::Sender<Result<Bytes, String>>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                // Trailers, which a program has no way to see.
                Err(_) => continue,
            },
            Err(error) => Err(error),
        };
        let is_end = piece.is_err();
        if pieces.send(piece).await.is_err() || is_end {
            return;
        }
    }
}

/// A request's body as a program reads it: on a thread that may wait.
struct BodyReader {
    pieces: mpsc::Receiver<Result<Bytes, String>>,
    left: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.left = piece.map_err(io::Error::other)?,
            }
        }
        let len = buffer.len().min(self.left.len());
        self.left.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

/// What a program prints: a head, then the body.
#[derive(Clone)]
struct Printed(Arc<Mutex<Printing>>);

struct Printing {
    give: Give,
    state: State,
    /// Whether the program has come to a good end.
    is_complete: Arc<AtomicBool>,
}

enum State {
    Head(Parser),
    Body(mpsc::Sender<Bytes>),
    Bad(HeadError),
    Closed,
}

impl Printed {
    fn new(give: Give, head_limit: usize) -> Self {
        let state = State::Head(Parser::new(head_limit));
        Self(Arc::new(Mutex::new(Printing { give, state, is_complete: Arc::default() })))
    }

    fn printing(&self) -> std::sync::MutexGuard<'_, Printing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program prints no more. What is wrong with its head, if anything is.
    fn end(&self) -> Result<(), HeadError> {
        let mut printing = self.printing();
        match std::mem::replace(&mut printing.state, State::Closed) {
            State::Head(parser) => Err(parser.finish()),
            State::Bad(problem) => Err(problem),
            state => {
                printing.state = state;
                Ok(())
            }
        }
    }

    /// Ends the answer: as it should, or early.
    fn close(&self, is_complete: bool) {
        let mut printing = self.printing();
        printing.is_complete.store(is_complete, Ordering::Release);
        printing.state = State::Closed;
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut printing = self.printing();
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (sender, rest) = match &mut printing.state {
            State::Body(sender) => (sender.clone(), Bytes::copy_from_slice(bytes)),
            State::Closed | State::Bad(_) => return Err(gone()),
            State::Head(parser) => match parser.push(bytes) {
                Ok(None) => return Ok(bytes.len()),
                Ok(Some((head, rest))) => {
                    let (sender, receiver) = mpsc::channel(PIECES);
                    let is_complete = Arc::clone(&printing.is_complete);
                    let source = Source::Output { pieces: receiver, is_complete };
                    let mut response = Response::new(source);
                    *response.status_mut() = head.status;
                    *response.headers_mut() = head.headers;
                    printing.state = State::Body(sender.clone());
                    let answered: Answered = Ok(response);
                    if !printing.give.give(answered) {
                        return Err(gone());
                    }
                    (sender, rest)
                }
                Err(problem) => {
                    printing.state = State::Bad(problem);
                    return Err(gone());
                }
            },
        };
        drop(printing);
        // This is a thread that may wait, for a client that reads slowly.
        if !rest.is_empty() && sender.blocking_send(rest).is_err() {
            return Err(gone());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
