//! Hypercalls that no honest runtime makes.

use super::*;
use crate::caller::Caller;
use crate::guest::{MAX_REQUEST, base};
use crate::host_functions::{Body, HostFunctions, IntoHostFunction};
use crate::machine::plan::FIRST_HEAP;
use sandgrain_abi::Encode;
use sandgrain_abi::layout::mailbox;
use sandgrain_abi::message::{HostReply, Request};
use sandgrain_abi::types::{FuncType, HeapType};
use sandgrain_wasi::{Wasi, WasiConfig};
use std::sync::{Arc, Mutex};

/// The first byte of the mailbox's room.
pub(super) const ROOM: u64 = layout::MAILBOX + layout::MAILBOX_HEADER;
/// Its size.
pub(super) const ROOM_SIZE: u64 = layout::MAILBOX_SIZE - layout::MAILBOX_HEADER;

/// The header of a hypercall: the request's address and length, and where the reply goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) address: u64,
    pub(super) len: u64,
    pub(super) reply: u64,
    pub(super) capacity: u64,
}

impl Header {
    pub(super) fn honest(len: u64) -> Self {
        Self { address: ROOM, len, reply: ROOM, capacity: ROOM_SIZE }
    }
}

/// A hypercall with this header, and these bytes in the mailbox.
pub(super) fn hypercall(
    guest: &mut Guest,
    host: &mut Host,
    header: Header,
    bytes: &[u8],
) -> Result<Option<Request>, Error> {
    let memory = guest.vm.memory_mut();
    memory.write(base::MAILBOX + layout::MAILBOX_HEADER, bytes).expect("the mailbox");
    for (field, value) in [
        (mailbox::REQUEST_ADDRESS, header.address),
        (mailbox::REQUEST_LEN, header.len),
        (mailbox::REPLY_ADDRESS, header.reply),
        (mailbox::REPLY_CAPACITY, header.capacity),
    ] {
        memory.write_u64(base::MAILBOX + field, value).expect("the mailbox");
    }
    Ok(match guest.hypercall(host)? {
        Some(Stop::Idle(request)) => Some(request),
        Some(Stop::Waiting) => panic!("nobody has told the host to put anything off"),
        None => None,
    })
}

pub(super) fn bytes_of(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode_to(&mut bytes);
    bytes
}

/// A well-formed request, and the host's answer to it.
pub(super) fn ask(
    guest: &mut Guest,
    host: &mut Host,
    request: &Request,
) -> Result<HostReply, Error> {
    let bytes = bytes_of(request);
    let none = hypercall(guest, host, Header::honest(bytes.len() as u64), &bytes)?;
    assert_eq!(none, None, "{request:?} is not for a command");
    let memory = guest.vm.memory();
    let len = memory.read_u64(base::MAILBOX + mailbox::REPLY_LEN).expect("the mailbox");
    let start = base::MAILBOX + layout::MAILBOX_HEADER;
    let reply = memory.slice(start..start + len).expect("the reply");
    Ok(HostReply::decode_from(reply).expect("a reply"))
}

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    match result {
        Err(Error::Guest(_)) => {}
        other => panic!("{what}: {other:?}"),
    }
}

pub(super) fn host_call(function: u32, args: Vec<Value>) -> Request {
    Request::HostCall { function, memory: None, args }
}

/// A host with one function, `(i32) -> i32`, which notes the size of the memory that it sees.
pub(super) fn host() -> (Host, Arc<Mutex<Vec<usize>>>) {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let function = move |caller: &mut Caller<'_>, n: i32| {
        seen.lock().expect("no panic").push(caller.memory().map_or(usize::MAX, |m| m.len()));
        n
    };
    let mut functions = HostFunctions::default();
    fn ty<M, F: IntoHostFunction<M>>(_: &F) -> FuncType {
        F::func_type()
    }
    let ty = ty(&function);
    functions.add("host", "size", ty, Body::Now(function.into_call()));
    (Host { functions, ..Host::default() }, sizes)
}

