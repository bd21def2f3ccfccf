//! What no honest runtime sends in a component's name.

use super::forgery::{ask, refused};
use super::*;
use crate::component::{self, ComponentFunction};
use sandgrain_abi::component::{Attachment, Payload, ResourceHandle};
use sandgrain_abi::message::{HostReply, MemoryRange, Queued, Request};
use sandgrain_wasi::{Wasi, WasiConfig};
use std::sync::{Arc, Mutex};

/// What a call may pass.
const MOST: u64 = 1 << 20;
/// Bytes that the guest's memory has.
const MEMORY: u64 = 1 << 16;

/// A guest with one memory.
fn guest(host: &mut Host) -> Guest {
    let limits = Limits::default().call_bytes(MOST);
    let mut guest = platform().unstarted(&limits, &[sized()]).expect("a guest");
    let create = Request::CreateMemory { size: MEMORY, maximum: Some(MEMORY) };
    ask(&mut guest, host, &create).expect("a reply");
    guest
}

type Calls = Arc<Mutex<Vec<u64>>>;

/// A host with one function, of a list of bytes and a number, that notes both their sum; and one resource type, that
/// notes what is dropped.
fn host() -> (Host, Calls) {
    fn body<M, F: ComponentFunction<M>>(function: F) -> component::Body {
        let (check, rust) = F::check();
        component::Body::Now(check, rust, function.into_call())
    }
    let calls = Calls::default();
    let mut host = Host { call_bytes: MOST, ..Host::default() };
    let seen = Arc::clone(&calls);
    let sum = move |bytes: Vec<u8>, n: u32| {
        seen.lock().expect("no panic").push(bytes.len() as u64 + u64::from(n));
    };
    host.components.add("test:host/all", "sum", body(sum));
    let seen = Arc::clone(&calls);
    let drop = move |number| seen.lock().expect("no panic").push(1000 + u64::from(number));
    let drop = component::ResourceType { drop: Box::new(drop) };
    host.components.add_resource("test:host/all", "thing", drop);
    (host, calls)
}

fn call(function: u32, args: Payload) -> Request {
    Request::ComponentCall { function, args, queued: Vec::new() }
}

fn attached(range: MemoryRange) -> Attachment {
    Attachment::Memory(range)
}

/// The function's arguments, with the bytes in the guest's memory.
fn honest(range: MemoryRange) -> Payload {
    let body = [&[1][..], &0_u32.to_le_bytes(), &7_u32.to_le_bytes()].concat();
    Payload { body, attachments: vec![attached(range)], resources: Vec::new() }
}

const ALL: MemoryRange = MemoryRange { memory: 0, address: 0, len: MEMORY };

/// Ranges of no memory that the guest has.
fn bad_ranges() -> Vec<MemoryRange> {
    let range = |(memory, address, len)| MemoryRange { memory, address, len };
    [
        (0, 0, MEMORY + 1),
        (0, MEMORY, 1),
        (0, MEMORY - 1, 2),
        (0, 1, u64::MAX),
        (0, u64::MAX, 1),
        (0, u64::MAX, u64::MAX),
        (0, 1 << 63, 1 << 63),
        (1, 0, 1),
        (2, 0, 1),
        (u32::MAX, 0, 1),
    ]
    .map(range)
    .to_vec()
}

#[test]
fn functions_that_were_not_given_cannot_be_called_by_a_component() {
    let (mut host, calls) = host();
    let mut guest = guest(&mut host);
    for function in [1, 2, 1000, (1 << 24) - 1, 1 << 24, (1 << 24) + 5, u32::MAX - 1] {
        let result = ask(&mut guest, &mut host, &call(function, honest(ALL)));
        refused(&format!("function {function}"), result);
    }
    assert!(calls.lock().expect("no panic").is_empty());
    let reply = ask(&mut guest, &mut host, &call(0, honest(ALL))).expect("a reply");
    assert_eq!(reply, HostReply::Component(Payload::default()), "the one that was given");
    assert_eq!(*calls.lock().expect("no panic"), [MEMORY + 7]);
    next_sandbox_works();
}

