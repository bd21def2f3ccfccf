//! Where things lie in the guest's address space, and the ports that leave it.
//!
//! The host builds the page tables, so virtual and guest-physical addresses are unrelated: the guest
//! knows the virtual ones below, the host keeps the guest-physical ones to itself. Page tables are
//! not mapped at all. Everything is in the lower half: some hypervisors keep parts of the upper one.
//!
//! | address | what | ring 3 |
//! |---|---|---|
//! | `GATE_DATA` | descriptors, TSS, the gate's stack and its trap record | no |
//! | `MAILBOX` | messages | RW- |
//! | `TRAP_RECORD` | the gate's trap record again | R-- |
//! | `RUNTIME` | the runtime's program, the gate's code within it | as its segments say; the gate: no |
//! | `STACK_TOP` and below | the runtime's stack, unmapped below | RW- |
//! | `TRAP_STACK_TOP` and below | the stack of the trap entry, unmapped around | RW- |
//! | `HEAP` | the runtime's heap, as it has it from the start | RW- |
//! | `MORE_HEAP` | what the heap has grown by, unmapped around | RW- |
//! | `CODE` | compiled modules: text R-X, the rest R-- | R-X, R-- |
//! | `MEMORIES` | linear memories, one in each stride, unmapped around | RW- |

/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;

/// The gate's pages: GDT, IDT, TSS, stack, record. Only ring 0 can touch them.
pub const GATE_DATA: u64 = 0x1_0000;
/// The GDT within the gate's pages.
pub const GDT: u64 = GATE_DATA;
/// The TSS within the gate's pages, followed by its port bitmap.
pub const TSS: u64 = GATE_DATA + 0x400;
/// The IDT within the gate's pages.
pub const IDT: u64 = GATE_DATA + 0x800;
/// The top of the gate's stack, in the page after the descriptors.
pub const GATE_STACK_TOP: u64 = GATE_DATA + 0x2000;
/// The gate's writable view of the trap record, in a page of its own.
pub const GATE_RECORD: u64 = GATE_DATA + 0x2000;
/// Pages from `GATE_DATA` on: descriptors, stack, record.
pub const GATE_DATA_PAGES: u64 = 3;

/// The mailbox: a header, then room for messages.
pub const MAILBOX: u64 = 0x10_0000;
/// Bytes of the mailbox.
pub const MAILBOX_SIZE: u64 = 0x1_0000;
/// Bytes of its header.
pub const MAILBOX_HEADER: u64 = 64;

/// The runtime's read-only view of the trap record.
pub const TRAP_RECORD: u64 = 0x20_0000;

/// Where the runtime's program is linked to.
pub const RUNTIME: u64 = 0x40_0000;
/// Its program ends below.
pub const RUNTIME_END: u64 = 0x1000_0000;

/// The first address above the runtime's stack.
pub const STACK_TOP: u64 = 0x7000_0000;
/// The largest stack, in bytes.
pub const STACK_MAX: u64 = 0x4000_0000;
/// The first address above the trap entry's stack.
pub const TRAP_STACK_TOP: u64 = 0x7800_0000;
/// Bytes of the trap entry's stack.
pub const TRAP_STACK_SIZE: u64 = 0x8000;

/// The runtime's heap, as it has it from the start.
pub const HEAP: u64 = 0x1_0000_0000;
/// The rest of the heap, which the host gives on request. The two are apart, so that nothing that the guest
/// allocates, and with it no message, lies partly in one and partly in the other.
pub const MORE_HEAP: u64 = 0x1_1000_0000;
/// The largest heap, in bytes: both parts.
pub const HEAP_MAX: u64 = 0x8_0000_0000;

/// Compiled modules.
pub const CODE: u64 = 0x10_0000_0000;
/// The most that all of them take, in bytes.
pub const CODE_MAX: u64 = 0x10_0000_0000;

/// The first linear memory's stride; its memory begins at `MEMORY_OFFSET` in it.
pub const MEMORIES: u64 = 0x100_0000_0000;
/// Bytes from one linear memory's stride to the next.
pub const MEMORY_STRIDE: u64 = 0x2_0000_0000;
/// Unmapped bytes before a linear memory.
pub const MEMORY_OFFSET: u64 = 0x4000_0000;
/// What a linear memory may take of its stride, in bytes, without its guard. Compiled code relies on it.
pub const MEMORY_RESERVATION: u64 = 1 << 32;
/// Unmapped bytes after a linear memory's reservation, at the least. Compiled code relies on them.
pub const MEMORY_GUARD: u64 = 32 << 20;
/// Linear memories that a guest can have at the most.
pub const MEMORIES_MAX: u64 = 1024;

