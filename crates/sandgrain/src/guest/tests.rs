//! The walls around a guest, tried from outside and from inside.

mod attacks;
mod component_forgery;
mod forgery;
mod heap;
mod instructions;
mod large_pages;
mod leakage;
mod order;
mod ports;
mod promise_forgery;
mod registers;
mod resets;
mod segments;
mod storms;
mod tables;
mod transfers;
mod vectors;

use super::{Access, Guest, Stop};
use crate::engine::{Engine, Platform, Virtual};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::limits::Limits;
use crate::machine::base::RECORD;
use crate::machine::{Machine, Progress};
use crate::module::Module;
use crate::sandbox::Sandbox;
use sandgrain_abi::Value;
use sandgrain_abi::layout::{self, PAGE_SIZE, record};
use sandgrain_abi::message::{Command, Outcome};
use sandgrain_abi::types::ModuleInfo;
use sandgrain_hypervisor::{Registers, VmExit};
use std::sync::OnceLock;

/// A module with something of everything that the host maps: code, two memories, a table.
const MODULE: &str = r#"(module
    (memory (export "memory") 1)
    (memory $second 3 40)
    (table 10 funcref)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "answer") (result i32) (i32.const 42)))"#;

/// Whether this is QEMU's emulation of a CPU.
fn is_emulated() -> bool {
    std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some()
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    // In QEMU's emulation, with its quirk.
    let builder = Engine::builder().without_cache().available_tss(is_emulated());
    ENGINE.get_or_init(|| builder.build().expect("an engine with KVM"))
}

fn module() -> &'static Module {
    static COMPILED: OnceLock<Module> = OnceLock::new();
    COMPILED.get_or_init(|| Module::new(engine(), MODULE.as_bytes()).expect("a module"))
}

fn platform() -> &'static Virtual {
    match &engine().inner.platform {
        Platform::Vm(platform) => platform,
        Platform::Process { .. } => unreachable!("the engine was made with a hypervisor"),
    }
}

/// The module and the bytes of its code.
fn sized() -> (&'static ModuleInfo, u64) {
    let code = module().artifact().expect("compiled for the VM").code();
    (module().info(), code.len() as u64)
}

/// A guest that has not run yet.
fn fresh() -> Guest {
    platform().unstarted(&Limits::default(), &[sized()]).expect("a guest")
}

/// What a command leads to, without host functions.
fn execute(guest: &mut Guest, command: &Command) -> Result<Outcome> {
    match guest.execute(command, &mut Host::default())? {
        Progress::Done(outcome) => Ok(outcome),
        Progress::Waiting => panic!("nobody has told the host to put anything off"),
    }
}

fn call(guest: &mut Guest, export: &str, args: Vec<Value>) -> Vec<Value> {
    let command = Command::Call { instance: 0, export: export.to_owned(), args };
    match execute(guest, &command).expect("a call") {
        Outcome::Returned(values) => values,
        other => panic!("{export} ended with {other:?}"),
    }
}

/// A guest with the module instantiated in it.
fn started() -> Guest {
    let mut guest = platform().guest(&Limits::default(), &[sized()]).expect("a guest");
    let (address, len) = Machine::load(&mut guest, module()).expect("room for the module");
    let command = Command::Instantiate { address, len, imports: Vec::new() };
    let outcome = execute(&mut guest, &command).expect("an instance");
    assert_eq!(outcome, Outcome::Instantiated(0));
    guest
}

/// Whatever was done to one guest, the next one of the same engine is well.
fn next_sandbox_works() {
    let mut sandbox = Sandbox::new(module()).expect("a sandbox");
    assert_eq!(sandbox.call::<_, u32>("answer", ()).expect("a call"), 42);
}

/// How machine code of ours in ring 3 ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// It came to its end: nothing stopped it.
    Finished,
    /// An exception, which the gate passed on to ring 3's trap entry.
    Fault { vector: u64, error: u64, address: u64 },
    /// The gate ended the guest: one of [`record::fatal`], and the vector.
    Fatal { reason: u64, vector: u64 },
    /// It left the VM in some other way.
    Left(VmExit),
}

/// Where code of ours lies: where a module's would.
const CODE: u64 = layout::CODE;
/// Ring 3's stack pointer at its start.
const STACK: u64 = layout::STACK_TOP - 1024;
/// `out PORT_HYPERCALL, al`: what is at the end of code of ours.
const OUT: [u8; 2] = [0xe6, layout::PORT_HYPERCALL as u8];

