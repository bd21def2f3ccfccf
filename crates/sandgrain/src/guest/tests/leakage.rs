//! What one guest leaves behind, the next one must not find: neither a new one, nor the one that its VM
//! becomes by a reset to what it was before.

use super::*;
use crate::machine::plan::FIRST_HEAP;

/// Nothing that any program of ours contains.
const PATTERN: u64 = 0x0000_5a6e_d9a1_c3f7;
/// Where the next guest puts what it finds in its registers.
const FOUND: u64 = layout::MAILBOX + 0x4000;
const FOUND_SIZE: usize = 0x1000;

/// `instruction [FOUND + offset], register`: `wide` has a REX prefix's place for the registers from 8 on.
fn address_of(offset: u32) -> [u8; 4] {
    (FOUND as u32 + offset).to_le_bytes()
}

/// Fills `len` bytes from `start` on: `mov rdi, start; mov ecx, len / 8; rep stosq`.
fn fill(start: u64, len: u64) -> Vec<u8> {
    [
        &[0x48, 0xb8][..],
        &PATTERN.to_le_bytes(),
        &[0x48, 0xbf],
        &start.to_le_bytes(),
        &[0xb9],
        &((len / 8) as u32).to_le_bytes(),
        &[0xf3, 0x48, 0xab],
    ]
    .concat()
}

/// Fills registers that every CPU has: x87 with its control word, SSE with MXCSR, all general ones.
fn fill_registers() -> Vec<u8> {
    let mut code = [&[0x48, 0xb8][..], &PATTERN.to_le_bytes()].concat();
    for n in 0..8_u8 {
        code.extend([0x48, 0x0f, 0x6e, 0xc0 | n << 3]); // movq mm, rax
    }
    for n in 0..16_u8 {
        let high = (n >> 3) << 2;
        // movq xmm, rax; punpcklqdq xmm, xmm
        code.extend([0x66, 0x48 | high, 0x0f, 0x6e, 0xc0 | (n & 7) << 3]);
        code.extend([0x66, 0x40 | high | high >> 2, 0x0f, 0x6c, 0xc0 | (n & 7) << 3 | n & 7]);
    }
    // mov dword ptr [rsp], 0x9fc0; ldmxcsr [rsp]; mov word ptr [rsp], 0x0f7f; fldcw [rsp]
    code.extend([0xc7, 0x04, 0x24, 0xc0, 0x9f, 0, 0, 0x0f, 0xae, 0x14, 0x24]);
    code.extend([0x66, 0xc7, 0x04, 0x24, 0x7f, 0x0f, 0xd9, 0x2c, 0x24]);
    for n in (1..16_u8).filter(|n| *n != 4) {
        code.extend([0x48 | n >> 3, 0x89, 0xc0 | n & 7]); // mov register, rax
    }
    code
}

/// Fills the upper halves of the YMM registers. Only where AVX works.
fn fill_upper_halves() -> Vec<u8> {
    // vinsertf128 ymm, ymm, xmm, 1
    (0..16_u8)
        .flat_map(|n| {
            let (r, b) = (0x80 * u8::from(n < 8), 0x20 * u8::from(n < 8));
            [0xc4, r | 0x40 | b | 3, (!n & 15) << 3 | 5, 0x18, 0xc0 | (n & 7) << 3 | n & 7, 1]
        })
        .collect()
}

/// `wrfsbase rax; wrgsbase rax`. Only where ring 3 may.
const FILL_BASES: [u8; 10] = [0xf3, 0x48, 0x0f, 0xae, 0xd0, 0xf3, 0x48, 0x0f, 0xae, 0xd8];

/// `mov eax, 3; mov segment, eax`: a null selector, into DS, ES, FS and GS.
const CLEAR_SELECTORS: [u8; 13] =
    [0xb8, 3, 0, 0, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe0, 0x8e, 0xe8];

/// Has a guest fill all memory that it can reach.
fn spoil_memory(attacker: &mut Attacker) {
    attacker.guest.grow_heap(1).expect("a reply");
    for (start, len) in [
        (layout::HEAP, FIRST_HEAP),
        (layout::MORE_HEAP, attacker.guest.heap.more()),
        (layout::MEMORIES + layout::MEMORY_OFFSET, 0x1_0000),
        (layout::MAILBOX + layout::MAILBOX_HEADER, layout::MAILBOX_SIZE - layout::MAILBOX_HEADER),
        (layout::STACK_TOP - Limits::default().stack, Limits::default().stack),
        (layout::TRAP_STACK_TOP - layout::TRAP_STACK_SIZE, layout::TRAP_STACK_SIZE),
    ] {
        assert_eq!(attacker.run(&fill(start, len)), Ending::Finished, "{start:#x}");
    }
    let heap = attacker.guest.plan.heap.start;
    assert_eq!(attacker.guest.vm.memory().read_u64(heap + 4096).expect("memory"), PATTERN);
}

