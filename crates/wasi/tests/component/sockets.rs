//! TCP, UDP and the looking up of names.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use sandgrain_abi::DecodeError;
use sandgrain_abi::component::{Lift, Lower, Reader, Type, Types, Writer};
use sandgrain_wasi::WasiConfig;

use super::support::Guest;

pub const TCP: &str = "wasi:sockets/tcp@0.2.0";
const UDP: &str = "wasi:sockets/udp@0.2.0";

// Cases of `error-code`.
pub const ACCESS_DENIED: u32 = 1;
const WOULD_BLOCK: u32 = 8;
const NEW_SOCKET_LIMIT: u32 = 10;

/// An `ip-socket-address` of IPv4.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Address(SocketAddr);

impl Lower for Address {
    fn is_of(_: Type, _: &Types) -> bool {
        false
    }

    fn lower(&self, out: &mut Writer) {
        let SocketAddr::V4(address) = self.0 else { panic!("{self:?}") };
        out.u32(0);
        address.port().lower(out);
        out.raw(&address.ip().octets());
    }
}

impl Lift<'_> for Address {
    fn is_of(_: Type, _: &Types) -> bool {
        false
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (0, port) = <(u32, u16)>::lift(from)? else { return Err(from.error("IPv4")) };
        Ok(Self((from.array::<4>()?, port).into()))
    }
}

/// `resolve-addresses`' next address.
#[derive(Debug, PartialEq)]
pub enum Found {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Lift<'_> for Found {
    fn is_of(_: Type, _: &Types) -> bool {
        false
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.u32()? {
            0 => from.array().map(Self::V4),
            _ => from.array().map(Self::V6),
        }
    }
}

pub fn allow(config: WasiConfig, tcp: &[String], udp: &[String], listen: &[String]) -> WasiConfig {
    let parsed = |text: &String| text.parse().unwrap();
    let config = tcp.iter().fold(config, |config, text| config.allow_tcp(parsed(text)));
    let config = udp.iter().fold(config, |config, text| config.allow_udp(parsed(text)));
    listen.iter().fold(config, |config, text| config.allow_listen(parsed(text)))
}

impl Guest {
    fn network(&mut self) -> u32 {
        self.call("wasi:sockets/instance-network@0.2.0", "instance-network", ())
    }

    pub fn socket(&mut self, kind: &str) -> Result<u32, u32> {
        let instance = format!("wasi:sockets/{kind}-create-socket@0.2.0");
        self.call(&instance, &format!("create-{kind}-socket"), 0_u32)
    }

    /// Tries until a call that does not wait has something to say.
    fn until_ready<T: for<'a> Lift<'a>>(&mut self, name: &str, socket: u32) -> Result<T, u32> {
        loop {
            let result: Result<T, u32> = self.call(TCP, name, socket);
            if !matches!(result, Err(WOULD_BLOCK)) {
                return result;
            }
            let pollable: u32 = self.call(TCP, "[method]tcp-socket.subscribe", socket);
            self.block(pollable);
        }
    }

    pub fn connect(&mut self, to: SocketAddr) -> Result<(u32, u32), u32> {
        let (network, socket) = (self.network(), self.socket("tcp")?);
        let args = (socket, network, Address(to));
        self.call::<Result<(), u32>>(TCP, "[method]tcp-socket.start-connect", args)?;
        self.until_ready("[method]tcp-socket.finish-connect", socket)
    }

    pub fn bind(&mut self, instance: &str, kind: &str, socket: u32, to: &str) -> Result<(), u32> {
        let network = self.network();
        let args = (socket, network, Address(to.parse().unwrap()));
        let name = |what: &str| format!("[method]{kind}-socket.{what}-bind");
        self.call::<Result<(), u32>>(instance, &name("start"), args)?;
        self.call(instance, &name("finish"), socket)
    }
}

/// A server that sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut all = [0; 100];
            while let Ok(length @ 1..) = stream.read(&mut all) {
                stream.write_all(&all[..length]).unwrap();
            }
        }
    });
    address
}

#[test]
fn a_granted_server_is_spoken_with() {
    let address = echo();
    let mut guest = Guest::new(allow(WasiConfig::new(), &[address.to_string()], &[], &[]));
    let (input, out) = guest.connect(address).unwrap();
    guest.write(out, b"hello").unwrap();
    assert_eq!(guest.read(input, 100).unwrap(), b"hello");
}

