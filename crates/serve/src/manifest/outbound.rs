//! Where a function may send requests and open connections to.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::table::{Table, Text};
use crate::report::quoted;

/// A destination and what it is granted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// What it is granted for.
    pub scheme: Scheme,
    /// Host and ports, as `sandgrain::wasi::Destination` reads them: `api.example.com:443`.
    pub destination: String,
}

/// What a destination is granted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `*`: all of the others.
    Any,
    /// HTTP requests without TLS.
    Http,
    /// HTTP requests over TLS.
    Https,
    /// Connections over TCP.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Outbound {
    /// Whether `WasiConfig::allow_http` is to have it.
    #[must_use]
    pub fn is_for_http(&self) -> bool {
        matches!(self.scheme, Scheme::Any | Scheme::Http | Scheme::Https)
    }

    /// Whether `WasiConfig::allow_tcp` is to have it.
    #[must_use]
    pub fn is_for_tcp(&self) -> bool {
        matches!(self.scheme, Scheme::Any | Scheme::Tcp)
    }

    /// Whether `WasiConfig::allow_udp` is to have it.
    #[must_use]
    pub fn is_for_udp(&self) -> bool {
        matches!(self.scheme, Scheme::Any | Scheme::Udp)
    }
}

/// What is wrong with a destination, and what to do.
type Wrong = (String, String);

const HAS_PATH: (&str, &str) =
    ("which has a path; whole hosts are granted", "scheme, host and port without what follows");

pub(super) fn outbound(table: &Table<'_>) -> Vec<Outbound> {
    let mut granted = Vec::new();
    for Text { text, at } in table.strings("allowed_outbound_hosts") {
        match parse(text) {
            Ok(outbound) => {
                if outbound.destination.starts_with("localhost:") {
                    table.problems.warning(
                        at,
                        format!("{}: names never lead to addresses of this machine", quoted(text)),
                        "the address, such as 127.0.0.1",
                    );
                }
                granted.push(outbound);
            }
            Err((problem, advice)) => {
                let what = format!(
                    "allowed_outbound_hosts in {} has {}, {problem}",
                    table.name,
                    quoted(text)
                );
                table.problems.error(at, what, advice);
            }
        }
    }
    granted
}

fn wrong<T>(problem: impl Into<String>, advice: impl Into<String>) -> Result<T, Wrong> {
    Err((problem.into(), advice.into()))
}

fn parse(text: &str) -> Result<Outbound, Wrong> {
    if text.contains("{{") {
        return wrong("which has a variable; there are none", "the host itself");
    }
    if text == "insecure:allow-all" {
        return wrong("which is of Spin's first version", "\"*://*:*\"");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let port = if text.contains(':') { "" } else { ":443" };
        return wrong("which has no scheme", format!("\"*://{}{port}\"", first_characters(text)));
    };
    let (scheme, default) = match scheme {
        "*" => (Scheme::Any, None),
        "http" => (Scheme::Http, Some("80")),
        "https" => (Scheme::Https, Some("443")),
        "tcp" => (Scheme::Tcp, None),
        "udp" => (Scheme::Udp, None),
        other => {
            return wrong(
                format!("whose scheme {} is not one of http, https, tcp, udp and *", quoted(other)),
                "\"tcp://\", host, colon and port: functions bring their own clients of other protocols",
            );
        }
    };
    if rest.contains('@') {
        return wrong("which has a user in it", "the host and its port");
    }
    let (host, ports) = split_ports(rest);
    let Some(ports) = ports.or(default) else {
        return wrong(
            "which has no port",
            format!("\"{}:443\", or * for any port", first_characters(text)),
        );
    };
    if ports.contains('/') {
        return wrong(HAS_PATH.0, HAS_PATH.1);
    }
    if ports.contains("..") {
        return wrong(
            format!("whose ports are {}", quoted(ports)),
            "8000-8100 for a range, with its last port",
        );
    }
    let Some(ports) = ports.split(',').map(parse_ports).collect::<Option<Vec<_>>>() else {
        return wrong(format!("whose ports are {}", quoted(ports)), "443, 8000-8100, 80,443 or *");
    };
    let host = parse_host(host)?;
    Ok(Outbound { scheme, destination: format!("{host}:{}", ports.join(",")) })
}

/// So much of a text as advice may repeat.
fn first_characters(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Host and ports. The last colon may be within an address.
fn split_ports(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, ports)) if !ports.contains(']') => (host, Some(ports)),
        _ => (text, None),
    }
}

/// Ports, as they are written for the library.
fn parse_ports(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| -> Option<u16> {
        text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
    };
    let (first, last) = (number(first)?, number(last)?);
    match first.cmp(&last) {
        std::cmp::Ordering::Less => Some(format!("{first}-{last}")),
        std::cmp::Ordering::Equal => Some(first.to_string()),
        std::cmp::Ordering::Greater => None,
    }
}

/// A host, as it is written for the library: a name, `*.` and a name, an address, a range of them, or `*`.
fn parse_host(text: &str) -> Result<String, Wrong> {
    const ADVICE: &str = "a name, *.example.com, an address, a range such as 10.0.0.0/8, or *";
    if text == "*" {
        return Ok(text.to_owned());
    }
    if text == "self" || text.ends_with(".spin.internal") {
        return wrong(
            "which stands for the application itself; functions are not called by one another in memory",
            "the address that the application is served at",
        );
    }
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let most = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(|address| match address.to_ipv4_mapped() {
            Some(_) if bits.is_some() => None,
            _ => Some(128),
        }),
        None => address.parse::<Ipv4Addr>().ok().map(|_| Some(32)),
    };
    if let Some(most) = most {
        let Some(most) = most else {
            return wrong("which has a range of IPv4 that is written as IPv6", "the range as IPv4");
        };
        let Some(bits) = bits else { return Ok(text.to_owned()) };
        let is_number = !bits.is_empty() && bits.bytes().all(|c| c.is_ascii_digit());
        return match bits.parse::<u8>() {
            Ok(bits) if is_number && bits <= most => Ok(format!("{address}/{bits}")),
            _ => wrong("which has no number of bits after the slash", ADVICE),
        };
    }
    if bits.is_some() {
        return wrong(HAS_PATH.0, HAS_PATH.1);
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_allowed);
    // Something like 10.1 is an address to some and a name to others.
    let is_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|c| c.is_ascii_digit()));
    if !name.split('.').all(is_label) || is_number {
        return wrong("whose host is neither a name nor an address", ADVICE);
    }
    let below = if text.starts_with("*.") { "*." } else { "" };
    Ok(format!("{below}{}", name.to_ascii_lowercase()))
}
