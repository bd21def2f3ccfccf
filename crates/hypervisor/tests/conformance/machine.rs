//! The machine that the tests' guests see: the first 2 MiB, mapped one to one, and what an operating
//! system would have set up.

use std::sync::OnceLock;

use sandgrain_hypervisor::{
    DescriptorTable, GuestMemory, Hypervisor, MemoryImage, Registers, SystemRegisters,
    TaskRegister, Vm, VmExit, kvm,
};

pub const MEMORY: usize = 2 << 20;

const TOP_TABLE: u64 = 0x1000;
/// The table with the entries of single pages.
pub const PAGE_TABLE: u64 = 0x4000;
const GDT: u64 = 0x5000;
const TSS: u64 = 0x6000;
const TSS_LIMIT: u32 = 0x68 + 0x200;
const IDT: u64 = 0x8000;
/// Where exceptions, and `syscall`, are reported.
pub const GATE: u64 = 0x1_1000;
/// Where `syscall` ends.
pub const SYSCALL: u64 = GATE + 0xf00;
/// The first address above the stack that exceptions switch to.
pub const GATE_STACK: u64 = 0x9_0000;

/// Ring-3 code: R-X.
pub const USER_CODE: u64 = 0x1_0000;
/// Ring-0 code: R-X.
pub const KERNEL_CODE: u64 = 0x1_2000;
/// Ring-3 data: RW-.
pub const DATA: u64 = 0x3_0000;
/// Ring-3 data: R--.
pub const READ_ONLY: u64 = 0x3_1000;
/// Mapped for ring 3, to guest-physical address `BEYOND`.
pub const DANGLING: u64 = 0x5_0000;
/// Guest-physical, and not in memory.
pub const BEYOND: u64 = 0x1000_0000;
/// Not mapped.
pub const UNMAPPED: u64 = 0x5_1000;
const STACK_TOP: u64 = 0x8_0000;

/// The one port that ring 3 may use.
pub const PORT: u16 = 0xe0;
/// Where the gate reports the vector of an exception, then its error code.
pub const VECTOR_PORT: u16 = 0xe9;
pub const ERROR_PORT: u16 = 0xea;
/// What the gate reports for `syscall`.
pub const SYSCALL_REPORT: u32 = 0x5c;

pub const USER_PAGE: u64 = 0b101;
pub const WRITABLE: u64 = 0b10;
pub const NO_EXECUTE: u64 = 1 << 63;

#[derive(Clone, Copy, PartialEq)]
pub enum Ring {
    Kernel,
    User,
}

/// The hypervisor under test.
///
/// With `SANDGRAIN_TEST_AVAILABLE_TSS` set, for QEMU's emulation: see `KvmOptions`.
pub fn hypervisor() -> &'static dyn Hypervisor {
    static HYPERVISOR: OnceLock<Box<dyn Hypervisor>> = OnceLock::new();
    HYPERVISOR
        .get_or_init(|| {
            let available_tss = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
            let options = kvm::KvmOptions { available_tss };
            Box::new(kvm::Kvm::open_with(kvm::DEVICE.as_ref(), options).unwrap())
        })
        .as_ref()
}

/// The content of memory with `code` for both rings.
pub fn content(code: &[u8]) -> Vec<u8> {
    let mut memory = vec![0; 0x10_0000];
    let mut put = |at: u64, bytes: &[u8]| {
        memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    };
    for level in 0..3 {
        let table = TOP_TABLE + level * 0x1000;
        put(table, &((table + 0x1000) | WRITABLE | USER_PAGE).to_le_bytes());
    }
    for page in 0..512 {
        let address = page << 12;
        let entry = match address {
            USER_CODE => address | USER_PAGE,
            GATE | KERNEL_CODE => address | 1,
            DATA => address | USER_PAGE | WRITABLE | NO_EXECUTE,
            READ_ONLY => address | USER_PAGE | NO_EXECUTE,
            DANGLING => BEYOND | USER_PAGE | WRITABLE | NO_EXECUTE,
            UNMAPPED => 0,
            0x7_f000 => address | USER_PAGE | WRITABLE | NO_EXECUTE,
            _ => address | 1 | WRITABLE | NO_EXECUTE,
        };
        put(PAGE_TABLE + page * 8, &entry.to_le_bytes());
    }
    let task = 0x0000_8900_0000_0000 | TSS << 16 | u64::from(TSS_LIMIT);
    let segments = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        task,
        0,
    ];
    for (index, segment) in segments.into_iter().enumerate() {
        put(GDT + index as u64 * 8, &u64::to_le_bytes(segment));
    }
    put(TSS + 4, &GATE_STACK.to_le_bytes());
    put(TSS + 0x66, &0x68u16.to_le_bytes());
    put(TSS + 0x68, &[0xff; 0x201]);
    put(TSS + 0x68 + u64::from(PORT / 8), &[0xf0]);
    for vector in 0..32 {
        // mov al, vector; out VECTOR_PORT, al; pop rax; out ERROR_PORT, eax; hlt
        let handler = GATE + vector * 16;
        put(
            handler,
            &[0xb0, vector as u8, 0xe6, VECTOR_PORT as u8, 0x58, 0xe7, ERROR_PORT as u8, 0xf4],
        );
        let low = handler & 0xffff | 0x8 << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
        put(IDT + vector * 16, &low.to_le_bytes());
        put(IDT + vector * 16 + 8, &(handler >> 32).to_le_bytes());
    }
    // mov al, SYSCALL_REPORT; out VECTOR_PORT, al; hlt
    put(SYSCALL, &[0xb0, SYSCALL_REPORT as u8, 0xe6, VECTOR_PORT as u8, 0xf4]);
    put(USER_CODE, code);
    put(KERNEL_CODE, code);
    memory
}

