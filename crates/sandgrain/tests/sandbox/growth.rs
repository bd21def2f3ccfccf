//! Linear memories that grow, and large ones.

use crate::support::{limited, on_both, vm};
use sandgrain::Limits;

#[test]
fn growth_keeps_every_page_and_adds_zeroed_ones() {
    on_both(|engine| {
        let wat = r#"(module (memory (export "memory") 1)
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
            ;; Writes its number into each 4096 bytes, and checks that there were zeros.
            (func (export "mark") (param $from i32) (param $to i32) (result i32) (local $bad i32)
                (loop
                    (if (i32.lt_u (local.get $from) (local.get $to)) (then
                        (local.set $bad (i32.or (local.get $bad)
                            (i32.load (i32.mul (local.get $from) (i32.const 4096)))))
                        (i32.store (i32.mul (local.get $from) (i32.const 4096))
                            (i32.add (local.get $from) (i32.const 1)))
                        (local.set $from (i32.add (local.get $from) (i32.const 1)))
                        (br 1))))
                (local.get $bad)))"#;
        let mut sandbox = limited(engine, Limits::default(), wat).expect("a sandbox");
        let main = sandbox.main();
        assert_eq!(sandbox.call::<_, u32>("mark", (0_u32, 16_u32)).expect("a call"), 0);
        let mut pages = 1_u32;
        // Up to the end of a large page, across it, over several, and on.
        for more in [1, 29, 1, 1, 63, 33, 200, 7] {
            assert_eq!(sandbox.call::<_, u32>("grow", more).expect("a call"), pages);
            let (from, to) = (pages * 16, (pages + more) * 16);
            assert_eq!(sandbox.call::<_, u32>("mark", (from, to)).expect("a call"), 0);
            pages += more;
            let size = u64::from(pages) << 16;
            let bytes = sandbox.read_memory(main, "memory", 0..size).expect("memory");
            for (page, bytes) in bytes.chunks(4096).enumerate() {
                let (number, rest) = bytes.split_at(4);
                assert_eq!(number, (page as u32 + 1).to_le_bytes(), "page {page} of {pages}");
                assert!(rest.iter().all(|byte| *byte == 0), "page {page} of {pages}");
            }
            assert!(sandbox.read_memory(main, "memory", 0..size + 1).is_err());
        }
    });
}

const EDGES: &str = r#"(module (memory 1)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#;

#[test]
fn a_memory_can_have_all_4_gib() {
    on_both(|engine| {
        let limits = Limits::default().memory(4 << 30);
        let mut sandbox = limited(engine, limits, EDGES).expect("a sandbox");
        assert_eq!(sandbox.call::<_, i32>("grow", 65_535).expect("a call"), 1);
        for address in [0_u32, 1 << 30, 1 << 31, 3 << 30, u32::MAX - 65_536, u32::MAX] {
            sandbox.call::<_, ()>("store", (address, address >> 24)).expect("a call");
            let got = sandbox.call::<_, u32>("load", address).expect("a call");
            assert_eq!(got, address >> 24, "{address:#x}");
        }
        assert_eq!(sandbox.call::<_, i32>("grow", 1).expect("a call"), -1);
    });
}

#[test]
fn what_lies_behind_a_memory_traps_at_every_size() {
    let mut sandbox = limited(vm(), Limits::default(), EDGES).expect("a sandbox");
    let mut size = 1_u32;
    for more in [0, 1, 30, 1, 100] {
        assert_eq!(sandbox.call::<_, u32>("grow", more).expect("a call"), size);
        size += more;
        let end = size << 16;
        sandbox.call::<_, u32>("load", end - 1).expect("the last byte");
        for address in [end, end + 4095, end + 65_536, end + (2 << 20), u32::MAX] {
            crate::support::trap_of(sandbox.call::<_, u32>("load", address));
        }
    }
}
