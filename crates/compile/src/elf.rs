//! The little that is read of the engine's ELF files: where the code lies.

use std::ops::Range;

/// Bytes of a page: the unit in which the loader maps code.
pub(crate) const PAGE: usize = 4096;

/// What the engine writes into `e_ident[EI_OSABI]`.
const OS_ABI: u8 = 200;
/// The flag in `e_flags` of a compiled module.
const FLAG_MODULE: u64 = 1;
/// The flag in `e_flags` of a compiled component.
const FLAG_COMPONENT: u64 = 2;

/// What an ELF file of the engine holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Module,
    Component,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    let mut padded = [0; 8];
    padded[..N].copy_from_slice(field);
    Some(u64::from_le_bytes(padded))
}

fn section(elf: &[u8], header: usize) -> Option<Range<usize>> {
    let start = usize::try_from(number::<8>(elf, header + 0x18)?).ok()?;
    let size = usize::try_from(number::<8>(elf, header + 0x20)?).ok()?;
    let end = start.checked_add(size)?;
    (end <= elf.len()).then_some(start..end)
}

/// Where the executable code lies in a compiled module or component: whole pages, empty if it has no code.
///
/// # Errors
/// What does not fit, if this is not compiled from `content` or its code shares a page with other data.
pub(crate) fn text(elf: &[u8], content: Content) -> Result<Range<usize>, &'static str> {
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") || elf.get(7) != Some(&OS_ABI) {
        return Err("its code is not a 64-bit ELF file of the engine");
    }
    let (wanted, other) = match content {
        Content::Module => (FLAG_MODULE, "its code is not a compiled module"),
        Content::Component => (FLAG_COMPONENT, "its code is not a compiled component"),
    };
    let flags = number::<4>(elf, 0x30).unwrap_or(0);
    if flags & (FLAG_MODULE | FLAG_COMPONENT) != wanted {
        return Err(other);
    }
    let text = find_text(elf).ok_or("the section table of its code is malformed")?;
    let text = text.unwrap_or(0..0);
    if text.is_empty() {
        return Ok(0..0);
    }
    if !text.start.is_multiple_of(PAGE) || !text.end.is_multiple_of(PAGE) {
        return Err("its code shares a page with data");
    }
    Ok(text)
}

/// The `.text` section; the outer `None` is a malformed table, the inner one a missing section.
fn find_text(elf: &[u8]) -> Option<Option<Range<usize>>> {
    let table = usize::try_from(number::<8>(elf, 0x28)?).ok()?;
    let entry = usize::try_from(number::<2>(elf, 0x3a)?).ok()?;
    let count = usize::try_from(number::<2>(elf, 0x3c)?).ok()?;
    let names = usize::try_from(number::<2>(elf, 0x3e)?).ok()?;
    // Every header lies within the file, so the additions below and in `section` cannot overflow.
    let end = table.checked_add(entry.checked_mul(count)?)?;
    if entry < 0x40 || end > elf.len() || names >= count {
        return None;
    }
    let names = elf.get(section(elf, table + names * entry)?)?;
    for index in 0..count {
        let header = table + index * entry;
        let name = names.get(usize::try_from(number::<4>(elf, header)?).ok()?..)?;
        if name.starts_with(b".text\0") {
            return Some(Some(section(elf, header)?));
        }
    }
    Some(None)
}
