//! Which hosts a guest may have to do with.

mod addresses;
mod destination;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex};

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::network::IpAddress;
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::Capability;
use crate::cancel::lock;
use crate::denied::Denials;

pub use destination::{Destination, InvalidDestination};

pub(crate) use destination::normalized;

/// How many addresses a guest may have looked up.
const MAX_LEARNED: usize = 4096;

/// What is granted, by kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grants {
    pub(crate) http: Vec<Destination>,
    pub(crate) tcp: Vec<Destination>,
    pub(crate) udp: Vec<Destination>,
    pub(crate) listen: Vec<Destination>,
}

/// What is granted to one guest, and what it knows.
pub(crate) struct Network {
    grants: Grants,
    /// The names under which the guest has looked up addresses: what they may be used for.
    learned: Mutex<BTreeMap<IpAddr, BTreeSet<String>>>,
    /// Whom what is not granted is told.
    pub(crate) denials: Denials,
}

/// Why a host cannot be reached.
#[derive(Debug)]
pub(crate) enum Unreachable {
    /// No grant has its name and port, or its address and port.
    Denied,
    /// It has addresses only that nobody gets without a grant of the address itself.
    Prohibited,
    /// Its name cannot be looked up.
    Unknown(io::Error),
}

impl Network {
    pub(crate) fn new(grants: &Grants, denials: Denials) -> Self {
        Self { grants: grants.clone(), learned: Mutex::default(), denials }
    }

    /// Whether there are any grants.
    pub(crate) fn is_granted(&self) -> bool {
        let Grants { http, tcp, udp, listen } = &self.grants;
        [http, tcp, udp, listen].iter().any(|grants| !grants.is_empty())
    }

    /// Has the library ask here for each address.
    pub(crate) fn install(self: &Arc<Self>, builder: &mut WasiCtxBuilder) {
        let Grants { tcp, udp, listen, .. } = &self.grants;
        builder.allow_tcp(!tcp.is_empty() || !listen.is_empty());
        builder.allow_udp(!udp.is_empty());
        // Which names, is seen to before the library is asked.
        builder.allow_ip_name_lookup(!tcp.is_empty() || !udp.is_empty());
        let network = Arc::clone(self);
        builder.socket_addr_check(move |address, purpose| {
            let allowed = network.allows(address, purpose);
            Box::pin(async move { allowed })
        });
    }

    fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        let Grants { tcp, udp, listen, .. } = &self.grants;
        let listens = || listen.iter().any(|grant| grant.has_address(address));
        let (capability, is_allowed) = match purpose {
            SocketAddrUse::TcpConnect => (Capability::Tcp, self.allows_peer(tcp, address)),
            SocketAddrUse::UdpSend => (Capability::Udp, self.allows_peer(udp, address)),
            // Who sends it something is not the guest's doing.
            SocketAddrUse::UdpReceive => return self.allows_peer(udp, address),
            // A port that nobody knows beforehand is of no use until something listens at it, or, with
            // datagrams, until a peer that is allowed sends one.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                (Capability::Listen, address.port() == 0 || listens())
            }
            SocketAddrUse::TcpListen => (Capability::Listen, listens()),
            // Who may connect is for whoever grants listening to see to.
            SocketAddrUse::TcpAccept => return true,
        };
        if !is_allowed {
            self.denials.tell(capability, &address.to_string());
        }
        is_allowed
    }

    fn allows_peer(&self, grants: &[Destination], address: SocketAddr) -> bool {
        if allows_address(grants, address) {
            return true;
        }
        let learned = lock(&self.learned);
        let Some(names) = learned.get(&address.ip().to_canonical()) else { return false };
        addresses::is_public(address.ip())
            && names.iter().any(|name| allows_name(grants, name, address.port()))
    }

    /// Whether the guest may look up a [normalized](normalized) name.
    pub(crate) fn allows_lookup(&self, name: &str) -> bool {
        let Grants { tcp, udp, .. } = &self.grants;
        let is_allowed = tcp.iter().chain(udp).any(|grant| grant.has_name(name));
        if !is_allowed {
            self.denials.tell(Capability::Lookup, name);
        }
        is_allowed
    }

    /// Keeps an address that a [normalized](normalized) name was found to have, if it may be used at all.
    pub(crate) fn learn(&self, name: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let Grants { tcp, udp, .. } = &self.grants;
        let explicit = |grant: &Destination| grant.has_address_at_any_port(address);
        if !addresses::is_public(address) && !tcp.iter().chain(udp).any(explicit) {
            self.denials.tell(Capability::Lookup, &format!("{address} of {name}"));
            return false;
        }
        let mut learned = lock(&self.learned);
        if learned.len() >= MAX_LEARNED && !learned.contains_key(&address) {
            return false;
        }
        learned.entry(address).or_default().insert(name.to_owned());
        true
    }

    /// The addresses to which an HTTP request may go. This waits for the name to be looked up.
    ///
    /// Only what is returned here may be connected to: the name may have other addresses the next time.
    pub(crate) fn http_addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Unreachable> {
        let found = self.granted_http_addresses(host, port);
        if matches!(found, Err(Unreachable::Denied | Unreachable::Prohibited)) {
            self.denials.tell(Capability::Http, &format!("{host}:{port}"));
        }
        found
    }

    fn granted_http_addresses(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Unreachable> {
        let grants = &self.grants.http;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            let address = SocketAddr::new(ip, port);
            return if allows_address(grants, address) {
                Ok(vec![address])
            } else {
                Err(Unreachable::Denied)
            };
        }
        let name = normalized(host);
        // A name that is not granted is not even looked up: that alone would tell somebody something.
        if !allows_name(grants, &name, port) {
            return Err(Unreachable::Denied);
        }
        let found = (name.as_str(), port).to_socket_addrs().map_err(Unreachable::Unknown)?;
        let allowed: Vec<SocketAddr> = found
            .filter(|address| {
                addresses::is_public(address.ip())
                    || grants.iter().any(|grant| grant.has_address(*address))
            })
            .collect();
        if allowed.is_empty() { Err(Unreachable::Prohibited) } else { Ok(allowed) }
    }
}

/// Whether an address is granted: itself, or as one that everybody gets if everything is.
fn allows_address(grants: &[Destination], address: SocketAddr) -> bool {
    grants.iter().any(|grant| {
        grant.has_address(address)
            || grant.is_any_host(address.port()) && addresses::is_public(address.ip())
    })
}

fn allows_name(grants: &[Destination], name: &str, port: u16) -> bool {
    grants.iter().any(|grant| grant.has_name(name) && grant.has_port(port))
}

/// An address as Rust has it.
pub(crate) fn from_wasi(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
    }
}