/// Port of a hypercall: the mailbox holds a request. The only one that ring 3 may use.
pub const PORT_HYPERCALL: u16 = 0xe0;
/// Port of the gate's last word: the trap record holds why it could not go on.
pub const PORT_FATAL: u16 = 0xe4;

/// Selector of ring-0 code.
pub const KERNEL_CODE: u16 = 0x08;
/// Selector of ring-0 data.
pub const KERNEL_DATA: u16 = 0x10;
/// Selector of ring-3 data.
pub const USER_DATA: u16 = 0x1b;
/// Selector of ring-3 code.
pub const USER_CODE: u16 = 0x23;
/// Selector of the task state segment.
pub const TASK: u16 = 0x28;

/// Exception vectors that the gate takes.
pub const VECTORS: u64 = 32;
/// Bytes from one vector's entry to the next, from the start of the gate's code on. The entry after
/// the last vector is where `syscall` ends, if a hypervisor leaves it on.
pub const VECTOR_STRIDE: u64 = 16;

/// The names that the runtime's program gives its host.
pub mod symbol {
    /// Where ring 3 starts.
    pub const START: &str = "_start";
    /// Where the gate sends a trap.
    pub const TRAP_ENTRY: &str = "sandgrain_trap_entry";
    /// The gate's code: first byte, on a page boundary.
    pub const GATE_START: &str = "sandgrain_gate_start";
    /// The first byte after it, on a page boundary.
    pub const GATE_END: &str = "sandgrain_gate_end";
    /// The end of the gate's instructions, before what fills its last page.
    pub const GATE_CODE_END: &str = "sandgrain_gate_code_end";
}

/// Byte offsets in the trap record. All fields are 64 bits wide.
pub mod record {
    /// The exception's vector.
    pub const VECTOR: u64 = 0;
    /// Its error code, or 0.
    pub const ERROR: u64 = 8;
    /// CR2 at the exception.
    pub const ADDRESS: u64 = 16;
    /// RIP at the exception.
    pub const RIP: u64 = 24;
    /// RSP at the exception.
    pub const RSP: u64 = 32;
    /// Why the gate could not go on: one of `fatal`.
    pub const FATAL: u64 = 40;
    /// Set by the host: where to send ring 3.
    pub const TRAP_ENTRY: u64 = 48;

    /// Values of `FATAL`.
    pub mod fatal {
        /// Nothing fatal.
        pub const NONE: u64 = 0;
        /// An exception in the gate itself.
        pub const RING0: u64 = 1;
        /// An exception while the trap entry's stack was in use.
        pub const NESTED: u64 = 2;
        /// A `syscall` instruction.
        pub const SYSCALL: u64 = 3;
    }
}

/// Byte offsets in the mailbox's header. All fields are 64 bits wide.
pub mod mailbox {
    /// The guest's: address of its request's bytes, in the mailbox or the heap.
    pub const REQUEST_ADDRESS: u64 = 0;
    /// The guest's: their count; 0 asks again for a reply that did not fit.
    pub const REQUEST_LEN: u64 = 8;
    /// The guest's: address of room for the reply, in the mailbox or the heap.
    pub const REPLY_ADDRESS: u64 = 16;
    /// The guest's: bytes of that room.
    pub const REPLY_CAPACITY: u64 = 24;
    /// The host's: bytes of the reply. More than the room means that none was written.
    pub const REPLY_LEN: u64 = 32;
}

const _: () = {
    // A linear memory has its guards within its stride.
    assert!(MEMORY_OFFSET + MEMORY_RESERVATION + MEMORY_GUARD <= MEMORY_STRIDE);
    // The gate addresses memory with 32-bit displacements, which are sign-extended.
    assert!(GATE_RECORD + PAGE_SIZE <= i32::MAX as u64);
    assert!(TRAP_STACK_TOP <= i32::MAX as u64);
    assert!(HEAP < MORE_HEAP && MORE_HEAP + HEAP_MAX < CODE);
    // Ports are immediate operands.
    assert!(PORT_HYPERCALL <= 0xff && PORT_FATAL <= 0xff && PORT_HYPERCALL != PORT_FATAL);
};
