//! What a guest has changed of its registers, a reset puts back. All that it can change is changed here,
//! seen to be changed, put back, and looked at again.

use sandgrain_hypervisor::{CR4_FSGSBASE, MemoryImage, Registers, Vm, VmExit};

use crate::machine::*;

/// Some registers: code that changes them, code that shows them in memory, and where.
struct Part {
    name: &'static str,
    change: Vec<u8>,
    show: Vec<u8>,
    /// From this byte of the page at `DATA` on.
    at: u32,
    len: u32,
}

/// `[DATA + offset]` as the operand of an instruction with this register in its ModRM byte.
fn at(register: u8, offset: u32) -> Vec<u8> {
    [&[(register & 7) << 3 | 4, 0x25][..], &(DATA as u32 + offset).to_le_bytes()].concat()
}

/// `mov rax, value`.
fn set_rax(value: u64) -> Vec<u8> {
    [&[0x48, 0xb8][..], &value.to_le_bytes()].concat()
}

/// Code for each of the registers from 0 on.
fn each(count: u8, code: impl Fn(u8) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(code).collect()
}

/// Bit 3 of a register's number, where an instruction's prefix has it.
fn high(register: u8, bit: u8) -> u8 {
    (register >> 3 & 1) << bit
}

/// Ring 3 may change them, but on a software KVM they are not the guest's.
const SELECTORS: &str = "segment selectors";
const PATTERN: u64 = 0x5a6e_d9a1_c3f7_b28d;

/// General registers and flags. The stack pointer moves a little, since the stack is used.
fn general() -> Part {
    let change = [
        vec![0x48, 0x83, 0xec, 0x40], // sub rsp, 64
        set_rax(1 << 21 | 1 << 18 | 1 << 10 | 0x8d7),
        vec![0x50, 0x9d], // push rax; popfq: ID, AC, DF and what arithmetic leaves
        set_rax(PATTERN),
        each(16, |n| match n {
            0 | 4 => Vec::new(),
            n => vec![0x48 | high(n, 0), 0x89, 0xc0 | n & 7], // mov register, rax
        }),
    ];
    let show = [
        each(16, |n| [vec![0x48 | high(n, 2), 0x89], at(n, 8 * u32::from(n))].concat()),
        [vec![0x9c, 0x8f], at(0, 128)].concat(), // pushfq; pop [DATA + 128]
    ];
    Part {
        name: "general registers",
        change: change.concat(),
        show: show.concat(),
        at: 0,
        len: 136,
    }
}

