//! What the guest and the host see of memory.

use sandgrain_hypervisor::{Error, GuestMemory, MemoryImage, PAGE_SIZE, VcpuState, Vm, VmExit};

use crate::machine::*;

#[test]
fn host_and_guest_see_each_others_writes() {
    // mov eax, [DATA]; inc eax; mov [DATA + 8], eax; out
    let code = [load(DATA), vec![0xff, 0xc0], store(DATA + 8), OUT.to_vec()].concat();
    let mut vm = start(Ring::User, &code);
    vm.memory_mut().write_u32(DATA, 41).unwrap();
    assert_eq!(run_to_port(&mut *vm), 42);
    assert_eq!(vm.memory().read_u32(DATA + 8).unwrap(), 42);
}

#[test]
fn vms_of_one_image_do_not_see_each_other() {
    let code = [&[0xff, 0xc0][..], &store(DATA), &OUT].concat();
    let bytes = content(&code);
    let image = MemoryImage::new(&bytes).unwrap();
    let mut first = start_image(Ring::User, &image);
    let second = start_image(Ring::User, &image);
    run_to_port(&mut *first);
    assert_eq!(first.memory().read_u32(DATA).unwrap(), 1);
    assert_eq!(second.memory().read_u32(DATA).unwrap(), 0);
    let third = GuestMemory::with_image(&image, MEMORY).unwrap();
    assert!(third.slice(0..bytes.len() as u64).unwrap() == bytes, "the image has changed");
}

#[test]
fn a_vm_outlives_its_image() {
    let image = MemoryImage::new(&content(&[&[0xb0, 5][..], &OUT].concat())).unwrap();
    let mut vm = start_image(Ring::User, &image);
    drop(image);
    assert_eq!(run_to_port(&mut *vm), 5);
}

#[test]
fn reset_is_seen_by_the_guest() {
    // mov eax, [DATA]; inc eax; mov [DATA], eax; out; and back to the start
    let code = [load(DATA), vec![0xff, 0xc0], store(DATA), OUT.to_vec()].concat();
    let code = [&code[..], &[0xeb, (-(code.len() as i8) - 2) as u8]].concat();
    let image = MemoryImage::new(&content(&code)).unwrap();
    let mut vm = start_image(Ring::User, &image);
    for _ in 0..3 {
        assert_eq!(run_to_port(&mut *vm), 1);
        assert_eq!(run_to_port(&mut *vm), 2);
        // Beyond the image too.
        let beyond = image.len() as u64 + 0x2000;
        vm.memory_mut().write_u64(beyond, 7).unwrap();
        vm.reset_memory(&image).unwrap();
        assert_eq!(vm.memory().read_u64(beyond).unwrap(), 0);
        assert_eq!(vm.memory().read_u32(DATA).unwrap(), 0);
    }
}

#[test]
fn bytes_that_are_no_state_are_refused() {
    let vm = start(Ring::User, &OUT);
    let bytes = vm.save().unwrap().to_bytes();
    let state = |bytes: &[u8]| VcpuState::from_bytes(hypervisor().kind(), bytes);
    for len in (0..bytes.len()).step_by(97) {
        assert!(matches!(state(&bytes[..len]), Err(Error::Rejected { .. })), "{len}");
    }
    assert!(state(&[&bytes[..], &[0]].concat()).is_err());
    assert!(state(&[&[99], &bytes[1..]].concat()).is_err());
}

