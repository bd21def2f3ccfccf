//! The raw floor: the smallest program that leaves a VM, without any of the library above the
//! hypervisor layer.

use crate::host_error;
use sandgrain::hypervisor::{
    DescriptorTable, GuestMemory, Hypervisor, MemoryImage, Registers, SystemRegisters,
    TaskRegister, Vm, VmExit,
};
use sandgrain::{Error, Result};
use std::time::{Duration, Instant};

const MEMORY: usize = 64 << 10;
const PAGE_TABLES: usize = 0x1000;
const GDT: usize = 0x5000;
const TSS: usize = 0x6000;
const TSS_LIMIT: u32 = 0x68 + 0x80;
const CODE: usize = 0x8000;
const PORT: u16 = 0xe0;

/// `out PORT, al`, then a jump back to it.
const PROGRAM: [u8; 4] = [0xe6, PORT as u8, 0xeb, 0xfc];

fn error(error: sandgrain::hypervisor::Error) -> Error {
    host_error("the smallest VM", &error)
}

/// The image of a machine like the library's own, but for its size: 64-bit, a program in ring 3 that
/// leaves through a port that the task state segment opens.
pub(crate) struct Floor {
    hypervisor: Box<dyn Hypervisor>,
    image: MemoryImage,
}

impl Floor {
    pub(crate) fn new() -> Result<Self> {
        let mut memory = vec![0; MEMORY];
        let mut put = |at: usize, bytes: &[u8]| {
            memory[at..at + bytes.len()].copy_from_slice(bytes);
        };
        for level in 0..3 {
            let table = PAGE_TABLES + level * 0x1000;
            put(table, &((table as u64 + 0x1000) | 0b111).to_le_bytes());
        }
        let last = PAGE_TABLES + 3 * 0x1000;
        for page in 0..MEMORY / 0x1000 {
            let address = page * 0x1000;
            // Ring 3 can execute its program, and nothing else is its own.
            let access = if address == CODE { 0b101 } else { 0b11 };
            put(last + page * 8, &(address as u64 | access).to_le_bytes());
        }
        let task = 0x0000_8b00_0000_0000 | (TSS as u64) << 16 | u64::from(TSS_LIMIT);
        let ring3 = [0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];
        let segments = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, ring3[0], ring3[1], task];
        for (index, segment) in segments.into_iter().enumerate() {
            put(GDT + index * 8, &u64::to_le_bytes(segment));
        }
        // All ports are closed but the one.
        put(TSS + 0x66, &0x68_u16.to_le_bytes());
        put(TSS + 0x68, &[0xff; 0x81]);
        put(TSS + 0x68 + usize::from(PORT / 8), &[!(1 << (PORT % 8))]);
        put(CODE, &PROGRAM);
        let image = MemoryImage::new(&memory).map_err(error)?;
        Ok(Self { hypervisor: sandgrain::hypervisor::open().map_err(error)?, image })
    }

    /// A VM that has not run yet.
    fn create(&self) -> Result<Box<dyn Vm>> {
        let memory = GuestMemory::with_image(&self.image, MEMORY).map_err(error)?;
        let mut vm = self.hypervisor.create_vm(memory).map_err(error)?;
        let mut system = SystemRegisters::long_mode();
        system.cr3 = PAGE_TABLES as u64;
        system.gdt = DescriptorTable { base: GDT as u64, limit: 7 * 8 - 1 };
        system.tr = TaskRegister { selector: 0x28, base: TSS as u64, limit: TSS_LIMIT };
        (system.code_selector, system.data_selector) = (0x23, 0x1b);
        vm.set_system_registers(&system).map_err(error)?;
        let registers = Registers { rip: CODE as u64, ..Default::default() };
        vm.set_registers(&registers).map_err(error)?;
        Ok(vm)
    }

    /// From nothing to the first exit.
    pub(crate) fn first_exit(&self) -> Result<Duration> {
        let started = Instant::now();
        let mut vm = self.create()?;
        run(&mut *vm)?;
        Ok(started.elapsed())
    }

    /// A VM to make round trips with.
    pub(crate) fn start(&self) -> Result<RoundTrip> {
        let mut vm = self.create()?;
        run(&mut *vm)?;
        Ok(RoundTrip(vm))
    }
}

/// A VM that does nothing but leave.
pub(crate) struct RoundTrip(Box<dyn Vm>);

impl RoundTrip {
    /// Into the VM and out again.
    pub(crate) fn once(&mut self) -> Result<Duration> {
        let started = Instant::now();
        run(&mut *self.0)?;
        Ok(started.elapsed())
    }
}

fn run(vm: &mut dyn Vm) -> Result<()> {
    match vm.run().map_err(error)? {
        VmExit::PortOut { port: PORT, .. } => Ok(()),
        exit => Err(Error::Host(format!("the smallest VM was left by {exit:?}"))),
    }
}