fn others() -> Vec<Part> {
    let part = |name, change: Vec<u8>, show: Vec<u8>, at, len| Part { name, change, show, at, len };
    vec![
        part(
            SELECTORS,
            // mov eax, 3; mov es, eax; mov ds, eax; mov fs, eax; mov gs, eax
            vec![0xb8, 3, 0, 0, 0, 0x8e, 0xc0, 0x8e, 0xd8, 0x8e, 0xe0, 0x8e, 0xe8],
            each(6, |n| [vec![0x8c], at(n, 136 + 2 * u32::from(n))].concat()),
            136,
            12,
        ),
        part(
            "segment bases",
            // wrfsbase rax; wrgsbase rax
            [
                set_rax(0x1234_5678_9000),
                vec![0xf3, 0x48, 0x0f, 0xae, 0xd0, 0xf3, 0x48, 0x0f, 0xae, 0xd8],
            ]
            .concat(),
            // rdfsbase rax; mov [], rax; rdgsbase rax; mov [], rax
            [
                vec![0xf3, 0x48, 0x0f, 0xae, 0xc0, 0x48, 0x89],
                at(0, 152),
                vec![0xf3, 0x48, 0x0f, 0xae, 0xc8, 0x48, 0x89],
                at(0, 160),
            ]
            .concat(),
            152,
            16,
        ),
        part(
            "x87, MXCSR and XMM registers",
            [
                set_rax(PATTERN),
                each(8, |n| vec![0x48, 0x0f, 0x6e, 0xc0 | n << 3]), // movq mm, rax
                // movq xmm, rax; punpcklqdq xmm, xmm
                each(16, |n| {
                    let both = 0xc0 | (n & 7) << 3 | n & 7;
                    let load = [0x66, 0x48 | high(n, 2), 0x0f, 0x6e, 0xc0 | (n & 7) << 3];
                    let double = [0x66, 0x40 | high(n, 2) | high(n, 0), 0x0f, 0x6c, both];
                    [load, double].concat()
                }),
                // mov dword ptr [rsp - 8], 0x9fc0; ldmxcsr; mov word ptr [rsp - 8], 0x0f7f; fldcw
                vec![0xc7, 0x44, 0x24, 0xf8, 0xc0, 0x9f, 0, 0, 0x0f, 0xae, 0x54, 0x24, 0xf8],
                vec![0x66, 0xc7, 0x44, 0x24, 0xf8, 0x7f, 0x0f, 0xd9, 0x6c, 0x24, 0xf8],
            ]
            .concat(),
            [vec![0x48, 0x0f, 0xae], at(0, 512)].concat(), // fxsave64
            512,
            416,
        ),
        part(
            "YMM registers",
            // vcmptrueps ymm, ymm, ymm: all ones
            each(16, |n| {
                let (r, b) = (0x80 * u8::from(n < 8), 0x20 * u8::from(n < 8));
                vec![0xc4, r | 0x40 | b | 1, (!n & 15) << 3 | 4, 0xc2, 0xc0 + (n & 7) * 9, 0xf]
            }),
            // vmovups [], ymm
            each(16, |n| {
                let r = 0x80 * u8::from(n < 8);
                [vec![0xc5, r | 0x7c, 0x11], at(n, 1024 + 32 * u32::from(n))].concat()
            }),
            1024,
            512,
        ),
        part(
            "ZMM and mask registers",
            [
                // vpternlogd zmm, zmm, zmm, 0xff: all ones
                each(32, |n| {
                    let bit = |bit: u8, to: u8| (!n >> bit & 1) << to;
                    let p0 = bit(3, 7) | bit(4, 6) | bit(3, 5) | bit(4, 4) | 3;
                    let (p1, p2) = ((!n & 15) << 3 | 5, 0x40 | bit(4, 3));
                    vec![0x62, p0, p1, p2, 0x25, 0xc0 + (n & 7) * 9, 0xff]
                }),
                // kxnorw k, k, k: all ones
                each(8, |n| vec![0xc5, 0x80 | (!n & 15) << 3 | 4, 0x46, 0xc0 + n * 9]),
            ]
            .concat(),
            [
                // vmovups [], zmm
                each(32, |n| {
                    let p0 = (!n >> 3 & 1) << 7 | 0x60 | (!n >> 4 & 1) << 4 | 1;
                    [vec![0x62, p0, 0x7c, 0x48, 0x11], at(n, 1536 + 64 * u32::from(n))].concat()
                }),
                // kmovw [], k
                each(8, |n| [vec![0xc5, 0xf8, 0x91], at(n, 3584 + 2 * u32::from(n))].concat()),
            ]
            .concat(),
            1536,
            2064,
        ),
    ]
}

/// A VM in ring 3, which may read and write segment bases where that is offered.
fn start_user(image: &MemoryImage) -> Box<dyn Vm> {
    let mut vm = start_image(Ring::User, image);
    let mut system = system_registers(Ring::User);
    if hypervisor().cpu_features().fsgsbase() {
        system.cr4 |= CR4_FSGSBASE;
    }
    vm.set_system_registers(&system).unwrap();
    vm
}

/// Whether ring 3 can do this. If not, it is #UD: there is no such thing.
fn can(code: &[u8]) -> bool {
    let image = MemoryImage::new(&content(&[code, &OUT].concat())).unwrap();
    match start_user(&image).run().unwrap() {
        VmExit::PortOut { port: PORT, .. } => true,
        VmExit::PortOut { port: VECTOR_PORT, data: 6, .. } => false,
        exit => panic!("{exit:?}"),
    }
}