/// Maps a page for the guest and takes it away again, three times; `touch` writes to it or not.
fn grow_and_reset(touch: impl Fn(&mut dyn Vm)) {
    // The host maps a page for the guest, as it does when a linear memory grows.
    let code = [load(UNMAPPED), OUT.to_vec()].concat();
    let image = MemoryImage::new(&content(&code)).unwrap();
    let mut vm = start_image(Ring::User, &image);
    let start = vm.save().unwrap();
    for _ in 0..3 {
        let entry = PAGE_TABLE + (UNMAPPED >> 12) * 8;
        vm.memory_mut().write_u64(entry, UNMAPPED | USER_PAGE | WRITABLE | NO_EXECUTE).unwrap();
        touch(&mut *vm);

        vm.memory_mut().discard(UNMAPPED..UNMAPPED + PAGE_SIZE as u64).unwrap();
        vm.reset_memory(&image).unwrap();
        vm.restore(&start).unwrap();
        assert_eq!(run_to_exception(&mut *vm), (14, 0x4));
        vm.reset_memory(&image).unwrap();
        vm.restore(&start).unwrap();
    }
}

#[test]
fn reset_takes_grown_memory_away() {
    grow_and_reset(|vm| {
        vm.memory_mut().write_u32(UNMAPPED, 0x77).unwrap();
        assert_eq!(run_to_port(vm), 0x77);
    });
}

#[test]
fn reset_takes_grown_memory_away_that_was_only_read() {
    grow_and_reset(|vm| assert_eq!(run_to_port(vm), 0));
}

#[test]
fn another_image_takes_the_place_of_the_first() {
    let code = |value: u8| [&[0xb0, value][..], &OUT].concat();
    let images = [5, 6].map(|value| MemoryImage::new(&content(&code(value))).unwrap());
    let mut vm = start_image(Ring::User, &images[0]);
    let start = vm.save().unwrap();
    for (image, value) in [(0, 5), (1, 6), (1, 6), (0, 5), (1, 6)] {
        vm.reset_memory(&images[image]).unwrap();
        vm.restore(&start).unwrap();
        assert_eq!(run_to_port(&mut *vm), value);
    }
}

#[test]
fn a_vm_goes_on_where_another_was_captured() {
    // mov eax, [DATA]; inc eax; mov [DATA], eax; out; and back to the start
    let code = [load(DATA), vec![0xff, 0xc0], store(DATA), OUT.to_vec()].concat();
    let code = [&code[..], &[0xeb, (-(code.len() as i8) - 2) as u8]].concat();
    let mut vm = start_image(Ring::User, &MemoryImage::new(&content(&code)).unwrap());
    assert_eq!((run_to_port(&mut *vm), run_to_port(&mut *vm)), (1, 2));
    let (state, image) = (vm.save().unwrap(), vm.memory().capture(&[]).unwrap());
    let bytes = state.to_bytes();
    let from_bytes = VcpuState::from_bytes(hypervisor().kind(), &bytes).unwrap();
    assert_eq!(from_bytes.to_bytes(), bytes);
    for state in [state, from_bytes] {
        let memory = GuestMemory::with_image(&image, MEMORY).unwrap();
        let mut other = hypervisor().create_vm(memory).unwrap();
        other.restore(&state).unwrap();
        for value in 3..6 {
            assert_eq!(run_to_port(&mut *other), value);
        }
        other.reset_memory(&image).unwrap();
        other.restore(&state).unwrap();
        assert_eq!(run_to_port(&mut *other), 3);
    }
    assert_eq!(run_to_port(&mut *vm), 3);
}

