//! Spans and log records as the bodies of OTLP/HTTP requests, in JSON.
//!
//! The format is protobuf's mapping to JSON, with the changes of the OTLP specification: identifiers of traces and
//! spans in hexadecimal, enumerations as numbers.

#[cfg(test)]
mod tests;

use serde_json::{Value as Json, json};

/// What the spans and records say they were made by.
const SCOPE: &str = "sandgrain";

/// A piece of work, with its beginning and end.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace that it belongs to. Not all zeros.
    pub trace_id: [u8; 16],
    /// Which span of the trace it is. Not all zeros.
    pub span_id: [u8; 8],
    /// The span that it is a part of, or was asked for by; `None` for the first one of a trace.
    pub parent: Option<[u8; 8]>,
    /// What kind of work it is. Of few different ones, so nothing that clients choose.
    pub name: String,
    /// Whether it was asked for by others, or asks others.
    pub kind: SpanKind,
    /// When it began, in nanoseconds since 1970 in UTC.
    pub start_unix_nano: u64,
    /// When it ended, likewise.
    pub end_unix_nano: u64,
    /// What else there is to say of it, each name once.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Where a span stands between those who ask and those who answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Within one program.
    Internal,
    /// The answer to a request.
    Server,
}

/// Something that was logged.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// When, in nanoseconds since 1970 in UTC.
    pub time_unix_nano: u64,
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub body: String,
    /// What else there is to say of it, each name once.
    pub attributes: Vec<(&'static str, Value)>,
    /// The trace and the span within which it happened.
    pub trace: Option<([u8; 16], [u8; 8])>,
}

/// How bad it is what was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It is not.
    Info,
    /// It may lead to an error.
    Warn,
    /// Something failed.
    Error,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

/// An `ExportTraceServiceRequest`, for `/v1/traces`.
///
/// `resource` says who sends the spans, such as `service.name`; `version` is the server's own.
#[must_use]
pub fn traces(resource: &[(&str, Value)], version: &str, spans: &[Span]) -> Vec<u8> {
    let request = json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(resource) },
        "scopeSpans": [{
            "scope": { "name": SCOPE, "version": version },
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }] });
    request.to_string().into_bytes()
}

/// An `ExportLogsServiceRequest`, for `/v1/logs`.
///
/// `resource` says who sends the records, such as `service.name`; `version` is the server's own.
#[must_use]
pub fn logs(resource: &[(&str, Value)], version: &str, records: &[LogRecord]) -> Vec<u8> {
    let request = json!({ "resourceLogs": [{
        "resource": { "attributes": attributes(resource) },
        "scopeLogs": [{
            "scope": { "name": SCOPE, "version": version },
            "logRecords": records.iter().map(record).collect::<Vec<_>>(),
        }],
    }] });
    request.to_string().into_bytes()
}

fn span(span: &Span) -> Json {
    let kind = match span.kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
    };
    let mut json = json!({
        "traceId": trace_id(span.trace_id),
        "spanId": span_id(span.span_id),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": span.start_unix_nano.to_string(),
        "endTimeUnixNano": span.end_unix_nano.to_string(),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = span_id(parent).into();
    }
    if let Some(error) = &span.error {
        json["status"] = json!({ "code": 2, "message": error });
    }
    json
}

fn record(record: &LogRecord) -> Json {
    let (number, text) = match record.severity {
        Severity::Info => (9, "INFO"),
        Severity::Warn => (13, "WARN"),
        Severity::Error => (17, "ERROR"),
    };
    let time = record.time_unix_nano.to_string();
    let mut json = json!({
        "timeUnixNano": time,
        // Who made it has also seen it.
        "observedTimeUnixNano": time,
        "severityNumber": number,
        "severityText": text,
        "body": { "stringValue": record.body },
        "attributes": attributes(&record.attributes),
    });
    if let Some((trace, span)) = record.trace {
        json["traceId"] = trace_id(trace).into();
        json["spanId"] = span_id(span).into();
    }
    json
}

fn attributes(attributes: &[(&str, Value)]) -> Json {
    let one = |(key, value): &(&str, Value)| json!({ "key": key, "value": any_value(value) });
    attributes.iter().map(one).collect()
}

fn any_value(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!({ "stringValue": text }),
        // Readers of JSON may have no whole numbers of this size.
        Value::Int(number) => json!({ "intValue": number.to_string() }),
        Value::Float(number) => json!({ "doubleValue": float(*number) }),
        Value::Bool(yes) => json!({ "boolValue": yes }),
    }
}

/// JSON has no numbers for three of them, so protobuf gives them names.
fn float(number: f64) -> Json {
    if number.is_nan() {
        "NaN".into()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        number.into()
    }
}

fn trace_id(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

fn span_id(id: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(id))
}