#[test]
fn there_are_no_sockets_by_default() {
    let mut guest = Guest::new(WasiConfig::new());
    assert_eq!(guest.socket("tcp"), Err(ACCESS_DENIED));
    assert_eq!(guest.socket("udp"), Err(ACCESS_DENIED));
    let network = guest.network();
    let looked_up: Result<u32, u32> = guest.call(
        "wasi:sockets/ip-name-lookup@0.2.0",
        "resolve-addresses",
        (network, "localhost"),
    );
    assert_eq!(looked_up, Err(ACCESS_DENIED));
    // HTTP is another grant.
    let mut guest = Guest::new(WasiConfig::new().allow_http("*:*".parse().unwrap()));
    assert_eq!(guest.socket("tcp"), Err(ACCESS_DENIED));
}

#[test]
fn another_server_is_denied() {
    let address = echo();
    let other = format!("127.0.0.1:{}", address.port() ^ 1);
    let mut guest = Guest::new(allow(WasiConfig::new(), &[other], &[], &[]));
    assert_eq!(guest.connect(address), Err(ACCESS_DENIED));
}

#[test]
fn everything_does_not_include_this_machine_and_its_network() {
    let address = echo();
    let mut guest = Guest::new(allow(WasiConfig::new(), &["*:*".into()], &[], &[]));
    assert_eq!(guest.connect(address), Err(ACCESS_DENIED));
    for other in ["10.0.0.1:80", "192.168.0.1:80", "169.254.169.254:80"] {
        assert_eq!(guest.connect(other.parse().unwrap()), Err(ACCESS_DENIED), "{other}");
    }
}

pub fn look_up(guest: &mut Guest, name: &str) -> Result<Vec<Found>, u32> {
    const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.2.0";
    let network = guest.network();
    let stream: Result<u32, u32> = guest.call(LOOKUP, "resolve-addresses", (network, name));
    let stream = stream?;
    let mut all = Vec::new();
    loop {
        let pollable: u32 = guest.call(LOOKUP, "[method]resolve-address-stream.subscribe", stream);
        guest.block(pollable);
        let next: Result<Option<Found>, u32> =
            guest.call(LOOKUP, "[method]resolve-address-stream.resolve-next-address", stream);
        match next? {
            Some(found) => all.push(found),
            None => break,
        }
    }
    guest.drop_handle(LOOKUP, "resolve-address-stream", stream);
    Ok(all)
}

#[test]
fn a_name_is_looked_up_only_if_it_is_granted() {
    let local = "localhost:*".to_owned();
    let mut guest = Guest::new(allow(WasiConfig::new(), std::slice::from_ref(&local), &[], &[]));
    assert_eq!(look_up(&mut guest, "example.com"), Err(ACCESS_DENIED));
    // And where it leads, only if that may be used.
    assert_eq!(look_up(&mut guest, "LOCALHOST."), Ok(Vec::new()));
    let tcp = [local, "127.0.0.1:*".into()];
    let mut guest = Guest::new(allow(WasiConfig::new(), &tcp, &[], &[]));
    assert_eq!(look_up(&mut guest, "localhost"), Ok(vec![Found::V4([127, 0, 0, 1])]));
}

#[test]
fn a_guest_listens_where_it_may() {
    let mut guest = Guest::new(allow(WasiConfig::new(), &[], &[], &["127.0.0.1:*".to_owned()]));
    let socket = guest.socket("tcp").unwrap();
    guest.bind(TCP, "tcp", socket, "127.0.0.1:0").unwrap();
    let start: Result<(), u32> = guest.call(TCP, "[method]tcp-socket.start-listen", socket);
    start.unwrap();
    let finish: Result<(), u32> = guest.call(TCP, "[method]tcp-socket.finish-listen", socket);
    finish.unwrap();
    let address: Result<Address, u32> = guest.call(TCP, "[method]tcp-socket.local-address", socket);
    let mut client = TcpStream::connect(address.unwrap().0).unwrap();
    client.write_all(b"hi guest").unwrap();
    let (accepted, input, out): (u32, u32, u32) =
        guest.until_ready("[method]tcp-socket.accept", socket).unwrap();
    assert_eq!(guest.read(input, 100).unwrap(), b"hi guest");
    guest.write(out, b"hi host").unwrap();
    // `send`
    let shut: Result<(), u32> = guest.call(TCP, "[method]tcp-socket.shutdown", (accepted, 1_u32));
    shut.unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    assert_eq!(all, "hi host");
}