#[test]
fn host_functions_that_were_not_given_cannot_be_called() {
    let (mut guest, (mut host, seen)) = (fresh(), host());
    for function in [1, 2, 1000, (1 << 24) - 1] {
        let result = ask(&mut guest, &mut host, &host_call(function, vec![Value::I32(1)]));
        refused(&format!("function {function}"), result);
    }
    assert!(seen.lock().expect("no panic").is_empty());
    let reply = ask(&mut guest, &mut host, &host_call(0, vec![Value::I32(7)])).expect("a reply");
    assert_eq!(reply, HostReply::Values(vec![Value::I32(7)]), "the one that was given");
    next_sandbox_works();
}

#[test]
fn wasi_that_was_not_granted_cannot_be_called() {
    let mut guest = fresh();
    for number in [0, 1, 44, 45, 46, u32::from(u16::MAX), u32::MAX - (1 << 24)] {
        let call = host_call((1 << 24) + number, vec![Value::I32(0); 4]);
        refused(&format!("{number}"), ask(&mut guest, &mut Host::default(), &call));
    }
    next_sandbox_works();
}

#[test]
fn wasi_functions_that_do_not_exist_cannot_be_called() {
    let mut guest = fresh();
    let mut host = Host { wasi: Some(Wasi::new(WasiConfig::new())), ..Host::default() };
    for number in [46, 1000, 65535, 65536, 65536 + 1, (1 << 31) - 1] {
        let call = host_call((1 << 24) + number, Vec::new());
        refused(&format!("{number}"), ask(&mut guest, &mut host, &call));
    }
    assert!(!host.wasi.expect("WASI").is_created(), "nothing was called");
    next_sandbox_works();
}

#[test]
fn arguments_of_the_wrong_type_or_number_reach_no_host_function() {
    let (mut guest, (mut host, seen)) = (fresh(), host());
    for args in [
        vec![],
        vec![Value::I64(1)],
        vec![Value::I32(1), Value::I32(2)],
        vec![Value::F64(0)],
        vec![Value::Null(HeapType::Func)],
        vec![Value::I32(0); 1000],
    ] {
        let reply = ask(&mut guest, &mut host, &host_call(0, args.clone())).expect("a reply");
        assert_eq!(reply, HostReply::Abort, "{args:?}");
        let failure = host.failure.take();
        assert!(matches!(failure, Some(Error::HostFunction { .. })), "{failure:?}");
    }
    assert!(seen.lock().expect("no panic").is_empty());
    next_sandbox_works();
}

#[test]
fn wasi_calls_with_any_arguments_do_no_harm() {
    let mut guest = fresh();
    let mut host = Host { wasi: Some(Wasi::new(WasiConfig::new())), ..Host::default() };
    let kinds = [Value::I32(-1), Value::I64(i64::MIN), Value::I32(0), Value::F32(1)];
    for number in 0..46 {
        for count in [0, 1, 2, 9, 16, 17, 100] {
            for kind in kinds {
                let request = host_call((1 << 24) + number, vec![kind; count]);
                match ask(&mut guest, &mut host, &request) {
                    Ok(HostReply::Values(_) | HostReply::Abort) | Err(Error::Guest(_)) => {}
                    other => panic!("function {number}, {count} times {kind:?}: {other:?}"),
                }
            }
        }
    }
    next_sandbox_works();
}

#[test]
fn a_memory_that_was_never_made_is_an_empty_one() {
    let (mut guest, (mut host, seen)) = (fresh(), host());
    for memory in [0, 1, 1000, u32::MAX] {
        let request =
            Request::HostCall { function: 0, memory: Some(memory), args: vec![Value::I32(1)] };
        ask(&mut guest, &mut host, &request).expect("a reply");
    }
    assert_eq!(*seen.lock().expect("no panic"), [0; 4]);
    next_sandbox_works();
}