/// The registers to start with.
pub fn system_registers(ring: Ring) -> SystemRegisters {
    let mut system = SystemRegisters::long_mode();
    system.cr3 = TOP_TABLE;
    system.gdt = DescriptorTable { base: GDT, limit: 7 * 8 - 1 };
    system.idt = DescriptorTable { base: IDT, limit: 32 * 16 - 1 };
    system.tr = TaskRegister { selector: 0x28, base: TSS, limit: TSS_LIMIT };
    (system.code_selector, system.data_selector) = match ring {
        Ring::Kernel => (0x8, 0x10),
        Ring::User => (0x23, 0x1b),
    };
    system.syscall_selector = 0x8;
    system.syscall_entry = SYSCALL;
    system
}

pub fn registers(ring: Ring) -> Registers {
    match ring {
        Ring::Kernel => Registers { rip: KERNEL_CODE, rsp: GATE_STACK, ..Default::default() },
        Ring::User => Registers { rip: USER_CODE, rsp: STACK_TOP, ..Default::default() },
    }
}

/// A VM at the first byte of `code`.
pub fn start(ring: Ring, code: &[u8]) -> Box<dyn Vm> {
    start_image(ring, &MemoryImage::new(&content(code)).unwrap())
}

/// A VM of that image, at the first byte of its code.
pub fn start_image(ring: Ring, image: &MemoryImage) -> Box<dyn Vm> {
    start_memory(ring, GuestMemory::with_image(image, MEMORY).unwrap())
}

/// A VM with that memory, at the first byte of its code.
pub fn start_memory(ring: Ring, memory: GuestMemory) -> Box<dyn Vm> {
    let mut vm = hypervisor().create_vm(memory).unwrap();
    vm.set_system_registers(&system_registers(ring)).unwrap();
    vm.set_registers(&registers(ring)).unwrap();
    vm
}

/// Runs to an `out` of one byte to `PORT`, and returns the byte.
pub fn run_to_port(vm: &mut dyn Vm) -> u32 {
    match vm.run().unwrap() {
        VmExit::PortOut { port: PORT, size: 1, data } => data,
        exit => panic!("{exit:?} at {:x?}", vm.registers()),
    }
}

/// Runs to an exception, and returns its vector and error code.
pub fn run_to_exception(vm: &mut dyn Vm) -> (u32, u32) {
    let vector = match vm.run().unwrap() {
        VmExit::PortOut { port: VECTOR_PORT, size: 1, data } => data,
        exit => panic!("{exit:?} at {:x?}", vm.registers()),
    };
    match vm.run().unwrap() {
        VmExit::PortOut { port: ERROR_PORT, size: 4, data } => (vector, data),
        exit => panic!("{exit:?} at {:x?}", vm.registers()),
    }
}

/// `mov eax, [address]`.
pub fn load(address: u64) -> Vec<u8> {
    [&[0x8b, 0x04, 0x25][..], &(address as u32).to_le_bytes()].concat()
}

/// `mov [address], eax`.
pub fn store(address: u64) -> Vec<u8> {
    [&[0x89, 0x04, 0x25][..], &(address as u32).to_le_bytes()].concat()
}

/// `out PORT, al`.
pub const OUT: [u8; 2] = [0xe6, PORT as u8];
/// `jmp` to itself.
pub const SPIN: [u8; 2] = [0xeb, 0xfe];
