//! What no honest runtime says of calls that it has not waited for.

use super::forgery::{ask, refused};
use super::*;
use sandgrain_abi::component::Payload;
use sandgrain_abi::message::{HostReply, MAX_NAMES, PROMISED, Queued, Request};
use sandgrain_wasi::component::Function;
use sandgrain_wasi::{Input, Output, Wasi, WasiConfig};

fn host(wasi: WasiConfig) -> Host {
    Host { call_bytes: 1 << 20, wasi: Some(Wasi::new(wasi)), ..Host::default() }
}

fn granted() -> Host {
    host(WasiConfig::new().stdout(Output::Capture).stdin(Input::Bytes("0123456789".into())))
}

fn number(instance: &str, name: &str) -> u32 {
    let function = Function::lookup(instance, name).expect("a function of WASI's");
    (1 << 24) + u32::from(function.index())
}

fn stdout() -> u32 {
    number("wasi:cli/stdout@0.2.0", "get-stdout")
}

fn stream(name: &str) -> u32 {
    number("wasi:io/streams@0.2.0", name)
}

fn queue(queued: Vec<Queued>) -> Request {
    Request::ComponentCall { function: HostReply::NO_FUNCTION, args: Payload::default(), queued }
}

fn queued(function: u32, args: &[u8], made: Option<u32>) -> Queued {
    Queued { function, args: args.to_vec(), made }
}

fn call(function: u32, args: &[u8]) -> Request {
    let args = Payload { body: args.to_vec(), ..Payload::default() };
    Request::ComponentCall { function, args, queued: Vec::new() }
}

/// Asks for what fails, but leaves the guest alive.
fn fails(guest: &mut Guest, host: &mut Host, request: &Request) -> String {
    assert_eq!(ask(guest, host, request).expect("a reply"), HostReply::Abort, "{request:?}");
    host.failure.take().expect("why it is aborted").to_string()
}

fn write(stream: u32) -> Vec<u8> {
    [&stream.to_le_bytes()[..], &[0, 2, 0, 0, 0], b"hi"].concat()
}

#[test]
fn names_are_given_in_turn() {
    for names in [
        vec![0],
        vec![1],
        vec![PROMISED - 1],
        vec![PROMISED, PROMISED],
        vec![PROMISED + 5, PROMISED + 4],
        vec![PROMISED + 5, PROMISED],
        vec![u32::MAX],
    ] {
        let mut host = granted();
        let mut guest = fresh();
        let calls = names.iter().map(|name| queued(stdout(), &[], Some(*name))).collect();
        refused(&format!("{names:x?}"), ask(&mut guest, &mut host, &queue(calls)));
        // Also over several messages.
        let mut host = granted();
        let mut guest = fresh();
        let results: Vec<_> = names
            .iter()
            .map(|name| {
                ask(&mut guest, &mut host, &queue(vec![queued(stdout(), &[], Some(*name))]))
            })
            .collect();
        assert!(matches!(results.last(), Some(Err(Error::Guest(_)))), "{names:x?}: {results:?}");
    }
    next_sandbox_works();
}

#[test]
fn names_that_stand_for_nothing_are_no_resources() {
    let mut host = granted();
    let mut guest = fresh();
    let write_now = stream("[method]output-stream.write");
    for name in [PROMISED, PROMISED + 1, u32::MAX] {
        refused("a direct call", ask(&mut guest, &mut host, &call(write_now, &write(name))));
        let calls = vec![queued(write_now, &write(name), None)];
        let result = ask(&mut guest, &mut host, &queue(calls));
        assert!(matches!(result, Err(Error::Guest(_))), "{result:?}");
    }
    // One that was given back.
    let drop = stream("[resource-drop]output-stream");
    let name = PROMISED + 7;
    let calls = vec![queued(stdout(), &[], Some(name)), queued(drop, &name.to_le_bytes(), None)];
    ask(&mut guest, &mut host, &queue(calls)).expect("a reply");
    assert!(host.promised.is_empty());
    refused("given back", ask(&mut guest, &mut host, &call(write_now, &write(name))));
    assert_eq!(host.wasi.expect("granted").stdout(), "");
    next_sandbox_works();
}