#[test]
fn memories_have_a_limit_in_number_and_size() {
    let (mut guest, mut host) = (fresh(), Host::default());
    for size in [(256 << 20) + 1, 1 << 32, u64::MAX] {
        for maximum in [None, Some(0), Some(u64::MAX)] {
            let request = Request::CreateMemory { size, maximum };
            let reply = ask(&mut guest, &mut host, &request).expect("a reply");
            assert!(matches!(reply, HostReply::Refused(_)), "{request:?}: {reply:?}");
        }
    }
    let mut made = 0;
    let request = Request::CreateMemory { size: 0, maximum: Some(0) };
    while let HostReply::Memory { .. } = ask(&mut guest, &mut host, &request).expect("a reply") {
        made += 1;
        assert!(made < 10_000, "no limit");
    }
    // The module's two, and one for the garbage collector.
    assert_eq!(made, 3);
    next_sandbox_works();
}

#[test]
fn only_memories_that_were_made_grow_and_only_to_their_limit() {
    let (mut guest, mut host) = (fresh(), Host::default());
    let create = Request::CreateMemory { size: 1, maximum: Some(8192) };
    ask(&mut guest, &mut host, &create).expect("a reply");
    for (memory, size) in
        [(0, 8193), (0, 0), (0, u64::MAX), (1, 0), (2, 8192), (u32::MAX, 1), (0, 1 << 40)]
    {
        let request = Request::GrowMemory { memory, size };
        let reply = ask(&mut guest, &mut host, &request).expect("a reply");
        assert!(matches!(reply, HostReply::Refused(_)), "{request:?}: {reply:?}");
    }
    let grow = Request::GrowMemory { memory: 0, size: 8192 };
    assert_eq!(ask(&mut guest, &mut host, &grow).expect("a reply"), HostReply::Grown);
    next_sandbox_works();
}

#[test]
fn requests_lie_in_the_mailbox_or_the_heap() {
    let mut guest = fresh();
    let heap = FIRST_HEAP;
    for (address, len) in [
        (0, 1),
        (layout::MAILBOX, 1),
        (ROOM - 1, 1),
        (ROOM, ROOM_SIZE + 1),
        (ROOM + ROOM_SIZE, 1),
        (ROOM, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX - 1, 100),
        (layout::GATE_DATA, 8),
        (layout::TRAP_RECORD, 8),
        (layout::RUNTIME, 8),
        (layout::STACK_TOP - 64, 8),
        (layout::HEAP - 1, 2),
        (layout::HEAP + heap, 1),
        (layout::HEAP + heap - 1, 2),
        (layout::MORE_HEAP - 1, 2),
        (layout::MORE_HEAP, 1),
        (layout::CODE, 8),
        (layout::MEMORIES + layout::MEMORY_OFFSET, 8),
        (layout::HEAP, MAX_REQUEST + 1),
        (layout::HEAP, u64::MAX),
        (layout::HEAP, 1 << 63),
    ] {
        let header = Header { address, len, ..Header::honest(0) };
        let result = hypercall(&mut guest, &mut Host::default(), header, &[]);
        refused(&format!("{len} bytes at {address:#x}"), result);
    }
    next_sandbox_works();
}

#[test]
fn replies_go_to_the_mailbox_or_the_heap() {
    let mut guest = fresh();
    let bytes = bytes_of(&Request::CreateMemory { size: 0, maximum: None });
    for (reply, capacity) in [
        (0, 8),
        (layout::MAILBOX, 64),
        (ROOM, ROOM_SIZE + 1),
        (layout::GATE_RECORD, 64),
        (layout::TRAP_RECORD, 64),
        (layout::RUNTIME, 64),
        (layout::CODE, 64),
        (layout::STACK_TOP - 64, 64),
        (layout::MEMORIES + layout::MEMORY_OFFSET, 64),
        (layout::HEAP, u64::MAX),
        (layout::HEAP, FIRST_HEAP + 1),
        (layout::MORE_HEAP, 1),
        (u64::MAX, u64::MAX),
    ] {
        let header = Header { reply, capacity, ..Header::honest(bytes.len() as u64) };
        let result = hypercall(&mut guest, &mut Host::default(), header, &bytes);
        refused(&format!("room of {capacity} bytes at {reply:#x}"), result);
    }
    next_sandbox_works();
}

