//! HTTP requests that a component answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Empty, Full};
use sandgrain_wasi::component::{Body, Incoming, NoResponse};
use sandgrain_wasi::{Cancel, Error, HttpLimits, WasiConfig};
use tokio::sync::mpsc;

use super::http::Fields;
use super::support::{Guest, IO, StreamError};

/// A body that is sent in pieces.
struct Pieces(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

fn uri(scheme: &str, rest: &str) -> String {
    format!("{scheme}://{rest}")
}

fn wait<F: Future>(future: F) -> F::Output {
    Cancel::new().block_on(future).unwrap()
}

/// Answers with headers, and returns the body's handle and its stream's.
fn answer(guest: &mut Guest, outparam: u32, status: u16, headers: &[(&str, &str)]) -> (u32, u32) {
    let fields = guest.fields(headers);
    let response: u32 = guest.http("[constructor]outgoing-response", fields);
    let set: Result<(), ()> =
        guest.http("[method]outgoing-response.set-status-code", (response, status));
    set.unwrap();
    let body: Result<u32, ()> = guest.http("[method]outgoing-response.body", response);
    let body = body.unwrap();
    let ok: Result<u32, ()> = Ok(response);
    guest.http::<()>("[static]response-outparam.set", (outparam, ok));
    let stream: Result<u32, ()> = guest.http("[method]outgoing-body.write", body);
    (body, stream.unwrap())
}

fn finish(
    guest: &mut Guest,
    body: u32,
    stream: u32,
    trailers: Option<u32>,
) -> Result<(), super::http::Code> {
    guest.drop_handle(IO, "output-stream", stream);
    guest.http("[static]outgoing-body.finish", (body, trailers))
}

#[test]
fn a_request_is_answered_while_both_bodies_go_on() {
    let mut guest = Guest::new(WasiConfig::new());
    let (send, pieces) = mpsc::unbounded_channel();
    let request = Request::put(uri("http", "example.com:8080/a/b?c=d"))
        .header("x-one", "1")
        .header("x-one", "2")
        .header("host", "other.example")
        .body(Pieces(pieces))
        .unwrap();
    let Incoming { request, response_outparam, response, end: _end } =
        guest.wasi.incoming_request(request).unwrap();

    assert_eq!(guest.http::<u32>("[method]incoming-request.method", request), 3);
    let text = |guest: &mut Guest, name: &str| -> Option<String> {
        guest.http(&format!("[method]incoming-request.{name}"), request)
    };
    assert_eq!(text(&mut guest, "path-with-query").as_deref(), Some("/a/b?c=d"));
    assert_eq!(text(&mut guest, "authority").as_deref(), Some("example.com:8080"));
    let scheme: Option<u32> = guest.http("[method]incoming-request.scheme", request);
    assert_eq!(scheme, Some(0));
    let headers: u32 = guest.http("[method]incoming-request.headers", request);
    let entries: Fields = guest.http("[method]fields.entries", headers);
    assert_eq!(entries, [("x-one".into(), b"1".to_vec()), ("x-one".into(), b"2".to_vec())]);

    let (body, input) = guest.body("[method]incoming-request.consume", request);
    let (out_body, out) = answer(&mut guest, response_outparam, 201, &[("x-two", "3")]);
    let response: Response<Body> = wait(response).unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["x-two"], "3");
    let mut received = Box::pin(response.into_body());

    // Each piece goes through before the next one is there.
    for piece in ["first", "second", "third"] {
        send.send(Frame::data(piece.into())).unwrap();
        let read = guest.read(input, 100).unwrap();
        assert_eq!(read, piece.as_bytes());
        guest.write(out, &read).unwrap();
        let frame = wait(received.frame()).unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    let trailer =
        HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("9"))]);
    send.send(Frame::trailers(trailer)).unwrap();
    drop(send);
    assert_eq!(guest.read(input, 100), Err(StreamError::Closed));
    assert_eq!(guest.trailers(body, input), Some(vec![("x-sum".into(), b"9".to_vec())]));

    let trailers = guest.fields(&[("x-end", "yes")]);
    finish(&mut guest, out_body, out, Some(trailers)).unwrap();
    let frame = wait(received.frame()).unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap()["x-end"], "yes");
    assert!(wait(received.frame()).is_none());
    assert!(received.is_end_stream() || wait(received.frame()).is_none());
}

fn simple() -> Request<Empty<Bytes>> {
    Request::get(uri("https", "example.com/")).body(Empty::new()).unwrap()
}

#[test]
fn a_body_as_a_whole_is_read_and_written() {
    let mut guest = Guest::new(WasiConfig::new());
    let large = vec![5_u8; 300_000];
    let request = Request::post("/").header("host", "h").body(Full::from(large.clone())).unwrap();
    let incoming = guest.wasi.incoming_request(request).unwrap();
    let (_, input) = guest.body("[method]incoming-request.consume", incoming.request);
    assert_eq!(guest.read_to_end(input), large);
    let (body, out) = answer(&mut guest, incoming.response_outparam, 200, &[]);
    guest.write(out, b"small").unwrap();
    finish(&mut guest, body, out, None).unwrap();
    let response = wait(incoming.response).unwrap();
    assert_eq!(wait(response.into_body().collect()).unwrap().to_bytes(), "small");
}