#[test]
fn resources_of_types_that_were_not_given_cannot_be_dropped() {
    let (mut host, calls) = host();
    let mut guest = guest(&mut host);
    let drop = |function, resource: u32| Request::ComponentCall {
        function: HostReply::NO_FUNCTION,
        args: Payload::default(),
        queued: vec![Queued { function, args: resource.to_le_bytes().to_vec(), made: None }],
    };
    for function in [1, 1023, 1024, 2000, 1 << 24, (1 << 24) + 3, u32::MAX] {
        refused(&format!("type {function}"), ask(&mut guest, &mut host, &drop(function, 1)));
    }
    assert!(calls.lock().expect("no panic").is_empty());
    ask(&mut guest, &mut host, &drop(0, 5)).expect("a reply");
    assert_eq!(*calls.lock().expect("no panic"), [1005]);
    next_sandbox_works();
}

#[test]
fn wasi_functions_get_no_arguments_that_they_do_not_have() {
    let (mut host, _) = host();
    host.wasi = Some(Wasi::new(WasiConfig::new()));
    let mut guest = guest(&mut host);
    let payloads = [
        Payload::default(),
        honest(ALL),
        Payload { body: vec![0xff; 64], ..Payload::default() },
        Payload {
            body: vec![0; 64],
            resources: vec![ResourceHandle { number: 9, owned: true }; 8],
            ..Payload::default()
        },
    ];
    for number in 0..400 {
        for payload in &payloads {
            let request = call((1 << 24) + number, payload.clone());
            match ask(&mut guest, &mut host, &request) {
                Ok(
                    HostReply::Component(_) | HostReply::ComponentTold { .. } | HostReply::Abort,
                )
                | Err(Error::Guest(_)) => {}
                other => panic!("function {number}, {payload:?}: {other:?}"),
            }
            host.failure = None;
        }
    }
    next_sandbox_works();
}

#[test]
fn arguments_that_are_none_reach_no_host_function() {
    let (mut host, calls) = host();
    let mut guest = guest(&mut host);
    let number = 0_u32.to_le_bytes();
    for body in [
        vec![],
        vec![0],
        vec![2],
        vec![1],
        // More bytes than there are.
        [&[0][..], &100_u32.to_le_bytes(), &[1; 10]].concat(),
        [&[0][..], &u32::MAX.to_le_bytes(), &[1; 10]].concat(),
        // Attachments that there are not.
        [&[1][..], &1_u32.to_le_bytes(), &number].concat(),
        [&[1][..], &u32::MAX.to_le_bytes(), &number].concat(),
        // No number after the bytes.
        [&[1][..], &number, &[0; 3]].concat(),
    ] {
        let payload = Payload { body: body.clone(), ..honest(ALL) };
        let reply = ask(&mut guest, &mut host, &call(0, payload)).expect("a reply");
        assert_eq!(reply, HostReply::Abort, "{body:?}");
        let failure = host.failure.take();
        assert!(matches!(failure, Some(Error::HostFunction { .. })), "{failure:?}");
    }
    assert!(calls.lock().expect("no panic").is_empty());
    next_sandbox_works();
}

#[test]
fn what_is_attached_lies_in_the_guests_memories() {
    let (mut host, calls) = host();
    let mut guest = guest(&mut host);
    for range in bad_ranges() {
        let result = ask(&mut guest, &mut host, &call(0, honest(range)));
        match result {
            Err(Error::Guest(_)) => {}
            // The guest is told to unwind, which a hostile one may leave.
            Ok(HostReply::Abort) => {
                assert!(matches!(host.failure.take(), Some(Error::Limit { .. })), "{range:?}");
            }
            other => panic!("{range:?}: {other:?}"),
        }
    }
    let sent = Payload { attachments: vec![Attachment::Sent { len: 1 }], ..honest(ALL) };
    refused("what was not sent", ask(&mut guest, &mut host, &call(0, sent)));
    assert!(calls.lock().expect("no panic").is_empty());
    next_sandbox_works();
}

#[test]
fn what_is_attached_many_times_counts_each_time() {
    let (mut host, calls) = host();
    let mut guest = guest(&mut host);
    let times = (MOST / MEMORY) as usize;
    let with = |times| Payload { attachments: vec![attached(ALL); times], ..honest(ALL) };
    ask(&mut guest, &mut host, &call(0, with(times))).expect("as many as may be");
    assert_eq!(calls.lock().expect("no panic").len(), 1);
    for times in [times + 1, 1000] {
        let result = ask(&mut guest, &mut host, &call(0, with(times)));
        assert!(matches!(result, Ok(HostReply::Abort)), "{times}: {result:?}");
        assert!(matches!(host.failure.take(), Some(Error::Limit { .. })), "{times}");
    }
    assert_eq!(calls.lock().expect("no panic").len(), 1);
    next_sandbox_works();
}

