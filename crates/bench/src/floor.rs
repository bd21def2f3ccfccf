//! The raw floor: the smallest program that leaves a VM, without any of the library above the
//! hypervisor layer. [`measure`] makes one VM after another for it.

use crate::report::quantile;
use crate::{Machine, host_error};
use sandgrain::hypervisor::{
    DescriptorTable, GuestMemory, Hypervisor, MemoryImage, Registers, SystemRegisters,
    TaskRegister, Vm, VmExit,
};
use sandgrain::{Error, Result};
use serde::Serialize;
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

    /// A VM from its beginning to its end.
    fn life(&self) -> Result<Life> {
        let started = Instant::now();
        let mut vm = self.create()?;
        let made = Instant::now();
        run(&mut *vm)?;
        let left = Instant::now();
        drop(vm);
        Ok(Life { make: made - started, enter: left - made, drop: left.elapsed() })
    }

    /// From nothing to the first exit.
    pub(crate) fn first_exit(&self) -> Result<Duration> {
        let life = self.life()?;
        Ok(life.make + life.enter)
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

/// How long each part of a VM's life has taken.
#[derive(Clone, Copy)]
struct Life {
    make: Duration,
    enter: Duration,
    drop: Duration,
}

/// How many of the smallest VM there can be in a second, one after another, and what each of them takes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// For how long VMs were made.
    pub seconds: f64,
    /// How many there were.
    pub vms: usize,
    /// How many a second.
    pub vms_per_second: f64,
    /// Of times.
    pub unit: &'static str,
    /// To make one: VM, memory of 64 KiB, vCPU, registers.
    pub make: Times,
    /// To enter it, up to its first exit.
    pub enter: Times,
    /// To drop it.
    pub drop: Times,
    /// All of these.
    pub whole: Times,
}

/// The figures of one part, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// The time that half of the samples kept below.
    pub median: f64,
    /// The time that 99 of 100 samples kept below.
    pub p99: f64,
    /// The time that 999 of 1000 samples kept below.
    pub p999: f64,
}

impl Times {
    fn of(lives: &[Life], part: impl Fn(&Life) -> Duration) -> Self {
        let micros: Vec<f64> = lives.iter().map(|life| part(life).as_secs_f64() * 1e6).collect();
        let at = |share| quantile(micros.clone(), share);
        Self { median: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// Makes, enters and drops VMs for so long, one after another; and before that for a tenth of it, which does not count.
///
/// # Errors
/// What the hypervisor runs into; [`Error::NoHypervisor`] if there is none.
pub fn measure(duration: Duration) -> Result<Report> {
    let machine = Machine::this()?;
    let floor = Floor::new()?;
    let begun = Instant::now();
    while begun.elapsed() < duration / 10 {
        floor.life()?;
    }
    let begun = Instant::now();
    let mut lives = Vec::new();
    let taken = loop {
        lives.push(floor.life()?);
        let taken = begun.elapsed();
        if taken >= duration {
            break taken;
        }
    };
    Ok(Report {
        machine,
        seconds: taken.as_secs_f64(),
        vms: lives.len(),
        vms_per_second: lives.len() as f64 / taken.as_secs_f64(),
        unit: "us",
        make: Times::of(&lives, |life| life.make),
        enter: Times::of(&lives, |life| life.enter),
        drop: Times::of(&lives, |life| life.drop),
        whole: Times::of(&lives, |life| life.make + life.enter + life.drop),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_each_part() {
        let micros = Duration::from_micros;
        let lives: Vec<Life> = (1..=1000)
            .map(|n| Life { make: micros(n), enter: micros(2 * n), drop: micros(3 * n) })
            .collect();
        let times = Times::of(&lives, |life| life.enter);
        assert_eq!([times.median, times.p99, times.p999].map(f64::round), [1000.0, 1980.0, 1998.0]);
    }

    #[test]
    fn even_in_no_time_there_is_one_vm() {
        let report = measure(Duration::ZERO).expect("benchmarks need a hypervisor");
        assert_eq!(report.vms, 1);
        assert!(report.whole.median >= report.make.median + report.enter.median, "{report:?}");
    }
}
