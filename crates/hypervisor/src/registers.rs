//! Registers of a vCPU, in terms of the architecture.

/// General-purpose registers, instruction pointer and flags. All fields are 64-bit values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the architecture's")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// The one bit of RFLAGS that is always set.
const RFLAGS_RESERVED: u64 = 1 << 1;

impl Default for Registers {
    /// Zeros, and in RFLAGS the one bit that is always set: interrupts off.
    fn default() -> Self {
        Registers {
            rax: 0,
            rbx: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            rsp: 0,
            rbp: 0,
            r8: 0,
            r9: 0,
            r10: 0,
            r11: 0,
            r12: 0,
            r13: 0,
            r14: 0,
            r15: 0,
            rip: 0,
            rflags: RFLAGS_RESERVED,
        }
    }
}

/// Where a descriptor table lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DescriptorTable {
    /// Linear address of its first byte.
    pub base: u64,
    /// Its size in bytes, less one.
    pub limit: u16,
}

/// The task register: where the TSS, and in it the stacks of exceptions and the map of permitted
/// ports, lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskRegister {
    /// Selector of the TSS descriptor in the GDT.
    pub selector: u16,
    /// Linear address of the TSS.
    pub base: u64,
    /// Size of the TSS in bytes, port map included, less one.
    pub limit: u32,
}

/// Everything that makes a vCPU a 64-bit machine of a certain shape, so that it can start in long
/// mode, in ring 3 or ring 0, without having run an instruction.
///
/// Nothing here is checked against the guest's memory: the tables must be there when the guest
/// needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemRegisters {
    /// CR0.
    pub cr0: u64,
    /// CR3: guest-physical address of the top page table.
    pub cr3: u64,
    /// CR4. OSXSAVE is the backend's affair: it is set exactly when XSAVE is offered, whatever is
    /// here, and XCR0 then enables every vector state that this crate knows.
    pub cr4: u64,
    /// EFER. Some hypervisors force `EFER_SCE` on.
    pub efer: u64,
    /// The GDT.
    pub gdt: DescriptorTable,
    /// The IDT.
    pub idt: DescriptorTable,
    /// The task register.
    pub tr: TaskRegister,
    /// Selector of the 64-bit code segment to start in. Its low two bits are the ring.
    pub code_selector: u16,
    /// Selector of the data segment, put into SS, DS, ES, FS and GS. Its low two bits must be those
    /// of `code_selector`.
    pub data_selector: u16,
    /// Selector of the ring-0 code segment that `syscall` enters.
    pub syscall_selector: u16,
    /// Where `syscall` ends in ring 0 on a hypervisor that forces it on (LSTAR and CSTAR). `sysenter`
    /// always faults.
    pub syscall_entry: u64,
}

/// CR0: protected mode.
pub const CR0_PE: u64 = 1 << 0;
/// CR0: `wait` heeds the task-switched flag.
pub const CR0_MP: u64 = 1 << 1;
/// CR0: there is a floating-point unit.
pub const CR0_ET: u64 = 1 << 4;
/// CR0: floating-point errors are exceptions.
pub const CR0_NE: u64 = 1 << 5;
/// CR0: ring 0 cannot write read-only pages.
pub const CR0_WP: u64 = 1 << 16;
/// CR0: ring 3 may ask for alignment checks.
pub const CR0_AM: u64 = 1 << 18;
/// CR0: paging.
pub const CR0_PG: u64 = 1 << 31;
/// CR4: page tables with 64-bit entries.
pub const CR4_PAE: u64 = 1 << 5;
/// CR4: SSE, and `fxsave` and `fxrstor` with it.
pub const CR4_OSFXSR: u64 = 1 << 9;
/// CR4: SSE errors are exceptions of their own.
pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
/// CR4: ring 3 cannot read the addresses of descriptor tables. For guests that are offered `umip`.
pub const CR4_UMIP: u64 = 1 << 11;
/// CR4: `rdfsbase` and its kin. For guests that are offered `fsgsbase`.
pub const CR4_FSGSBASE: u64 = 1 << 16;
/// CR4: XSAVE and XCR0.
pub const CR4_OSXSAVE: u64 = 1 << 18;
/// CR4: ring 0 cannot execute ring 3's pages. For guests that are offered `smep`.
pub const CR4_SMEP: u64 = 1 << 20;
/// EFER: `syscall`.
pub const EFER_SCE: u64 = 1 << 0;
/// EFER: long mode enabled.
pub const EFER_LME: u64 = 1 << 8;
/// EFER: long mode active.
pub const EFER_LMA: u64 = 1 << 10;
/// EFER: pages can be made non-executable.
pub const EFER_NXE: u64 = 1 << 11;

impl SystemRegisters {
    /// Long mode with paging, write protection, no-execute pages, SSE and alignment checks; `syscall`
    /// off. Tables, selectors and `syscall_entry` are zero, for the caller to fill in.
    pub fn long_mode() -> Self {
        SystemRegisters {
            cr0: CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG,
            cr3: 0,
            cr4: CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT,
            efer: EFER_LME | EFER_LMA | EFER_NXE,
            gdt: DescriptorTable::default(),
            idt: DescriptorTable::default(),
            tr: TaskRegister::default(),
            code_selector: 0,
            data_selector: 0,
            syscall_selector: 0,
            syscall_entry: 0,
        }
    }
}
