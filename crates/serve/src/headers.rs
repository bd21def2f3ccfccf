//! Headers that say how a message travels.

use http::header::{self, HeaderMap, HeaderName};

/// Whether a header is about the connection that a request or response came by, and not about these: those of RFC
/// 9110, 7.6.1, and all that are between a client and its proxy. What a `Connection` names besides is not among them.
pub(crate) fn is_of_one_connection(name: &HeaderName) -> bool {
    const NAMES: [HeaderName; 5] = [
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    NAMES.contains(name) || name.as_str() == "keep-alive" || name.as_str().starts_with("proxy-")
}

/// How many bytes the body has, if the headers say so.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn headers_of_one_connection_are_told_from_those_of_messages() {
        let is = |name: &'static str| is_of_one_connection(&HeaderName::from_static(name));
        for name in [
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "proxy-other",
        ] {
            assert!(is(name), "{name}");
        }
        for name in ["host", "content-length", "authorization", "proxy", "x-proxy-a", "trailers"] {
            assert!(!is(name), "{name}");
        }
    }

    #[test]
    fn a_length_is_a_number() {
        let told = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static(value));
            content_length(&headers)
        };
        assert_eq!(content_length(&HeaderMap::new()), None);
        assert_eq!((told("0"), told("18446744073709551615")), (Some(0), Some(u64::MAX)));
        for wrong in ["", "-1", "1, 1", "18446744073709551616", "five"] {
            assert_eq!(told(wrong), None, "{wrong}");
        }
    }
}