#[test]
fn a_reply_that_has_no_room_is_not_written() {
    let (mut guest, mut host) = (fresh(), Host::default());
    let bytes = bytes_of(&Request::CreateMemory { size: 0, maximum: None });
    let spot = base::MAILBOX + layout::MAILBOX_SIZE - 8;
    let header =
        Header { reply: ROOM + ROOM_SIZE - 8, capacity: 8, ..Header::honest(bytes.len() as u64) };
    let none = hypercall(&mut guest, &mut host, header, &bytes).expect("a reply, later");
    assert_eq!(none, None);
    let memory = guest.vm.memory();
    assert!(memory.read_u64(base::MAILBOX + mailbox::REPLY_LEN).expect("mailbox") > 8);
    assert_eq!(memory.read_u64(spot).expect("mailbox"), 0);
    // Asked for again, with room this time: once, and no more.
    hypercall(&mut guest, &mut host, Header::honest(0), &[]).expect("the reply");
    let start = base::MAILBOX + layout::MAILBOX_HEADER;
    let reply = guest.vm.memory().slice(start..start + 21).expect("the reply");
    assert!(matches!(HostReply::decode_from(reply), Ok(HostReply::Memory { .. })), "{reply:?}");
    refused("once more", hypercall(&mut guest, &mut host, Header::honest(0), &[]));
    next_sandbox_works();
}

#[test]
fn a_reply_that_there_is_not_cannot_be_asked_for() {
    let result = hypercall(&mut fresh(), &mut Host::default(), Header::honest(0), &[]);
    refused("no reply", result);
    next_sandbox_works();
}

#[test]
fn a_guest_that_asks_for_commands_instead_of_doing_them_is_ended() {
    // out PORT, al; jmp back: Ready, for ever. The reply goes elsewhere, the request stays.
    let ready = bytes_of(&Request::Ready);
    let mut attacker = Attacker::new();
    attacker.load(&[OUT[0], OUT[1], 0xeb, 0xfc]);
    let header =
        Header { reply: layout::HEAP, capacity: 4096, ..Header::honest(ready.len() as u64) };
    let guest = &mut attacker.guest;
    let first = hypercall(guest, &mut Host::default(), header, &ready).expect("a request");
    assert_eq!(first, Some(Request::Ready));
    let command = Command::Call { instance: 0, export: "answer".to_owned(), args: Vec::new() };
    let error = execute(guest, &command).expect_err("an end");
    assert!(error.to_string().contains("it answered a command with Ready"), "{error}");
    next_sandbox_works();
}

#[test]
fn a_guest_that_begins_with_an_answer_is_ended() {
    let done = bytes_of(&Request::Done(Outcome::Returned(Vec::new())));
    let mut attacker = Attacker::new();
    attacker.load(&OUT);
    let header = Header::honest(done.len() as u64);
    hypercall(&mut attacker.guest, &mut Host::default(), header, &done).expect("a request");
    let error = attacker.guest.start(&mut Host::default()).expect_err("an end");
    assert!(matches!(error, Error::Guest(_)), "{error}");
    next_sandbox_works();
}

