//! Fields of HTTP messages: those that no host refuses, and those of a request.

use alloc::vec::Vec;
use sandgrain_abi::component::{Reader, Writer};

/// Bytes of a field's value that no host refuses.
const MAX_FIELD: usize = 1 << 10;

pub(super) fn is_length(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-length")
}

/// Fields that hosts do not let a guest set.
const REFUSED: [&[u8]; 10] = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
    b"host",
    b"http2-settings",
    b"te",
];

/// Bytes that a field takes, if no host refuses it.
pub(super) fn plain(name: &[u8], value: &[u8]) -> Option<usize> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_value = |byte: &u8| matches!(byte, 0x20..=0x7e);
    let is_plain = !name.is_empty()
        && name.iter().all(is_name)
        && !REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused))
        && value.len() <= MAX_FIELD
        && value.iter().all(is_value);
    is_plain.then_some(name.len() + value.len() + 64)
}

/// The values that a name has among the entries of fields.
pub(super) fn values<'a>(entries: &'a [u8], name: &[u8]) -> Option<Vec<&'a [u8]>> {
    let from = &mut Reader::new(entries, &[], &[], entries.len());
    let mut values = Vec::new();
    for _ in 0..from.u32().ok()? {
        let (found, value) = (from.run().ok()?, from.run().ok()?);
        if found.eq_ignore_ascii_case(name) {
            values.push(value);
        }
    }
    Some(values)
}

/// The same as they travel: a list of lists of bytes.
pub(super) fn list(values: &[&[u8]]) -> Vec<u8> {
    let mut out = Writer::new();
    out.count(values.len());
    for value in values {
        out.run(value);
    }
    out.finish().0.body
}
