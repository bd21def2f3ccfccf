//! Guests that can be made again and again: taken from one that waits for a command.

use super::{ComponentCall, Guest, GuestCall, HostCall, Moved, room, windows};
use crate::error::{Error, Result};
use crate::learned::{PageSet, joined};
use crate::limits::Limits;
use crate::machine::address_space::{AddressSpace, LARGE_PAGE, Reach};
use crate::machine::heap::Heap;
use crate::machine::memories::Memories;
use crate::machine::plan::Plan;
use crate::stats::Stats;
use sandgrain_abi::layout::PAGE_SIZE;
use sandgrain_abi::message::{PageRange, Request};
use sandgrain_abi::types::ModuleInfo;
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder};
use sandgrain_hypervisor::{GuestMemory, Hypervisor, HypervisorKind, MemoryImage, VcpuState};
use std::ops::Range;
use std::time::Duration;

/// A guest at a moment when it waits for the host: its memory, its vCPU, and what the host knows of it.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct GuestImage {
    pub(crate) memory: MemoryImage,
    pub(super) vcpu: VcpuState,
    pub(super) space: AddressSpace,
    plan: Plan,
    memories: Memories,
    heap: Heap,
    next_code: u64,
    /// The call that it waits for the answer to, if it does not wait for a command.
    waiting: Option<GuestCall>,
    /// Bytes that one call may pass beside its messages.
    call_bytes: u64,
    reply_room: Range<u64>,
}

impl From<GuestCall> for Request {
    fn from(call: GuestCall) -> Self {
        match call {
            GuestCall::Core(HostCall { function, memory, args }) => {
                Request::HostCall { function, memory, args }
            }
            GuestCall::Component(ComponentCall { function, args, queued }) => {
                Request::ComponentCall { function, args, queued }
            }
        }
    }
}

impl GuestImage {
    /// The pages as ring 3 knows them. Of a large page the first one stands for all.
    pub(crate) fn page_ranges(&self, set: &PageSet) -> Vec<PageRange> {
        let large = set.large.iter().flat_map(|range| range.clone().step_by(LARGE_PAGE as usize));
        let firsts: Vec<Range<u64>> = large.map(|first| first..first + PAGE_SIZE).collect();
        let kinds = [(&set.written, true), (&set.read, false), (&firsts, false)];
        let parts = kinds.into_iter().flat_map(|(ranges, wrote)| {
            let parts = ranges.iter().flat_map(|range| self.space.reach(range.clone()));
            parts.map(move |part| (part, wrote))
        });
        let range = |(part, wrote): (Reach, bool)| PageRange {
            address: part.virt,
            pages: u32::try_from((part.phys.end - part.phys.start) / PAGE_SIZE).unwrap_or(u32::MAX),
            write: wrote && part.writable,
        };
        parts.map(range).collect()
    }

    /// Those of some pages that ring 3 knows.
    pub(crate) fn known_pages(&self, set: PageSet) -> PageSet {
        let known = |ranges: Vec<Range<u64>>| {
            let parts = ranges.into_iter().flat_map(|range| self.space.reach(range));
            parts.map(|part| part.phys).collect::<Vec<_>>()
        };
        let mut read = known(set.read);
        // One that is there as a whole is a large page of the host's, too. Where the host has none, it is some of its pages.
        let ranges = read.iter().chain(&set.large).cloned();
        let mut large: Vec<Range<u64>> = ranges.flat_map(|range| self.space.large(range)).collect();
        large.sort_by_key(|range| range.start);
        read = read.into_iter().flat_map(|range| without(range, &large)).collect();
        PageSet { written: known(set.written), read, large }
    }

    /// What to have copies of, where these pages are touched: whole groups of pages, but none of a large page, since a copy
    /// within it would make small ones of it.
    pub(super) fn to_populate(&self, set: &PageSet) -> Vec<Range<u64>> {
        let ranges = [&set.written, &set.read].into_iter().flatten();
        let groups: Vec<_> = ranges.flat_map(|range| self.space.groups(range.clone())).collect();
        joined(&groups).into_iter().flat_map(|range| without(range, &set.large)).collect()
    }

