use super::{Head, HeadError, MAX_HEADERS, Parser};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const LIMIT: usize = 64 * 1024;

/// What an output in these pieces is: the head and the whole body, or what is wrong with it.
fn read<'a>(
    limit: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Head, Vec<u8>), HeadError> {
    let mut parser = Parser::new(limit);
    let mut pieces = pieces.into_iter();
    while let Some(piece) = pieces.next() {
        if let Some((head, rest)) = parser.push(piece)? {
            let mut body = rest.to_vec();
            pieces.for_each(|piece| body.extend_from_slice(piece));
            return Ok((head, body));
        }
    }
    Err(parser.finish())
}

fn whole(output: &str) -> Result<(Head, Vec<u8>), HeadError> {
    read(LIMIT, [output.as_bytes()])
}

/// The status and the headers of an output that has a head.
fn told(output: &str) -> (u16, Vec<(String, String)>) {
    let (head, _) = whole(output).unwrap_or_else(|error| panic!("{output:?}: {error}"));
    let headers = head.headers.iter().map(|(name, value)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    (head.status.as_u16(), headers.collect())
}

fn wrong(output: &str) -> HeadError {
    whole(output).expect_err(output)
}

#[test]
fn a_head_has_status_headers_and_what_follows() {
    let output = "Status: 404 Not Found\nContent-Type: text/plain\nX-A:  b c\t\n\nbody\n\nmore";
    let (head, body) = whole(output).unwrap();
    assert_eq!(head.status, 404);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    headers.insert("x-a", HeaderValue::from_static("b c"));
    assert_eq!(head.headers, headers);
    assert_eq!(body, b"body\n\nmore");
}

#[test]
fn lines_end_in_either_way() {
    let (head, body) = whole("Content-Type: a/b\r\nX-A: 1\n\r\n\r\nbody").unwrap();
    assert_eq!((head.status.as_u16(), head.headers.len()), (200, 2));
    assert_eq!(body, b"\r\nbody");
}

#[test]
fn the_status_follows_from_what_is_there() {
    for (output, status) in [
        ("Content-Type: text/plain\n\n", 200),
        ("Location: /there\n\n", 302),
        ("Location: https://www.w3.org/\nContent-Type: text/html\n\n", 302),
        ("status: 201\nlocation: /there\n\n", 201),
        ("Location: /there\nStatus: 307 So\n\n", 307),
        ("STATUS: 204\n\n", 204),
        ("Status: 599\tx\n\n", 599),
        ("Status: 200 \n\n", 200),
    ] {
        assert_eq!(told(output).0, status, "{output:?}");
    }
}

#[test]
fn a_head_needs_one_of_three_headers() {
    assert_eq!(wrong("X-A: b\n\nbody"), HeadError::Insufficient);
    assert_eq!(wrong("\nbody"), HeadError::Insufficient);
    assert_eq!(wrong("Content-Length: 4\n\nbody"), HeadError::Insufficient);
}

#[test]
fn a_status_is_a_number_of_responses() {
    for status in
        ["100", "101 Switching Protocols", "199", "600", "999", "20", "2000", "+20", "OK", "404x"]
    {
        let error = wrong(&format!("X-A: b\nStatus: {status}\n\n"));
        assert_eq!(error, HeadError::Status { line: 2 }, "{status}");
    }
}

#[test]
fn what_can_be_there_once_is_not_there_twice() {
    for name in ["Status: 200", "Content-Type: a/b", "Location: /a"] {
        let output = format!("{name}\nX-A: b\n{}\n\n", name.to_ascii_uppercase());
        assert_eq!(wrong(&output), HeadError::Repeated { line: 3 }, "{name}");
    }
}

#[test]
fn other_headers_can_be_there_several_times() {
    let (_, headers) = told("Set-Cookie: a=1\nStatus: 200\nset-cookie: b=2\n\n");
    let cookie = |value: &str| ("set-cookie".to_owned(), value.to_owned());
    assert_eq!(headers, [cookie("a=1"), cookie("b=2")]);
}

#[test]
fn headers_about_the_connection_and_the_length_are_left_out() {
    let output = "Status: 200\nContent-Length: 3\nContent-Length: 4\nTransfer-Encoding: chunked\n\
                  Connection: close\nKeep-Alive: timeout=5\nUpgrade: h2c\nTrailer: X\nTE: trailers\n\
                  Proxy-Connection: close\nProxy-Authenticate: Basic\nX-A: b\n\n";
    assert_eq!(told(output), (200, vec![("x-a".to_owned(), "b".to_owned())]));
}

#[test]
fn lines_that_are_no_headers_are_told_with_their_place() {
    for line in
        ["hello", "HTTP/1.1 200 OK", "a b: c", ": c", "X-A : b", "\u{e4}: b", "a\0: b", "a\rb: c"]
    {
        let error = wrong(&format!("Status: 200\n{line}\n\n"));
        assert_eq!(error, HeadError::NoHeader { line: 2 }, "{line:?}");
    }
    for line in [" continued", "\tx: y", " "] {
        let error = wrong(&format!("Content-Type: a/b;\n{line}\n\n"));
        assert_eq!(error, HeadError::Folded { line: 2 }, "{line:?}");
    }
    for line in [
        "X: a\0b",
        "X: a\rStatus: 200",
        "X: a\r",
        "X: \x7f",
        "Location:",
        "Status: \t",
        "Content-Type: ",
    ] {
        let error = wrong(&format!("X-A: b\n{line}\r\n\n"));
        assert_eq!(error, HeadError::Value { line: 2 }, "{line:?}");
    }
}

#[test]
fn values_can_have_any_other_byte() {
    let (head, _) = read(LIMIT, [&b"Status: 200\nX-A: \xff\tb\n\n"[..]]).unwrap();
    assert_eq!(head.headers["x-a"].as_bytes(), b"\xff\tb");
}

#[test]
fn an_output_that_ends_too_early_is_told() {
    assert_eq!(wrong(""), HeadError::Nothing);
    for output in
        ["hello", "Content-Type: text/plain", "Content-Type: text/plain\n", "Status: 200\n\r"]
    {
        assert_eq!(wrong(output), HeadError::Unfinished, "{output:?}");
    }
}

#[test]
fn the_limit_counts_every_byte_up_to_the_body() {
    let head = "Status: 200\r\nX-A: b\n\r\n";
    let output = format!("{head}body");
    assert!(read(head.len(), [output.as_bytes()]).is_ok());
    let limit = head.len() - 1;
    assert_eq!(read(limit, [output.as_bytes()]), Err(HeadError::TooLarge { limit }));
    assert_eq!(read(0, [&b"\n"[..]]), Err(HeadError::TooLarge { limit: 0 }));
    // Before the line ends.
    let mut parser = Parser::new(10);
    assert_eq!(parser.push(&[b'a'; 10]), Ok(None));
    assert_eq!(parser.push(b"a"), Err(HeadError::TooLarge { limit: 10 }));
}

#[test]
fn headers_are_counted() {
    let output = |headers| format!("Status: 200\n{}\n", "Connection: x\n".repeat(headers - 1));
    assert!(whole(&output(MAX_HEADERS)).is_ok());
    assert_eq!(wrong(&output(MAX_HEADERS + 1)), HeadError::TooMany);
}

#[test]
fn a_parser_that_is_done_says_so() {
    let mut parser = Parser::new(LIMIT);
    assert!(parser.push(b"Status: 200\n\n").unwrap().is_some());
    assert_eq!(parser.push(b"Status: 200\n\n"), Err(HeadError::Over));
    assert_eq!(parser.finish(), HeadError::Over);

    let mut parser = Parser::new(LIMIT);
    assert_eq!(parser.push(b"hello\n"), Err(HeadError::NoHeader { line: 1 }));
    assert_eq!(parser.push(b"Status: 200\n\n"), Err(HeadError::NoHeader { line: 1 }));
    assert_eq!(parser.finish(), HeadError::NoHeader { line: 1 });
}

#[test]
fn a_large_head_byte_by_byte_keeps_its_line_in_one_place() {
    let output = format!("Status: 200\nX-A: {}\n\nbody", "a".repeat(60_000));
    let mut parser = Parser::new(LIMIT);
    let (mut moves, mut at) = (0, parser.line.as_ptr());
    for byte in output.as_bytes() {
        if let Some((head, rest)) = parser.push(&[*byte]).unwrap() {
            assert_eq!(head.headers["x-a"].len(), 60_000);
            assert!(rest.is_empty());
            break;
        }
        if parser.line.as_ptr() != at {
            (moves, at) = (moves + 1, parser.line.as_ptr());
        }
    }
    // It is copied when it outgrows its memory, which doubles, and not for each byte.
    assert!(moves < 40, "{moves}");
}

#[test]
fn errors_say_what_to_do_and_repeat_nothing_of_the_output() {
    let lines = [
        "",
        "x",
        "\n",
        "evil\n",
        " evil\n",
        "evil: \x01\n",
        "Status: evil\n",
        "Status: 200\nStatus: 201\n",
    ];
    let mut errors: Vec<_> = lines.into_iter().map(wrong).collect();
    errors.extend([HeadError::TooLarge { limit: 5 }, HeadError::TooMany, HeadError::Over]);
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("; try: ") && !text.contains("evil"), "{text}");
    }
}

