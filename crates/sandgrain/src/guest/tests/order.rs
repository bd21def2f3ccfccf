//! Hypercalls out of order, on top of each other, and without end.

use super::forgery::*;
use super::*;
use crate::guest::base;
use crate::stop::{Control, Watchdog};
use sandgrain_abi::Encode;
use sandgrain_abi::layout::mailbox;
use sandgrain_abi::message::{Frame, HostReply, Request};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn a_request_and_its_reply_may_lie_over_each_other() {
    let (mut guest, mut host) = (fresh(), Host::default());
    let grow = Request::GrowMemory { memory: 7, size: 1 };
    let bytes = bytes_of(&grow);
    let len = bytes.len() as u64;
    for offset in 0..=len {
        // The reply begins within the request, which the host has understood by then.
        let header = Header { reply: ROOM + offset, ..Header::honest(len) };
        let header = Header { capacity: ROOM_SIZE - offset, ..header };
        hypercall(&mut guest, &mut host, header, &bytes).expect("a reply");
        let memory = guest.vm.memory();
        let size = memory.read_u64(base::MAILBOX + mailbox::REPLY_LEN).expect("the mailbox");
        let start = base::MAILBOX + layout::MAILBOX_HEADER + offset;
        let reply = HostReply::decode_from(memory.slice(start..start + size).expect("memory"));
        assert!(matches!(reply, Ok(HostReply::Refused(_))), "{offset}: {reply:?}");
    }
    next_sandbox_works();
}

#[test]
fn a_reply_that_was_not_taken_is_forgotten() {
    let (mut guest, mut host) = (fresh(), Host::default());
    let bytes = bytes_of(&Request::GrowMemory { memory: 7, size: 1 });
    let no_room = Header { capacity: 0, ..Header::honest(bytes.len() as u64) };
    for _ in 0..1000 {
        hypercall(&mut guest, &mut host, no_room, &bytes).expect("a reply, later");
    }
    // The last one is there, and none before it.
    hypercall(&mut guest, &mut host, Header::honest(0), &[]).expect("the last reply");
    refused("another", hypercall(&mut guest, &mut host, Header::honest(0), &[]));
    next_sandbox_works();
}

#[test]
fn asking_again_with_too_little_room_gives_no_byte_and_no_end() {
    let (mut guest, mut host) = (fresh(), Host::default());
    let bytes = bytes_of(&Request::GrowMemory { memory: 7, size: 1 });
    let mut header = Header { capacity: 0, ..Header::honest(bytes.len() as u64) };
    for _ in 0..1000 {
        assert_eq!(hypercall(&mut guest, &mut host, header, &bytes).expect("later"), None);
        let room = base::MAILBOX + layout::MAILBOX_HEADER;
        let there = guest.vm.memory().slice(room..room + bytes.len() as u64).expect("memory");
        assert_eq!(there, bytes, "something was written");
        header.len = 0;
    }
    next_sandbox_works();
}

/// An attacker that makes the same hypercall for ever: `out PORT, al; jmp back`.
fn endless(request: &Request, header: Header) -> Attacker {
    let mut attacker = Attacker::new();
    attacker.load(&[OUT[0], OUT[1], 0xeb, 0xfc]);
    let memory = attacker.guest.vm.memory_mut();
    let room = base::MAILBOX + layout::MAILBOX_HEADER;
    memory.write(room, &bytes_of(request)).expect("the mailbox");
    for (field, value) in [
        (mailbox::REQUEST_ADDRESS, header.address),
        (mailbox::REQUEST_LEN, header.len),
        (mailbox::REPLY_ADDRESS, header.reply),
        (mailbox::REPLY_CAPACITY, header.capacity),
    ] {
        memory.write_u64(base::MAILBOX + field, value).expect("the mailbox");
    }
    attacker
}