/// Has a guest fill all registers that it can reach. Which of the optional steps worked: AVX, and the
/// bases of FS and GS.
fn spoil_registers(attacker: &mut Attacker) -> [bool; 2] {
    assert_eq!(attacker.run(&fill_registers()), Ending::Finished);
    let worked = [fill_upper_halves(), FILL_BASES.to_vec()].map(|code| {
        let code = [fill_registers(), code].concat();
        match attacker.run(&code) {
            Ending::Finished => true,
            Ending::Fault { vector: vector::INVALID_OPCODE, .. } => false,
            ending => panic!("{ending:?}"),
        }
    });
    // All of it once more, since the trap entry may have run in between.
    let last = [
        CLEAR_SELECTORS.to_vec(),
        fill_registers(),
        if worked[0] { fill_upper_halves() } else { Vec::new() },
        if worked[1] { FILL_BASES.to_vec() } else { Vec::new() },
    ];
    assert_eq!(attacker.run(&last.concat()), Ending::Finished);
    let registers = attacker.guest.vm.registers().expect("registers");
    assert_eq!([registers.rax, registers.rbx, registers.r15], [PATTERN; 3], "it is hostile");
    worked
}

/// A guest before its first instruction.
fn untouched() -> Attacker {
    let mut attacker = Attacker::new();
    attacker.load(&[]);
    attacker
}

