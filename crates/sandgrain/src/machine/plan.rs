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

/// Bytes of linear memories that a guest can have at the most.
const MEMORIES_MAX_BYTES: u64 = 1 << 40;

/// Ranges of guest-physical memory, in bytes.
///
/// What the runtime has for itself comes first and depends on the limits alone: guests of all modules
/// with the same limits can begin as copies of one that has started its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// More page tables, right behind the base image.
    pub(crate) tables: Range<u64>,
    pub(crate) stack: Range<u64>,
    pub(crate) heap: Range<u64>,
    /// Page tables for what follows.
    pub(crate) module_tables: Range<u64>,
    /// Compiled code.
    pub(crate) code: Range<u64>,
    /// Linear memories.
    pub(crate) memories: Range<u64>,
    /// How many linear memories there can be.
    pub(crate) max_memories: u64,
}

impl Plan {
    /// Plans for the runtime, before it has any module.
    pub(crate) fn new(base: &Base, limits: &Limits) -> Result<Self> {
        check("stack", limits.stack, 16 << 10, layout::STACK_MAX - RUNTIME_STACK)?;
        check("heap", limits.heap, 1 << 20, layout::HEAP_MAX)?;
        let stack = page(limits.stack + RUNTIME_STACK);
        let heap = large(limits.heap);
        let tables = OTHER_TABLES + stack / LARGE_PAGE + heap / (1 << 30);
        let start = base.space.next();
        let tables = start..start + tables * PAGE_SIZE;
        let stack = tables.end..tables.end + stack;
        let after_stack = large(stack.end);
        let heap = after_stack..after_stack + heap;
        let end = heap.end..heap.end;
        let (module_tables, code, memories) = (end.clone(), end.clone(), end);
        Ok(Self { tables, stack, heap, module_tables, code, memories, max_memories: 0 })
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
        let code = code + large(limits.extra_code);
        if code > layout::CODE_MAX {
            return Err(Error::Limit {
                what: "compiled code",
                limit: format!("{} bytes", layout::CODE_MAX),
                detail: format!("the modules take {code} bytes"),
            });
        }

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

        let tables =
            OTHER_TABLES + (code + memories) / LARGE_PAGE + max_memories * TABLES_PER_MEMORY;
        let start = self.heap.end;
        let module_tables = start..start + tables * PAGE_SIZE;
        let start = large(module_tables.end);
        let code = start..start + code;
        let memories = code.end..code.end + memories;
        Ok(Self { module_tables, code, memories, max_memories, ..self.clone() })
    }

    /// Its ranges, in order.
    fn ranges(&self) -> [&Range<u64>; 6] {
        let Self { tables, stack, heap, module_tables, code, memories, max_memories: _ } = self;
        [tables, stack, heap, module_tables, code, memories]
    }

    /// Bytes of guest-physical memory.
    pub(crate) fn len(&self) -> u64 {
        self.memories.end
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
            max_memories: from.u64()?,
        };
        let most = [
            TABLES_MAX,
            layout::STACK_MAX,
            layout::HEAP_MAX,
            TABLES_MAX,
            layout::CODE_MAX,
            MEMORIES_MAX_BYTES,
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
        let right = first
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
