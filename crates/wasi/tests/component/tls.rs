//! HTTP requests over TLS, to a server with a certificate that an authority of these tests has signed.
//!
//! The server's is for `localhost`, and both are valid from 2020 to 2120. The authority's key was thrown away.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};
use sandgrain_wasi::{Error, WasiConfig};

use super::http::{Code, DENIED, TLS_CERTIFICATE};
use super::outgoing::{HELLO, config, prepare, send};
use super::support::{CLOCK, Guest};

const AUTHORITY: &[u8] = include_bytes!("certificates/authority.der");
const SERVER: &[u8] = include_bytes!("certificates/server.der");
const SERVER_KEY: &[u8] = include_bytes!("certificates/server-key.der");

/// A case of `scheme`.
const HTTPS: u32 = 1;

/// A server that says hello over TLS, and its port. The requests that it could read come back.
fn server() -> (u16, Receiver<String>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(SERVER_KEY).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![SERVER.into()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (give, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = Stream::new(&mut connection, &mut stream);
            let (mut request, mut piece) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"\r\n\r\n") {
                match tls.read(&mut piece) {
                    Ok(length) if length > 0 => request.extend(&piece[..length]),
                    // A client that does not trust this server goes away.
                    _ => break,
                }
            }
            if request.is_empty() {
                continue;
            }
            let _ = give.send(String::from_utf8(request).unwrap());
            let _ = tls.write_all(HELLO.as_bytes());
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    });
    (port, requests)
}

/// May reach this machine at the port, by its name and by its address.
fn reaching(port: u16) -> WasiConfig {
    config(&[format!("localhost:{port}"), format!("127.0.0.1:{port}")])
}

fn get(guest: &mut Guest, authority: &str) -> Result<u32, Code> {
    let request = prepare(guest, HTTPS, authority, "/path");
    send(guest, request)
}

fn says_hello(guest: &mut Guest, authority: &str) {
    let response = get(guest, authority).unwrap();
    assert_eq!(guest.http::<u16>("[method]incoming-response.status", response), 200);
    let (_, stream) = guest.body("[method]incoming-response.consume", response);
    assert_eq!(guest.read_to_end(stream), b"hello");
}

#[test]
fn a_server_whose_authority_is_trusted_answers() {
    let (port, requests) = server();
    let mut guest = Guest::new(reaching(port).trust_certificate(AUTHORITY));
    let authority = format!("localhost:{port}");
    for _ in 0..2 {
        says_hello(&mut guest, &authority);
        let request = requests.recv().unwrap();
        assert!(request.starts_with("GET /path HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {authority}\r\n")), "{request}");
    }
}

#[test]
fn a_server_whose_authority_is_unknown_is_refused() {
    let (port, requests) = server();
    let authority = format!("localhost:{port}");
    let mut guest = Guest::new(reaching(port));
    assert_eq!(get(&mut guest, &authority), Err(Code(TLS_CERTIFICATE)));
    assert!(requests.try_recv().is_err());
}

#[test]
fn what_one_guest_trusts_another_does_not() {
    let (port, requests) = server();
    let authority = format!("localhost:{port}");
    let config = reaching(port);
    let mut trusting = Guest::new(config.clone().trust_certificate(AUTHORITY));
    let mut other = Guest::new(config.clone());
    // A certificate that has not signed the server's: its own.
    let mut another = Guest::new(config.trust_certificate(SERVER));
    for _ in 0..2 {
        says_hello(&mut trusting, &authority);
        requests.recv().unwrap();
        // There is a session now, which these must not resume.
        assert_eq!(get(&mut other, &authority), Err(Code(TLS_CERTIFICATE)));
        assert_eq!(get(&mut another, &authority), Err(Code(TLS_CERTIFICATE)));
    }
    assert!(requests.try_recv().is_err());
}

#[test]
fn a_server_that_has_another_name_is_refused() {
    let (port, requests) = server();
    let mut guest = Guest::new(reaching(port).trust_certificate(AUTHORITY));
    assert_eq!(get(&mut guest, &format!("127.0.0.1:{port}")), Err(Code(TLS_CERTIFICATE)));
    assert!(requests.try_recv().is_err());
}

#[test]
fn a_trusted_server_that_is_not_granted_is_denied() {
    let (port, requests) = server();
    let mut guest = Guest::new(WasiConfig::new().trust_certificate(AUTHORITY));
    assert_eq!(get(&mut guest, &format!("localhost:{port}")), Err(Code(DENIED)));
    assert!(requests.try_recv().is_err());
}

#[test]
fn a_certificate_that_is_none_is_told_at_once() {
    let pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    let config = WasiConfig::new().trust_certificate(AUTHORITY).trust_certificate(pem);
    let told = |error: &Error| {
        let text = error.to_string();
        matches!(error, Error::Config(_)) && text.contains("certificate 2") && text.contains("DER")
    };
    let error = config.check().unwrap_err();
    assert!(told(&error), "{error}");
    let mut guest = Guest::new(config);
    let error = guest.try_call(CLOCK, "now", ()).unwrap_err();
    assert!(told(&error), "{error}");
}
