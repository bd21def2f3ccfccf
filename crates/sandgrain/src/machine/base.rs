//! The base image: the part of a machine that is the same for all guests of an engine.

use crate::error::{Error, Result};
use crate::machine::address_space::{Access, AddressSpace, LARGE_PAGE};
use crate::machine::descriptors;
use crate::machine::program::Program;
use sandgrain_abi::layout::{self, PAGE_SIZE, record};
use sandgrain_hypervisor::MemoryImage;
use std::ops::Range;

/// Pages that the base image's page tables may take.
const TABLE_PAGES: u64 = 32;

/// Where the mailbox lies in guest-physical memory.
pub(crate) const MAILBOX: u64 = layout::GATE_DATA_PAGES * PAGE_SIZE;
/// Where the trap record lies in guest-physical memory.
pub(crate) const RECORD: u64 = layout::GATE_RECORD - layout::GATE_DATA;
const TRAP_STACK: u64 = MAILBOX + layout::MAILBOX_SIZE;
const PROGRAM: u64 = TRAP_STACK + layout::TRAP_STACK_SIZE;

/// The base image and what goes on from it.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) image: MemoryImage,
    /// The page tables in the image. More of them follow right behind it.
    pub(crate) space: AddressSpace,
    pub(crate) program: Program,
}

impl Base {
    /// Builds the image: descriptors, gate, mailbox, trap record, program, and tables that map them.
    pub(crate) fn new() -> Result<Self> {
        let mut program = Program::runtime()?;
        // Large pages of the address space are large pages of the memory.
        let mut next = PROGRAM;
        let mut starts = Vec::new();
        for segment in &program.segments {
            let pages = &segment.pages;
            if pages.start.is_multiple_of(LARGE_PAGE) && pages.end.is_multiple_of(LARGE_PAGE) {
                next = next.next_multiple_of(LARGE_PAGE);
            }
            starts.push(next);
            next += pages.end - pages.start;
        }
        let tables = next;
        let len = tables + TABLE_PAGES * PAGE_SIZE;
        let mut memory = vec![0; usize::try_from(len).map_err(|_| too_large())?];
        let mut space = AddressSpace::new(tables, len);

        memory[..PAGE_SIZE as usize].copy_from_slice(&descriptors::page(program.gate.start));
        let at = (RECORD + record::TRAP_ENTRY) as usize;
        memory[at..at + 8].copy_from_slice(&program.trap_entry.to_le_bytes());

        let mut map = |memory: &mut Vec<u8>, virt, phys, len, access| {
            space.map(memory, virt, phys, len, access)
        };
        let gate_data = layout::GATE_DATA_PAGES * PAGE_SIZE;
        map(&mut memory, layout::GATE_DATA, 0, gate_data, Access::GateData)?;
        map(&mut memory, layout::TRAP_RECORD, RECORD, PAGE_SIZE, Access::ReadOnly)?;
        map(&mut memory, layout::MAILBOX, MAILBOX, layout::MAILBOX_SIZE, Access::ReadWrite)?;
        let trap_stack = layout::TRAP_STACK_TOP - layout::TRAP_STACK_SIZE;
        map(&mut memory, trap_stack, TRAP_STACK, layout::TRAP_STACK_SIZE, Access::ReadWrite)?;

        let mut large = Vec::new();
        for (segment, phys) in program.segments.iter_mut().zip(starts) {
            let pages = segment.pages.clone();
            // Which half of the address space a page is in decides who may run it; the gate's pages
            // are cut out of ring 3's.
            let gate = program.gate.start.clamp(pages.start, pages.end)
                ..program.gate.end.clamp(pages.start, pages.end);
            for (part, access) in [
                (pages.start..gate.start, segment.access),
                (gate.clone(), Access::Gate),
                (gate.end..pages.end, segment.access),
            ] {
                let at = phys + (part.start - pages.start);
                map(&mut memory, part.start, at, part.end - part.start, access)?;
            }
            if phys.is_multiple_of(LARGE_PAGE) && pages.end.is_multiple_of(LARGE_PAGE) {
                large.push(usize_range(phys..phys + (pages.end - pages.start))?);
            }
            let at = (phys + segment.address - pages.start) as usize;
            memory[at..at + segment.bytes.len()].copy_from_slice(&segment.bytes);
            // The image has them now.
            segment.bytes = Vec::new();
        }
        // The tables that the image's own did not need are the guest's.
        memory.truncate(usize::try_from(space.next()).map_err(|_| too_large())?);
        let image = MemoryImage::with_large_pages(&memory, &large);
        let image = image.map_err(|error| Error::hypervisor(&error))?;
        Ok(Self { image, space, program })
    }
}

fn usize_range(range: Range<u64>) -> Result<Range<usize>> {
    let whole = |at: u64| usize::try_from(at).map_err(|_| too_large());
    Ok(whole(range.start)?..whole(range.end)?)
}

fn too_large() -> Error {
    Error::Host("the runtime does not fit into this machine's address space".to_owned())
}
