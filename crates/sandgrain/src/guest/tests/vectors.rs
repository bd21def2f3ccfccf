//! Floating-point and vector state that no honest program loads.

use super::*;

/// A scratch page that ring 3 may write, within 32-bit addresses.
const SCRATCH: u32 = (layout::MAILBOX + 0x4000) as u32;

/// `instruction [address]`, for instructions whose ModRM byte has `reg` in its middle.
fn on_memory(opcode: &[u8], reg: u8, address: u32) -> Vec<u8> {
    [opcode, &[reg << 3 | 4, 0x25], &address.to_le_bytes()].concat()
}

/// `mov dword ptr [address], value`.
fn put(address: u32, value: u32) -> Vec<u8> {
    [&on_memory(&[0xc7], 0, address)[..], &value.to_le_bytes()].concat()
}

/// As [`faults`], for what QEMU's emulation of a CPU lets pass: it knows neither MXCSR's reserved bits nor
/// exceptions of SSE.
#[track_caller]
fn faults_on_a_real_cpu(name: &str, code: &[u8], expected: &[u64]) {
    match attack(code) {
        Ending::Fault { vector, .. } if expected.contains(&vector) => {}
        Ending::Finished if is_emulated() => {}
        ending => panic!("{name}: {ending:?}"),
    }
}

#[track_caller]
fn faults(name: &str, code: &[u8], expected: &[u64]) {
    match attack(code) {
        Ending::Fault { vector, .. } if expected.contains(&vector) => {}
        ending => panic!("{name}: {ending:?}"),
    }
}

use vector::{GENERAL_PROTECTION as GP, INVALID_OPCODE as UD, PAGE_FAULT as PF};
/// #MF and #XM: what floating-point errors are that are not masked.
const X87: u64 = 16;
const SIMD: u64 = 19;

const LDMXCSR: u8 = 2;
const FXRSTOR: u8 = 1;
const XSAVE: u8 = 4;
const XRSTOR: u8 = 5;

#[test]
fn reserved_bits_of_mxcsr_cannot_be_set() {
    for bit in 16..32 {
        let load = on_memory(&[0x0f, 0xae], LDMXCSR, SCRATCH);
        let code = [put(SCRATCH, 0x1f80 | 1 << bit), load].concat();
        // #UD instead of #GP: software KVMs. AMD has given a meaning to one of the bits.
        match attack(&code) {
            Ending::Fault { vector: GP | UD, .. } => {}
            Ending::Finished if bit == 17 || is_emulated() => {}
            ending => panic!("bit {bit}: {ending:?}"),
        }
    }
    next_sandbox_works();
}

#[test]
fn an_fxsave_image_with_reserved_bits_is_not_loaded() {
    let load = on_memory(&[0x0f, 0xae], FXRSTOR, SCRATCH);
    let code = [put(SCRATCH + 24, 0xffff_0000), load].concat();
    faults_on_a_real_cpu("MXCSR", &code, &[GP, UD]);
    next_sandbox_works();
}

#[test]
fn an_xsave_image_with_reserved_bits_is_not_loaded() {
    // mov eax, -1; mov edx, eax; xrstor [SCRATCH]. #UD: there is no XSAVE.
    let all = [0xb8, 0xff, 0xff, 0xff, 0xff, 0x89, 0xc2];
    let load = on_memory(&[0x0f, 0xae], XRSTOR, SCRATCH);
    for (name, at, value) in [
        ("XSTATE_BV, high", 512 + 4, 0x8000_0000),
        ("XSTATE_BV, unknown", 512 + 4, 1),
        ("XCOMP_BV", 512 + 8, 1),
        ("XCOMP_BV, compact and unknown", 512 + 12, 0xc000_0000),
        ("reserved bytes", 512 + 16, 1),
    ] {
        let code = [&put(SCRATCH + at, value)[..], &all, &load].concat();
        faults(name, &code, &[GP, UD]);
    }
    // MXCSR's reserved bits, with a header that says that SSE's state is there.
    let code = [&put(SCRATCH + 24, 0xffff_0000)[..], &put(SCRATCH + 512, 2), &all, &load].concat();
    faults_on_a_real_cpu("MXCSR", &code, &[GP, UD]);
    // xrstors and xsaves are ring 0's.
    faults("xrstors", &[&all[..], &on_memory(&[0x0f, 0xc7], 3, SCRATCH)].concat(), &[GP, UD]);
    faults("xsaves", &[&all[..], &on_memory(&[0x0f, 0xc7], 5, SCRATCH)].concat(), &[GP, UD]);
    next_sandbox_works();
}

#[test]
fn saved_state_cannot_be_written_over_the_gates_data() {
    let record = layout::GATE_RECORD as u32;
    faults("fxsave", &on_memory(&[0x0f, 0xae], 0, record), &[PF]);
    faults("xsave", &on_memory(&[0x0f, 0xae], XSAVE, record), &[PF, UD]);
    let stack = layout::GATE_STACK_TOP as u32 - 576;
    faults("xsaveopt", &on_memory(&[0x0f, 0xae], 6, stack), &[PF, UD]);
    next_sandbox_works();
}

#[test]
fn floating_point_errors_that_are_not_masked_are_faults_like_any_other() {
    // ldmxcsr with nothing masked; xorps xmm0, xmm0; divps xmm0, xmm0
    let load = on_memory(&[0x0f, 0xae], LDMXCSR, SCRATCH);
    let code = [&put(SCRATCH, 0)[..], &load, &[0x0f, 0x57, 0xc0, 0x0f, 0x5e, 0xc0]].concat();
    faults_on_a_real_cpu("SSE", &code, &[SIMD]);
    // fldcw with nothing masked; fldz; fldz; fdivp; fwait
    let load = on_memory(&[0xd9], 5, SCRATCH);
    let code = [&put(SCRATCH, 0x340)[..], &load, &[0xd9, 0xee, 0xd9, 0xee, 0xde, 0xf9, 0x9b]];
    faults("x87", &code.concat(), &[X87]);
    next_sandbox_works();
}

#[test]
fn a_pending_floating_point_error_goes_no_further_than_the_guest() {
    // As above without fwait: the error waits for the next x87 instruction, whoever's that is. Then ud2.
    let load = on_memory(&[0xd9], 5, SCRATCH);
    let code = [&put(SCRATCH, 0x340)[..], &load, &[0xd9, 0xee, 0xd9, 0xee, 0xde, 0xf9, 0x0f, 0x0b]];
    match attack(&code.concat()) {
        Ending::Fault { vector: UD, .. } => {}
        Ending::Fatal { reason: record::fatal::NESTED, vector: X87 } => {}
        ending => panic!("{ending:?}"),
    }
    next_sandbox_works();
}
