//! Descriptor tables and control registers: long mode, ring 3, one way into ring 0.

use sandgrain_abi::layout;
use sandgrain_hypervisor::{
    CR0_AM, CR4_SMEP, CR4_UMIP, CpuFeatures, DescriptorTable, SystemRegisters, TaskRegister,
};

/// Bytes of the GDT: null, ring 0's code and data, ring 3's data and code, and the TSS, which takes two
/// entries.
const GDT_LEN: u64 = 7 * 8;
/// Bytes of the TSS proper.
const TSS_LEN: u64 = 104;
/// Bytes of its port bitmap that matter: up to the hypercall port's, and the byte of ones that ends it.
const BITMAP_LEN: u64 = layout::PORT_HYPERCALL as u64 / 8 + 2;
/// The last byte of the TSS. Ports beyond the bitmap are closed.
const TSS_LIMIT: u64 = TSS_LEN + BITMAP_LEN - 1;
/// Bytes of the IDT.
const IDT_LEN: u64 = layout::VECTORS * 16;

// The tables share a page without overlapping.
const _: () = {
    assert!(layout::GDT + GDT_LEN <= layout::TSS);
    assert!(layout::TSS + TSS_LIMIT < layout::IDT);
    assert!(layout::IDT + IDT_LEN <= layout::GATE_DATA + layout::PAGE_SIZE);
};

/// The first page of the gate's data: GDT, TSS and IDT, where [`layout`] has them.
pub(crate) fn page(gate: u64) -> Vec<u8> {
    let mut page = vec![0; layout::PAGE_SIZE as usize];
    let mut put = |address: u64, bytes: &[u8]| {
        let at = (address - layout::GATE_DATA) as usize;
        page[at..at + bytes.len()].copy_from_slice(bytes);
    };
    // All segments are flat, present and marked as accessed, so that no CPU writes to them.
    let tss = layout::TSS;
    let gdt = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        TSS_LIMIT | (tss & 0xff_ffff) << 16 | 0x8b << 40 | (tss >> 24 & 0xff) << 56,
        tss >> 32,
    ];
    for (i, descriptor) in gdt.iter().enumerate() {
        put(layout::GDT + 8 * i as u64, &descriptor.to_le_bytes());
    }
    // The stack for exceptions from ring 3, and where the port bitmap begins.
    put(tss + 4, &layout::GATE_STACK_TOP.to_le_bytes());
    put(tss + 102, &(TSS_LEN as u16).to_le_bytes());
    let mut bitmap = [0xff; BITMAP_LEN as usize];
    bitmap[usize::from(layout::PORT_HYPERCALL / 8)] &= !(1 << (layout::PORT_HYPERCALL % 8));
    put(tss + TSS_LEN, &bitmap);
    // Interrupt gates that only an exception opens: `int n` in ring 3 is a fault.
    for vector in 0..layout::VECTORS {
        let entry = gate + vector * layout::VECTOR_STRIDE;
        let low = entry & 0xffff
            | u64::from(layout::KERNEL_CODE) << 16
            | 0x8e << 40
            | (entry >> 16 & 0xffff) << 48;
        put(layout::IDT + vector * 16, &low.to_le_bytes());
        put(layout::IDT + vector * 16 + 8, &(entry >> 32).to_le_bytes());
    }
    page
}

/// The system registers to start ring 3 with: page tables at `root`, the gate's code at `gate`.
pub(crate) fn registers(root: u64, gate: u64, features: &CpuFeatures) -> SystemRegisters {
    let mut registers = SystemRegisters::long_mode();
    // Alignment checks would let ring 3 fault where compiled code expects to go on.
    registers.cr0 &= !CR0_AM;
    registers.cr3 = root;
    if features.smep() {
        registers.cr4 |= CR4_SMEP;
    }
    if features.umip() {
        registers.cr4 |= CR4_UMIP;
    }
    registers.gdt = DescriptorTable { base: layout::GDT, limit: (GDT_LEN - 1) as u16 };
    registers.idt = DescriptorTable { base: layout::IDT, limit: (IDT_LEN - 1) as u16 };
    registers.tr =
        TaskRegister { selector: layout::TASK, base: layout::TSS, limit: TSS_LIMIT as u32 };
    registers.code_selector = layout::USER_CODE;
    registers.data_selector = layout::USER_DATA;
    registers.syscall_selector = layout::KERNEL_CODE;
    // Past the last vector's entry: a stub of the gate that ends the guest.
    registers.syscall_entry = gate + layout::VECTORS * layout::VECTOR_STRIDE;
    registers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_port_is_open() {
        let page = page(0x40_0000);
        let bitmap = (layout::TSS - layout::GATE_DATA + TSS_LEN) as usize;
        let open: Vec<u64> = (0..=u64::from(u16::MAX))
            .filter(|port| {
                // The CPU reads two bytes, and refuses what lies beyond the limit.
                let at = port / 8;
                TSS_LEN + at < TSS_LIMIT && page[bitmap + at as usize] >> (port % 8) & 1 == 0
            })
            .collect();
        assert_eq!(open, [u64::from(layout::PORT_HYPERCALL)]);
        assert_eq!(page[(layout::TSS - layout::GATE_DATA + TSS_LIMIT) as usize], 0xff);
    }

    #[test]
    fn selectors_name_the_descriptors() {
        let page = page(0);
        let gdt = |selector: u16| {
            let at = usize::from(selector & !7);
            u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
        };
        let level = |descriptor: u64| descriptor >> 45 & 3;
        for selector in [layout::KERNEL_CODE, layout::KERNEL_DATA] {
            assert_eq!((level(gdt(selector)), selector & 3), (0, 0));
        }
        for selector in [layout::USER_CODE, layout::USER_DATA] {
            assert_eq!((level(gdt(selector)), selector & 3), (3, 3));
        }
        assert_eq!(gdt(layout::USER_CODE) >> 53 & 1, 1, "64-bit code");
    }
}