    /// Whether the guest is in the middle of what it was told, and waits for an answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The same guest with room for modules with code of these sizes. It has none so far.
    pub(crate) fn with_modules(
        &self,
        limits: &Limits,
        modules: &[(&ModuleInfo, u64)],
    ) -> Result<Self> {
        let plan = self.plan.with_modules(limits, modules)?;
        let mut space = self.space.clone();
        space.go_on_at(plan.module_tables.start, plan.module_tables.end);
        let memories = Memories::new(&plan, limits.memory);
        let call_bytes = limits.call_bytes;
        Ok(Self { plan, space, memories, call_bytes, ..self.clone() })
    }

    /// Appends all of it but the content of its memory.
    pub(crate) fn encode(&self, out: &mut Encoder<'_>) {
        let Self { vcpu, space, plan, memories, heap, next_code, waiting, reply_room, .. } = self;
        plan.encode(out);
        space.encode(out);
        memories.encode(out);
        out.u64(heap.more());
        out.u64(*next_code);
        waiting.clone().map(Request::from).encode(out);
        reply_room.encode(out);
        out.bytes(&vcpu.to_bytes());
    }

    /// Reads what [`encode`](Self::encode) has appended, of a guest with this memory. Bytes of others than ours
    /// become a guest that can do no more than any: all of it lies within its memory and where a guest
    /// with these limits has it. What its memory and its vCPU hold, it could have put there itself.
    pub(crate) fn decode(
        from: &mut Decoder<'_>,
        memory: MemoryImage,
        limits: &Limits,
        kind: HypervisorKind,
    ) -> Result<Self, DecodeError> {
        let plan = Plan::decode(from)?;
        let space = AddressSpace::decode(from)?;
        if !space.is_within(plan.len(), &plan.module_tables) {
            return Err(from.error("page tables within the guest's memory"));
        }
        let memories = Memories::decode(from)?;
        if !memories.is_of(&plan, limits.memory) {
            return Err(from.error("linear memories within the room for them"));
        }
        let heap = Heap::of(&plan, from.u64()?);
        let heap = heap.ok_or_else(|| from.error("a heap within the room for it"))?;
        let next_code = from.u64()?;
        if !plan.has_code(next_code) {
            return Err(from.error("code within the room for it"));
        }
        let waiting = match Option::<Request>::decode(from)? {
            None => None,
            Some(Request::HostCall { function, memory, args }) => {
                Some(GuestCall::Core(HostCall { function, memory, args }))
            }
            Some(_) => return Err(from.error("a call that the guest waits for")),
        };
        let reply_room = Range::decode(from)?;
        let is_room = |(_, start, size): (u64, u64, u64)| {
            start <= reply_room.start && reply_room.end <= start + size
        };
        if !windows(&plan, &heap).into_iter().any(is_room) {
            return Err(from.error("room for a reply"));
        }
        if memory.len() as u64 > plan.len() {
            return Err(from.error("no more pages than the guest has"));
        }
        let vcpu = VcpuState::from_bytes(kind, from.bytes()?);
        let vcpu = vcpu.map_err(|_| from.error("a vCPU's state"))?;
        let call_bytes = limits.call_bytes;
        Ok(Self {
            memory,
            vcpu,
            space,
            plan,
            memories,
            heap,
            next_code,
            waiting,
            call_bytes,
            reply_room,
        })
    }

    /// Bytes that its vCPU's state takes.
    #[cfg(test)]
    pub(crate) fn vcpu_len(&self) -> usize {
        self.vcpu.to_bytes().len()
    }

    /// Where the host would touch guest-physical memory for this guest, and how much of it there is.
    #[cfg(test)]
    pub(crate) fn reach(&self) -> (Vec<Range<u64>>, u64) {
        let mut ranges: Vec<_> = self.plan.ranges().into_iter().cloned().collect();
        ranges.extend((0..).map_while(|number| self.memories.range(number)));
        ranges.push(self.reply_room.clone());
        ranges.push(0..self.memory.len() as u64);
        ranges.push(self.space.root()..self.space.root() + PAGE_SIZE);
        ranges.push(self.plan.wanted_code(self.next_code));
        ranges.push(self.heap.range(&self.plan));
        (ranges, self.plan.len())
    }
}

/// A range without others, which are in order.
fn without(range: Range<u64>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    let mut at = range.start;
    for other in others.iter().filter(|other| other.start < range.end && range.start < other.end) {
        parts.push(at..other.start.max(at));
        at = other.end;
    }
    parts.push(at..range.end.max(at));
    parts.retain(|part| !part.is_empty());
    parts
}

