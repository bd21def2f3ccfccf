//! HTTP requests that a component sends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use http::HeaderValue;
use sandgrain_wasi::{HttpLimits, Trace, WasiConfig};

use super::http::{
    Code, DENIED, DNS_ERROR, Fields, HTTP, IP_PROHIBITED, LIMIT_REACHED, READ_TIMEOUT, REFUSED,
    REQUEST_BODY, RESPONSE_HEADERS, TLS_PROTOCOL, URI_INVALID,
};
use super::support::{Guest, IO, StreamError};

/// A server that answers each connection with these bytes, once it has the request's headers and as much of
/// its body as is said there. The requests come back.
fn server(response: impl Into<Vec<u8>>) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let response = response.into();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, send, response) = (stream.unwrap(), send.clone(), response.clone());
            thread::spawn(move || {
                let _ = send.send(request(&mut stream));
                let _ = stream.write_all(&response);
            });
        }
    });
    (address, receive)
}

fn request(stream: &mut TcpStream) -> String {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            match head.contains("transfer-encoding: chunked") {
                true => body.ends_with("0\r\n\r\n"),
                false => true,
            }
        });
        if whole {
            return text;
        }
        match stream.read(&mut piece) {
            Ok(length) if length > 0 => all.extend(&piece[..length]),
            _ => return text,
        }
    }
}

pub const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-server: test\r\n\r\nhello";

pub fn config(allowed: &[impl AsRef<str>]) -> WasiConfig {
    let grants = allowed.iter().map(|text| text.as_ref().parse().unwrap());
    grants.fold(WasiConfig::new(), WasiConfig::allow_http)
}

/// A request of the guest's that has not been sent.
pub fn prepare(guest: &mut Guest, scheme: u32, authority: &str, path: &str) -> u32 {
    prepare_with(guest, &[("x-guest", "yes")], scheme, authority, path)
}

fn prepare_with(
    guest: &mut Guest,
    headers: &[(&str, &str)],
    scheme: u32,
    authority: &str,
    path: &str,
) -> u32 {
    let fields = guest.fields(headers);
    let request: u32 = guest.http("[constructor]outgoing-request", fields);
    let set = |guest: &mut Guest, name: &str, value: Option<&str>| {
        let done: Result<(), ()> =
            guest.http(&format!("[method]outgoing-request.set-{name}"), (request, value));
        done.unwrap();
    };
    set(guest, "authority", Some(authority));
    set(guest, "path-with-query", Some(path));
    let done: Result<(), ()> =
        guest.http("[method]outgoing-request.set-scheme", (request, Some(scheme)));
    done.unwrap();
    request
}

pub fn send(guest: &mut Guest, request: u32) -> Result<u32, Code> {
    let future: Result<u32, Code> =
        guest.call("wasi:http/outgoing-handler@0.2.0", "handle", (request, None::<u32>));
    response(guest, future?)
}

fn response(guest: &mut Guest, future: u32) -> Result<u32, Code> {
    let pollable: u32 = guest.http("[method]future-incoming-response.subscribe", future);
    guest.block(pollable);
    type Got = Option<Result<Result<u32, Code>, ()>>;
    let got: Got = guest.http("[method]future-incoming-response.get", future);
    guest.drop_handle(HTTP, "future-incoming-response", future);
    got.unwrap().unwrap()
}

pub fn get(guest: &mut Guest, authority: &str) -> Result<u32, Code> {
    let request = prepare(guest, 0, authority, "/");
    send(guest, request)
}

