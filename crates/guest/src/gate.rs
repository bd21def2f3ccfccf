//! The gate: all that ever runs in ring 0.
//!
//! An exception in ring 3 enters here through the IDT, with the CPU's frame on the gate's own stack.
//! The gate writes down what happened and sends ring 3 to the trap entry, on the trap entry's stack;
//! what to do about it is the runtime's affair. When it cannot go on, because the exception was in
//! ring 0 or came while the trap entry's stack was in use, it tells the host and stops.
//!
//! Rules for this code: no state of its own but the record, no policy, integer instructions only, since
//! some hypervisors emulate ring 0 an instruction at a time; addresses are constants, so that no
//! register of ring 3 is trusted for any. The host maps it for ring 0 alone: pages of the gate begin
//! and end on page boundaries.

use core::arch::global_asm;
use sandgrain_abi::layout;
use sandgrain_abi::layout::record;

global_asm!(
    r#"
    .section .gate,"axR",@progbits
    .balign 4096
    .globl sandgrain_gate_start
sandgrain_gate_start:
    // One entry per vector. The CPU pushes an error code for some of them; the others push a zero, so
    // that every frame looks the same.
    .set vector, 0
    .rept {vectors}
    .balign {stride}, 0xcc
    .if (vector != 8) && (vector < 10 || vector > 14) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30)
    push 0
    .endif
    push vector
    jmp 2f
    .set vector, vector + 1
    .endr

    // Where `syscall` ends on a hypervisor that cannot switch it off. The stack is still ring 3's, so
    // it is not touched; RCX is where the instruction was.
    .balign {stride}, 0xcc
    mov qword ptr [{record} + {fatal}], {fatal_syscall}
    mov qword ptr [{record} + {rip}], rcx
    mov qword ptr [{record} + {rsp}], rsp
    jmp 5f

    // Stack here: vector, error code, RIP, CS, RFLAGS, RSP, SS.
2:  test byte ptr [rsp + 24], 3
    jz 3f
    push rax
    mov rax, [rsp + 8]
    mov qword ptr [{record} + {vector_at}], rax
    mov rax, [rsp + 16]
    mov qword ptr [{record} + {error}], rax
    mov rax, cr2
    mov qword ptr [{record} + {address}], rax
    mov rax, [rsp + 24]
    mov qword ptr [{record} + {rip}], rax
    mov rax, [rsp + 48]
    mov qword ptr [{record} + {rsp}], rax
    // A stack pointer in the trap entry's stack: a trap in the trap entry, which would never end.
    sub rax, {trap_stack_bottom}
    cmp rax, {trap_stack_size}
    jbe 4f
    // The frame to return with is made of constants: nothing of ring 3's but its registers goes on.
    mov rax, qword ptr [{record} + {trap_entry}]
    mov [rsp + 24], rax
    mov qword ptr [rsp + 32], {user_code}
    mov qword ptr [rsp + 40], 2
    mov qword ptr [rsp + 48], {trap_stack_start}
    mov qword ptr [rsp + 56], {user_data}
    pop rax
    add rsp, 16
    iretq

    // An exception of the gate's own.
3:  mov rax, [rsp]
    mov qword ptr [{record} + {vector_at}], rax
    mov rax, [rsp + 8]
    mov qword ptr [{record} + {error}], rax
    mov rax, [rsp + 16]
    mov qword ptr [{record} + {rip}], rax
    mov rax, cr2
    mov qword ptr [{record} + {address}], rax
    mov qword ptr [{record} + {fatal}], {fatal_ring0}
    jmp 5f
4:  mov qword ptr [{record} + {fatal}], {fatal_nested}
5:  out {port}, al
    // A host that lets a dead guest go on gets the same answer again.
    jmp 5b
    .globl sandgrain_gate_code_end
sandgrain_gate_code_end:
    .balign 4096, 0xcc
    .globl sandgrain_gate_end
sandgrain_gate_end:
    .text
    "#,
    vectors = const layout::VECTORS,
    stride = const layout::VECTOR_STRIDE,
    record = const layout::GATE_RECORD,
    vector_at = const record::VECTOR,
    error = const record::ERROR,
    address = const record::ADDRESS,
    rip = const record::RIP,
    rsp = const record::RSP,
    fatal = const record::FATAL,
    trap_entry = const record::TRAP_ENTRY,
    fatal_syscall = const record::fatal::SYSCALL,
    fatal_ring0 = const record::fatal::RING0,
    fatal_nested = const record::fatal::NESTED,
    trap_stack_bottom = const layout::TRAP_STACK_TOP - layout::TRAP_STACK_SIZE,
    trap_stack_size = const layout::TRAP_STACK_SIZE,
    trap_stack_start = const layout::TRAP_STACK_TOP - 64,
    user_code = const layout::USER_CODE,
    user_data = const layout::USER_DATA,
    port = const layout::PORT_FATAL,
);

unsafe extern "C" {
    static sandgrain_gate_start: u8;
}

/// Keeps the gate in the program: nothing in ring 3 refers to it.
pub(crate) fn keep() -> *const u8 {
    &raw const sandgrain_gate_start
}
