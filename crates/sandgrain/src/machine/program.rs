//! The runtime's program: an ELF file that the library carries.

use crate::error::{Error, Result};
use crate::machine::address_space::{Access, LARGE_PAGE};
use object::elf::{FileHeader64, PF_W, PF_X, PT_LOAD};
use object::read::elf::{ElfFile, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol};
use sandgrain_abi::layout::{self, PAGE_SIZE, symbol};
use std::ops::Range;
use std::sync::LazyLock;

/// One loadable piece of the program.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Where it lies in the guest's address space: whole pages.
    pub(crate) pages: Range<u64>,
    /// Its bytes in the file, and where the first of them goes.
    pub(crate) bytes: Vec<u8>,
    pub(crate) address: u64,
    pub(crate) access: Access,
}

/// The program, and what the host needs to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) segments: Vec<Segment>,
    pub(crate) entry: u64,
    pub(crate) trap_entry: u64,
    /// The gate's pages, which lie in an executable segment.
    pub(crate) gate: Range<u64>,
    /// Bytes of the gate's instructions.
    pub(crate) gate_len: u64,
}

/// The runtime that the build script built.
static RUNTIME: &[u8] = include_bytes!(env!("SANDGRAIN_RUNTIME"));

impl Program {
    /// Reads the runtime that the library carries.
    pub(crate) fn runtime() -> Result<Self> {
        Self::parse(RUNTIME)
            .map_err(|reason| Error::Host(format!("the runtime in this library: {reason}")))
    }

    /// Reads a program and checks that it keeps the rules that the host relies on.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file =
            ElfFile::<FileHeader64<LittleEndian>>::parse(bytes).map_err(|e| e.to_string())?;
        let find = |name: &str| {
            let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name));
            symbol.map(|symbol| symbol.address()).ok_or(format!("it has no symbol {name}"))
        };
        let mut segments = Vec::new();
        for header in file.elf_program_headers() {
            let endian = LittleEndian;
            if header.p_type(endian) != PT_LOAD || header.p_memsz(endian) == 0 {
                continue;
            }
            let (address, size) = (header.p_vaddr(endian), header.p_memsz(endian));
            let flags = header.p_flags(endian);
            let access = match (flags & PF_W != 0, flags & PF_X != 0) {
                (false, true) => Access::Code,
                (true, false) => Access::ReadWrite,
                (false, false) => Access::ReadOnly,
                (true, true) => return Err("a segment is writable and executable".to_owned()),
            };
            let end = address.checked_add(size).ok_or("a segment wraps around")?;
            // Code and constants at a large page are mapped as such, with zeros up to its end, unless there are few.
            let is_large =
                flags & PF_W == 0 && address.is_multiple_of(LARGE_PAGE) && size >= LARGE_PAGE / 16;
            let whole = if is_large { LARGE_PAGE } else { PAGE_SIZE };
            let pages = address / PAGE_SIZE * PAGE_SIZE..end.next_multiple_of(whole);
            if pages.start < layout::RUNTIME || pages.end > layout::RUNTIME_END {
                return Err(format!("a segment at {address:#x} is out of its range"));
            }
            let shared =
                |other: &Segment| pages.start < other.pages.end && other.pages.start < pages.end;
            if segments.iter().any(shared) {
                return Err("two segments share a page".to_owned());
            }
            let bytes = header.data(endian, bytes).map_err(|()| "a segment is cut off")?.to_vec();
            segments.push(Segment { pages, bytes, address, access });
        }
        let gate = find(symbol::GATE_START)?..find(symbol::GATE_END)?;
        let within = |segment: &Segment| {
            segment.access == Access::Code
                && segment.pages.start <= gate.start
                && gate.end <= segment.pages.end
        };
        let aligned = gate.start.is_multiple_of(PAGE_SIZE) && gate.end.is_multiple_of(PAGE_SIZE);
        if !aligned || gate.is_empty() || !segments.iter().any(within) {
            return Err("the gate is not in executable pages of its own".to_owned());
        }
        Ok(Self {
            entry: find(symbol::START)?,
            trap_entry: find(symbol::TRAP_ENTRY)?,
            gate_len: find(symbol::GATE_CODE_END)? - gate.start,
            gate,
            segments,
        })
    }
}

/// The digest of the runtime that the library carries.
pub(crate) fn digest() -> &'static [u8; 32] {
    static DIGEST: LazyLock<[u8; 32]> = LazyLock::new(|| *blake3::hash(RUNTIME).as_bytes());
    &DIGEST
}

/// Bytes of the runtime's executable segment and of the gate's instructions in it.
pub(crate) fn sizes() -> Result<(u64, u64)> {
    let program = Program::runtime()?;
    let text = program.segments.iter().filter(|segment| segment.access == Access::Code);
    Ok((text.map(|segment| segment.bytes.len() as u64).sum(), program.gate_len))
}
