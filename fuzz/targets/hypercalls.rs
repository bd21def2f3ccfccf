//! The host's dispatcher of hypercalls, on bytes in the guest's memory that no honest runtime writes:
//! what it does not answer ends the guest, and nothing but the mailbox, the heap and linear memories
//! is ever written to.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use sandgrain::fuzzing::{Dispatcher, Hypercall};
use sandgrain_abi::layout::{HEAP, MAILBOX, MAILBOX_HEADER, MAILBOX_SIZE, MORE_HEAP};
use sandgrain_fuzz::{bytes_of, list, noise, number, request, write_seeds};
use std::sync::{LazyLock, Mutex};

static DISPATCHER: LazyLock<Mutex<Dispatcher>> =
    LazyLock::new(|| Mutex::new(Dispatcher::new().expect("fuzzing hypercalls needs /dev/kvm")));

const ROOM: (u64, u64) = (MAILBOX + MAILBOX_HEADER, MAILBOX_SIZE - MAILBOX_HEADER);

/// An address and a length that a guest names; most are honest.
fn range(u: &mut Unstructured<'_>, len: u64) -> Result<(u64, u64)> {
    Ok(match u.int_in_range(0..=7)? {
        0 => {
            let address =
                number(u, &[0, MAILBOX, ROOM.0, MAILBOX + MAILBOX_SIZE, HEAP, MORE_HEAP])?;
            (address, number(u, &[len, ROOM.1, 1 << 20])?)
        }
        1 | 2 => (HEAP, len),
        _ => (ROOM.0, len),
    })
}

fn hypercall(u: &mut Unstructured<'_>) -> Result<Hypercall> {
    let bytes = if u.ratio(1, 4)? { u.arbitrary()? } else { bytes_of(&request(u)?) };
    // No length at all asks for a reply again.
    let len = if u.ratio(1, 8)? { 0 } else { bytes.len() as u64 };
    let heap = if u.arbitrary()? { bytes.clone() } else { u.arbitrary()? };
    Ok(Hypercall {
        request: range(u, len)?,
        room: if u.ratio(1, 8)? { range(u, 8)? } else { ROOM },
        mailbox: bytes,
        heap,
        memory: u.arbitrary()?,
    })
}

fuzz_target!(init: write_seeds(|| (0..64).map(|number| noise(number, 512)).collect()), |data: &[u8]| -> Corpus {
    let Ok(calls) = list(&mut Unstructured::new(data), hypercall) else {
        return Corpus::Reject;
    };
    DISPATCHER.lock().expect("no input has failed so far").dispatch(&calls);
    Corpus::Keep
});
