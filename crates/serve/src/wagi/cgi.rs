//! What a program that is called as CGI programs are is told of its request: environment and arguments.
//!
//! The variables are those of RFC 3875, as WAGI has them, and those of Spin that say how the request was routed.
//! The client chooses most of the values and all names of headers, so what it can reach is kept apart from what
//! it must not:
//!
//! - A header can only become a variable that begins with `HTTP_`. `Proxy` becomes none: programs take `HTTP_PROXY`
//!   for the proxy of their own requests.
//! - Names of headers with anything but letters, digits and dashes become none: `X_Real_IP` would be the same
//!   variable as `X-Real-IP`, which a proxy in front may have checked.
//! - A header that the manifest has a variable for is not told, so that no client changes that variable.
//!
//! `Authorization` is passed, though RFC 3875 lets servers keep it: nobody else authenticates clients here.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use http::header::{AsHeaderName, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName};
use http::{Method, Version};

use crate::headers::is_of_one_connection;
use crate::manifest::Argument;

/// How many words of a query become arguments, at most; the others are in `QUERY_STRING` only.
pub const MAX_WORDS: usize = 256;

/// A request, as far as the environment tells of it.
///
/// Path and query are as the client sent them, with nothing decoded.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The version of HTTP that it came by.
    pub version: Version,
    /// Its headers, without those that only the server may set ([`HEADER_PREFIX`](crate::routes::HEADER_PREFIX)).
    pub headers: &'a HeaderMap,
    /// The length of its body in bytes, if it is known before the body is read; `None` also if there is no body.
    pub content_length: Option<u64>,
    /// The path without [`path_info`](Self::path_info).
    pub script_name: &'a str,
    /// What `...` of the route stands for; empty for a route without it.
    pub path_info: &'a str,
    /// What is after the question mark; empty if there is none.
    pub query: &'a str,
    /// The route, as the manifest has it.
    pub route: &'a str,
    /// What the route's parameters stand for, by their names.
    pub parameters: Vec<(&'a str, &'a str)>,
    /// The client's address.
    pub remote: SocketAddr,
    /// The server's address, to which the client connected. `SERVER_NAME` is this one, not the `Host` that the
    /// client sent: the program sees that one as `HTTP_HOST`, for what it is.
    pub local: SocketAddr,
}

/// The variables that the server sets itself, apart from [`PARAMETER`]s.
const FACTS: [&str; 18] = [
    "GATEWAY_INTERFACE",
    "SERVER_SOFTWARE",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "REQUEST_METHOD",
    "REMOTE_ADDR",
    "REMOTE_HOST",
    "SCRIPT_NAME",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "QUERY_STRING",
    "X_RAW_PATH_INFO",
    "X_MATCHED_ROUTE",
    "X_RAW_COMPONENT_ROUTE",
    "X_COMPONENT_ROUTE",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
];

/// How the variables begin that have what parameters of the route stand for.
const PARAMETER: &str = "X_PATH_MATCH_";

/// The environment of a program that is called for a request: names and values, each name once, in an order that
/// depends on nothing but the content.
///
/// `own` are the function's variables from the manifest. They are all there, before any header of the same name,
/// except those with names that the server gives to what it knows of requests, such as `PATH_INFO`: these mean the
/// request even where it has no such thing, so the manifest's are left out.
///
/// `SCRIPT_NAME`, `PATH_INFO` and `PATH_TRANSLATED` are decoded, as RFC 3875 has them. What is not UTF-8 in them,
/// or NUL, becomes `U+FFFD`; `X_RAW_PATH_INFO` has the path as it was sent. A header with a value that is not UTF-8
/// is left out as a whole. Several headers with one name become one, with commas between the values (semicolons for
/// `Cookie`), but several `Content-Type` none: which of them holds would be anybody's guess.
#[must_use]
pub fn environment(request: &Request<'_>, own: &[(String, String)]) -> Vec<(String, String)> {
    let mut variables = facts(request);
    let own = own.iter().filter(|(name, _)| !is_fact(name));
    let own_names: HashSet<&str> = own.clone().map(|(name, _)| name.as_str()).collect();
    let headers = request.headers.keys().filter_map(|name| {
        let variable = variable(name).filter(|variable| !own_names.contains(variable.as_str()))?;
        let separator = if name == COOKIE { "; " } else { ", " };
        Some((variable, joined(request.headers, name, separator)?))
    });
    let mut headers: Vec<_> = headers.collect();
    headers.sort_unstable();
    variables.extend(own.cloned());
    variables.extend(headers);
    for (_, value) in &mut variables {
        // It would end the value there, for a program in C.
        if value.contains('\0') {
            *value = value.replace('\0', "\u{fffd}");
        }
    }
    variables
}