/// A guest that runs machine code of ours in ring 3 instead of the runtime. The rest of the machine is
/// as it always is, the runtime's trap entry included.
struct Attacker {
    guest: Guest,
}

impl Attacker {
    /// As if a module's code were ours.
    fn new() -> Self {
        let mut guest = fresh();
        let phys = guest.plan.code.start;
        let memory = guest.vm.memory_mut();
        guest.space.map(memory, CODE, phys, PAGE_SIZE, Access::Code).expect("a page for code");
        // A linear memory, to attack from and to look around.
        let memory = guest.vm.memory_mut();
        let made = guest.memories.create(memory, &mut guest.space, 0x1_0000, Some(0x1_0000));
        made.expect("a linear memory");
        guest.give().expect("a linear memory");
        Self { guest }
    }

    /// Puts code into place, and ring 3 at its start.
    fn load(&mut self, code: &[u8]) {
        self.place(code);
        let registers = Registers { rip: CODE, rsp: STACK, ..Default::default() };
        self.guest.vm.set_registers(&registers).expect("registers");
    }

    /// Puts code into place, and leaves the registers as they are.
    fn place(&mut self, code: &[u8]) {
        assert!(code.len() as u64 <= PAGE_SIZE);
        let phys = self.guest.plan.code.start;
        let page = self.guest.vm.memory_mut().slice_mut(phys..phys + PAGE_SIZE).expect("code");
        page.fill(0xcc);
        page[..code.len()].copy_from_slice(code);
    }

    fn record(&self, field: u64) -> u64 {
        self.guest.vm.memory().read_u64(RECORD + field).expect("the trap record")
    }

    /// Runs `code` to its end, or as far as it comes.
    fn run(&mut self, code: &[u8]) -> Ending {
        self.load(&[code, &OUT].concat());
        self.go()
    }

    /// Goes on where ring 3 is.
    fn go(&mut self) -> Ending {
        let exit = self.guest.vm.run().expect("a run");
        let rip = self.guest.vm.registers().expect("registers").rip;
        match exit {
            VmExit::PortOut { port: layout::PORT_FATAL, .. } => Ending::Fatal {
                reason: self.record(record::FATAL),
                vector: self.record(record::VECTOR),
            },
            VmExit::PortOut { port: layout::PORT_HYPERCALL, .. }
                if (CODE..CODE + PAGE_SIZE).contains(&rip) =>
            {
                Ending::Finished
            }
            VmExit::PortOut { port: layout::PORT_HYPERCALL, .. } => {
                // The runtime's trap entry tells the host, which must call it the guest's failure.
                let error = self.guest.hypercall(&mut Host::default()).expect_err("a fault");
                assert!(matches!(error, Error::Guest(_)), "{error}");
                Ending::Fault {
                    vector: self.record(record::VECTOR),
                    error: self.record(record::ERROR),
                    address: self.record(record::ADDRESS),
                }
            }
            other => Ending::Left(other),
        }
    }
}

/// Runs code in a guest of its own.
fn attack(code: &[u8]) -> Ending {
    Attacker::new().run(code)
}

/// Exceptions by their vector.
mod vector {
    pub(super) const DEBUG: u64 = 1;
    pub(super) const BREAKPOINT: u64 = 3;
    pub(super) const OVERFLOW: u64 = 4;
    pub(super) const INVALID_OPCODE: u64 = 6;
    pub(super) const STACK: u64 = 12;
    pub(super) const GENERAL_PROTECTION: u64 = 13;
    pub(super) const PAGE_FAULT: u64 = 14;
}

#[test]
fn code_of_ours_does_run() {
    // Without this, every attack below could fail for the wrong reason.
    assert_eq!(attack(&[]), Ending::Finished);
}

#[test]
fn what_ring_3_may_do_it_can_do() {
    for address in [layout::MAILBOX, layout::HEAP, STACK, layout::TRAP_STACK_TOP - 8] {
        assert_eq!(attack(&attacks::load(address)), Ending::Finished, "read {address:#x}");
        assert_eq!(attack(&attacks::store(address)), Ending::Finished, "write {address:#x}");
    }
    for address in [layout::TRAP_RECORD, CODE, platform().base.program.entry] {
        assert_eq!(attack(&attacks::load(address)), Ending::Finished, "read {address:#x}");
    }
}

#[test]
fn the_engine_is_well_after_an_attack() {
    assert!(matches!(attack(&[0xf4]), Ending::Fault { .. }));
    next_sandbox_works();
}