#[test]
fn a_guest_may_fail_or_not_answer() {
    let mut guest = Guest::new(WasiConfig::new());
    let incoming = guest.wasi.incoming_request(simple()).unwrap();
    // `HTTP-request-denied`
    let error: Result<u32, u32> = Err(15);
    guest.http::<()>("[static]response-outparam.set", (incoming.response_outparam, error));
    assert!(matches!(wait(incoming.response), Err(NoResponse::Failed(_))));

    let incoming = guest.wasi.incoming_request(simple()).unwrap();
    let outparam = incoming.response_outparam;
    guest.drop_handle("wasi:http/types@0.2.0", "response-outparam", outparam);
    assert_eq!(wait(incoming.response).unwrap_err(), NoResponse::Dropped);

    let incoming = guest.wasi.incoming_request(simple()).unwrap();
    drop(guest);
    assert_eq!(wait(incoming.response).unwrap_err(), NoResponse::Dropped);
}

#[test]
fn a_body_that_is_given_up_is_an_error() {
    let mut guest = Guest::new(WasiConfig::new());
    let incoming = guest.wasi.incoming_request(simple()).unwrap();
    let (body, out) = answer(&mut guest, incoming.response_outparam, 200, &[]);
    guest.write(out, b"some").unwrap();
    guest.drop_handle(IO, "output-stream", out);
    guest.drop_handle("wasi:http/types@0.2.0", "outgoing-body", body);
    let response = wait(incoming.response).unwrap();
    let error = wait(response.into_body().collect()).unwrap_err();
    assert!(error.to_string().contains("body"), "{error}");
}

#[test]
fn a_request_that_is_too_large_is_refused_or_broken_off() {
    let limits = HttpLimits::default().header_bytes(1000).body_bytes(10);
    let mut guest = Guest::new(WasiConfig::new().http_limits(limits));
    let mut request = simple();
    request.headers_mut().insert("x", HeaderValue::from_str(&"y".repeat(2000)).unwrap());
    let error = guest.wasi.incoming_request(request).unwrap_err();
    assert!(matches!(error, Error::Limit { limit: 1000, .. }), "{error}");

    let request = Request::post(uri("http", "h/")).body(Full::from("more than ten")).unwrap();
    let incoming = guest.wasi.incoming_request(request).unwrap();
    let (_, input) = guest.body("[method]incoming-request.consume", incoming.request);
    assert!(matches!(guest.read(input, 100), Err(StreamError::Failed(_))));
}

#[test]
fn a_response_that_is_too_large_is_broken_off() {
    let limits = HttpLimits::default().header_bytes(1000).body_bytes(10);
    let mut guest = Guest::new(WasiConfig::new().http_limits(limits));
    let incoming = guest.wasi.incoming_request(simple()).unwrap();
    let (_, out) = answer(&mut guest, incoming.response_outparam, 200, &[]);
    guest.write(out, b"more than ten").unwrap();
    let response = wait(incoming.response).unwrap();
    assert!(wait(response.into_body().collect()).is_err());

    let entries: Fields = vec![("x".into(), vec![b'y'; 2000])];
    let refused: Result<u32, u32> = {
        match guest.try_call("wasi:http/types@0.2.0", "[static]fields.from-list", entries) {
            Err(Error::Trap(_)) => Err(0),
            Ok(sandgrain_wasi::component::Reply::Value(value)) => super::support::read(value),
            other => panic!("{other:?}"),
        }
    };
    assert!(refused.is_err());
}

#[test]
fn a_request_without_a_host_is_refused() {
    let mut guest = Guest::new(WasiConfig::new());
    let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    let error = guest.wasi.incoming_request(request).unwrap_err();
    assert!(error.to_string().contains("host"), "{error}");
    assert!(!guest.wasi.has_open_files());
}

#[test]
fn forbidden_headers_do_not_reach_the_guest_nor_come_from_it() {
    let mut guest = Guest::new(WasiConfig::new());
    let mut request = simple();
    request.headers_mut().insert("connection", HeaderValue::from_static("close"));
    request.headers_mut().insert("proxy-authorization", HeaderValue::from_static("secret"));
    let incoming = guest.wasi.incoming_request(request).unwrap();
    let headers: u32 = guest.http("[method]incoming-request.headers", incoming.request);
    let entries: Fields = guest.http("[method]fields.entries", headers);
    assert_eq!(entries, []);
    for name in ["connection", "transfer-encoding", "host", "upgrade"] {
        let entries: Fields = vec![(name.into(), b"x".to_vec())];
        let made: Result<u32, u32> = guest.http("[static]fields.from-list", entries);
        assert_eq!(made, Err(1), "{name}");
    }
}
