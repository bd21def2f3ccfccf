use super::{MAX_TRACESTATE, TraceContext, tracestate};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";

/// Whether a value is valid, in which case it says what all of those below say.
fn is_valid(text: &str) -> bool {
    TraceContext::parse(text).inspect(|context| assert_eq!(context, &sampled())).is_some()
}

fn sampled() -> TraceContext {
    TraceContext {
        trace_id: 0x1234_5678_9012_3456_7890_1234_5678_9012_u128.to_be_bytes(),
        span_id: 0x1234_5678_9012_3456_u64.to_be_bytes(),
        sampled: true,
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    });
    let mut headers = HeaderMap::new();
    pairs.for_each(|(name, value)| {
        headers.append(name, value);
    });
    headers
}

#[test]
fn a_value_is_read_and_written() {
    let text = format!("00-{TRACE}-{SPAN}-01");
    assert!(is_valid(&text));
    assert_eq!(sampled().to_string(), text);
    let text = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00";
    let context = TraceContext::parse(text).unwrap();
    assert!(!context.sampled);
    assert_eq!(context.to_string(), text);
}

#[test]
fn a_known_version_ends_with_the_flags() {
    assert!(!is_valid(&format!("00-{TRACE}-{SPAN}-01.")));
    assert!(!is_valid(&format!("00-{TRACE}-{SPAN}-01-")));
    assert!(!is_valid(&format!("00-{TRACE}-{SPAN}-01-what-the-future-will-be-like")));
}

