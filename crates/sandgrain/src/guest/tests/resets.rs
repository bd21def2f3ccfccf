//! After a reset everything is as in the image, whatever the guest has done: every byte and every register.

use super::*;
use crate::guest::GuestImage;
use crate::learned::PageSet;
use sandgrain_hypervisor::{GuestMemory, MemoryImage, VcpuState, Vm};
use std::sync::mpsc;
use std::time::Duration;

/// Changes what a module can change: memory, its size, a table, globals, vectors, and ends in a trap or not.
const BUSY: &str = r#"(module
    (memory (export "memory") 2 200)
    (memory $second 1 40)
    (table $t 10 5000 funcref)
    (global $g (mut v128) (v128.const i64x2 0 0))
    (global $f (mut f64) (f64.const 1))
    (data (i32.const 70000) "not all of it is zero")
    (func $self)
    (elem declare func $self)
    (func (export "fill") (param i32 i32 i32)
        (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "second") (param i32 i32 i32)
        (memory.fill $second (local.get 0) (local.get 1) (local.get 2)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "table") (param i32) (result i32)
        (drop (table.grow $t (ref.func $self) (local.get 0)))
        (table.set $t (i32.const 3) (ref.func $self)) (table.size $t))
    (func (export "vectors") (param i32)
        (global.set $g (i8x16.add (global.get $g) (i8x16.splat (local.get 0))))
        (v128.store (i32.const 4096) (global.get $g))
        (global.set $f (f64.sqrt (f64.add (global.get $f) (f64.convert_i32_u (local.get 0))))))
    (func (export "trap") (i32.store (i32.const 8) (i32.const 1)) unreachable))"#;

/// Small, so that all of it can be compared.
fn limits() -> Limits {
    Limits::default().memory(8 << 20).heap(4 << 20).stack(64 << 10).extra_code(0)
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % u64::from(bound)) as u32
    }
}

/// Every byte of the memory is the image's, and every register the state's.
#[track_caller]
fn compare(what: &str, vm: &dyn Vm, image: &MemoryImage, state: &VcpuState) {
    let expected = GuestMemory::with_image(image, vm.memory().len()).expect("a copy");
    let all = 0..expected.len() as u64;
    let (found, expected) = (vm.memory().slice(all.clone()), expected.slice(all));
    let (found, expected) = (found.expect("memory"), expected.expect("memory"));
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or_default();
        panic!("{what}: byte {at:#x} is {}, not {}", found[at], expected[at]);
    }
    let (found, expected) = (vm.save().expect("a state").to_bytes(), state.to_bytes());
    let differ = |n: &usize| found.get(*n) != expected.get(*n);
    let bytes: Vec<usize> = (0..found.len().max(expected.len())).filter(differ).collect();
    assert!(bytes.is_empty(), "{what}: registers differ, in bytes {bytes:?} of the saved state");
}

/// What a guest with the busy module is, and how it is made.
pub(super) fn busy() -> (Module, GuestImage) {
    let module = Module::new(engine(), BUSY.as_bytes()).expect("a module");
    let code = module.artifact().expect("compiled for the VM").code().len() as u64;
    let mut guest = platform().guest(&limits(), &[(module.info(), code)]).expect("a guest");
    let (address, len) = Machine::load(&mut guest, &module).expect("room for the module");
    let command = Command::Instantiate { address, len, imports: Vec::new() };
    assert_eq!(execute(&mut guest, &command).expect("an instance"), Outcome::Instantiated(0));
    let image = Machine::capture(&guest).expect("an image").expect("of a VM");
    (module, image)
}

#[test]
fn whatever_a_module_does_is_undone() {
    let (_module, image) = busy();
    let mut random = Random(0x5a6e_d9a1_0000_0011);
    let new = || {
        Guest::from_image(&*platform().hypervisor, &image, &PageSet::default()).expect("a guest")
    };
    let (mut guest, mut resets) = (new(), 0);
    let rounds = if is_emulated() { 40 } else { 200 };
    for round in 0..rounds {
        for _ in 0..=random.below(8) {
            let int = |value: u32| Value::I32(value.cast_signed());
            let (export, args) = match random.below(7) {
                0 => ("fill", vec![random.below(140_000), random.below(256), random.below(9000)]),
                1 => ("second", vec![random.below(70_000), random.below(256), random.below(9000)]),
                2 => ("grow", vec![random.below(4)]),
                // Seldom as much as needs page tables that were not there.
                3 if random.below(8) == 0 => ("grow", vec![random.below(120)]),
                3 => ("table", vec![random.below(60)]),
                4 | 5 => ("vectors", vec![random.below(1000)]),
                _ => ("trap", vec![]),
            };
            let args = args.into_iter().map(int).collect();
            let command = Command::Call { instance: 0, export: export.to_owned(), args };
            match execute(&mut guest, &command).expect("an outcome") {
                Outcome::Returned(_) | Outcome::Trapped(_) => {}
                other => panic!("{command:?} ended with {other:?}"),
            }
        }
        if Machine::reset(&mut guest, &image).expect("a reset") {
            compare(&format!("round {round}"), &*guest.vm, &image.memory, &image.vcpu);
            resets += 1;
        } else {
            guest = new();
        }
    }
    assert!(resets > rounds / 2, "{resets} of {rounds} could be reset");
    next_sandbox_works();
}

