//! An HTTP handler that does, by path, whatever a function server has to be able to stand: for its tests.

use wasip2::cli::environment::get_environment;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// What `blocking_write_and_flush` takes at once.
const CHUNK: usize = 4096;

struct Handler;

wasip2::http::proxy::export!(Handler);

/// How many requests this instance has answered: 0 in a VM that nobody used before.
static mut USED: u32 = 0;

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = query.parse::<u64>().unwrap_or(0);
        match path.rsplit('/').next().unwrap_or_default() {
            // What was asked, so that the client sees that the answer is its own.
            "tag" => whole(out, 200, query),
            // How often the VM was used before.
            "used" => {
                // SAFETY: a component has one thread.
                let used = unsafe {
                    USED += 1;
                    USED - 1
                };
                whole(out, 200, &used.to_string());
            }
            "headers" => {
                let headers = request.headers().entries();
                let line = |(name, value): &(String, Vec<u8>)| {
                    format!("{name}: {}\n", String::from_utf8_lossy(value))
                };
                whole(out, 200, &headers.iter().map(line).collect::<String>());
            }
            "environment" => {
                let line = |(name, value): (String, String)| format!("{name}={value}\n");
                whole(out, 200, &get_environment().into_iter().map(line).collect::<String>());
            }
            // A body as it comes, and how long it was.
            "length" => {
                let body = request.consume().expect("nothing has taken the body");
                let stream = body.stream().expect("nothing has taken the stream");
                let mut length = 0;
                loop {
                    match stream.blocking_read(65536) {
                        Ok(bytes) => length += bytes.len(),
                        Err(StreamError::Closed) => break,
                        Err(_) => return whole(out, 400, "the request broke off"),
                    }
                }
                whole(out, 200, &length.to_string());
            }
            // So many bytes, which the headers promise, or one more than there are.
            path @ ("bytes" | "promised" | "promised-more") => {
                let promised = match path {
                    "promised" => Some(number),
                    "promised-more" => Some(number + 1),
                    _ => None,
                };
                let (stream, body) = begin_with(out, 200, promised);
                let mut left = number as usize;
                while left > 0 {
                    let chunk = vec![b'x'; left.min(CHUNK)];
                    if stream.blocking_write_and_flush(&chunk).is_err() {
                        return;
                    }
                    left -= chunk.len();
                }
                drop(stream);
                // A promise that is not kept is no end.
                let _ = OutgoingBody::finish(body, None);
            }
            "sleep" => {
                subscribe_duration(number * 1_000_000).block();
                whole(out, 200, "slept");
            }
            "status" => whole(out, number as u16, "as asked"),
            "panic" => panic!("as asked"),
            "spin" => loop {
                std::hint::black_box(0);
            },
            "silent" => {}
            // Half of an answer, then the end.
            "half" => {
                let (stream, _body) = begin(out, 200);
                stream.blocking_write_and_flush(b"the first half").expect("a client that listens");
                panic!("as asked");
            }
            "output" => {
                println!("to the output");
                eprintln!("to the error output");
                whole(out, 200, "printed");
            }
            // Memory that it keeps for an hour.
            "hold" => {
                let block = vec![1_u8; number as usize];
                subscribe_duration(3_600_000_000_000).block();
                whole(out, 200, &std::hint::black_box(block).len().to_string());
            }
            "memory" => {
                let block = vec![1_u8; number as usize];
                whole(out, 200, &std::hint::black_box(block).len().to_string());
            }
            _ => whole(out, 404, "no such path"),
        }
    }
}

fn begin(out: ResponseOutparam, status: u16) -> (OutputStream, OutgoingBody) {
    begin_with(out, status, None)
}

/// An answer, perhaps with a promise of how long it is.
fn begin_with(
    out: ResponseOutparam,
    status: u16,
    promised: Option<u64>,
) -> (OutputStream, OutgoingBody) {
    let mut headers = vec![("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())];
    headers.extend(promised.map(|n| ("content-length".to_owned(), n.to_string().into_bytes())));
    let response = OutgoingResponse::new(Fields::from_list(&headers).expect("a header"));
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("nothing has taken the body");
    ResponseOutparam::set(out, Ok(response));
    (body.write().expect("nothing has taken the stream"), body)
}

fn whole(out: ResponseOutparam, status: u16, text: &str) {
    let (stream, body) = begin(out, status);
    for chunk in text.as_bytes().chunks(CHUNK) {
        // Who does not listen does not matter here.
        let _ = stream.blocking_write_and_flush(chunk);
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
