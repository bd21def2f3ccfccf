//! VMs of a confined process.

use std::{
    fs::{self, File},
    thread,
    time::Duration,
};

use sandgrain_hypervisor::{
    Confinement, Error, GuestMemory, LARGE_PAGE, MemoryImage, PAGE_SIZE, Place, VmExit,
};

use crate::{
    machine::*,
    process::{PLAIN, confined},
};

/// A program that reports, with an image of it made before the process is confined.
fn reporting_image() -> MemoryImage {
    hypervisor();
    // mov al, 3; out; jmp back
    MemoryImage::new(&content(&[0xb0, 3, 0xe6, PORT as u8, 0xeb, 0xfa])).unwrap()
}

#[test]
fn creates_runs_and_drops_vms() {
    confined(PLAIN, reporting_image, |image| {
        for _ in 0..20 {
            let mut vms: Vec<_> = (0..4).map(|_| start_image(Ring::User, &image)).collect();
            for vm in &mut vms {
                assert_eq!(run_to_port(&mut **vm), 3);
            }
        }
    });
}

#[test]
fn saves_and_restores_a_vm() {
    confined(PLAIN, reporting_image, |image| {
        let mut vm = start_image(Ring::User, &image);
        let state = vm.save().unwrap();
        for _ in 0..3 {
            run_to_port(&mut *vm);
            vm.reset_memory(&image).unwrap();
            vm.restore(&state).unwrap();
        }
        assert_eq!(run_to_port(&mut *vm), 3);
    });
}

#[test]
fn resets_a_vm_to_another_image() {
    confined(
        PLAIN,
        || (reporting_image(), MemoryImage::new(&content(&SPIN)).unwrap()),
        |(image, other)| {
            let mut vm = start_image(Ring::User, &other);
            vm.reset_memory(&image).unwrap();
            assert_eq!(run_to_port(&mut *vm), 3);
        },
    );
}

#[test]
fn looks_at_pages_and_gives_them_back() {
    confined(PLAIN, reporting_image, |image| {
        let mut vm = start_image(Ring::User, &image);
        let memory = vm.memory_mut();
        memory.populate(DATA..DATA + 0x2000).unwrap();
        memory.write_u64(DATA, 1).unwrap();
        assert!(memory.written_pages().unwrap().iter().any(|range| range.contains(&DATA)));
        memory.read_pages().unwrap();
        memory.discard(DATA..DATA + 0x2000).unwrap();
        assert_eq!(vm.memory().read_u64(DATA).unwrap(), 0);
    });
}

#[test]
fn extends_a_vm() {
    confined(PLAIN, reporting_image, |image| {
        let memory = GuestMemory::with_image(&image, MEMORY).unwrap();
        let mut vm = start_memory(Ring::User, memory.with_reach(MEMORY as u64 / 2).unwrap());
        vm.extend(MEMORY as u64 / 2..MEMORY as u64).unwrap();
        assert_eq!(run_to_port(&mut *vm), 3);
    });
}

#[test]
fn stops_a_vm_from_another_thread() {
    confined(
        PLAIN,
        || {
            hypervisor();
            MemoryImage::new(&content(&SPIN)).unwrap()
        },
        |image| {
            let mut vm = start_image(Ring::User, &image);
            for _ in 0..100 {
                let interrupter = vm.interrupter();
                let stopper = thread::spawn(move || {
                    thread::sleep(Duration::from_millis(1));
                    interrupter.interrupt();
                });
                assert_eq!(vm.run().unwrap(), VmExit::Interrupted);
                stopper.join().unwrap();
            }
        },
    );
}

#[test]
fn uses_an_image_of_a_file_that_it_was_given() {
    let file = || {
        hypervisor();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer");
        fs::write(&path, content(&[&[0xb0, 3][..], &OUT].concat())).unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        File::open(&path).unwrap()
    };
    confined(PLAIN, file, |file| {
        let place = Place { address: 0, len: 0x10_0000, layer: 0, offset: 0 };
        let image = MemoryImage::from_layers(vec![file], &[place]).unwrap();
        assert_eq!(run_to_port(&mut *start_image(Ring::User, &image)), 3);
    });
}

#[test]
fn captures_a_vm_when_it_may_make_images() {
    let with_images = Confinement { new_images: true, ..PLAIN };
    confined(with_images, reporting_image, |image| {
        let mut vm = start_image(Ring::User, &image);
        vm.memory_mut().write_u64(DATA, 0x1234).unwrap();
        let captured = vm.memory().capture(&[]).unwrap();
        let other = start_image(Ring::User, &captured);
        assert_eq!(other.memory().read_u64(DATA).unwrap(), 0x1234);
        assert_eq!(MemoryImage::new(&[1; PAGE_SIZE]).unwrap().len(), PAGE_SIZE);
        let large = 0..LARGE_PAGE;
        let image = MemoryImage::with_large_pages(&[1], std::slice::from_ref(&large)).unwrap();
        assert_eq!(image.len(), LARGE_PAGE);
    });
}

#[test]
fn too_many_vms_are_an_error() {
    let few = Confinement { descriptors: 24, ..PLAIN };
    confined(few, reporting_image, |image| {
        let mut vms = Vec::new();
        let error = loop {
            let memory = GuestMemory::with_image(&image, MEMORY).unwrap();
            match hypervisor().create_vm(memory) {
                Ok(vm) => vms.push(vm),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoDescriptors { limit: 24, .. }), "{error}");
        assert!(vms.len() > 4, "{}", vms.len());
    });
}
