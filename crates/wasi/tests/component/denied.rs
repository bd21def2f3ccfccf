//! What is told of what a component wants and is denied.

use std::sync::mpsc::{Receiver, channel};

use http::HeaderValue;
use sandgrain_wasi::{Capability, Trace, WasiConfig};

use super::http::{Code, DENIED, IP_PROHIBITED, REFUSED};
use super::outgoing::{config, get};
use super::sockets::{ACCESS_DENIED, Found, TCP, allow, look_up};
use super::support::Guest;

/// What is told of: what would be needed, what for, and the trace's parent.
type Told = (Capability, String, Option<HeaderValue>);

/// A configuration with which what is denied is told.
pub fn heard(config: WasiConfig) -> (WasiConfig, Receiver<Told>) {
    let (send, told) = channel();
    let config = config.on_denied(move |denied| {
        let parent = denied.trace.map(|trace| trace.parent.clone());
        send.send((denied.capability, denied.target.to_owned(), parent)).unwrap();
    });
    (config, told)
}

fn is_told(told: &Receiver<Told>, capability: Capability, target: &str) {
    assert_eq!(told.try_recv().unwrap(), (capability, target.to_owned(), None));
    assert!(told.try_recv().is_err(), "{target}: once");
}

#[test]
fn of_a_host_that_is_not_granted_and_of_an_address_that_no_name_is_good_for() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (config, told) = heard(config(&[unused.to_string(), "localhost:80".to_owned()]));
    let mut guest = Guest::new(config);
    assert_eq!(get(&mut guest, &unused.to_string()), Err(Code(REFUSED)));
    assert!(told.try_recv().is_err(), "it was granted");
    assert_eq!(get(&mut guest, "API.example.com"), Err(Code(DENIED)));
    is_told(&told, Capability::Http, "API.example.com:80");
    assert_eq!(get(&mut guest, "[::1]:8080"), Err(Code(DENIED)));
    is_told(&told, Capability::Http, "[::1]:8080");
    assert_eq!(get(&mut guest, "localhost"), Err(Code(IP_PROHIBITED)));
    is_told(&told, Capability::Http, "localhost:80");

    let parent = HeaderValue::from_static("00-own");
    guest.wasi.set_trace(Some(Trace { parent: parent.clone(), state: None }));
    assert_eq!(get(&mut guest, "example.com"), Err(Code(DENIED)));
    let expected = (Capability::Http, "example.com:80".to_owned(), Some(parent));
    assert_eq!(told.try_recv().unwrap(), expected);
}

#[test]
fn of_sockets_addresses_and_names() {
    let (none, told) = heard(WasiConfig::new());
    let mut guest = Guest::new(none);
    assert_eq!(guest.socket("tcp"), Err(ACCESS_DENIED));
    is_told(&told, Capability::Tcp, "a socket");
    assert_eq!(guest.socket("udp"), Err(ACCESS_DENIED));
    is_told(&told, Capability::Udp, "a socket");

    let (config, told) = heard(WasiConfig::new());
    let mut guest = Guest::new(allow(config, &["10.1.2.3:4".to_owned()], &[], &[]));
    assert_eq!(guest.connect("127.0.0.1:5".parse().unwrap()), Err(ACCESS_DENIED));
    is_told(&told, Capability::Tcp, "127.0.0.1:5");
    let socket = guest.socket("tcp").unwrap();
    assert_eq!(guest.bind(TCP, "tcp", socket, "127.0.0.1:6"), Err(ACCESS_DENIED));
    is_told(&told, Capability::Listen, "127.0.0.1:6");
    assert_eq!(look_up(&mut guest, "example.com"), Err(ACCESS_DENIED));
    is_told(&told, Capability::Lookup, "example.com");
}

#[test]
fn of_an_address_that_is_withheld_from_a_name() {
    let (config, told) = heard(WasiConfig::new());
    // A machine may have given itself an address of IPv6, too.
    let mut granted = vec!["localhost:*".to_owned(), "[::1]:*".to_owned()];
    let mut guest = Guest::new(allow(config.clone(), &granted, &[], &[]));
    let local = Found::V4([127, 0, 0, 1]);
    assert!(!look_up(&mut guest, "LOCALHOST.").unwrap().contains(&local));
    is_told(&told, Capability::Lookup, "127.0.0.1 of localhost");

    granted.push("127.0.0.1:*".to_owned());
    let mut guest = Guest::new(allow(config, &granted, &[], &[]));
    assert!(look_up(&mut guest, "localhost").unwrap().contains(&local));
    assert!(told.try_recv().is_err(), "it was granted");
}