/// Guests after ones that `spoil` has had its way with: one that is new, and spoiled ones after a reset to
/// what they were before their first instruction. And what `spoil` has said.
fn next_guests<T>(spoil: impl Fn(&mut Attacker) -> T) -> ([(&'static str, Attacker); 3], T) {
    let mut reset = untouched();
    let image = reset.guest.vm.memory().capture(&[]).expect("an image");
    let state = reset.guest.vm.save().expect("a state");
    let put_back = |attacker: &mut Attacker| {
        attacker.guest.vm.reset_memory(&image).expect("the memory");
        attacker.guest.vm.restore(&state).expect("the registers");
    };
    let said = spoil(&mut reset);
    put_back(&mut reset);
    // The second time memory is copied back, not mapped afresh, and registers go in with KVM_RUN.
    let mut again = untouched();
    put_back(&mut again);
    spoil(&mut again);
    put_back(&mut again);
    // Several, so that what a new one gets has been used before.
    for _ in 0..3 {
        spoil(&mut Attacker::new());
    }
    ([("new", untouched()), ("reset", reset), ("reset again", again)], said)
}

/// What a guest finds in its registers with this code, which stores them from [`FOUND`] on.
fn find(attacker: &mut Attacker, code: &[u8]) -> Vec<u8> {
    attacker.place(&[code, &OUT].concat());
    assert_eq!(attacker.go(), Ending::Finished);
    let start = base_mailbox() + FOUND - layout::MAILBOX;
    let memory = attacker.guest.vm.memory();
    memory.slice(start..start + FOUND_SIZE as u64).expect("memory").to_vec()
}

fn base_mailbox() -> u64 {
    crate::machine::base::MAILBOX
}

/// Places of the pattern, or of either half of it.
fn places(bytes: &[u8]) -> Vec<usize> {
    let halves = [PATTERN as u32, (PATTERN >> 8) as u32].map(u32::to_le_bytes);
    let words = bytes.chunks_exact(4).enumerate();
    words.filter(|(_, word)| halves.iter().any(|half| half == word)).map(|(n, _)| 4 * n).collect()
}

#[test]
fn the_general_registers_of_the_next_guest_are_zero() {
    // mov [FOUND + 8 * n], register; pushfq; pop [FOUND + 128]
    let mut code = Vec::new();
    for n in 0..16_u8 {
        code.extend([0x48 | (n >> 3) << 2, 0x89, (n & 7) << 3 | 4, 0x25]);
        code.extend(address_of(8 * u32::from(n)));
    }
    code.extend([&[0x9c, 0x8f, 0x04, 0x25][..], &address_of(128)].concat());
    for (which, mut guest) in next_guests(spoil_registers).0 {
        let found = find(&mut guest, &code);
        let word = |n: usize| u64::from_le_bytes(found[8 * n..][..8].try_into().expect("8 bytes"));
        for n in (0..16).filter(|n| *n != 4) {
            assert_eq!(word(n), 0, "{which}: register {n}");
        }
        assert_eq!(word(4), STACK, "{which}");
        assert_eq!(word(16) & 0xcd5, 0, "{which}: arithmetic and direction: {:#x}", word(16));
    }
    next_sandbox_works();
}

#[test]
fn the_floating_point_registers_of_the_next_guest_are_as_after_power_on() {
    for (which, mut guest) in next_guests(spoil_registers).0 {
        // fxsave64 [FOUND]
        let save = [&[0x48, 0x0f, 0xae, 0x04, 0x25][..], &address_of(0)].concat();
        let found = find(&mut guest, &save);
        assert_eq!(found[..4], [0x7f, 3, 0, 0], "{which}: control and status word");
        assert_eq!(found[24..28], 0x1f80_u32.to_le_bytes(), "{which}: MXCSR");
        assert_eq!(places(&found), [0; 0], "{which}");
        let registers = &found[32..416];
        assert!(registers.iter().all(|byte| *byte == 0), "{which}: ST, XMM: {found:x?}");
    }
    next_sandbox_works();
}

#[test]
fn the_upper_halves_of_vector_registers_of_the_next_guest_are_zero() {
    let (guests, [avx, _]) = next_guests(spoil_registers);
    // vmovups [FOUND + 32 * n], ymm
    let store = |n: u8| {
        let r = 0x80 * u8::from(n < 8);
        let start = [0xc5, r | 0x7c, 0x11, (n & 7) << 3 | 4, 0x25];
        [&start[..], &address_of(32 * u32::from(n))].concat()
    };
    let store: Vec<u8> = (0..16).flat_map(store).collect();
    for (which, mut guest) in guests {
        if !avx {
            // Nothing to survive: that AVX is off is the answer here.
            assert!(matches!(guest.run(&fill_upper_halves()), Ending::Fault { .. }), "{which}");
            continue;
        }
        let found = find(&mut guest, &store);
        assert!(found[..512].iter().all(|byte| *byte == 0), "{which}: {:x?}", &found[..512]);
    }
    next_sandbox_works();
}

#[test]
fn the_segments_of_the_next_guest_are_flat() {
    // The selectors of ES, CS, SS, DS, FS and GS: mov [FOUND + 24 + 2 * n], segment
    let selector =
        |n: u8| [&[0x8c, n << 3 | 4, 0x25][..], &address_of(24 + 2 * u32::from(n))].concat();
    let mut code: Vec<u8> = (0..6).flat_map(selector).collect();
    // A mark at FOUND, read through FS and GS; then stored.
    code.extend([0xb8, 0x4d, 0x41, 0x52, 0x4b]);
    code.extend([&[0x89, 0x04, 0x25][..], &address_of(0)].concat());
    for (prefix, at) in [(0x64, 8), (0x65, 16)] {
        code.extend([&[prefix, 0x8b, 0x04, 0x25][..], &address_of(0)].concat());
        code.extend([&[0x89, 0x04, 0x25][..], &address_of(at)].concat());
    }
    let mut selectors = Vec::new();
    for (which, mut guest) in next_guests(spoil_registers).0 {
        let found = find(&mut guest, &code);
        assert_eq!([&found[8..12], &found[16..20]], [b"MARK"; 2], "{which}: bases");
        selectors.push(found[24..36].to_vec());
    }
    assert_eq!(selectors[0], selectors[1], "a reset guest has those of a new one");
    next_sandbox_works();
}

#[test]
fn no_byte_of_memory_reaches_the_next_guest() {
    let (guests, ()) = next_guests(spoil_memory);
    let started = [("started", Attacker { guest: started() })];
    let mut after: Vec<(&str, Attacker)> = started.into_iter().chain(guests).collect();
    for (which, attacker) in &after {
        let memory = attacker.guest.vm.memory();
        let all = memory.slice(0..memory.len() as u64).expect("all of it");
        assert_eq!(places(all), [0; 0], "{which}");
    }
    // And as ring 3 sees it: the heap's first part, as words that are not zero.
    // mov rdi, HEAP; mov ecx, FIRST_HEAP / 8; xor eax, eax; repe scasq; mov [FOUND], rcx
    let words = ((FIRST_HEAP / 8) as u32).to_le_bytes();
    let code = [
        &[0x48, 0xbf][..],
        &layout::HEAP.to_le_bytes(),
        &[0xb9],
        &words,
        &[0x31, 0xc0, 0xf3, 0x48, 0xaf, 0x75, 0x02, 0xeb, 0x06], // jne next; jmp over `mov ecx`
        &[0x48, 0xff, 0xc1, 0x90, 0x90, 0x90],                   // inc rcx: not all are zero
        &[0x48, 0x89, 0x0c, 0x25],
        &address_of(0),
    ];
    for (which, attacker) in &mut after[1..] {
        let left = &find(attacker, &code.concat())[..8];
        assert_eq!(left, [0; 8], "{which}: words of the heap left to look at");
    }
    next_sandbox_works();
}

#[test]
fn a_search_for_the_pattern_finds_it_where_it_is() {
    // Otherwise the tests above could pass for the wrong reason.
    let mut attacker = Attacker::new();
    assert_eq!(attacker.run(&fill(layout::HEAP, 4096)), Ending::Finished);
    let heap = attacker.guest.plan.heap.start;
    let page = attacker.guest.vm.memory().slice(heap..heap + 4096).expect("memory");
    assert!(places(page).len() >= 512);
}
