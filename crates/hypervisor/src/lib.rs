//! A virtual machine of one vCPU, its registers and one block of memory, over the machine's
//! hypervisor.
//!
//! There is no firmware, no device and no interrupt: a VM starts in 64-bit mode, in whichever ring its
//! [`SystemRegisters`] say, and runs until it uses a port, halts, breaks or is [interrupted](Interrupter).
//! What the guest is, and what its ports mean, is the caller's affair.
//!
//! ```
//! use sandgrain_hypervisor::{
//!     GuestMemory, MemoryImage, Registers, SystemRegisters, VmExit, open,
//! };
//!
//! // Page tables for the first 2 MiB, one page each for three levels, then the program at 0x4000:
//! // add eax, ebx; out 0xe0, eax.
//! let mut content = vec![0; 0x5000];
//! for (at, entry) in [(0x1000, 0x2003u64), (0x2000, 0x3003), (0x3000, 0x83)] {
//!     content[at..at + 8].copy_from_slice(&entry.to_le_bytes());
//! }
//! content[0x4000..0x4004].copy_from_slice(&[0x01, 0xd8, 0xe7, 0xe0]);
//! let image = MemoryImage::new(&content)?;
//!
//! let hypervisor = open()?;
//! let mut vm = hypervisor.create_vm(GuestMemory::with_image(&image, 2 << 20)?)?;
//! let mut system = SystemRegisters::long_mode();
//! system.cr3 = 0x1000;
//! system.code_selector = 0x8;
//! system.data_selector = 0x10;
//! vm.set_system_registers(&system)?;
//! vm.set_registers(&Registers { rax: 40, rbx: 2, rip: 0x4000, ..Default::default() })?;
//!
//! assert_eq!(vm.run()?, VmExit::PortOut { port: 0xe0, size: 4, data: 42 });
//! # Ok::<(), sandgrain_hypervisor::Error>(())
//! ```
//!
//! Nearly all of the project's unsafe code is here. What it relies on: a VM owns its memory, and its
//! vCPU runs only in [`Vm::run`], which takes the VM exclusively. So ordinary borrows of guest memory
//! are sound, and there is no unsafe function in the public interface.
//!
//! A backend is a module that implements [`Hypervisor`] and [`Vm`]; nothing of its platform shows in
//! them. `tests/conformance` is written against the traits and says what a backend must do.

mod error;
mod features;
mod hypervisor;
mod image;
mod interrupt;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kvm;
#[cfg(target_os = "linux")]
mod linux;
mod memory;
mod registers;
mod report;
mod state;
mod ticks;

#[cfg(target_os = "linux")]
use linux as platform;

pub use crate::{
    error::Error,
    features::CpuFeatures,
    hypervisor::{Hypervisor, HypervisorKind, Vm, VmExit},
    image::{MemoryImage, Place},
    interrupt::Interrupter,
    memory::GuestMemory,
    registers::*,
    report::{Check, Importance, Outcome, Report},
    state::VcpuState,
    ticks::tick_rate,
};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use crate::{
    kvm::{open, probe},
    linux::confine::{Confinement, inherit_nothing},
};

/// Bytes of a page, of the host and of the guest.
pub const PAGE_SIZE: usize = 4096;

/// Bytes that hosts and guests can map as one, at a multiple of that.
pub const LARGE_PAGE: usize = 2 << 20;
