//! Heap that a guest asks for: honestly or not, before and after resets.

use super::forgery::{Header, ROOM, ROOM_SIZE, ask, bytes_of, hypercall, refused};
use super::*;
use crate::guest::GuestImage;
use crate::learned::PageSet;
use sandgrain_abi::Encode;
use sandgrain_abi::layout::mailbox;
use sandgrain_abi::message::{HostReply, Request};

/// Bytes that the heap's second part can have with the default limits.
fn most(guest: &Guest) -> u64 {
    guest.plan.more_heap.end - guest.plan.more_heap.start
}

/// Asks as a guest does. What it has then.
fn grow(guest: &mut Guest, size: u64) -> u64 {
    match ask(guest, &mut Host::default(), &Request::GrowHeap { size }) {
        Ok(HostReply::Heap { size }) => size,
        other => panic!("{size} bytes: {other:?}"),
    }
}

#[test]
fn a_heap_has_its_limit_whatever_is_asked_for() {
    let mut guest = fresh();
    let most = most(&guest);
    for size in [0, most + 1, 1 << 32, 1 << 63, u64::MAX - 4095, u64::MAX] {
        assert_eq!(grow(&mut guest, size), 0, "{size:#x}");
    }
    let first = grow(&mut guest, 1);
    assert!((1..most).contains(&first), "{first:#x}");
    for size in [1, 0, first, most + 1, u64::MAX] {
        assert_eq!(grow(&mut guest, size), first, "{size:#x} after {first:#x}");
    }
    for size in [most, most, 1, most + 1, u64::MAX] {
        assert_eq!(grow(&mut guest, size), most, "{size:#x} after all of it");
    }
    assert_eq!(guest.given[0], guest.plan.more_heap.end);
    next_sandbox_works();
}

#[test]
fn a_heap_of_the_least_size_has_no_second_part() {
    let limits = Limits::default().heap(1 << 20);
    let mut guest = platform().unstarted(&limits, &[sized()]).expect("a guest");
    for size in [1, PAGE_SIZE, u64::MAX] {
        assert_eq!(grow(&mut guest, size), 0);
    }
    next_sandbox_works();
}

#[test]
fn a_guest_that_asks_for_a_little_again_and_again_gets_few_ranges() {
    let mut guest = fresh();
    let most = most(&guest);
    let (mut size, mut ranges) = (0, 0);
    while size < most {
        size = grow(&mut guest, size + 1);
        ranges += 1;
    }
    assert!(ranges <= 6, "{ranges}");
    next_sandbox_works();
}

#[test]
fn messages_lie_in_what_the_heap_has_grown_by() {
    let mut guest = fresh();
    let bytes = bytes_of(&Request::GrowHeap { size: 0 });
    let len = bytes.len() as u64;
    let size = grow(&mut guest, 1);
    let end = layout::MORE_HEAP + size;
    let start = guest.plan.more_heap.start;
    for address in [layout::MORE_HEAP, end - len] {
        for reply in [ROOM, layout::MORE_HEAP, end - 9] {
            let memory = guest.vm.memory_mut();
            memory.write(start + (address - layout::MORE_HEAP), &bytes).expect("the heap");
            let header = Header { address, len, reply, capacity: 9 };
            let none = hypercall(&mut guest, &mut Host::default(), header, &[]).expect("a reply");
            assert_eq!(none, None);
        }
    }
    for (address, len, reply, capacity) in [
        (end - len + 1, len, ROOM, ROOM_SIZE),
        (end, 1, ROOM, ROOM_SIZE),
        (layout::MORE_HEAP - 1, len, ROOM, ROOM_SIZE),
        (layout::MORE_HEAP, len, end, 1),
        (layout::MORE_HEAP, len, end - 1, 2),
        (layout::MORE_HEAP, len, layout::MORE_HEAP - 1, 9),
    ] {
        let header = Header { address, len, reply, capacity };
        refused(&format!("{header:x?}"), hypercall(&mut guest, &mut Host::default(), header, &[]));
    }
    next_sandbox_works();
}

#[test]
fn a_reply_waits_until_there_is_heap_for_it() {
    let (mut guest, mut host) = (fresh(), Host::default());
    let create = bytes_of(&Request::CreateMemory { size: 0, maximum: None });
    let header = Header { capacity: 8, ..Header::honest(create.len() as u64) };
    hypercall(&mut guest, &mut host, header, &create).expect("a reply, later");
    let size = grow(&mut guest, 1);
    let room = layout::MORE_HEAP + size - 64;
    let header = Header { reply: room, capacity: 64, ..Header::honest(0) };
    hypercall(&mut guest, &mut host, header, &[]).expect("the reply");
    let memory = guest.vm.memory();
    let len = memory.read_u64(base_mailbox() + mailbox::REPLY_LEN).expect("the mailbox");
    let start = guest.plan.more_heap.start + size - 64;
    let reply = HostReply::decode_from(memory.slice(start..start + len).expect("the reply"));
    assert!(matches!(reply, Ok(HostReply::Memory { .. })), "{reply:?}");
    refused("once more", hypercall(&mut guest, &mut host, header, &[]));
    next_sandbox_works();
}