impl Guest {
    /// A new guest that goes on where the image was taken. Of the pages in the set it has copies of its own
    /// from the start: many at once take less time than each when it is touched.
    pub(crate) fn from_image(
        hypervisor: &dyn Hypervisor,
        image: &GuestImage,
        ready: &PageSet,
    ) -> Result<Self> {
        let hv = |error| Error::hypervisor(&error);
        let len = image.plan.memory_len()?;
        let (reach, given) = room::at_first(&image.plan, &image.memories);
        let memory = GuestMemory::with_image(&image.memory, len).map_err(hv)?;
        let mut memory = memory.with_reach(reach).map_err(hv)?;
        for range in image.to_populate(ready) {
            memory.populate(range).map_err(hv)?;
        }
        let mut vm = hypervisor.create_vm(memory).map_err(hv)?;
        vm.restore(&image.vcpu).map_err(hv)?;
        let mut guest = Self {
            vm,
            given,
            space: image.space.clone(),
            plan: image.plan.clone(),
            memories: image.memories.clone(),
            heap: image.heap.clone(),
            next_code: image.next_code,
            pending: None,
            idle: image.waiting.is_none(),
            waiting: image.waiting.clone(),
            moved: Moved::new(image.call_bytes),
            reply_room: image.reply_room.clone(),
            buffer: Vec::new(),
            stats: Stats::default(),
            within: Duration::ZERO,
        };
        guest.give()?;
        Ok(guest)
    }

    /// Whether the guest waits for the host, at a point from which it can go on in another VM.
    fn is_at_rest(&self) -> bool {
        self.idle || self.waiting.is_some()
    }

    /// What the guest is now. It must wait for the host.
    pub(super) fn capture(&self) -> Result<GuestImage> {
        if matches!(self.waiting, Some(GuestCall::Component(_))) {
            return Err(Error::Snapshot(
                "the guest is a component in the middle of a call; try: a snapshot between calls"
                    .to_owned(),
            ));
        }
        if !self.is_at_rest() {
            return Err(Error::Host("a guest that does not wait was captured".to_owned()));
        }
        let hv = |error| Error::hypervisor(&error);
        Ok(GuestImage {
            memory: self.vm.memory().capture(&self.space.read_only()).map_err(hv)?,
            vcpu: self.vm.save().map_err(hv)?,
            space: self.space.clone(),
            plan: self.plan.clone(),
            memories: self.memories.clone(),
            heap: self.heap.clone(),
            next_code: self.next_code,
            waiting: self.waiting.clone(),
            call_bytes: self.moved.most,
            reply_room: self.reply_room.clone(),
        })
    }

    /// Pages that ring 3 has touched and would find in a guest of the image too.
    pub(crate) fn touched(&self, image: &GuestImage) -> Result<PageSet> {
        let hv = |error| Error::hypervisor(&error);
        let memory = self.vm.memory();
        Ok(image.known_pages(PageSet {
            written: memory.written_pages().map_err(hv)?,
            read: memory.read_pages().map_err(hv)?,
            large: Vec::new(),
        }))
    }

    /// Makes the guest what it was when the image was taken that it was made from: all memory and all
    /// registers. `false`: it cannot, and must not be used any more. That is so if it has page tables
    /// that it did not have then, since no hypervisor forgets those, or is not waiting for the host.
    pub(crate) fn reset(&mut self, image: &GuestImage) -> Result<bool> {
        let hv = |error| Error::hypervisor(&error);
        let same_tables =
            self.space.has_tables_of(&image.space) && self.next_code == image.next_code;
        let Some(grown) = self.memories.grown_since(&image.memories) else { return Ok(false) };
        if !self.is_at_rest() || !same_tables {
            return Ok(false);
        }
        let grown_heap = self.heap.grown_since(&image.heap, &self.plan);
        for range in grown.into_iter().chain([grown_heap]).filter(|range| !range.is_empty()) {
            self.vm.memory_mut().discard(range).map_err(hv)?;
        }
        self.vm.reset_memory(&image.memory).map_err(hv)?;
        self.vm.restore(&image.vcpu).map_err(hv)?;
        self.space.clone_from(&image.space);
        self.memories.clone_from(&image.memories);
        self.heap.clone_from(&image.heap);
        self.waiting.clone_from(&image.waiting);
        self.idle = self.waiting.is_none();
        self.reply_room = image.reply_room.clone();
        self.pending = None;
        self.moved = Moved::new(image.call_bytes);
        Ok(true)
    }
}