#[test]
fn a_guest_does_not_listen_where_it_may_not() {
    let listen = ["127.0.0.1:5".to_owned()];
    let mut guest = Guest::new(allow(WasiConfig::new(), &["*:*".into()], &[], &listen));
    let socket = guest.socket("tcp").unwrap();
    assert_eq!(guest.bind(TCP, "tcp", socket, "127.0.0.1:6"), Err(ACCESS_DENIED));
    // Where nobody said which port, it may be bound, but not listen.
    guest.bind(TCP, "tcp", socket, "127.0.0.1:0").unwrap();
    let start: Result<(), u32> = guest.call(TCP, "[method]tcp-socket.start-listen", socket);
    assert_eq!(start, Err(ACCESS_DENIED));
}

/// A datagram with its sender, or to its receiver.
struct Datagram(Vec<u8>, Address);

impl Lift<'_> for Datagram {
    fn is_of(_: Type, _: &Types) -> bool {
        false
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Vec::lift(from)?, Address::lift(from)?))
    }
}

impl Lower for Datagram {
    fn is_of(_: Type, _: &Types) -> bool {
        false
    }

    fn lower(&self, out: &mut Writer) {
        self.0.lower(out);
        Some(self.1).lower(out);
    }
}

/// Sends a datagram, and returns the stream of those that come in.
fn datagram(guest: &mut Guest, to: SocketAddr) -> Result<u32, u32> {
    let socket = guest.socket("udp")?;
    guest.bind(UDP, "udp", socket, "127.0.0.1:0")?;
    let streams: Result<(u32, u32), u32> =
        guest.call(UDP, "[method]udp-socket.stream", (socket, None::<Address>));
    let (incoming, outgoing) = streams?;
    let room: Result<u64, u32> =
        guest.call(UDP, "[method]outgoing-datagram-stream.check-send", outgoing);
    assert!(room? > 0);
    let datagrams = vec![Datagram(b"ping".to_vec(), Address(to))];
    let sent: Result<u64, u32> =
        guest.call(UDP, "[method]outgoing-datagram-stream.send", (outgoing, datagrams));
    sent.map(|_| incoming)
}

#[test]
fn datagrams_go_to_and_come_from_a_granted_peer() {
    let (peer, stranger) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = peer.local_addr().unwrap();
    let mut guest = Guest::new(allow(WasiConfig::new(), &[], &[address.to_string()], &[]));
    let incoming = datagram(&mut guest, address).unwrap();
    let mut buffer = [0; 100];
    let (length, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"ping");
    // The guest never sees the first of these.
    stranger.send_to(b"psst", from).unwrap();
    peer.send_to(b"pong", from).unwrap();
    let pollable: u32 = guest.call(UDP, "[method]incoming-datagram-stream.subscribe", incoming);
    guest.block(pollable);
    let received: Result<Vec<Datagram>, u32> =
        guest.call(UDP, "[method]incoming-datagram-stream.receive", (incoming, 10_u64));
    let [Datagram(bytes, from)] = &received.unwrap()[..] else { panic!() };
    assert_eq!((&bytes[..], from.0), (&b"pong"[..], address));
}

#[test]
fn datagrams_do_not_go_to_another_peer() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = peer.local_addr().unwrap();
    for granted in ["*:*".to_owned(), format!("127.0.0.1:{}", address.port() ^ 1)] {
        let mut guest = Guest::new(allow(WasiConfig::new(), &[], &[granted], &[]));
        assert_eq!(datagram(&mut guest, address), Err(ACCESS_DENIED));
    }
}

#[test]
fn there_is_a_limit_of_sockets() {
    let config = WasiConfig::new().max_sockets(2);
    let mut guest = Guest::new(allow(config, &["*:*".into()], &["*:*".into()], &[]));
    let first = guest.socket("tcp").unwrap();
    guest.socket("udp").unwrap();
    assert_eq!(guest.socket("tcp"), Err(NEW_SOCKET_LIMIT));
    assert_eq!(guest.socket("udp"), Err(NEW_SOCKET_LIMIT));
    guest.drop_handle(TCP, "tcp-socket", first);
    guest.socket("udp").unwrap();
}

#[test]
fn waiting_for_a_connection_is_cancelled() {
    let mut guest = Guest::new(allow(WasiConfig::new(), &[], &[], &["127.0.0.1:*".to_owned()]));
    let socket = guest.socket("tcp").unwrap();
    guest.bind(TCP, "tcp", socket, "127.0.0.1:0").unwrap();
    for name in ["start-listen", "finish-listen"] {
        let done: Result<(), u32> = guest.call(TCP, &format!("[method]tcp-socket.{name}"), socket);
        done.unwrap();
    }
    let pollable: u32 = guest.call(TCP, "[method]tcp-socket.subscribe", socket);
    super::waiting::cancelled(&mut guest, "wasi:io/poll@0.2.0", "[method]pollable.block", pollable);
}