fn base_mailbox() -> u64 {
    crate::machine::base::MAILBOX
}

/// What a guest is that runs code of ours and has grown its heap by `size` bytes.
fn image(size: u64) -> (Attacker, GuestImage) {
    let mut attacker = Attacker::new();
    attacker.load(&[]);
    attacker.guest.grow_heap(size).expect("a reply");
    attacker.guest.idle = true;
    let image = Machine::capture(&attacker.guest).expect("an image").expect("of a VM");
    (attacker, image)
}

fn of_image(image: &GuestImage) -> Attacker {
    let new = Guest::from_image(&*platform().hypervisor, image, &PageSet::default());
    Attacker { guest: new.expect("a guest") }
}

fn reset(attacker: &mut Attacker, image: &GuestImage) {
    attacker.guest.idle = true;
    assert!(Machine::reset(&mut attacker.guest, image).expect("a reset"), "it can be reset");
}

#[test]
fn a_reset_takes_grown_heap_away_and_it_can_be_had_again() {
    for before in [0, 1] {
        let (_, image) = image(before);
        let mut attacker = of_image(&image);
        let had = attacker.guest.heap.more();
        let new = layout::MORE_HEAP + had;
        for round in 0..3 {
            let size = grow(&mut attacker.guest, had + 1);
            for address in [layout::MORE_HEAP, new, layout::MORE_HEAP + size - 1] {
                let ending = attacker.run(&attacks::store(address));
                assert_eq!(ending, Ending::Finished, "round {round}: {address:#x}");
            }
            reset(&mut attacker, &image);
            assert_eq!(attacker.guest.heap.more(), had);
            let ending = attacker.run(&attacks::load(new));
            assert!(
                matches!(ending, Ending::Fault { vector: vector::PAGE_FAULT, address, .. } if address == new),
                "round {round}: {ending:?}"
            );
            reset(&mut attacker, &image);
        }
        if had > 0 {
            assert_eq!(attacker.run(&attacks::store(new - 1)), Ending::Finished);
        }
    }
    next_sandbox_works();
}

#[test]
fn what_was_in_heap_that_a_reset_took_away_is_not_in_it_again() {
    let (_, image) = image(0);
    let mut attacker = of_image(&image);
    let phys = attacker.guest.plan.more_heap.start;
    for _ in 0..2 {
        grow(&mut attacker.guest, 1);
        let found = attacker.guest.vm.memory().slice(phys..phys + PAGE_SIZE).expect("memory");
        assert!(found.iter().all(|byte| *byte == 0));
        let page = attacker.guest.vm.memory_mut().slice_mut(phys..phys + PAGE_SIZE);
        page.expect("memory").fill(0x5a);
        reset(&mut attacker, &image);
    }
    next_sandbox_works();
}

#[test]
fn growing_again_after_each_of_many_resets_gives_the_vm_no_new_range() {
    let (_, image) = image(0);
    let mut attacker = of_image(&image);
    let guest = &mut attacker.guest;
    let most = most(guest);
    let mut given = None;
    for round in 0..if is_emulated() { 100 } else { 10_000 } {
        for size in [1, most / 2, most] {
            // A range that KVM has already is an error to it.
            guest.grow_heap(size).expect("a reply");
        }
        assert_eq!(*given.get_or_insert_with(|| guest.given.clone()), guest.given, "{round}");
        guest.idle = true;
        assert!(Machine::reset(guest, &image).expect("a reset"));
    }
    next_sandbox_works();
}

#[test]
fn a_guest_of_an_image_has_the_heap_that_the_image_has() {
    let (mut first, image) = image(5 << 20);
    let size = first.guest.heap.more();
    let mut second = of_image(&image);
    assert_eq!(second.guest.heap.more(), size);
    assert_eq!(second.guest.given[0], second.guest.plan.more_heap.start + size);
    for attacker in [&mut first, &mut second] {
        let last = layout::MORE_HEAP + size - 1;
        assert_eq!(attacker.run(&attacks::store(last)), Ending::Finished);
        assert!(grow(&mut attacker.guest, size + 1) > size);
        assert_eq!(attacker.run(&attacks::store(last + 1)), Ending::Finished);
    }
    next_sandbox_works();
}
