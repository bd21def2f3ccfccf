//! An HTTP handler for `wasi:http`. All languages' handlers answer alike.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

const TEXT: &str = "text/plain; charset=utf-8";
/// What `blocking_write_and_flush` takes at once.
const CHUNK: usize = 4096;

struct Handler;

wasip2::http::proxy::export!(Handler);

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match (request.method(), path) {
            (Method::Get, "/hello") => {
                let name = parameter(query, "name").unwrap_or_else(|| "world".to_owned());
                respond(out, 200, TEXT, [format!("Hello, {name}!")]);
            }
            (Method::Post, "/echo") => {
                let types = request.headers().get("content-type");
                let content_type =
                    types.first().map(|value| String::from_utf8_lossy(value).into_owned());
                let content_type = content_type.as_deref().unwrap_or("application/octet-stream");
                // Passed on as it comes.
                let body = request.consume().expect("nothing has taken the body");
                respond(out, 200, content_type, chunks(&body));
            }
            (Method::Post, "/count-words") => {
                let body = request.consume().expect("nothing has taken the body");
                let bytes: Vec<u8> = chunks(&body).flatten().collect();
                // \x0b is white space in the other languages.
                let space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
                let words = bytes.split(space).filter(|word| !word.is_empty()).count();
                respond(out, 200, "application/json", [format!("{{\"words\":{words}}}")]);
            }
            _ => respond(out, 404, TEXT, [format!("nothing at {path}")]),
        }
    }
}

/// A body's bytes, as they come.
fn chunks(body: &IncomingBody) -> impl Iterator<Item = Vec<u8>> {
    let stream = body.stream().expect("nothing has taken the stream");
    std::iter::from_fn(move || match stream.blocking_read(CHUNK as u64) {
        Ok(bytes) => Some(bytes),
        Err(StreamError::Closed) => None,
        Err(error) => panic!("cannot read the request: {error}"),
    })
}

fn respond<T: AsRef<[u8]>>(
    out: ResponseOutparam,
    status: u16,
    content_type: &str,
    parts: impl IntoIterator<Item = T>,
) {
    let headers = [("content-type".to_owned(), content_type.as_bytes().to_vec())];
    let response = OutgoingResponse::new(Fields::from_list(&headers).expect("a header"));
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("nothing has taken the body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("nothing has taken the stream");
    for part in parts {
        for chunk in part.as_ref().chunks(CHUNK) {
            stream.blocking_write_and_flush(chunk).expect("a client that listens");
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("the end of the body");
}

/// A parameter of the query that is not empty.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, value)| *key == name && !value.is_empty())?;
    Some(decode(value))
}

/// Without percent signs and plus signs.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| str::from_utf8(two).ok());
        let code = hex.and_then(|two| u8::from_str_radix(two, 16).ok());
        (rest, _) = match (first, code) {
            (b'%', Some(code)) => (&tail[2..], bytes.push(code)),
            (b'+', _) => (tail, bytes.push(b' ')),
            _ => (tail, bytes.push(*first)),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
