//! Which trace a request belongs to, as the W3C recommendation "Trace Context" passes it on in headers.
//!
//! Clients choose what is in these headers. Nothing but how traces are put together may depend on them.

use std::fmt;

use http::HeaderMap;

/// How long a `tracestate` can be, in bytes, to be passed on.
pub const MAX_TRACESTATE: usize = 512;

/// How many members a `tracestate` can have.
const MAX_MEMBERS: usize = 32;

/// A place in a trace: what the header `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace. Not all zeros.
    pub trace_id: [u8; 16],
    /// The span in it: of a context that was received, the one that the request was sent from, which is the parent
    /// of what the request leads to. Not all zeros.
    pub span_id: [u8; 8],
    /// Whether the sender records the trace.
    pub sampled: bool,
}

impl TraceContext {
    /// The beginning of a trace.
    ///
    /// `random` has to be from a generator that nobody else can guess the numbers of.
    #[must_use]
    pub fn new(random: [u8; 24], sampled: bool) -> Self {
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&random[..16]);
        span_id.copy_from_slice(&random[16..]);
        Self { trace_id: not_zero(trace_id), span_id: not_zero(span_id), sampled }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self, random: [u8; 8]) -> Self {
        Self { span_id: not_zero(random), ..self }
    }

    /// The trace, as records name it.
    #[must_use]
    pub fn trace_id_text(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace_id))
    }

    /// What the value of a `traceparent` says; `None` if it is invalid, and the trace begins here.
    ///
    /// Of versions after 00, what they have in common with that one is read, as the recommendation says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let version = number(text.get(..2)?)?;
        let trace_id = number(text.get(3..35)?)?;
        let span_id = number(text.get(36..52)?)?;
        let flags = number(text.get(53..55)?)?;
        let has_dashes = [2, 35, 52].iter().all(|at| text.as_bytes()[*at] == b'-');
        let rest = text.get(55..)?;
        let is_known_end = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let is_valid = has_dashes && is_known_end && trace_id != 0 && span_id != 0;
        is_valid.then(|| Self {
            trace_id: trace_id.to_be_bytes(),
            // Sixteen digits: all of it is there.
            span_id: (span_id as u64).to_be_bytes(),
            sampled: flags & 1 != 0,
        })
    }

    /// The context that a request was sent with; `None` if it has none that is valid, or several.
    #[must_use]
    pub fn received(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        Self::parse(value.to_str().ok()?.trim_matches([' ', '\t']))
    }
}

/// The `tracestate` that a request was sent with, all of its headers in one; `None` if there is none, or none that
/// can be passed on: more than [`MAX_TRACESTATE`] bytes or 32 members, or anything but printable ASCII.
///
/// It means something only together with a `traceparent`: without a [`TraceContext::received`] it has to be
/// dropped.
#[must_use]
pub fn tracestate(headers: &HeaderMap) -> Option<String> {
    let mut all = String::new();
    for value in headers.get_all("tracestate") {
        let value = value.to_str().ok()?.trim_matches([' ', '\t']);
        if value.is_empty() {
            continue;
        }
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(value);
        if all.len() > MAX_TRACESTATE {
            return None;
        }
    }
    let is_passed_on = !all.is_empty() && all.split(',').count() <= MAX_MEMBERS;
    is_passed_on.then_some(all)
}

/// The value of a `traceparent`, of version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(self.sampled))
    }
}

/// Zeros are no id.
fn not_zero<const N: usize>(mut id: [u8; N]) -> [u8; N] {
    if id.iter().all(|byte| *byte == 0) {
        id[N - 1] = 1;
    }
    id
}

/// A number of up to 32 digits, of which the letters are lower case.
fn number(text: &str) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.bytes().all(is_digit).then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests;
