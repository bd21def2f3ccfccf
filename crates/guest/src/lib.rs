//! What a guest binary stands on.
//!
//! A guest is one ring-3 program in a machine that has nothing else: no kernel, no devices. This crate
//! gives it its first instruction ([`entry`]), its ring-0 [`gate`], the way from there to a handler
//! ([`trap`]), a [`heap`], the memory functions that compiled code expects ([`bytes`]), and the
//! [`channel`] to the host. There is one vCPU, no interrupts, and therefore one thread of execution.
#![no_std]

extern crate alloc;

pub mod bytes;
pub mod channel;
pub mod entry;
pub mod gate;
pub mod heap;
pub mod single;
pub mod trap;

use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    channel::give_up(format_args!("{info}"))
}
