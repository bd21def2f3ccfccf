//! What a component may have beyond what a module of preview 1 may.

use std::time::Duration;

use super::WasiConfig;
use crate::Destination;

/// How many handles a component may have at a time if the caller sets no other number.
pub const DEFAULT_MAX_HANDLES: u32 = 2048;

/// How many bytes one call may give a component if the caller sets no other number.
pub const DEFAULT_MAX_CALL_BYTES: u64 = 16 << 20;

/// How many pollables a component may wait for in one call if the caller sets no other number.
pub const DEFAULT_MAX_POLL_LIST: u32 = 4096;

/// How many sockets a component may have at a time if the caller sets no other number.
pub const DEFAULT_MAX_SOCKETS: u32 = 64;

/// The limits of `wasi:http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpLimits {
    /// How many requests the guest may have under way. Each has a connection of its own. 32 by default.
    pub requests: u32,
    /// How long it may take to connect, for a response to begin, and for it to go on: each for itself. A guest
    /// may ask for less. A minute by default.
    pub timeout: Duration,
    /// How many bytes the headers, or the trailers, of one message may take, in both directions. Each name and
    /// each value counts for some 40 bytes more than it has. 64 KiB by default.
    pub header_bytes: usize,
    /// How many bytes the body of one message may have, in both directions. 256 MiB by default. It never is in
    /// memory as a whole.
    pub body_bytes: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            requests: 32,
            timeout: Duration::from_secs(60),
            header_bytes: 64 << 10,
            body_bytes: 256 << 20,
        }
    }
}

impl HttpLimits {
    /// Sets how many requests may be under way.
    #[must_use]
    pub fn requests(mut self, requests: u32) -> Self {
        self.requests = requests;
        self
    }

    /// Sets how long each part of a request may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how large headers may be.
    #[must_use]
    pub fn header_bytes(mut self, bytes: usize) -> Self {
        self.header_bytes = bytes;
        self
    }

    /// Sets how large bodies may be.
    #[must_use]
    pub fn body_bytes(mut self, bytes: u64) -> Self {
        self.body_bytes = bytes;
        self
    }
}

/// Grants and limits for components. A module of preview 1 gets nothing of this.
impl WasiConfig {
    /// Lets a component send HTTP requests to a destination.
    ///
    /// What the guest sees for any other is the interface's own error: `HTTP-request-denied`, or
    /// `destination-IP-prohibited` if only the addresses of a granted name are not.
    #[must_use]
    pub fn allow_http(mut self, destination: Destination) -> Self {
        self.network.http.push(destination);
        self
    }

    /// Has a component's HTTP requests over TLS trust a certificate, in DER, beyond those of the authorities that
    /// browsers know: that of an authority of one's own, which signs servers' certificates, or a server's own one
    /// that nobody else has signed. Servers' names are compared with their certificates' as ever. This grants no
    /// destination; [`allow_http`](Self::allow_http) does.
    ///
    /// One that cannot be read is an [`Error::Config`](crate::Error::Config) of [`check`](Self::check), and of the
    /// first call.
    #[must_use]
    pub fn trust_certificate(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.trust.add(der.into());
        self
    }

    /// Lets a component connect to a destination over TCP, and look up its name.
    ///
    /// Of a name's addresses a guest may use those that it has looked up. For any other the guest sees
    /// `access-denied`.
    #[must_use]
    pub fn allow_tcp(mut self, destination: Destination) -> Self {
        self.network.tcp.push(destination);
        self
    }

    /// Lets a component exchange datagrams with a destination over UDP, and look up its name, as with
    /// [`allow_tcp`](Self::allow_tcp).
    #[must_use]
    pub fn allow_udp(mut self, destination: Destination) -> Self {
        self.network.udp.push(destination);
        self
    }

    /// Lets a component listen at an address and port of this machine over TCP, and be bound to it with UDP if
    /// [`allow_udp`](Self::allow_udp) grants that any. `0.0.0.0` and `[::]` are all addresses of this machine;
    /// names mean nothing here.
    #[must_use]
    pub fn allow_listen(mut self, address: Destination) -> Self {
        self.network.listen.push(address);
        self
    }

    /// Sets the limits of `wasi:http`.
    #[must_use]
    pub fn http_limits(mut self, limits: HttpLimits) -> Self {
        self.http = limits;
        self
    }

    /// Sets how many handles a component may have at a time. A call that would make one more fails with
    /// [`Error::Limit`](crate::Error::Limit).
    #[must_use]
    pub fn max_handles(mut self, limit: u32) -> Self {
        self.max_handles = limit;
        self
    }

    /// Sets how many bytes one call may give a component. A read gives fewer then; a call for more random
    /// bytes fails with [`Error::Limit`](crate::Error::Limit).
    #[must_use]
    pub fn max_call_bytes(mut self, limit: u64) -> Self {
        self.max_call_bytes = limit;
        self
    }

    /// Sets how many pollables a component may wait for in one call. One for more fails with
    /// [`Error::Limit`](crate::Error::Limit).
    #[must_use]
    pub fn max_poll_list(mut self, limit: u32) -> Self {
        self.max_poll_list = limit;
        self
    }

    /// Sets how many sockets a component may have at a time. Beyond it the guest sees `new-socket-limit`.
    #[must_use]
    pub fn max_sockets(mut self, limit: u32) -> Self {
        self.max_sockets = limit;
        self
    }
}
