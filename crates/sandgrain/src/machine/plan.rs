//! Where the parts of one guest lie in guest-physical memory.

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::machine::address_space::LARGE_PAGE;
use crate::machine::base::Base;
use sandgrain_abi::layout::{self, PAGE_SIZE};
use sandgrain_abi::types::{MemoryType, ModuleInfo};
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder};
use std::ops::Range;

/// Stack for the runtime itself, below what WebAssembly may use.
const RUNTIME_STACK: u64 = 256 << 10;
/// Page tables of a linear memory beyond one for each large page: its own upper levels, and the
/// tables of its first and last part.
const TABLES_PER_MEMORY: u64 = 8;
/// Page tables for everything else.
const OTHER_TABLES: u64 = 64;
/// Bytes of page tables that a plan can have at the most: one table for each large page, and some more.
const TABLES_MAX: u64 = 4 << 30;

/// Bytes of the heap that a guest has from the start, if it may have so many: enough for a small function.
pub(crate) const FIRST_HEAP: u64 = 2 << 20;

/// Bytes of linear memories that a guest can have at the most.
const MEMORIES_MAX_BYTES: u64 = 1 << 40;

/// Ranges of guest-physical memory, in bytes.
///
/// What the runtime has for itself comes first and depends on the limits alone: guests of all modules
/// with the same limits can begin as copies of one that has started its engine. What guests have from the
/// start lies together, so that it is one range for the hypervisor; what they are given by and by is behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// More page tables, right behind the base image.
    pub(crate) tables: Range<u64>,
    pub(crate) stack: Range<u64>,
    /// The heap's first part.
    pub(crate) heap: Range<u64>,
    /// Page tables for what follows.
    pub(crate) module_tables: Range<u64>,
    /// Code of the modules that are known.
    pub(crate) code: Range<u64>,
    /// Linear memories.
    pub(crate) memories: Range<u64>,
    /// Code of modules that are added later.
    pub(crate) more_code: Range<u64>,
    /// The heap's second part. There is none before there are modules: a runtime that starts needs little.
    pub(crate) more_heap: Range<u64>,
    /// How many linear memories there can be.
    pub(crate) max_memories: u64,
}

impl Plan {
    /// Plans for the runtime, before it has any module.
    pub(crate) fn new(base: &Base, limits: &Limits) -> Result<Self> {
        check("stack", limits.stack, 16 << 10, layout::STACK_MAX - RUNTIME_STACK)?;
        check_heap(limits)?;
        let stack = page(limits.stack + RUNTIME_STACK);
        let heap = large(limits.heap).min(FIRST_HEAP);
        let tables = OTHER_TABLES + stack / LARGE_PAGE;
        let start = base.space.next();
        let tables = start..start + tables * PAGE_SIZE;
        let stack = tables.end..tables.end + stack;
        let after_stack = large(stack.end);
        let heap = after_stack..after_stack + heap;
        let end = heap.end..heap.end;
        Ok(Self {
            tables,
            stack,
            heap,
            module_tables: end.clone(),
            code: end.clone(),
            memories: end.clone(),
            more_code: end.clone(),
            more_heap: end,
            max_memories: 0,
        })
    }

    /// The same, with modules with code of these sizes, and what the limits leave room for.
    pub(crate) fn with_modules(
        &self,
        limits: &Limits,
        modules: &[(&ModuleInfo, u64)],
    ) -> Result<Self> {
        check("memory", limits.memory, 0, layout::MEMORY_RESERVATION)?;
        check("extra_code", limits.extra_code, 0, layout::CODE_MAX / 2)?;
        let code = modules.iter().map(|(_, len)| large(*len)).sum::<u64>();
        let more_code = large(limits.extra_code);
        if code + more_code > layout::CODE_MAX {
            return Err(Error::Limit {
                what: "compiled code",
                limit: format!("{} bytes", layout::CODE_MAX),
                detail: format!("the modules take {} bytes", code + more_code),
            });
        }
        check_heap(limits)?;
        let more_heap = large(limits.heap) - (self.heap.end - self.heap.start);

        // The engine makes one more memory by itself, for garbage-collected values.
        let garbage_collected = 1;
        let extra = u64::from(limits.extra_memories) + garbage_collected;
        let mut max_memories = extra;
        let mut memories = large(limits.memory).saturating_mul(extra);
        for ty in modules.iter().flat_map(|(info, _)| &info.memories) {
            memories = memories.saturating_add(large(capacity(ty, limits.memory)));
            max_memories += 1;
        }
        if max_memories > layout::MEMORIES_MAX || memories > MEMORIES_MAX_BYTES {
            return Err(Error::Limit {
                what: "linear memories",
                limit: format!("{} memories and 1 TiB", layout::MEMORIES_MAX),
                detail: format!("{max_memories} with {memories} bytes are asked for"),
            });
        }

        let tables = OTHER_TABLES
            + (code + memories + more_code) / LARGE_PAGE
            + max_memories * TABLES_PER_MEMORY
            + more_heap / (1 << 30);
        let start = self.heap.end;
        let module_tables = start..start + tables * PAGE_SIZE;
        let start = large(module_tables.end);
        let code = start..start + code;
        let memories = code.end..code.end + memories;
        let more_code = memories.end..memories.end + more_code;
        let more_heap = more_code.end..more_code.end + more_heap;
        let known = self.clone();
        Ok(Self { module_tables, code, memories, more_code, more_heap, max_memories, ..known })
    }