#[test]
fn a_granted_host_answers() {
    let (address, requests) = server(HELLO);
    let mut guest = Guest::new(config(&[address.to_string()]));
    let request = prepare(&mut guest, 0, &address.to_string(), "/path?query");
    let response = send(&mut guest, request).unwrap();
    assert_eq!(guest.http::<u16>("[method]incoming-response.status", response), 200);
    let headers: u32 = guest.http("[method]incoming-response.headers", response);
    let entries: Fields = guest.http("[method]fields.entries", headers);
    assert!(entries.contains(&("x-server".into(), b"test".to_vec())), "{entries:?}");
    let (body, stream) = guest.body("[method]incoming-response.consume", response);
    assert_eq!(guest.read_to_end(stream), b"hello");
    assert_eq!(guest.trailers(body, stream), None);

    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /path?query HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: {address}\r\n")), "{request}");
    assert!(request.contains("x-guest: yes\r\n"), "{request}");
}

#[test]
fn a_request_is_part_of_the_calls_trace_unless_it_says_of_which_it_is() {
    let (address, requests) = server(HELLO);
    let mut guest = Guest::new(config(&[address.to_string()]));
    let authority = address.to_string();
    let sent = |guest: &mut Guest, headers: &[(&str, &str)]| {
        let request = prepare_with(guest, headers, 0, &authority, "/");
        send(guest, request).unwrap();
        let request = requests.recv().unwrap();
        let lines = request.lines().filter(|line| line.starts_with("trace")).map(str::to_owned);
        let mut lines: Vec<_> = lines.collect();
        lines.sort();
        lines
    };
    let none: [&str; 0] = [];
    assert_eq!(sent(&mut guest, &[]), none);

    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (parent_line, own) = (format!("traceparent: {parent}"), ("traceparent", "00-own"));
    let parent = HeaderValue::from_static(parent);
    let state = Some(HeaderValue::from_static("vendor=1"));
    guest.wasi.set_trace(Some(Trace { parent: parent.clone(), state }));
    assert_eq!(sent(&mut guest, &[]), [&*parent_line, "tracestate: vendor=1"]);
    assert_eq!(sent(&mut guest, &[own]), ["traceparent: 00-own"]);
    let with_state = [own, ("tracestate", "own=2")];
    assert_eq!(sent(&mut guest, &with_state), ["traceparent: 00-own", "tracestate: own=2"]);

    // A state without a parent is none.
    guest.wasi.set_trace(Some(Trace { parent, state: None }));
    assert_eq!(sent(&mut guest, &[("tracestate", "own=2")]), [&*parent_line]);
    guest.wasi.set_trace(None);
    assert_eq!(sent(&mut guest, &[]), none);
}

/// Sends a body, and returns what comes of the request.
fn post(guest: &mut Guest, authority: &str, bytes: &[u8]) -> Result<u32, Code> {
    let request = prepare(guest, 0, authority, "/");
    let done: Result<(), ()> = guest.http("[method]outgoing-request.set-method", (request, 2_u32));
    done.unwrap();
    let body: Result<u32, ()> = guest.http("[method]outgoing-request.body", request);
    let body = body.unwrap();
    let stream: Result<u32, ()> = guest.http("[method]outgoing-body.write", body);
    let stream = stream.unwrap();
    let future: Result<u32, Code> =
        guest.call("wasi:http/outgoing-handler@0.2.0", "handle", (request, None::<u32>));
    let future = future.unwrap();
    guest.write(stream, bytes).unwrap();
    guest.drop_handle(IO, "output-stream", stream);
    let done: Result<(), Code> = guest.http("[static]outgoing-body.finish", (body, None::<u32>));
    done.unwrap();
    response(guest, future)
}

#[test]
fn a_body_is_sent() {
    let (address, requests) = server(HELLO);
    let mut guest = Guest::new(config(&[address.to_string()]));
    post(&mut guest, &address.to_string(), b"the body").unwrap();
    let request = requests.recv().unwrap();
    assert!(
        request.starts_with("POST / HTTP/1.1\r\n") && request.contains("the body"),
        "{request}"
    );
}

#[test]
fn a_body_that_is_too_large_is_not_sent() {
    let (address, requests) = server(HELLO);
    let limits = HttpLimits::default().body_bytes(3);
    let mut guest = Guest::new(config(&[address.to_string()]).http_limits(limits));
    assert_eq!(post(&mut guest, &address.to_string(), b"the body"), Err(Code(REQUEST_BODY)));
    assert!(!requests.recv().unwrap().contains("the body"));
}

