//! A grant's hosts and ports.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::addresses::is_in;

/// Hosts and ports that a guest may be granted.
///
/// It is parsed from a host and, after a colon, ports:
///
/// | host | stands for |
/// |---|---|
/// | `api.example.com` | that name |
/// | `*.example.com` | every name below that one |
/// | `10.1.2.3`, `[2001:db8::1]` | that address |
/// | `10.0.0.0/8`, `[2001:db8::]/32` | the addresses of that range |
/// | `*` | every name and address |
///
/// Ports are `443`, `8000-8100`, several of these with commas between them, or `*`.
///
/// A name, or `*`, is never good for an address that does not lead to the public internet: of a private
/// network, this machine, one link, a multicast group, or a cloud's own services. That holds for what a name
/// is found to have when it is looked up. Such an address has to be granted itself, or its range.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    host: Host,
    ports: Vec<RangeInclusive<u16>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    Any,
    Name(String),
    /// All names that end in this, which begins with a dot.
    Below(String),
    Addresses(IpAddr, u8),
}

impl Destination {
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|ports| ports.contains(&port))
    }

    /// Whether a name is meant, at whichever port. It has to be [normalized].
    pub(super) fn has_name(&self, name: &str) -> bool {
        match &self.host {
            Host::Any => true,
            Host::Name(own) => own == name,
            Host::Below(end) => name.len() > end.len() && name.ends_with(end.as_str()),
            Host::Addresses(..) => false,
        }
    }

    /// Whether an address is named, or its range.
    pub(super) fn has_address(&self, address: SocketAddr) -> bool {
        self.has_port(address.port()) && self.has_address_at_any_port(address.ip())
    }

    pub(super) fn has_address_at_any_port(&self, address: IpAddr) -> bool {
        match self.host {
            Host::Addresses(range, prefix) => is_in(address.to_canonical(), range, prefix),
            _ => false,
        }
    }

    /// Whether every host is meant, at this port.
    pub(super) fn is_any_host(&self, port: u16) -> bool {
        self.host == Host::Any && self.has_port(port)
    }
}

/// A name as grants have it.
pub(crate) fn normalized(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// What is wrong with a text that is no [`Destination`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the destination {text:?} {problem}; write a host and ports, such as \
     api.example.com:443, *.example.com:80,443, 10.0.0.0/8:8000-8100 or [2001:db8::1]:*"
)]
pub struct InvalidDestination {
    text: String,
    problem: &'static str,
}

impl InvalidDestination {
    /// The problem alone, as what follows the text in a sentence: `has no ports`.
    #[must_use]
    pub fn problem(&self) -> &'static str {
        self.problem
    }
}

impl FromStr for Destination {
    type Err = InvalidDestination;

    fn from_str(text: &str) -> Result<Self, InvalidDestination> {
        parse(text).map_err(|problem| InvalidDestination { text: text.to_owned(), problem })
    }
}

fn parse(text: &str) -> Result<Destination, &'static str> {
    let (host, ports) = text.rsplit_once(':').ok_or("has no ports")?;
    // The last colon may be within an address.
    if ports.contains(']') {
        return Err("has no ports");
    }
    let ports = ports.split(',').map(parse_ports).collect::<Option<_>>();
    let ports = ports.ok_or("has something else where ports should be")?;
    Ok(Destination { host: parse_host(host)?, ports })
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    if text == "*" {
        return Some(0..=u16::MAX);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range: RangeInclusive<u16> = number(first)?..=number(last)?;
    (!range.is_empty()).then_some(range)
}

/// A number that is digits alone, without a sign.
fn number<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_host(text: &str) -> Result<Host, &'static str> {
    if text == "*" {
        return Ok(Host::Any);
    }
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let parsed = match bare {
        Some(bare) => bare.parse().map(IpAddr::V6).ok(),
        None => address.parse().map(IpAddr::V4).ok(),
    };
    if let Some(parsed) = parsed {
        // What is compared with it is of IPv4 if it can be.
        let address = parsed.to_canonical();
        if address != parsed && prefix.is_some() {
            return Err("has a range of IPv4 that is written as IPv6");
        }
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), number);
        let prefix = prefix.filter(|prefix| *prefix <= bits);
        return Ok(Host::Addresses(
            address,
            prefix.ok_or("has no number of bits after the slash")?,
        ));
    }
    let (name, below) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text, false),
    };
    let name = normalized(name);
    let is_label = |label: &str| {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        !label.is_empty() && label.bytes().all(is_allowed)
    };
    // Something like 10.1 is an address to some and a name to others.
    let last = name.rsplit('.').next().unwrap_or_default();
    if !name.split('.').all(is_label) || last.bytes().all(|c| c.is_ascii_digit()) {
        return Err("has neither a name nor an address before its ports");
    }
    Ok(if below { Host::Below(format!(".{name}")) } else { Host::Name(name) })
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => f.write_str("*"),
            Host::Name(name) => f.write_str(name),
            Host::Below(end) => write!(f, "*{end}"),
            Host::Addresses(IpAddr::V4(address), 32) => write!(f, "{address}"),
            Host::Addresses(IpAddr::V6(address), 128) => write!(f, "[{address}]"),
            Host::Addresses(IpAddr::V4(address), prefix) => write!(f, "{address}/{prefix}"),
            Host::Addresses(IpAddr::V6(address), prefix) => write!(f, "[{address}]/{prefix}"),
        }?;
        for (at, ports) in self.ports.iter().enumerate() {
            f.write_str(if at == 0 { ":" } else { "," })?;
            match (*ports.start(), *ports.end()) {
                (0, u16::MAX) => f.write_str("*")?,
                (first, last) if first == last => write!(f, "{first}")?,
                (first, last) => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Destination;

    #[test]
    fn what_is_parsed_is_shown_the_same() {
        for text in [
            "*:*",
            "*:443",
            "api.example.com:443",
            "*.example.com:80,443,8000-8100",
            "10.0.0.0/8:1",
            "127.0.0.1:*",
            "[::1]:80",
            "[2001:db8::]/32:443",
            "a_b-c:1",
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            ":",
            "example.com",
            "example.com:",
            "example.com:0x1",
            "example.com:70000",
            "example.com:9-1",
            "exa mple.com:1",
            "a..b:1",
            "*.:1",
            "**:1",
            "10.1:80",
            "10.0.0.0/33:1",
            "10.0.0.0/+8:1",
            "10.0.0.0/:1",
            "[::1]",
            "[::1]/129:1",
            "::1:80",
            "https:example.com/:443",
            "[::ffff:10.0.0.0]/104:1",
            "user@example.com:443",
            "example.com:+1",
            "10.0.0.0/8/8:1",
        ] {
            let error = text.parse::<Destination>().expect_err(text);
            assert!(error.to_string().contains("write a host and ports"), "{error}");
        }
    }

    #[test]
    fn a_name_below_another_is_not_one_that_only_ends_alike() {
        let destination: Destination = "*.example.com:1".parse().unwrap();
        assert!(destination.has_name("a.b.example.com"));
        assert!(!destination.has_name("example.com"));
        assert!(!destination.has_name("badexample.com"));
        assert!(!destination.has_name("example.com.evil.org"));
    }
}