#[test]
fn a_later_version_may_go_on_after_a_dash() {
    assert!(is_valid(&format!("cc-{TRACE}-{SPAN}-01")));
    assert!(is_valid(&format!("01-{TRACE}-{SPAN}-01-")));
    assert!(is_valid(&format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like")));
    assert!(!is_valid(&format!("cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like")));
    // It is passed on in the version that is known here.
    let context = TraceContext::parse(&format!("cc-{TRACE}-{SPAN}-01-x")).unwrap();
    assert_eq!(context.to_string(), format!("00-{TRACE}-{SPAN}-01"));
}

#[test]
fn values_with_wrong_fields_are_invalid() {
    let (zeros, upper) = ("0".repeat(32), "ABCDEF78901234567890123456789012");
    for version in ["ff", ".0", "0.", "000", "0000", "0", "", "0A", "+0"] {
        assert!(!is_valid(&format!("{version}-{TRACE}-{SPAN}-01")), "{version}");
    }
    let long = format!("{TRACE}3");
    let (first, last) = (format!(".{}", &TRACE[1..]), format!("{}.", &TRACE[..31]));
    for trace in
        [&zeros, upper, &first, &last, &long, &TRACE[1..], "", &format!("+{}", &TRACE[1..])]
    {
        assert!(!is_valid(&format!("00-{trace}-{SPAN}-01")), "{trace}");
    }
    for span in [
        &zeros[..16],
        "ABCDEF7890123456",
        ".234567890123456",
        "123456789012345.",
        "12345678901234567",
        "123456789012345",
        "",
    ] {
        assert!(!is_valid(&format!("00-{TRACE}-{span}-01")), "{span}");
    }
    for flags in [".0", "0.", "001", "1", "", "0A"] {
        assert!(!is_valid(&format!("00-{TRACE}-{SPAN}-{flags}")), "{flags}");
    }
    for text in ["", "00", "00-", &format!("00_{TRACE}_{SPAN}_01"), &format!("00-{TRACE}-{SPAN}")] {
        assert!(!is_valid(text), "{text}");
    }
    // Characters of several bytes where a field ends.
    assert!(!is_valid(&format!("0\u{e4}{TRACE}-{SPAN}-01")));
    assert!(!is_valid(&format!("cc-{TRACE}-{SPAN}-0\u{e4}")));
}

#[test]
fn of_the_flags_only_the_first_is_known() {
    let sampled = |flags: &str| {
        let context = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
        assert!(context.to_string().ends_with(if context.sampled { "-01" } else { "-00" }));
        context.sampled
    };
    assert!(sampled("01") && sampled("03") && sampled("ff"));
    assert!(!sampled("00") && !sampled("02") && !sampled("fe"));
}

#[test]
fn a_request_has_one_context() {
    let value = format!("00-{TRACE}-{SPAN}-01");
    let received = |pairs: &[(&'static str, &str)]| TraceContext::received(&headers(pairs));
    assert_eq!(received(&[]), None);
    assert_eq!(received(&[("trace-parent", &value)]), None);
    assert_eq!(received(&[("TraceParent", &value)]), Some(sampled()));
    assert_eq!(received(&[("traceparent", &format!(" \t{value}\t "))]), Some(sampled()));
    assert_eq!(received(&[("traceparent", &value), ("traceparent", &value)]), None);
    assert_eq!(received(&[("traceparent", &format!("{value},{value}"))]), None);
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", HeaderValue::from_bytes(b"00-\xff").unwrap());
    assert_eq!(TraceContext::received(&headers), None);
}

#[test]
fn a_child_is_in_the_same_trace() {
    let child = sampled().child([7; 8]);
    assert_eq!(child.to_string(), format!("00-{TRACE}-0707070707070707-01"));
}

#[test]
fn a_new_trace_has_ids_that_are_valid() {
    let mut random = [0xab; 24];
    random[16..].fill(0xcd);
    let context = TraceContext::new(random, false);
    assert_eq!(context.to_string(), format!("00-{}-{}-00", "ab".repeat(16), "cd".repeat(8)));
    // Even if chance makes them zeros.
    let zeros = TraceContext::new([0; 24], true);
    assert_eq!(TraceContext::parse(&zeros.to_string()), Some(zeros));
    let child = zeros.child([0; 8]);
    assert_eq!(TraceContext::parse(&child.to_string()), Some(child));
}

#[test]
fn a_state_is_passed_on_as_it_is() {
    let state = |values: &[&str]| {
        let pairs: Vec<_> = values.iter().map(|value| ("tracestate", *value)).collect();
        tracestate(&headers(&pairs))
    };
    assert_eq!(state(&[]), None);
    assert_eq!(state(&[""]), None);
    assert_eq!(state(&["foo=1,bar=2"]).unwrap(), "foo=1,bar=2");
    assert_eq!(state(&["foo=1 \t , \t bar=2, \t baz=3"]).unwrap(), "foo=1 \t , \t bar=2, \t baz=3");
    assert_eq!(state(&["foo=1", "", " bar=2 "]).unwrap(), "foo=1,bar=2");
}

#[test]
fn a_state_that_is_too_large_is_dropped() {
    let state = |value: &str| tracestate(&headers(&[("tracestate", value)]));
    let of = |length: usize| format!("a={}", "b".repeat(length - 2));
    assert!(state(&of(MAX_TRACESTATE)).is_some());
    assert_eq!(state(&of(MAX_TRACESTATE + 1)), None);
    let (one, other) = (of(256), of(256));
    assert_eq!(tracestate(&headers(&[("tracestate", &one), ("tracestate", &other)])), None);
    let members = |members: usize| vec!["a=1"; members].join(",");
    assert!(state(&members(32)).is_some());
    assert_eq!(state(&members(33)), None);
    let mut headers = HeaderMap::new();
    headers.insert("tracestate", HeaderValue::from_bytes(b"a=\xff").unwrap());
    assert_eq!(tracestate(&headers), None);
}

proptest! {
    #[test]
    fn any_text_is_a_context_or_none(
        text in ".*|[0-9a-f-]{50,60}|[0-9a-f+]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f\u{e4}]{1,3}(-.*)?",
    ) {
        if let Some(context) = TraceContext::parse(&text) {
            prop_assert_eq!(&context.to_string()[2..53], &text[2..53]);
        }
    }

    #[test]
    fn what_is_written_is_read_again(random: [u8; 24], span: [u8; 8], sampled: bool) {
        let context = TraceContext::new(random, sampled);
        prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
        let child = context.child(span);
        prop_assert_eq!(TraceContext::parse(&child.to_string()), Some(child));
        prop_assert_eq!((child.trace_id, child.sampled), (context.trace_id, sampled));
    }

    #[test]
    fn any_headers_have_a_state_that_fits_or_none(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5),
    ) {
        let mut headers = HeaderMap::new();
        for value in values {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append("tracestate", value.clone());
                headers.append("traceparent", value);
            }
        }
        let _ = TraceContext::received(&headers);
        if let Some(state) = tracestate(&headers) {
            prop_assert!((1..=MAX_TRACESTATE).contains(&state.len()));
            prop_assert!(HeaderValue::from_str(&state).is_ok());
        }
    }
}