#[test]
fn a_port_that_is_none_is_refused() {
    let mut guest = Guest::new(config(&["*:*"]));
    for authority in ["example.com:", "example.com:99999"] {
        let fields = guest.fields(&[]);
        let request: u32 = guest.http("[constructor]outgoing-request", fields);
        let set: Result<(), ()> =
            guest.http("[method]outgoing-request.set-authority", (request, Some(authority)));
        let path: Result<(), ()> =
            guest.http("[method]outgoing-request.set-path-with-query", (request, Some("/")));
        path.unwrap();
        if set.is_ok() {
            let error = send(&mut guest, request).unwrap_err();
            assert_eq!(error, Code(URI_INVALID), "{authority}");
        }
    }
}

#[test]
fn nothing_is_granted_by_default() {
    let (address, requests) = server(HELLO);
    let mut guest = Guest::new(WasiConfig::new());
    assert_eq!(get(&mut guest, &address.to_string()), Err(Code(DENIED)));
    assert_eq!(get(&mut guest, "example.com"), Err(Code(DENIED)));
    assert!(requests.try_recv().is_err());
}

#[test]
fn another_port_or_host_is_denied() {
    let (address, _) = server(HELLO);
    let other = format!("127.0.0.1:{}", address.port() ^ 1);
    let mut guest = Guest::new(config(&[other, "example.com:443".into()]));
    assert_eq!(get(&mut guest, &address.to_string()), Err(Code(DENIED)));
    // The port that plain HTTP has is not the granted one.
    assert_eq!(get(&mut guest, "example.com"), Err(Code(DENIED)));
    assert_eq!(get(&mut guest, "example.com.evil.test:443"), Err(Code(DENIED)));
    assert_eq!(get(&mut guest, "example.com:443@evil.test:443"), Err(Code(DENIED)));
}

#[test]
fn everything_does_not_include_this_machine_and_its_network() {
    let (address, requests) = server(HELLO);
    let mut guest = Guest::new(config(&["*:*"]));
    let port = address.port();
    for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254"] {
        assert_eq!(get(&mut guest, &format!("{host}:{port}")), Err(Code(DENIED)), "{host}");
    }
    // Names, and other ways to write an address, once it is known what they lead to.
    for host in ["localhost", "127.1", "2130706433"] {
        let error = get(&mut guest, &format!("{host}:{port}")).unwrap_err();
        assert!([IP_PROHIBITED, DNS_ERROR].contains(&error.0), "{host}: {error:?}");
    }
    assert!(requests.try_recv().is_err());
}

#[test]
fn a_granted_name_that_leads_to_this_machine_is_prohibited() {
    let (address, requests) = server(HELLO);
    let mut guest = Guest::new(config(&[format!("localhost:{}", address.port())]));
    let authority = format!("localhost:{}", address.port());
    assert_eq!(get(&mut guest, &authority), Err(Code(IP_PROHIBITED)));
    assert!(requests.try_recv().is_err());

    // Unless the address is granted itself.
    let both = [format!("localhost:{}", address.port()), "127.0.0.0/8:*".into()];
    let mut guest = Guest::new(config(&both));
    get(&mut guest, &authority).unwrap();
}

#[test]
fn a_name_that_is_not_granted_is_not_looked_up() {
    let mut guest = Guest::new(config(&["10.0.0.0/8:*"]));
    assert_eq!(get(&mut guest, "does-not-exist.invalid"), Err(Code(DENIED)));
    let mut guest = Guest::new(config(&["*.invalid:*"]));
    assert_eq!(get(&mut guest, "does-not-exist.invalid"), Err(Code(DNS_ERROR)));
}

#[test]
fn a_host_that_nobody_listens_at_refuses() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut guest = Guest::new(config(&[&unused]));
    assert_eq!(get(&mut guest, &unused), Err(Code(REFUSED)));
}