#[test]
fn what_a_guest_says_does_not_reach_a_terminal_as_it_is() {
    let request = bytes_of(&Request::Panic("\u{1b}[2J\r\n".to_owned()));
    let header = Header::honest(request.len() as u64);
    let error = hypercall(&mut fresh(), &mut Host::default(), header, &request);
    let text = error.expect_err("an end").to_string();
    assert!(!text.contains(['\u{1b}', '\r', '\n']), "{text:?}");
    next_sandbox_works();
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Requests to distort: one of each kind, and one deeply nested.
fn honest_requests() -> Vec<Vec<u8>> {
    use sandgrain_abi::component::{Attachment, Payload, ResourceHandle};
    use sandgrain_abi::message::{Fault, Frame, Trap, TrapCode};
    use sandgrain_abi::message::{MemoryRange, Queued};
    let range = MemoryRange { memory: 0, address: 8, len: 16 };
    let payload = Payload {
        body: vec![1, 0, 0, 0, 0],
        attachments: vec![Attachment::Memory(range), Attachment::Sent { len: 16 }],
        resources: vec![ResourceHandle { number: 0, owned: true }],
    };
    let queued = vec![Queued { function: 0, args: vec![1, 0, 0, 0], made: Some(1 << 31) }];
    let frame = Frame { module: None, function: 1, name: Some("f".to_owned()), offset: Some(2) };
    let trap = Trap {
        fault: Fault::Wasm { code: TrapCode::Unreachable, message: "message".to_owned() },
        frames: vec![frame; 3],
    };
    let values = vec![
        Value::I32(1),
        Value::V128(u128::MAX),
        Value::Null(HeapType::Any),
        Value::GcRef(HeapType::Struct),
        Value::ExternRef(3),
    ];
    [
        Request::Ready,
        Request::Done(Outcome::Returned(values.clone())),
        Request::Done(Outcome::Trapped(trap)),
        Request::Done(Outcome::Refused("reason".to_owned())),
        Request::HostCall { function: 0, memory: Some(0), args: values },
        Request::CreateMemory { size: 4096, maximum: Some(8192) },
        Request::GrowMemory { memory: 0, size: 8192 },
        Request::GrowHeap { size: 1 << 20 },
        Request::Panic("message".to_owned()),
        Request::Fault,
        Request::ComponentCall { function: 0, args: payload.clone(), queued: queued.clone() },
        Request::Send(range),
        Request::Receive { attachment: 0, place: range },
        Request::Done(Outcome::Component { result: payload, queued }),
    ]
    .iter()
    .map(bytes_of)
    .collect()
}

#[test]
fn any_bytes_are_a_request_or_the_guests_failure() {
    let (mut guest, (mut host, _)) = (fresh(), host());
    let mut random = Random(0x5a6e_d9a1_0000_0001);
    let honest = honest_requests();
    let mut failures = 0;
    for round in 0..20_000 {
        let mut bytes = if round % 2 == 0 {
            let len = random.below(64);
            (0..len).map(|_| random.next() as u8).collect()
        } else {
            honest[random.below(honest.len() as u64) as usize].clone()
        };
        for _ in 0..=random.below(3) {
            if !bytes.is_empty() {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
        }
        // Cut off, as it is, or with what was in the mailbox before.
        let len = (bytes.len() as u64 + random.below(3)).saturating_sub(1);
        match hypercall(&mut guest, &mut host, Header::honest(len), &bytes) {
            Ok(_) => {}
            Err(Error::Guest(_) | Error::Limit { .. }) => failures += 1,
            Err(other) => panic!("round {round}: {bytes:x?}: {other}"),
        }
    }
    assert!(failures > 10_000, "{failures}");
    next_sandbox_works();
}

#[test]
fn any_header_is_a_request_or_the_guests_failure() {
    let (mut guest, mut host) = (fresh(), Host::default());
    let mut random = Random(0x5a6e_d9a1_0000_0002);
    let bytes = bytes_of(&Request::GrowMemory { memory: 0, size: 0 });
    let places = [
        0,
        ROOM,
        layout::HEAP,
        layout::MORE_HEAP,
        layout::MAILBOX,
        layout::GATE_DATA,
        u64::MAX,
        1 << 63,
    ];
    let mut number = |near: u64| match random.below(3) {
        0 => near.wrapping_add(random.below(128)).wrapping_sub(64),
        1 => random.below(128),
        _ => random.next() >> random.below(64),
    };
    for round in 0..20_000 {
        let place = places[round % places.len()];
        let header = Header {
            address: number(place),
            len: number(ROOM_SIZE),
            reply: number(place),
            capacity: number(ROOM_SIZE),
        };
        match hypercall(&mut guest, &mut host, header, &bytes) {
            Ok(_) | Err(Error::Guest(_)) => {}
            Err(other) => panic!("{header:x?}: {other}"),
        }
    }
    next_sandbox_works();
}