#[test]
fn a_guest_has_what_it_is_given_and_no_more() {
    // mov eax, [UNMAPPED], which the page tables map to a place beyond the guest's first part.
    let far = 0x14_0000;
    let mut bytes = content(&[load(UNMAPPED), OUT.to_vec()].concat());
    let entry = (far | USER_PAGE | WRITABLE | NO_EXECUTE).to_le_bytes();
    bytes[(PAGE_TABLE + (UNMAPPED >> 12) * 8) as usize..][..8].copy_from_slice(&entry);
    let image = MemoryImage::new(&bytes).unwrap();
    let make = || {
        let memory = GuestMemory::with_image(&image, MEMORY).unwrap();
        start_memory(Ring::User, memory.with_reach(image.len() as u64).unwrap())
    };
    let mut vm = make();
    assert!(matches!(vm.run(), Ok(VmExit::Mmio { addr, write: false, .. }) if addr == far));
    // The host has all of it.
    assert_eq!(vm.memory().read_u32(far).unwrap(), 0);
    assert!(vm.extend(far..far + 1).is_err(), "it is finished");

    let mut vm = make();
    vm.memory_mut().write_u32(far, 0x34).unwrap();
    vm.extend(far..far + 1).unwrap();
    assert_eq!(run_to_port(&mut *vm), 0x34);
    for again in [far..far + 1, 0..8, far - 0x1000..far + 0x1000] {
        assert!(matches!(vm.extend(again), Err(Error::Rejected { .. })));
    }
    let end = vm.memory().len() as u64;
    assert!(matches!(vm.extend(end..end + 1), Err(Error::OutOfBounds { .. })));
    vm.extend(far + 0x1000..end).unwrap();
    vm.extend(end..end).unwrap();
}

#[test]
fn written_pages_are_counted() {
    let code = [store(DATA), OUT.to_vec()].concat();
    let mut vm = start(Ring::User, &code);
    let before = vm.memory().resident_pages().unwrap();
    run_to_port(&mut *vm);
    let after = vm.memory().resident_pages().unwrap();
    // The data page, and what the CPU writes itself: marks in page tables and descriptors.
    assert!(after > before && after <= before + 8, "{before} {after}");
}

#[test]
fn ranges_are_checked() {
    let mut memory = GuestMemory::new(PAGE_SIZE + 1).unwrap();
    let len = memory.len() as u64;
    assert_eq!(len, 2 * PAGE_SIZE as u64);
    assert_eq!(memory.slice(0..len).unwrap().len(), memory.len());
    assert!(memory.slice(len..len).unwrap().is_empty());
    assert!(memory.read(len, &mut []).is_ok());
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = 8..4;
    for range in
        [0..len + 1, len..len + 1, len + 1..len + 1, backwards, 0..u64::MAX, u64::MAX..u64::MAX]
    {
        let error = memory.slice(range.clone()).unwrap_err();
        assert!(matches!(error, Error::OutOfBounds { .. }), "{error}");
        assert!(memory.slice_mut(range).is_err());
    }
    for addr in [len - 7, len, u64::MAX - 7, u64::MAX - 3, u64::MAX] {
        assert!(matches!(memory.read_u64(addr), Err(Error::OutOfBounds { .. })));
        assert!(matches!(memory.write_u64(addr, 1), Err(Error::OutOfBounds { .. })));
    }
    memory.write_u32(len - 4, 0xdead_beef).unwrap();
    assert_eq!(memory.read_u64(len - 8).unwrap(), 0xdead_beef << 32);
}

#[test]
fn an_image_must_fit() {
    let image = MemoryImage::new(&[1; 2 * PAGE_SIZE]).unwrap();
    let error = GuestMemory::with_image(&image, PAGE_SIZE).unwrap_err();
    assert!(matches!(error, Error::OutOfBounds { .. }), "{error}");
    let mut vm = hypervisor().create_vm(GuestMemory::new(PAGE_SIZE).unwrap()).unwrap();
    assert!(matches!(vm.reset_memory(&image), Err(Error::OutOfBounds { .. })));
}

#[test]
fn sizes_at_both_ends() {
    assert_eq!(GuestMemory::new(0).unwrap().len(), PAGE_SIZE);
    let empty = MemoryImage::new(&[]).unwrap();
    assert_eq!(GuestMemory::with_image(&empty, 1).unwrap().read_u64(0).unwrap(), 0);
    for len in [usize::MAX, usize::MAX - PAGE_SIZE, isize::MAX as usize, 1 << 60] {
        assert!(matches!(GuestMemory::new(len), Err(Error::OutOfMemory { .. })));
    }
    // Address space is not memory.
    assert_eq!(GuestMemory::new(64 << 30).unwrap().resident_pages().unwrap(), 0);
}