    /// Its ranges, in order.
    pub(crate) fn ranges(&self) -> [&Range<u64>; 8] {
        let Self { tables, stack, heap, module_tables, code, memories, .. } = self;
        [tables, stack, heap, module_tables, code, memories, &self.more_code, &self.more_heap]
    }

    /// Where `len` bytes of code can go, at `start` or the next place after it: from the start of the address
    /// range for code, and in guest-physical memory. A module lies in one of the two ranges for code.
    pub(crate) fn place_code(&self, start: u64, len: u64) -> Option<(u64, u64)> {
        let known = self.code.end - self.code.start;
        let (start, phys, end) = if start.checked_add(len)? <= known {
            (start, self.code.start + start, self.code.end)
        } else {
            let start = start.max(known);
            (start, self.more_code.start.checked_add(start - known)?, self.more_code.end)
        };
        (phys.checked_add(len)? <= end).then_some((start, phys))
    }

    /// Whether modules can have taken so many bytes of the address range for code.
    pub(crate) fn has_code(&self, next: u64) -> bool {
        let Self { code, more_code, .. } = self;
        next <= code.end - code.start + (more_code.end - more_code.start)
    }

    /// Guest-physical bytes that the guest should have for code of modules that were added, and some for the
    /// next ones, so that not each is noticed by the hypervisor.
    pub(crate) fn wanted_code(&self, next: u64) -> Range<u64> {
        let Range { start, end } = self.more_code;
        let taken = next.saturating_sub(self.code.end - self.code.start);
        let len = if taken == 0 { 0 } else { taken.next_power_of_two().max(LARGE_PAGE) };
        start..start + len.min(end - start)
    }

    /// Bytes of guest-physical memory.
    pub(crate) fn len(&self) -> u64 {
        self.more_heap.end
    }

    /// The same, for a block of the host's memory.
    pub(crate) fn memory_len(&self) -> Result<usize> {
        usize::try_from(self.len()).map_err(|_| Error::Host("memory too large".to_owned()))
    }
}

impl Encode for Plan {
    fn encode(&self, out: &mut Encoder<'_>) {
        for range in self.ranges() {
            range.encode(out);
        }
        out.u64(self.max_memories);
    }

    /// Only what [`Plan::new`] and [`Plan::with_modules`] could have made: in order, of whole pages, and no
    /// larger than guests can be.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut range = || Range::decode(from);
        let plan = Self {
            tables: range()?,
            stack: range()?,
            heap: range()?,
            module_tables: range()?,
            code: range()?,
            memories: range()?,
            more_code: range()?,
            more_heap: range()?,
            max_memories: from.u64()?,
        };
        let most = [
            TABLES_MAX,
            layout::STACK_MAX,
            layout::HEAP_MAX,
            TABLES_MAX,
            layout::CODE_MAX,
            MEMORIES_MAX_BYTES,
            layout::CODE_MAX,
            layout::HEAP_MAX,
        ];
        let fits = |(range, most): (&Range<u64>, u64)| {
            let whole =
                range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE);
            // Between any two there is less than a large page.
            whole && range.end - range.start <= most
        };
        let ranges = plan.ranges();
        let apart = |pair: &[&Range<u64>]| {
            let gap = pair[1].start.checked_sub(pair[0].end);
            gap.is_some_and(|gap| gap < LARGE_PAGE)
        };
        let first = plan.tables.start <= layout::RUNTIME_END;
        // Both parts together are no more than either may be.
        let len = |range: &Range<u64>| range.end.saturating_sub(range.start);
        let code = len(&plan.code).saturating_add(len(&plan.more_code));
        let both = code <= layout::CODE_MAX && len(&plan.heap) <= FIRST_HEAP;
        let right = first
            && both
            && ranges.into_iter().zip(most).all(fits)
            && ranges.windows(2).all(apart)
            && plan.max_memories <= layout::MEMORIES_MAX;
        if right { Ok(plan) } else { Err(from.error("a plan of a guest's memory")) }
    }
}

fn page(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_SIZE)
}

fn large(bytes: u64) -> u64 {
    bytes.next_multiple_of(LARGE_PAGE)
}

/// Bytes that a linear memory of this type can grow to.
pub(crate) fn capacity(ty: &MemoryType, limit: u64) -> u64 {
    let maximum = ty.maximum.and_then(|pages| pages.checked_mul(ty.page_size));
    maximum.unwrap_or(u64::MAX).min(limit)
}

fn check_heap(limits: &Limits) -> Result<()> {
    check("heap", limits.heap, 1 << 20, layout::HEAP_MAX)
}

fn check(what: &'static str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::BadCall(format!(
        "the limit `{what}` is {value} bytes; it must be between {least} and {most}"
    )))
}

#[cfg(test)]
#[path = "plan_random.rs"]
mod random;
