//! The first instructions of ring 3.

use core::arch::global_asm;
use sandgrain_abi::codec::Decoder;
use sandgrain_abi::layout;
use sandgrain_abi::message::Boot;
use sandgrain_abi::{DecodeError, Encode};

global_asm!(
    r#"
    .globl _start
_start:
    xor ebp, ebp
    call {first}
    ud2
    "#,
    first = sym first,
);

unsafe extern "Rust" {
    /// The guest binary's main function, which [`main!`](crate::main) defines.
    safe fn sandgrain_guest_main(boot: Boot) -> !;
}

/// Names the function that a guest binary starts with: `fn(Boot) -> !`.
#[macro_export]
macro_rules! main {
    ($function:path) => {
        // SAFETY: no other symbol of this name exists: a guest binary has one main function.
        #[unsafe(no_mangle)]
        fn sandgrain_guest_main(boot: ::sandgrain_abi::message::Boot) -> ! {
            $function(boot)
        }
    };
}

extern "C" fn first() -> ! {
    core::hint::black_box((crate::gate::keep(), crate::trap::keep()));
    crate::heap::start();
    match boot() {
        Ok(boot) if boot.version == sandgrain_abi::VERSION => {
            crate::heap::extend(boot.heap_size);
            sandgrain_guest_main(boot)
        }
        Ok(boot) => crate::channel::give_up(format_args!(
            "the host speaks version {}, this runtime {}",
            boot.version,
            sandgrain_abi::VERSION
        )),
        Err(error) => crate::channel::give_up(format_args!("boot message: {error}")),
    }
}

/// The boot message: where the first reply would be.
fn boot() -> Result<Boot, DecodeError> {
    Boot::decode(&mut Decoder::new(crate::channel::mailbox_bytes(
        (layout::MAILBOX_SIZE - layout::MAILBOX_HEADER) as usize,
    )))
}
