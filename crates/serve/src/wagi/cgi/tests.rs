use super::{FACTS, MAX_WORDS, Request, arguments, environment, facts, is_fact};
use crate::manifest::Argument;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

/// A request for `/shop/ada/cart/1`, by `/shop/:user/...`.
fn request(headers: &HeaderMap) -> Request<'_> {
    Request {
        method: &Method::POST,
        version: Version::HTTP_11,
        headers,
        content_length: None,
        script_name: "/shop/ada",
        path_info: "/cart/1",
        query: "a=1&b",
        route: "/shop/:user/...",
        parameters: vec![("user", "ada")],
        remote: "[::ffff:192.0.2.7]:4711".parse().unwrap(),
        local: "[2001:db8::1]:8080".parse().unwrap(),
    }
}

/// The environment of a request with these headers, with the function's own variables.
fn with(sent: &[(&str, &[u8])], own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let variables = environment(&request(&headers(sent)), &pairs(own));
    let length = variables.len();
    let variables: BTreeMap<_, _> = variables.into_iter().collect();
    assert_eq!(variables.len(), length, "each name once");
    variables
}

/// What of the environment comes from these headers.
fn told(sent: &[(&str, &[u8])]) -> Vec<(String, String)> {
    with(sent, &[]).into_iter().filter(|(name, _)| name.starts_with("HTTP_")).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn the_variables_of_a_request_come_in_order() {
    let headers = headers(&[
        ("host", b"example.com"),
        ("content-type", b"text/plain"),
        ("content-length", b"5"),
        ("accept", b"*/*"),
    ]);
    let request = Request { content_length: Some(5), ..request(&headers) };
    let own = pairs(&[("ZONE", "eu"), ("KEY", "k")]);
    let software = concat!("sandgrain/", env!("CARGO_PKG_VERSION"));
    let expected = pairs(&[
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", software),
        ("SERVER_NAME", "[2001:db8::1]"),
        ("SERVER_PORT", "8080"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_METHOD", "POST"),
        ("REMOTE_ADDR", "192.0.2.7"),
        ("REMOTE_HOST", "192.0.2.7"),
        ("SCRIPT_NAME", "/shop/ada"),
        ("PATH_INFO", "/cart/1"),
        ("PATH_TRANSLATED", "/cart/1"),
        ("QUERY_STRING", "a=1&b"),
        ("X_RAW_PATH_INFO", "/cart/1"),
        ("X_MATCHED_ROUTE", "/shop/:user/..."),
        ("X_RAW_COMPONENT_ROUTE", "/shop/:user/..."),
        ("X_COMPONENT_ROUTE", "/shop/:user"),
        ("CONTENT_LENGTH", "5"),
        ("CONTENT_TYPE", "text/plain"),
        ("X_PATH_MATCH_USER", "ada"),
        ("ZONE", "eu"),
        ("KEY", "k"),
        ("HTTP_ACCEPT", "*/*"),
        ("HTTP_HOST", "example.com"),
    ]);
    assert_eq!(environment(&request, &own), expected);
}

#[test]
fn what_is_not_known_has_no_variable() {
    let variables = with(&[("host", b"example.com")], &[]);
    for name in ["AUTH_TYPE", "REMOTE_USER", "CONTENT_LENGTH", "CONTENT_TYPE", "X_FULL_URL"] {
        assert!(!variables.contains_key(name), "{name}");
    }
}

#[test]
fn versions_are_named_as_in_http() {
    let headers = HeaderMap::new();
    for (version, name) in [
        (Version::HTTP_10, "HTTP/1.0"),
        (Version::HTTP_11, "HTTP/1.1"),
        (Version::HTTP_2, "HTTP/2.0"),
        (Version::HTTP_3, "HTTP/3.0"),
    ] {
        let request = Request { version, ..request(&headers) };
        let variables = environment(&request, &[]);
        assert!(variables.contains(&("SERVER_PROTOCOL".to_owned(), name.to_owned())));
    }
}

#[test]
fn the_proxy_of_a_client_is_not_the_programs() {
    let proxies: [(&str, &[u8]); 3] =
        [("Proxy", b"evil:80"), ("Proxy-Authorization", b"x"), ("Proxy-Connection", b"x")];
    assert_eq!(told(&proxies), []);
}

#[test]
fn no_two_headers_become_the_same_variable() {
    let alike: [(&str, &[u8]); 3] =
        [("X-Real-IP", b"192.0.2.1"), ("X_Real_IP", b"6.6.6.6"), ("X-Real_IP", b"6.6.6.6")];
    assert_eq!(told(&alike), pairs(&[("HTTP_X_REAL_IP", "192.0.2.1")]));
    assert_eq!(told(&[("x.y", b"1"), ("x!", b"1"), ("x'", b"1"), ("x%41", b"1")]), []);
}

#[test]
fn headers_of_the_connection_are_not_told() {
    let names = ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
    for name in names {
        assert_eq!(told(&[(name, b"x")]), [], "{name}");
    }
}

#[test]
fn content_is_told_under_its_own_names_only() {
    assert_eq!(told(&[("content-type", b"text/plain"), ("content-length", b"3")]), []);
}

#[test]
fn clients_can_authenticate_themselves_to_the_program() {
    let expected = pairs(&[("HTTP_AUTHORIZATION", "Bearer x")]);
    assert_eq!(told(&[("Authorization", b"Bearer x")]), expected);
}

#[test]
fn several_headers_of_a_name_are_one_variable() {
    let several: [(&str, &[u8]); 5] = [
        ("accept", b"text/html"),
        ("cookie", b"a=1"),
        ("accept", b"text/plain;q=0.5"),
        ("cookie", b"b=2"),
        ("accept", b""),
    ];
    let expected =
        pairs(&[("HTTP_ACCEPT", "text/html, text/plain;q=0.5, "), ("HTTP_COOKIE", "a=1; b=2")]);
    assert_eq!(told(&several), expected);
}

#[test]
fn a_type_that_is_ambiguous_is_not_told() {
    let several: [(&str, &[u8]); 2] =
        [("content-type", b"text/plain"), ("content-type", b"text/html")];
    assert_eq!(with(&several, &[]).get("CONTENT_TYPE"), None);
}

#[test]
fn values_that_are_not_utf_8_are_left_out_as_a_whole() {
    let values: [(&str, &[u8]); 5] = [
        ("x-good", "gr\u{fc}n".as_bytes()),
        ("x-bad", b"gr\xfcn"),
        ("x-list", b"1"),
        ("x-list", b"\xff"),
        ("content-type", b"\xff"),
    ];
    assert_eq!(told(&values), pairs(&[("HTTP_X_GOOD", "gr\u{fc}n")]));
    assert_eq!(with(&values, &[]).get("CONTENT_TYPE"), None);
}

#[test]
fn no_header_changes_a_variable_of_the_manifest() {
    let own = [("HTTP_PROXY_URL", "inside"), ("HTTP_X_TOKEN", "own"), ("HTTP_PROXY", "inside")];
    let hostile: [(&str, &[u8]); 4] = [
        ("proxy-url", b"outside"),
        ("X-Token", b"sent"),
        ("proxy", b"outside"),
        ("x-other", b"sent"),
    ];
    let variables = with(&hostile, &own);
    for (name, value) in own {
        assert_eq!(variables[name], value);
    }
    assert_eq!(variables["HTTP_X_OTHER"], "sent");
}

#[test]
fn the_manifest_changes_nothing_that_is_known_of_the_request() {
    let own = [
        ("PATH_INFO", "own"),
        ("CONTENT_TYPE", "own"),
        ("X_PATH_MATCH_USER", "own"),
        ("X_PATH_MATCH_OTHER", "own"),
        ("REMOTE_USER", "own"),
    ];
    let variables = with(&[], &own);
    assert_eq!(variables["PATH_INFO"], "/cart/1");
    assert_eq!(variables["X_PATH_MATCH_USER"], "ada");
    // The request has none.
    assert_eq!(variables.get("CONTENT_TYPE"), None);
    assert_eq!(variables.get("X_PATH_MATCH_OTHER"), None);
    // The server has no such thing.
    assert_eq!(variables["REMOTE_USER"], "own");
}

#[test]
fn the_names_that_the_server_gives_are_those_that_the_manifest_cannot() {
    let headers = headers(&[("content-type", b"text/plain")]);
    let facts = facts(&Request { content_length: Some(1), ..request(&headers) });
    assert!(facts.iter().all(|(name, _)| is_fact(name)));
    let names: HashSet<&str> = facts.iter().map(|(name, _)| name.as_str()).collect();
    assert!(FACTS.iter().all(|name| names.contains(name)));
}

#[test]
fn the_path_is_decoded_and_there_as_it_was_sent() {
    let headers = HeaderMap::new();
    let request = Request {
        script_name: "/shop/%c3%a4",
        path_info: "/a%2Fb%00%ff%4",
        parameters: vec![("user", "%c3%a4"), ("b-c", "%00")],
        ..request(&headers)
    };
    let variables: BTreeMap<_, _> = environment(&request, &[]).into_iter().collect();
    assert_eq!(variables["SCRIPT_NAME"], "/shop/\u{e4}");
    assert_eq!(variables["PATH_INFO"], "/a/b\u{fffd}\u{fffd}%4");
    assert_eq!(variables["PATH_TRANSLATED"], variables["PATH_INFO"]);
    assert_eq!(variables["X_RAW_PATH_INFO"], "/a%2Fb%00%ff%4");
    assert_eq!(variables["X_PATH_MATCH_USER"], "%c3%a4");
    assert_eq!(variables["X_PATH_MATCH_B-C"], "%00");
}

fn words(query: &str) -> Vec<String> {
    arguments(&[Argument::Query], "", query)
}

#[test]
fn arguments_are_expanded_where_they_stand() {
    let argv = [
        Argument::Text("tool".to_owned()),
        Argument::Query,
        Argument::ScriptName,
        Argument::Text("${ARGS}".to_owned()),
    ];
    let expected = ["tool", "a=1", "b", "/shop/\u{e4}", "${ARGS}"];
    assert_eq!(arguments(&argv, "/shop/%C3%A4", "a=1&b"), expected);
    assert_eq!(arguments(&argv[1..3], "/x", ""), ["/x"]);
}

#[test]
fn words_are_decoded_and_only_good_ones_are_there() {
    assert_eq!(
        words("a=1&b%20c&d+e&%26&%e4&x%00y&%c3%a4&&%&%4&%zz"),
        ["a=1", "b c", "d+e", "&", "\u{e4}", "%", "%4", "%zz"]
    );
    // Not twice.
    assert_eq!(words("%2541"), ["%41"]);
}

#[test]
fn a_query_has_a_bounded_number_of_words() {
    let query = "a&".repeat(MAX_WORDS + 10);
    assert_eq!(words(&query).len(), MAX_WORDS);
}

proptest! {
    #[test]
    fn environments_of_whatever_clients_send_keep_what_they_promise(
        sent in prop::collection::vec(
            ("[a-zA-Z_.-]{1,8}|[Pp]roxy", prop::collection::vec(any::<u8>(), 0..8)),
            0..12,
        ),
        own in prop::collection::btree_map("HTTP_[A-Z]{1,2}|[A-Z]{1,3}|PATH_INFO", ".{0,4}", 0..6),
        path in ".{0,20}|(%[0-9a-f]{2}){0,8}",
        query in ".{0,20}",
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &sent {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
        }
        let own: Vec<_> = own.into_iter().collect();
        let request = Request {
            script_name: &path,
            path_info: &path,
            query: &query,
            ..request(&headers)
        };
        let variables = environment(&request, &own);
        let names: HashSet<_> = variables.iter().map(|(name, _)| name.as_str()).collect();
        prop_assert_eq!(names.len(), variables.len());
        for (name, value) in &variables {
            prop_assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
            prop_assert!(
                is_fact(name)
                    || own.iter().any(|(own, _)| own == name)
                    || name.strip_prefix("HTTP_").is_some_and(|rest| {
                        rest != "PROXY" && rest.bytes().all(|c| c.is_ascii_uppercase() || c == b'_')
                    }),
                "{}", name
            );
        }
        for (name, value) in own.iter().filter(|(name, _)| !is_fact(name)) {
            let expected = (name.clone(), value.replace('\0', "\u{fffd}"));
            prop_assert!(variables.contains(&expected));
        }
    }

    #[test]
    fn words_of_any_query_can_be_arguments(query in ".*|([a-z&=]|%[0-9a-fA-F]{2}){0,60}") {
        for word in words(&query) {
            prop_assert!(!word.is_empty() && !word.contains('\0'));
        }
    }
}