fn facts(request: &Request<'_>) -> Vec<(String, String)> {
    let local = match request.local.ip().to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let remote = request.remote.ip().to_canonical().to_string();
    let path_info = lossy(request.path_info);
    let without_rest = request.route.strip_suffix("/...").unwrap_or(request.route);
    let mut facts = vec![
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("SERVER_SOFTWARE", concat!("sandgrain/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("SERVER_NAME", local),
        ("SERVER_PORT", request.local.port().to_string()),
        ("SERVER_PROTOCOL", protocol(request.version).to_owned()),
        ("REQUEST_METHOD", request.method.to_string()),
        ("REMOTE_ADDR", remote.clone()),
        ("REMOTE_HOST", remote),
        ("SCRIPT_NAME", lossy(request.script_name)),
        ("PATH_INFO", path_info.clone()),
        // There is no file that it could be translated to.
        ("PATH_TRANSLATED", path_info),
        ("QUERY_STRING", request.query.to_owned()),
        ("X_RAW_PATH_INFO", request.path_info.to_owned()),
        ("X_MATCHED_ROUTE", request.route.to_owned()),
        ("X_RAW_COMPONENT_ROUTE", request.route.to_owned()),
        ("X_COMPONENT_ROUTE", without_rest.to_owned()),
    ];
    if let Some(length) = request.content_length {
        facts.push(("CONTENT_LENGTH", length.to_string()));
    }
    if request.headers.get_all(CONTENT_TYPE).iter().count() == 1
        && let Some(content_type) = joined(request.headers, CONTENT_TYPE, "")
    {
        facts.push(("CONTENT_TYPE", content_type));
    }
    let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value));
    let parameters = request.parameters.iter().map(|(name, value)| {
        (format!("{PARAMETER}{}", name.to_ascii_uppercase()), (*value).to_owned())
    });
    facts.chain(parameters).collect()
}

fn is_fact(name: &str) -> bool {
    FACTS.contains(&name) || name.starts_with(PARAMETER)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// The variable that a header becomes, if any. No two headers become the same one.
fn variable(name: &HeaderName) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_told = name != CONTENT_LENGTH
        && name != CONTENT_TYPE
        && name.as_str() != "proxy"
        && !is_of_one_connection(name)
        && name.as_str().bytes().all(is_plain);
    is_told.then(|| format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_")))
}

/// All values of a header in one, if all are UTF-8: a list that lacks some could be taken for a whole one.
fn joined(headers: &HeaderMap, name: impl AsHeaderName, separator: &str) -> Option<String> {
    let mut all = String::new();
    for (at, value) in headers.get_all(name).iter().enumerate() {
        if at > 0 {
            all.push_str(separator);
        }
        all.push_str(str::from_utf8(value.as_bytes()).ok()?);
    }
    Some(all)
}

/// The arguments of a program, from those in the manifest.
///
/// `script_name` and `query` are those of the [`Request`]; `${SCRIPT_NAME}` becomes the variable's value. `${ARGS}`
/// becomes a word for each part of the query between `&`, decoded, with `+` as itself: `?a=1&b%20c` is `a=1` and
/// `b c`. Parts that are empty, that are not UTF-8 or that have a NUL in them are left out, and all after
/// [`MAX_WORDS`].
///
/// A word may begin with a dash: clients can give options to a program that has `${ARGS}`.
#[must_use]
pub fn arguments(argv: &[Argument], script_name: &str, query: &str) -> Vec<String> {
    let mut arguments = Vec::with_capacity(argv.len());
    for argument in argv {
        match argument {
            Argument::Text(text) => arguments.push(text.clone()),
            Argument::ScriptName => arguments.push(lossy(script_name)),
            Argument::Query => arguments.extend(words(query)),
        }
    }
    arguments
}

fn words(query: &str) -> impl Iterator<Item = String> {
    let words = query.split('&').filter(|word| !word.is_empty());
    let words = words.filter_map(|word| String::from_utf8(unescaped(word)).ok());
    words.filter(|word| !word.contains('\0')).take(MAX_WORDS)
}

/// An escaped text as text without NUL, with `U+FFFD` for what cannot be.
fn lossy(text: &str) -> String {
    String::from_utf8_lossy(&unescaped(text)).replace('\0', "\u{fffd}")
}

/// The bytes that an escaped text stands for. A `%` that begins no escape is itself.
fn unescaped(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let [byte, rest @ ..] = left {
        if let [b'%', high, low, after @ ..] = left
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            bytes.push((high * 16 + low) as u8);
            left = after;
        } else {
            bytes.push(*byte);
            left = rest;
        }
    }
    bytes
}