#[test]
fn endless_hypercalls_end_at_the_deadline() {
    for request in [
        host_call(0, vec![Value::I32(1)]),
        Request::CreateMemory { size: 0, maximum: Some(0) },
        Request::GrowMemory { memory: 0, size: u64::MAX },
    ] {
        let len = bytes_of(&request).len() as u64;
        let room = [ROOM_SIZE, 0].map(|capacity| {
            let header = Header { reply: layout::HEAP, capacity, ..Header::honest(len) };
            endless(&request, header)
        });
        for mut attacker in room {
            let (mut host, _) = host();
            let control = Control::new(attacker.guest.interrupter());
            let watchdog = Watchdog::new();
            let limit = Duration::from_millis(if is_emulated() { 2000 } else { 50 });
            host.control = Arc::downgrade(&control);
            host.cancel = control.begin(&watchdog, Some(Instant::now() + limit));
            let error = attacker.guest.run(&mut host).expect_err("an end");
            assert!(matches!(error, Error::Deadline(_)), "{request:?}: {error}");
            assert!(attacker.guest.stats.hypercalls > 10, "{:?}", attacker.guest.stats);
        }
    }
    next_sandbox_works();
}

#[test]
fn endless_writes_of_garbage_to_the_port_end_at_the_first() {
    for value in [0, 1, 8, 0x1000, u64::MAX / 2, u64::MAX] {
        let header = Header { address: value, len: value, reply: value, capacity: value };
        let mut attacker = endless(&Request::Ready, header);
        refused(&format!("{value:#x}"), attacker.guest.run(&mut Host::default()));
        assert_eq!(attacker.guest.stats.hypercalls, 1);
    }
    next_sandbox_works();
}

#[test]
fn only_ready_is_a_beginning_and_only_done_an_answer() {
    let honest = [
        Request::Ready,
        Request::Done(Outcome::Returned(Vec::new())),
        Request::Panic("no".to_owned()),
        Request::Fault,
        host_call(5, Vec::new()),
    ];
    for request in honest {
        let len = bytes_of(&request).len() as u64;
        let header = Header { reply: layout::HEAP, capacity: 4096, ..Header::honest(len) };
        let begun = endless(&request, header).guest.start(&mut Host::default());
        match request {
            Request::Ready => begun.expect("a beginning"),
            _ => refused(&format!("to begin with {request:?}"), begun),
        }
        let mut idle = endless(&request, header);
        idle.guest.idle = true;
        let command = Command::GetGlobal { instance: 0, export: "g".to_owned() };
        let answer = execute(&mut idle.guest, &command);
        match request {
            // The command went to the heap: what is in the mailbox is the guest's word still.
            Request::Done(_) => {
                assert_eq!(answer.expect("an answer"), Outcome::Returned(Vec::new()));
            }
            _ => refused(&format!("to answer with {request:?}"), answer),
        }
    }
    next_sandbox_works();
}

#[test]
fn no_kind_of_error_carries_a_guests_bytes_as_they_are() {
    let evil = "\u{1b}]0;owned\u{7}\r\n\u{9b}2J\u{202e}\0".to_owned();
    for request in [
        Request::Panic(evil.clone()),
        Request::Done(Outcome::Refused(evil.clone())),
        Request::Done(Outcome::Limited(evil.clone())),
    ] {
        let len = bytes_of(&request).len() as u64;
        let mut guest = endless(&request, Header::honest(len)).guest;
        let error = guest.start(&mut Host::default()).expect_err("no beginning");
        for text in [error.to_string(), format!("{error:#}")] {
            let raw: Vec<char> =
                text.chars().filter(|c| c.is_control() || *c == '\u{202e}').collect();
            assert!(raw.is_empty(), "{raw:?} in {text:?}");
        }
    }
    next_sandbox_works();
}

/// `mov rax, value; mov [MAILBOX + field], rax`.
fn set(field: u64, value: u64) -> Vec<u8> {
    let at = ((layout::MAILBOX + field) as u32).to_le_bytes();
    [&[0x48, 0xb8][..], &value.to_le_bytes(), &[0x48, 0x89, 0x04, 0x25], &at].concat()
}