#[allow(clippy::print_stdout, reason = "what is left out is said")]
fn left_out(what: &str, why: &str) {
    println!("left out: {what}: {why}");
}

#[test]
fn all_registers_that_ring_3_can_change_are_put_back() {
    let mut parts = others();
    parts.retain(|part| {
        let can = can(&[&part.change[..], &part.show].concat());
        if !can {
            left_out(part.name, "no such instructions here");
        }
        can
    });
    // The general registers, which all of them use, are changed last and shown first.
    let all =
        |code: fn(&Part) -> &Vec<u8>| -> Vec<u8> { parts.iter().flat_map(code).copied().collect() };
    let general = general();
    let change = [&all(|part| &part.change)[..], &general.change, &OUT].concat();
    let show = [&general.show[..], &all(|part| &part.show), &OUT].concat();
    let image = MemoryImage::new(&content(&[&change[..], &show].concat())).unwrap();
    let mut vm = start_user(&image);
    let start = Registers {
        rax: 1,
        rbx: 2,
        rcx: 3,
        rdx: 4,
        rsi: 5,
        rdi: 6,
        rbp: 7,
        r8: 8,
        r9: 9,
        r10: 10,
        r11: 11,
        r12: 12,
        r13: 13,
        r14: 14,
        r15: 15,
        rip: USER_CODE + change.len() as u64,
        ..registers(Ring::User)
    };
    vm.set_registers(&start).unwrap();
    let state = vm.save().unwrap();
    let before = look(&mut *vm);

    for round in 0..2 {
        vm.set_registers(&Registers { rip: USER_CODE, ..start }).unwrap();
        run_to_port(&mut *vm);
        let changed = look(&mut *vm);
        vm.reset_memory(&image).unwrap();
        vm.restore(&state).unwrap();
        assert_eq!(vm.registers().unwrap(), start);
        let after = look(&mut *vm);
        for Part { name, at, len, .. } in parts.iter().chain([&general]) {
            let range = *at as usize..(at + len) as usize;
            let part = |shown: &[u8]| shown[range.clone()].to_vec();
            if *name == SELECTORS && part(&changed) == part(&before) {
                if round == 0 {
                    left_out(name, "this KVM gives ring 3 its own at each entry");
                }
            } else {
                assert_ne!(part(&changed), part(&before), "{name} did not change, round {round}");
            }
            assert_eq!(part(&after), part(&before), "{name}, round {round}");
        }
        assert_eq!(after, before);
    }
}

/// What the program shows of its registers. It goes on where it is.
fn look(vm: &mut dyn Vm) -> Vec<u8> {
    run_to_port(vm);
    vm.memory().slice(DATA..DATA + 0x1000).unwrap().to_vec()
}

/// A register of ring 0, and a value that it does not have and can have.
enum Privileged {
    /// A control register, by its number.
    Control(u8),
    /// A debug register.
    Debug(u8),
    /// A model-specific register.
    Model(u32),
}

const PRIVILEGED: &[(&str, Privileged, u64)] = &[
    ("CR2", Privileged::Control(2), 0x1234_5678_9000),
    ("DR0", Privileged::Debug(0), 0x1_2345_6000),
    ("DR1", Privileged::Debug(1), 0x1_2345_7000),
    ("DR2", Privileged::Debug(2), 0x1_2345_8000),
    ("DR3", Privileged::Debug(3), 0x1_2345_9000),
    ("DR6", Privileged::Debug(6), 0xffff_0ff5),
    ("DR7", Privileged::Debug(7), 0x4aa),
    ("SYSENTER_CS", Privileged::Model(0x174), 0x28),
    ("SYSENTER_ESP", Privileged::Model(0x175), 0x1234_5678_9000),
    ("SYSENTER_EIP", Privileged::Model(0x176), 0x1234_5678_a000),
    ("PAT", Privileged::Model(0x277), 0x0606_0606_0606_0606),
    ("STAR", Privileged::Model(0xc000_0081), 0x0023_0008_1234_5678),
    ("LSTAR", Privileged::Model(0xc000_0082), 0x1234_5678_b000),
    ("CSTAR", Privileged::Model(0xc000_0083), 0x1234_5678_c000),
    ("SFMASK", Privileged::Model(0xc000_0084), 0x101),
    ("FS_BASE", Privileged::Model(0xc000_0100), 0x1234_5678_d000),
    ("GS_BASE", Privileged::Model(0xc000_0101), 0x1234_5678_e000),
    ("KERNEL_GS_BASE", Privileged::Model(0xc000_0102), 0x1234_5678_f000),
    ("TSC_AUX", Privileged::Model(0xc000_0103), 0x1234_5678),
];

