//! Where a function may send requests and open connections to.

use sandgrain::wasi::Destination;

use super::table::{Table, Text};
use crate::report::quoted;

/// A destination and what it is granted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// What it is granted for.
    pub scheme: Scheme,
    /// Host and ports, as `sandgrain::wasi::Destination` shows them: `api.example.com:443`.
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
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    // Behind an address it may be a range's number of bits.
    if ports.contains('/') || host.split_once('/').is_some_and(|(_, path)| !is_number(path)) {
        return wrong(
            "which has a path; whole hosts are granted",
            "scheme, host and port without what follows",
        );
    }
    if ports.contains("..") {
        return wrong(
            format!("whose ports are {}", quoted(ports)),
            "8000-8100 for a range, with its last port",
        );
    }
    if host == "self" || host.ends_with(".spin.internal") {
        return wrong(
            "which stands for the application itself; functions are not called by one another in memory",
            "the address that the application is served at",
        );
    }
    match format!("{host}:{ports}").parse::<Destination>() {
        Ok(destination) => Ok(Outbound { scheme, destination: destination.to_string() }),
        Err(error) => wrong(
            format!("which {}", error.problem()),
            "a host such as api.example.com, *.example.com, 10.0.0.0/8 or *, and ports such as 443, 8000-8100 or *",
        ),
    }
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