/// An attacker that makes the request, for a reply that it leaves no room for, then faults; and whose trap
/// entry, which is its own, goes on with this.
fn nested(request: &Request, trap_entry: &[u8]) -> Attacker {
    let len = bytes_of(request).len() as u64;
    let header = Header { reply: layout::HEAP, capacity: 0, ..Header::honest(len) };
    let mut attacker = endless(request, header);
    let code = [&OUT[..], &[0x0f, 0x0b]].concat();
    let entry = CODE + code.len() as u64;
    attacker.load(&[&code, trap_entry].concat());
    let at = base::RECORD + layout::record::TRAP_ENTRY;
    attacker.guest.vm.memory_mut().write_u64(at, entry).expect("the trap record");
    attacker
}

#[test]
fn a_hypercall_of_the_trap_entry_on_top_of_another_is_one_more_hypercall() {
    let grow = Request::GrowMemory { memory: 7, size: 1 };
    let room = set(mailbox::REPLY_CAPACITY, 4096);
    let again = set(mailbox::REQUEST_LEN, 0);
    for (name, trap_entry, hypercalls) in [
        // It takes the reply that the other one left, but not twice.
        ("takes it twice", [&room[..], &again, &OUT, &OUT].concat(), 3),
        // A request of its own is answered, and the other one's reply is gone.
        ("asks, then takes it", [&room[..], &OUT, &again, &OUT].concat(), 3),
        ("asks without room, then takes two", [&OUT[..], &room, &again, &OUT, &OUT].concat(), 4),
        // A fault in the trap entry is the end, hypercalls or not.
        ("asks, then faults", [&OUT[..], &[0x0f, 0x0b]].concat(), 2),
    ] {
        let mut guest = nested(&grow, &trap_entry).guest;
        refused(name, guest.run(&mut Host::default()));
        assert_eq!(guest.stats.hypercalls, hypercalls, "{name}");
    }
    next_sandbox_works();
}

#[test]
fn an_answer_of_the_trap_entry_is_the_answer_and_no_second_one() {
    let done = Request::Done(Outcome::Returned(Vec::new()));
    // The command has no room: the guest has not even seen it when it answers twice.
    let mut guest = nested(&done, &OUT).guest;
    guest.idle = true;
    guest.reply_room = 0..0;
    let command = Command::GetGlobal { instance: 0, export: "g".to_owned() };
    for _ in 0..2 {
        let answer = execute(&mut guest, &command).expect("an answer");
        assert_eq!(answer, Outcome::Returned(Vec::new()));
    }
    // Then its code has come to an end.
    refused("a third answer", execute(&mut guest, &command));
    next_sandbox_works();
}

#[test]
fn a_mebibyte_of_a_guests_text_is_a_short_error() {
    use sandgrain_abi::message::{Fault, Trap};
    let text = || "\u{1b}é".repeat(200_000);
    let values = vec![Value::I32(-1); 100_000];
    let fault = Fault::Host;
    for request in [
        Request::Panic(text()),
        Request::Done(Outcome::Refused(text())),
        Request::Done(Outcome::Limited(text())),
        Request::Done(Outcome::Returned(values)),
        Request::Done(Outcome::Trapped(Trap { fault, frames: vec![FRAME; 10_000] })),
    ] {
        let bytes = bytes_of(&request);
        let header = Header { address: layout::HEAP, ..Header::honest(bytes.len() as u64) };
        let mut guest = endless(&Request::Ready, header).guest;
        let heap = guest.plan.heap.start;
        guest.vm.memory_mut().write(heap, &bytes).expect("the heap");
        let error = guest.start(&mut Host::default()).expect_err("no beginning").to_string();
        assert!(error.len() < 2000 && error.contains("..."), "{} bytes: {error}", error.len());
    }
    next_sandbox_works();
}

/// A frame of a backtrace, with nothing known of it.
const FRAME: Frame = Frame { module: None, function: 1, name: None, offset: None };