#[test]
fn what_is_read_many_times_is_limited() {
    let (mut host, calls) = host();
    let list = |lists: Vec<Vec<u8>>| assert!(lists.is_empty(), "never called");
    fn body<M, F: ComponentFunction<M>>(function: F) -> component::Body {
        let (check, rust) = F::check();
        component::Body::Now(check, rust, function.into_call())
    }
    host.components.add("test:host/all", "lists", body(list));
    let mut guest = guest(&mut host);
    // One attachment, as each of many lists.
    let count = 10_000_u32;
    let mut payload = honest(ALL);
    payload.body = count.to_le_bytes().to_vec();
    for _ in 0..count {
        payload.body.extend([1, 0, 0, 0, 0]);
    }
    let reply = ask(&mut guest, &mut host, &call(1, payload)).expect("a reply");
    assert_eq!(reply, HostReply::Abort);
    let failure = host.failure.take();
    assert!(matches!(failure, Some(Error::Limit { .. })), "{failure:?}");
    assert!(calls.lock().expect("no panic").is_empty());
    next_sandbox_works();
}

#[test]
fn only_what_lies_in_a_memory_is_sent() {
    let (mut host, _) = host();
    let mut guest = guest(&mut host);
    for range in bad_ranges() {
        match ask(&mut guest, &mut host, &Request::Send(range)) {
            Err(Error::Guest(_)) | Ok(HostReply::Refused(_)) => {}
            other => panic!("{range:?}: {other:?}"),
        }
    }
    assert!(guest.take_attached().is_empty());
    ask(&mut guest, &mut host, &Request::Send(ALL)).expect("a reply");
    assert_eq!(guest.take_attached(), [vec![0; MEMORY as usize]]);
    next_sandbox_works();
}

#[test]
fn what_is_sent_is_limited_even_if_there_is_nothing_in_it() {
    for len in [0, 1, 4096, MEMORY] {
        let (mut host, _) = host();
        let mut guest = guest(&mut host);
        let send = Request::Send(MemoryRange { len, ..ALL });
        let mut count = 0;
        let reply = loop {
            match ask(&mut guest, &mut host, &send).expect("a reply") {
                HostReply::Moved => count += 1,
                other => break other,
            }
            assert!(count <= MOST / 32, "{len}: {count} runs");
        };
        assert!(matches!(&reply, HostReply::Refused(text) if text.contains("limit")), "{reply:?}");
        assert_eq!(guest.take_attached().len() as u64, count);
    }
    next_sandbox_works();
}

#[test]
fn only_what_the_host_has_attached_is_received() {
    let (mut host, _) = host();
    let mut guest = guest(&mut host);
    let receive = |attachment, place| Request::Receive { attachment, place };
    refused("nothing", ask(&mut guest, &mut host, &receive(0, ALL)));
    guest.attach(vec![vec![7; 100]]);
    let place = MemoryRange { len: 100, ..ALL };
    for (attachment, place) in [
        (1, place),
        (u32::MAX, place),
        (0, MemoryRange { len: 99, ..place }),
        (0, MemoryRange { len: 101, ..place }),
        (0, MemoryRange { len: 0, ..place }),
    ] {
        let result = ask(&mut guest, &mut host, &receive(attachment, place));
        refused(&format!("{attachment} to {place:?}"), result);
    }
    for place in bad_ranges() {
        guest.attach(vec![vec![7; place.len.min(MOST) as usize]]);
        refused(&format!("{place:?}"), ask(&mut guest, &mut host, &receive(0, place)));
    }
    guest.attach(vec![vec![7; 100]]);
    let place = MemoryRange { address: 50, ..place };
    assert_eq!(ask(&mut guest, &mut host, &receive(0, place)).expect("moved"), HostReply::Moved);
    let memory = guest.memory(0).expect("the memory");
    assert_eq!(memory[49..51], [0, 7]);
    assert_eq!(memory[149..151], [7, 0]);
    next_sandbox_works();
}
