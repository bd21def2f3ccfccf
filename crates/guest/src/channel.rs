//! The channel to the host: one request out, one answer in, by one instruction.

use crate::single::Single;
use alloc::vec::Vec;
use core::arch::asm;
use core::fmt::{self, Write};
use sandgrain_abi::layout::{self, mailbox};
use sandgrain_abi::{DecodeError, Encode, HostReply, Request};

/// Where messages in the mailbox begin.
const BYTES: u64 = layout::MAILBOX + layout::MAILBOX_HEADER;
/// Room for them.
const CAPACITY: usize = (layout::MAILBOX_SIZE - layout::MAILBOX_HEADER) as usize - GROWTH_SIZE;

/// Room for asking for more heap, and for the answer. No other message uses it: whatever is read or written
/// elsewhere may allocate, and so ask in between.
const GROWTH: u64 = BYTES + CAPACITY as u64;
const GROWTH_SIZE: usize = 32;

/// A buffer for requests that is used again and again; taken while it is in use.
static BUFFER: Single<Vec<u8>> = Single::new(Vec::new());

fn write_header(field: u64, value: u64) {
    // SAFETY: the mailbox is mapped, writable and used by nothing else; the fields are aligned.
    unsafe { ((layout::MAILBOX + field) as *mut u64).write_volatile(value) }
}

fn read_header(field: u64) -> u64 {
    // SAFETY: as in `write_header`.
    unsafe { ((layout::MAILBOX + field) as *const u64).read_volatile() }
}

/// Leaves the VM; the host has answered when this returns.
fn leave() {
    // SAFETY: the host reads and writes the mailbox and what it names, all of which the compiler must
    // take as changed: the block is not marked as leaving memory alone.
    unsafe {
        asm!("out {port}, al", port = const layout::PORT_HYPERCALL, in("al") 0_u8, options(nostack, preserves_flags));
    }
}

/// The first `len` bytes of the mailbox's room, at most all of it.
pub(crate) fn mailbox_bytes(len: usize) -> &'static [u8] {
    // SAFETY: mapped for the guest's life and `len` is cut to its room. The bytes change only in `ask` and
    // in `Last`; no caller holds the slice across either.
    unsafe { core::slice::from_raw_parts(BYTES as *const u8, len.min(CAPACITY)) }
}

/// Sends a request and says where there is room for the reply, address and bytes. The reply's length.
fn send(address: u64, len: usize, room: (u64, usize)) -> u64 {
    write_header(mailbox::REQUEST_ADDRESS, address);
    write_header(mailbox::REQUEST_LEN, len as u64);
    write_header(mailbox::REPLY_ADDRESS, room.0);
    write_header(mailbox::REPLY_CAPACITY, room.1 as u64);
    leave();
    read_header(mailbox::REPLY_LEN)
}

/// Asks the host and waits for its answer.
///
/// # Errors
/// When the answer is not an `A`.
pub fn ask<A: Encode>(request: &Request) -> Result<A, DecodeError> {
    let mut buffer = BUFFER.replace(Vec::new());
    buffer.clear();
    request.encode_to(&mut buffer);
    let len = send(buffer.as_ptr() as u64, buffer.len(), (BYTES, CAPACITY));
    BUFFER.replace(buffer);
    let len = usize::try_from(len)
        .map_err(|_| DecodeError { offset: 0, expected: "a reply's length" })?;
    if len <= CAPACITY {
        return A::decode_from(mailbox_bytes(len));
    }
    // Too long for the mailbox: make room and fetch it.
    let mut reply = alloc::vec![0; len];
    write_header(mailbox::REQUEST_LEN, 0);
    write_header(mailbox::REPLY_ADDRESS, reply.as_mut_ptr() as u64);
    write_header(mailbox::REPLY_CAPACITY, len as u64);
    leave();
    A::decode_from(&reply)
}

/// Asks the host for `size` bytes of the heap's second part. How many it has; `None` if the host makes no
/// sense. The allocator calls it, so it allocates nothing.
pub(crate) fn grow_heap(size: u64) -> Option<u64> {
    let mut request = [0; 9];
    request[0] = GROW_HEAP_TAG;
    request[1..].copy_from_slice(&size.to_le_bytes());
    // SAFETY: mapped for the guest's life, and used by this function only.
    unsafe { (GROWTH as *mut [u8; 9]).write_volatile(request) };
    let len = usize::try_from(send(GROWTH, request.len(), (GROWTH, GROWTH_SIZE))).ok()?;
    // SAFETY: the same, and nothing writes there before the next call.
    let room = unsafe { core::slice::from_raw_parts(GROWTH as *const u8, GROWTH_SIZE) };
    match HostReply::decode_from(room.get(..len)?) {
        Ok(HostReply::Heap { size }) => Some(size),
        _ => None,
    }
}

/// Text written straight into the mailbox, for when the heap can't be trusted any more.
struct Last {
    len: usize,
}

impl Last {
    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().take(CAPACITY - self.len) {
            // SAFETY: `len` stays below the mailbox's room.
            unsafe { ((BYTES + self.len as u64) as *mut u8).write_volatile(*byte) };
            self.len += 1;
        }
    }
}

impl Write for Last {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// The tag bytes of requests that are written without the codec, as it writes them.
const PANIC_TAG: u8 = 5;
const FAULT_TAG: u8 = 6;
const GROW_HEAP_TAG: u8 = 7;

/// Tells the host why the guest cannot go on.
pub fn give_up(message: fmt::Arguments<'_>) -> ! {
    let mut last = Last { len: 0 };
    last.put(&[PANIC_TAG, 0, 0, 0, 0]);
    // `Last` never fails.
    let _ = last.write_fmt(message);
    let len = last.len;
    let mut length = Last { len: 1 };
    length.put(&((len - 5) as u32).to_le_bytes());
    loop {
        send(BYTES, len, (BYTES, CAPACITY));
    }
}

/// Tells the host of a trap that nothing handles; the gate's record says which.
pub(crate) fn report_fault() -> ! {
    Last { len: 0 }.put(&[FAULT_TAG]);
    loop {
        send(BYTES, 1, (BYTES, CAPACITY));
    }
}
