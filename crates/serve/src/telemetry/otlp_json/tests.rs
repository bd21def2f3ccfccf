use super::{LogRecord, Severity, Span, SpanKind, Value, logs, traces};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const TRACE: [u8; 16] = [
    0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c,
];
const SPAN: [u8; 8] = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];

fn span() -> Span {
    Span {
        trace_id: TRACE,
        span_id: SPAN,
        parent: None,
        name: "GET /hello/:name".to_owned(),
        kind: SpanKind::Server,
        start_unix_nano: 1_544_712_660_000_000_000,
        end_unix_nano: u64::MAX,
        attributes: Vec::new(),
        error: None,
    }
}

fn record() -> LogRecord {
    LogRecord {
        time_unix_nano: 1_544_712_660_300_000_000,
        severity: Severity::Info,
        body: "listening".to_owned(),
        attributes: Vec::new(),
        trace: None,
    }
}

/// The one span of a request, as JSON.
fn written(span: Span) -> Json {
    let body: Json = serde_json::from_slice(&traces(&[], "1", &[span])).unwrap();
    body["resourceSpans"][0]["scopeSpans"][0]["spans"][0].clone()
}

/// The one record of a request, as JSON.
fn logged(record: LogRecord) -> Json {
    let body: Json = serde_json::from_slice(&logs(&[], "1", &[record])).unwrap();
    body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0].clone()
}

#[test]
fn spans_are_written_as_the_specification_says() {
    let span = Span {
        parent: Some([0xee; 8]),
        attributes: vec![
            ("http.route", "/hello/:name".into()),
            ("http.response.status_code", 502_i64.into()),
        ],
        error: Some("a trap".to_owned()),
        ..span()
    };
    let body: Json =
        serde_json::from_slice(&traces(&[("service.name", "greeter".into())], "0.1.0", &[span]))
            .unwrap();
    let expected = json!({
        "resourceSpans": [{
            "resource": {
                "attributes": [{ "key": "service.name", "value": { "stringValue": "greeter" } }]
            },
            "scopeSpans": [{
                "scope": { "name": "sandgrain", "version": "0.1.0" },
                "spans": [{
                    "traceId": "0af7651916cd43dd8448eb211c80319c",
                    "spanId": "00f067aa0ba902b7",
                    "parentSpanId": "eeeeeeeeeeeeeeee",
                    "name": "GET /hello/:name",
                    "kind": 2,
                    "startTimeUnixNano": "1544712660000000000",
                    "endTimeUnixNano": "18446744073709551615",
                    "attributes": [
                        { "key": "http.route", "value": { "stringValue": "/hello/:name" } },
                        { "key": "http.response.status_code", "value": { "intValue": "502" } },
                    ],
                    "status": { "code": 2, "message": "a trap" },
                }],
            }],
        }],
    });
    assert_eq!(body, expected);
}

#[test]
fn records_are_written_as_the_specification_says() {
    let record = LogRecord {
        severity: Severity::Error,
        attributes: vec![("function", "hello".into())],
        trace: Some((TRACE, SPAN)),
        ..record()
    };
    let body: Json =
        serde_json::from_slice(&logs(&[("service.name", "greeter".into())], "0.1.0", &[record]))
            .unwrap();
    let expected = json!({
        "resourceLogs": [{
            "resource": {
                "attributes": [{ "key": "service.name", "value": { "stringValue": "greeter" } }]
            },
            "scopeLogs": [{
                "scope": { "name": "sandgrain", "version": "0.1.0" },
                "logRecords": [{
                    "timeUnixNano": "1544712660300000000",
                    "observedTimeUnixNano": "1544712660300000000",
                    "severityNumber": 17,
                    "severityText": "ERROR",
                    "body": { "stringValue": "listening" },
                    "attributes": [{ "key": "function", "value": { "stringValue": "hello" } }],
                    "traceId": "0af7651916cd43dd8448eb211c80319c",
                    "spanId": "00f067aa0ba902b7",
                }],
            }],
        }],
    });
    assert_eq!(body, expected);
}

#[test]
fn what_is_not_there_has_no_field() {
    let json = written(span());
    assert!(json.get("parentSpanId").is_none() && json.get("status").is_none());
    let json = logged(record());
    assert!(json.get("traceId").is_none() && json.get("spanId").is_none());
}

#[test]
fn kinds_and_severities_are_numbers() {
    for (kind, number) in [(SpanKind::Internal, 1), (SpanKind::Server, 2)] {
        assert_eq!(written(Span { kind, ..span() })["kind"], number);
    }
    for (severity, number) in [(Severity::Info, 9), (Severity::Warn, 13), (Severity::Error, 17)] {
        assert_eq!(logged(LogRecord { severity, ..record() })["severityNumber"], number);
    }
}

#[test]
fn values_have_their_types() {
    for (value, expected) in [
        (Value::from("a\"\u{0}\n\u{1f980}"), json!({ "stringValue": "a\"\u{0}\n\u{1f980}" })),
        (Value::from(String::new()), json!({ "stringValue": "" })),
        (Value::from(i64::MIN), json!({ "intValue": "-9223372036854775808" })),
        (Value::from(0.5), json!({ "doubleValue": 0.5 })),
        (Value::from(f64::NAN), json!({ "doubleValue": "NaN" })),
        (Value::from(f64::INFINITY), json!({ "doubleValue": "Infinity" })),
        (Value::from(f64::NEG_INFINITY), json!({ "doubleValue": "-Infinity" })),
        (Value::from(false), json!({ "boolValue": false })),
    ] {
        let json = written(Span { attributes: vec![("key", value)], ..span() });
        assert_eq!(json["attributes"], json!([{ "key": "key", "value": expected }]));
    }
}

#[test]
fn a_request_can_be_empty() {
    let body: Json = serde_json::from_slice(&traces(&[], "1", &[])).unwrap();
    assert_eq!(body["resourceSpans"][0]["scopeSpans"][0]["spans"], json!([]));
    let body: Json = serde_json::from_slice(&logs(&[], "1", &[])).unwrap();
    assert_eq!(body["resourceLogs"][0]["scopeLogs"][0]["logRecords"], json!([]));
}

proptest! {
    #[test]
    fn any_content_is_json_and_comes_out_again(
        name in any::<String>(),
        error: Option<String>,
        number: i64,
        float: f64,
        trace_id: [u8; 16],
        span_id: [u8; 8],
    ) {
        let attributes = vec![("a", name.as_str().into()), ("b", number.into()), ("c", float.into())];
        let json = written(Span {
            name: name.clone(),
            error: error.clone(),
            trace_id,
            span_id,
            attributes: attributes.clone(),
            ..span()
        });
        prop_assert_eq!(json["name"].as_str(), Some(name.as_str()));
        prop_assert_eq!(json["status"]["message"].as_str(), error.as_deref());
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        prop_assert_eq!(&json["traceId"], &hex(&trace_id));
        prop_assert_eq!(&json["spanId"], &hex(&span_id));
        prop_assert_eq!(&json["attributes"][1]["value"]["intValue"], &number.to_string());

        let json = logged(LogRecord { body: name.clone(), attributes, ..record() });
        prop_assert_eq!(json["body"]["stringValue"].as_str(), Some(name.as_str()));
    }
}