#[test]
fn page_tables_that_have_grown_are_as_they_were() {
    let (_module, image) = busy();
    let mut guest =
        Guest::from_image(&*platform().hypervisor, &image, &PageSet::default()).expect("a guest");
    // Within the first large page, whose page table is there; the entries are what changes.
    for pages in [1, 20, 29] {
        call(&mut guest, "grow", vec![Value::I32(pages)]);
        let at = (2 << 16) + (pages << 16) - 100;
        call(&mut guest, "fill", vec![Value::I32(at), Value::I32(7), Value::I32(100)]);
        assert!(Machine::reset(&mut guest, &image).expect("a reset"), "{pages} pages");
        compare(&format!("{pages} pages"), &*guest.vm, &image.memory, &image.vcpu);
        let export = "fill".to_owned();
        let args = vec![Value::I32(at), Value::I32(7), Value::I32(100)];
        let outcome = execute(&mut guest, &Command::Call { instance: 0, export, args });
        assert!(matches!(outcome, Ok(Outcome::Trapped(_))), "beyond the memory: {outcome:?}");
        assert!(Machine::reset(&mut guest, &image).expect("a reset"), "{pages} pages");
    }
    call(&mut guest, "grow", vec![Value::I32(100)]);
    assert!(!Machine::reset(&mut guest, &image).expect("an answer"), "there are more page tables");
}

#[test]
fn whatever_code_runs_in_ring_3_is_undone() {
    let mut random = Random(0x5a6e_d9a1_0000_0012);
    let new = || {
        let mut attacker = Attacker::new();
        attacker.load(&[]);
        let image = attacker.guest.vm.memory().capture(&[]).expect("an image");
        let state = attacker.guest.vm.save().expect("a state");
        let vm = &mut attacker.guest.vm;
        vm.reset_memory(&image).expect("a reset");
        vm.restore(&state).expect("a reset");
        (attacker, image, state)
    };
    let (mut attacker, mut image, mut state) = new();
    let rounds = if is_emulated() { 20 } else { 150 };
    for round in 0..rounds {
        // Stores of random registers over all that ring 3 may write, some selectors, then random bytes.
        let mut code = Vec::new();
        for _ in 0..20 {
            let place = match random.below(4) {
                0 => layout::HEAP + u64::from(random.below(1 << 20)),
                1 => layout::MAILBOX + u64::from(random.below(0xfff0)),
                2 => STACK - 8 - u64::from(random.below(1 << 16)),
                _ => layout::MEMORIES + layout::MEMORY_OFFSET + u64::from(random.below(0xfff0)),
            };
            code.extend([0x48, 0xb8]); // mov rax, place
            code.extend(place.to_le_bytes());
            code.extend([0x48 | (random.below(2) as u8) << 2, 0x89, (random.below(8) as u8) << 3]);
            code.extend([0x48, 0x0f, 0x6e, 0xc0 | (random.below(8) as u8) << 3]); // movq mm, rax
        }
        code.extend((0..200).map(|_| random.below(256) as u8));
        attacker.place(&code);
        let stop = attacker.guest.interrupter();
        let (done, wait) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(Duration::from_millis(200)).is_err() {
                stop.interrupt();
            }
        });
        let exit = attacker.guest.vm.run().expect("a run");
        // The thread may have ended already.
        let _ = done.send(());
        thread.join().expect("no panic");
        attacker.guest.interrupter().clear();
        if exit.is_final() {
            (attacker, image, state) = new();
            continue;
        }
        attacker.guest.vm.reset_memory(&image).expect("a reset");
        attacker.guest.vm.restore(&state).expect("a reset");
        compare(&format!("round {round}, {exit:?}"), &*attacker.guest.vm, &image, &state);
    }
    next_sandbox_works();
}