/// Pieces of heads, good and bad ones.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => "[A-Za-z-]{1,6}: ?[ -~]{0,12}".prop_map(String::into_bytes),
        4 => Just(b"Content-Type: text/plain".to_vec()),
        2 => "Status: [2-5][0-9]{2}( [A-Z]{0,3})?".prop_map(String::into_bytes),
        2 => Just(b"Location: /there".to_vec()),
        2 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    let end = prop_oneof![3 => Just(&b"\n"[..]), 2 => Just(&b"\r\n"[..])];
    let lines = prop::collection::vec((line, end), 0..8);
    (lines, prop::collection::vec(any::<u8>(), 0..30)).prop_map(|(lines, body)| {
        let mut output = Vec::new();
        for (line, end) in lines {
            output.extend_from_slice(&line);
            output.extend_from_slice(end);
        }
        output.extend_from_slice(&body);
        output
    })
}

/// The output in pieces that end at these places, some of them empty.
fn pieces<'a>(output: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(output.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for to in cuts.into_iter().chain([output.len()]) {
        pieces.push(&output[from..to]);
        from = to;
    }
    pieces
}

proptest! {
    #[test]
    fn how_an_output_is_divided_makes_no_difference(
        output in output(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        limit in prop_oneof![Just(LIMIT), 0..80_usize],
    ) {
        let expected = read(limit, [&output[..]]);
        prop_assert_eq!(&read(limit, pieces(&output, &cuts)), &expected);
        prop_assert_eq!(&read(limit, output.chunks(1)), &expected);
    }

    #[test]
    fn a_head_and_a_body_come_out_as_they_went_in(
        headers in prop::collection::vec(("x-[a-z]{1,5}", "([!-~]([ -~]{0,10}[!-~])?)?"), 0..10),
        body in prop::collection::vec(any::<u8>(), 0..100),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut output = b"Content-Type: text/plain\r\n".to_vec();
        let mut expected = HeaderMap::new();
        expected.insert("content-type", HeaderValue::from_static("text/plain"));
        for (name, value) in &headers {
            output.extend_from_slice(format!("{name}:{value}\n").as_bytes());
            expected.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
        output.push(b'\n');
        output.extend_from_slice(&body);
        let (head, rest) = read(LIMIT, pieces(&output, &cuts)).unwrap();
        prop_assert_eq!(head, Head { status: http::StatusCode::OK, headers: expected });
        prop_assert_eq!(rest, body);
    }

    #[test]
    fn any_bytes_are_a_response_or_an_error(output in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok((head, body)) = read(LIMIT, [&output[..]]) {
            prop_assert!((200..=599).contains(&head.status.as_u16()));
            prop_assert!(output.ends_with(&body));
        }
    }
}