#[test]
fn a_server_without_tls_is_no_secure_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(HELLO.as_bytes()).unwrap();
    });
    let mut guest = Guest::new(config(&[&address]));
    let request = prepare(&mut guest, 1, &address, "/");
    assert_eq!(send(&mut guest, request), Err(Code(TLS_PROTOCOL)));
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let limits = HttpLimits::default().timeout(Duration::from_millis(50));
    let mut guest = Guest::new(config(&[&address]).http_limits(limits));
    assert_eq!(get(&mut guest, &address), Err(Code(READ_TIMEOUT)));
}

#[test]
fn a_body_that_does_not_go_on_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart").unwrap();
        stream
    });
    let limits = HttpLimits::default().timeout(Duration::from_millis(100));
    let mut guest = Guest::new(config(&[&address]).http_limits(limits));
    let response = get(&mut guest, &address).unwrap();
    let (_, stream) = guest.body("[method]incoming-response.consume", response);
    assert_eq!(guest.read(stream, 100).unwrap(), b"part");
    assert!(matches!(guest.read(stream, 100), Err(StreamError::Failed(_))));
    drop(server.join());
}

#[test]
fn there_is_a_limit_of_requests_under_way() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let limits = HttpLimits::default().requests(2);
    let mut guest = Guest::new(config(&[&address]).http_limits(limits));
    let handle = |guest: &mut Guest| {
        let request = prepare(guest, 0, &address, "/");
        let future: Result<u32, Code> =
            guest.call("wasi:http/outgoing-handler@0.2.0", "handle", (request, None::<u32>));
        future.unwrap()
    };
    let first = handle(&mut guest);
    handle(&mut guest);
    assert_eq!(get(&mut guest, &address), Err(Code(LIMIT_REACHED)));
    // One that is given up makes room, as soon as it has ended.
    guest.drop_handle(HTTP, "future-incoming-response", first);
    thread::sleep(Duration::from_millis(200));
    let third = handle(&mut guest);
    let ready: u32 = guest.http("[method]future-incoming-response.subscribe", third);
    thread::sleep(Duration::from_millis(50));
    assert!(!guest.call::<bool>("wasi:io/poll@0.2.0", "[method]pollable.ready", ready));
}

#[test]
fn responses_that_are_too_large_are_broken_off() {
    let many = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let (address, _) = server(many);
    let limits = HttpLimits::default().header_bytes(10_000).body_bytes(3);
    let mut guest = Guest::new(config(&[address.to_string()]).http_limits(limits));
    assert_eq!(get(&mut guest, &address.to_string()), Err(Code(RESPONSE_HEADERS)));

    let (address, _) = server(HELLO);
    let mut guest = Guest::new(config(&[address.to_string()]).http_limits(limits));
    let response = get(&mut guest, &address.to_string()).unwrap();
    let (_, stream) = guest.body("[method]incoming-response.consume", response);
    let Err(StreamError::Failed(error)) = guest.read(stream, 100) else { panic!("too large") };
    let code: Option<Code> = guest.http("http-error-code", error);
    assert!(code.is_some() || error > 0);
}

#[test]
fn a_request_that_is_cancelled_ends() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut guest = Guest::new(config(&[&address]));
    let request = prepare(&mut guest, 0, &address, "/");
    let future: Result<u32, Code> =
        guest.call("wasi:http/outgoing-handler@0.2.0", "handle", (request, None::<u32>));
    let pollable: u32 = guest.http("[method]future-incoming-response.subscribe", future.unwrap());
    let pending = guest.later("wasi:io/poll@0.2.0", "[method]pollable.block", pollable);
    let (mut accepted, _) = silent.accept().unwrap();
    drop(pending);
    drop(guest);
    // The connection goes with the guest.
    let mut rest = Vec::new();
    accepted.read_to_end(&mut rest).unwrap();
}