#[test]
fn names_are_no_more_than_there_may_be() {
    let mut host = host(WasiConfig::new().max_handles(4 * MAX_NAMES as u32));
    let mut guest = fresh();
    let mut names = PROMISED..;
    let mut refusal = None;
    for _ in 0..MAX_NAMES / 1000 + 1 {
        let calls = names.by_ref().take(1000);
        let calls = calls.map(|name| queued(stdout(), &[], Some(name))).collect();
        match ask(&mut guest, &mut host, &queue(calls)) {
            Ok(HostReply::Component(_)) => {}
            other => refusal = Some(other),
        }
    }
    assert!(matches!(refusal, Some(Err(Error::Guest(_)))), "{refusal:?}");
    assert_eq!(host.promised.len(), MAX_NAMES);
    next_sandbox_works();
}

#[test]
fn what_was_told_of_a_call_has_to_be_so() {
    let stdin = number("wasi:cli/stdin@0.2.0", "get-stdin");
    let input = PROMISED;
    let read = stream("[method]input-stream.read");
    let of = |len: u64| [&input.to_le_bytes()[..], &len.to_le_bytes()].concat();
    let clock = number("wasi:clocks/monotonic-clock@0.2.0", "now");
    let random = number("wasi:random/random@0.2.0", "get-random-u64");
    for call in [
        // Of ten bytes.
        queued(read, &of(11), None),
        queued(read, &of(u64::MAX), None),
        queued(read, &of(3), Some(PROMISED + 9)),
        // What it returns nobody can tell.
        queued(clock, &[], None),
        queued(random, &[], Some(PROMISED + 9)),
        // It returns nothing to name, or something that goes without one.
        queued(stream("[resource-drop]input-stream"), &input.to_le_bytes(), Some(PROMISED + 9)),
        queued(stdout(), &[], None),
    ] {
        let mut host = granted();
        let mut guest = fresh();
        let calls = vec![queued(stdin, &[], Some(input)), call.clone()];
        let text = fails(&mut guest, &mut host, &queue(calls));
        assert!(text.contains("gone on as if it had not"), "{call:?}: {text}");
    }
    let mut host = granted();
    let mut guest = fresh();
    let calls = vec![queued(stdin, &[], Some(input)), queued(read, &of(10), None)];
    ask(&mut guest, &mut host, &queue(calls)).expect("all ten");
    next_sandbox_works();
}

#[test]
fn only_what_was_asked_for_is_looked_at_ahead() {
    let mut host = granted();
    let mut guest = fresh();
    let read = stream("[method]input-stream.read");
    let stdin = number("wasi:cli/stdin@0.2.0", "get-stdin");
    ask(&mut guest, &mut host, &queue(vec![queued(stdin, &[], Some(PROMISED))])).expect("a reply");
    let args = [&PROMISED.to_le_bytes()[..], &4_u64.to_le_bytes()].concat();
    match ask(&mut guest, &mut host, &call(read, &args)).expect("a reply") {
        HostReply::ComponentTold { result, told } => {
            assert_eq!(result.body, b"\0\0\x04\0\0\x000123");
            let ahead = told.ahead.expect("the rest");
            assert!(ahead.bytes == b"456789" && ahead.is_closed, "{ahead:?}");
        }
        other => panic!("{other:?}"),
    }
    // Whoever does not make the reads that it was told of gets the same again.
    let reply = ask(&mut guest, &mut host, &call(read, &args)).expect("a reply");
    assert!(
        matches!(&reply, HostReply::ComponentTold { result, .. } if result.body == b"\0\0\x04\0\0\x004567"),
        "{reply:?}"
    );
    next_sandbox_works();
}