impl Privileged {
    /// Integer instructions only, which a hypervisor that emulates ring 0 can do: its value in RAX.
    fn read(&self) -> Vec<u8> {
        match *self {
            Self::Control(n) => vec![0x0f, 0x20, 0xc0 | n << 3],
            Self::Debug(n) => vec![0x0f, 0x21, 0xc0 | n << 3],
            // mov ecx, number; rdmsr; shl rdx, 32; or rax, rdx
            Self::Model(n) => {
                let tail = [0x0f, 0x32, 0x48, 0xc1, 0xe2, 32, 0x48, 0x09, 0xd0];
                [&[0xb9][..], &n.to_le_bytes(), &tail].concat()
            }
        }
    }

    /// Its value from RBX.
    fn write(&self) -> Vec<u8> {
        match *self {
            Self::Control(n) => vec![0x0f, 0x22, 0xc3 | n << 3],
            Self::Debug(n) => vec![0x0f, 0x23, 0xc3 | n << 3],
            // mov ecx, number; mov rax, rbx; mov rdx, rbx; shr rdx, 32; wrmsr
            Self::Model(n) => {
                let tail = [0x48, 0x89, 0xd8, 0x48, 0x89, 0xda, 0x48, 0xc1, 0xea, 32, 0x0f, 0x30];
                [&[0xb9][..], &n.to_le_bytes(), &tail].concat()
            }
        }
    }
}

/// Runs to the next `out`: what is in RAX then. Or what happened instead.
fn rax(vm: &mut dyn Vm) -> Result<u64, String> {
    match vm.run().unwrap() {
        VmExit::PortOut { port: PORT, .. } => Ok(vm.registers().unwrap().rax),
        VmExit::PortOut { port: VECTOR_PORT, data, .. } => Err(format!("exception {data}")),
        exit => Err(format!("{exit:?}")),
    }
}

#[test]
fn all_registers_that_ring_0_can_change_are_put_back() {
    let mut looked_at = 0;
    for (name, register, value) in PRIVILEGED {
        let (read, write) = (register.read(), register.write());
        // Two looks: before the change, and from where a restore goes on; then the change, and a third.
        let code = [&read[..], &OUT, &read, &OUT, &write, &OUT, &read, &OUT].concat();
        let image = MemoryImage::new(&content(&code)).unwrap();
        let mut vm = start_image(Ring::Kernel, &image);
        vm.set_registers(&Registers { rbx: *value, ..registers(Ring::Kernel) }).unwrap();
        let before = match rax(&mut *vm) {
            Ok(before) => before,
            Err(why) => {
                left_out(name, &format!("reading it is {why}"));
                continue;
            }
        };
        assert_ne!(before, *value, "{name}: nothing would change");
        let state = vm.save().unwrap();
        assert_eq!(rax(&mut *vm), Ok(before), "{name}");
        if let Err(why) = rax(&mut *vm) {
            left_out(name, &format!("writing it is {why}"));
            continue;
        }
        match rax(&mut *vm) {
            Ok(changed) if changed == *value => {}
            changed => {
                left_out(name, &format!("{value:#x} written, {changed:#x?} read"));
                continue;
            }
        }
        vm.reset_memory(&image).unwrap();
        vm.restore(&state).unwrap();
        assert_eq!(rax(&mut *vm), Ok(before), "{name} was {before:#x}");
        looked_at += 1;
    }
    assert!(looked_at > PRIVILEGED.len() / 2, "{looked_at} only");
}
