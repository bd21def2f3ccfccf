//! From the gate to a handler.
//!
//! The gate returns to the trap entry in ring 3, on a stack of the trap entry's own, with every register
//! but RIP, RSP and RFLAGS as it was at the trap. A handler that knows the place resumes somewhere else
//! and never comes back here; one that returns has disowned the trap, which ends the guest.

use crate::single::Single;
use core::arch::global_asm;
use sandgrain_abi::layout::{self, record};

/// A handler: instruction pointer, frame pointer, whether there is a faulting address, that address.
pub type Handler = extern "C" fn(usize, usize, bool, usize);

static HANDLER: Single<Option<Handler>> = Single::new(None);

/// Sets the handler.
pub fn set_handler(handler: Handler) {
    HANDLER.replace(Some(handler));
}

/// The vector of a page fault, the one exception with an address.
const PAGE_FAULT: u64 = 14;

global_asm!(
    r#"
    .globl sandgrain_trap_entry
sandgrain_trap_entry:
    mov rdi, qword ptr [{record} + {rip}]
    mov rsi, rbp
    xor edx, edx
    cmp qword ptr [{record} + {vector}], {page_fault}
    sete dl
    mov rcx, qword ptr [{record} + {address}]
    call {trap}
    ud2
    "#,
    record = const layout::TRAP_RECORD,
    vector = const record::VECTOR,
    rip = const record::RIP,
    address = const record::ADDRESS,
    page_fault = const PAGE_FAULT,
    trap = sym trap,
);

unsafe extern "C" {
    fn sandgrain_trap_entry();
}

/// Keeps the trap entry in the program: only the host refers to it.
pub(crate) fn keep() -> *const () {
    sandgrain_trap_entry as *const ()
}

extern "C" fn trap(rip: usize, frame: usize, has_address: bool, address: usize) -> ! {
    if let Some(handler) = HANDLER.get() {
        handler(rip, frame, has_address, address);
    }
    crate::channel::report_fault()
}
