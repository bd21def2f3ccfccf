//! A window on a linear memory that is in another process.

use super::lock;
use super::message::{PIECE, Part};
use crate::error::{Error, Result};
use crate::linear_memory::{LinearMemory, outside};
use sandgrain_hypervisor::GuestMemory;
use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;
use std::sync::Mutex;
use std::thread;

/// Where the bytes are.
pub(super) trait Source {
    /// Gets some of them.
    fn fetch(&mut self, range: Range<usize>) -> Result<Vec<u8>>;
    /// Changes some of them.
    fn change(&mut self, parts: Vec<Part>) -> Result<()>;
}

/// Rooms for windows, to be used again.
#[derive(Default)]
pub(super) struct Rooms(Mutex<Vec<GuestMemory>>);

/// How many are kept.
const MAX_KEPT: usize = 16;
/// The smallest one. It is address space only until bytes are put there.
const MIN_ROOM: usize = 1 << 20;
/// Up to so many bytes zeros are written over what has been used; beyond, its pages are given back.
const MAX_WIPED: usize = 64 << 10;

impl Rooms {
    /// So many zeros at least.
    fn take(&self, size: usize) -> Result<GuestMemory> {
        let mut rooms = lock(&self.0);
        if let Some(at) = rooms.iter().position(|room| room.len() >= size) {
            return Ok(rooms.swap_remove(at));
        }
        drop(rooms);
        let size = size.max(MIN_ROOM).checked_next_power_of_two().unwrap_or(size);
        GuestMemory::new(size).map_err(|error| Error::hypervisor(&error))
    }

    fn give_back(&self, room: GuestMemory) {
        let mut rooms = lock(&self.0);
        if rooms.len() < MAX_KEPT {
            rooms.push(room);
        }
    }
}

/// What is known and changed of a memory's bytes.
pub(super) struct View<'a> {
    rooms: &'a Rooms,
    room: Option<GuestMemory>,
    size: usize,
    /// What was there when it was fetched, by address and without overlaps.
    pieces: BTreeMap<usize, Vec<u8>>,
    filled: Vec<Range<u64>>,
    /// What may have been written to besides.
    dirty: Vec<Range<u64>>,
}

impl<'a> View<'a> {
    /// Of a memory of this size, some bytes of which came unasked.
    pub(super) fn new(rooms: &'a Rooms, size: usize, parts: Vec<Part>) -> Result<Self> {
        let room = Some(rooms.take(size)?);
        let (filled, dirty) = (Vec::new(), Vec::new());
        let mut view = Self { rooms, room, size, pieces: BTreeMap::new(), filled, dirty };
        for Part { address, bytes } in parts {
            let start = usize::try_from(address).unwrap_or(usize::MAX);
            let range = start..start.saturating_add(bytes.len());
            // Each byte is known once: nothing that has come is changed by what comes later.
            let is_new = range.is_empty() || view.gaps(&range) == [range.clone()];
            if range.end > size || !is_new {
                let text = format!("it sent bytes {range:?} of a memory of {size} twice or beyond");
                return Err(Error::Guest(text));
            }
            view.put(start, bytes);
        }
        Ok(view)
    }

    fn room(&mut self) -> &mut [u8] {
        let room = self.room.as_mut().unwrap_or_else(|| unreachable!("taken out only by `drop`"));
        room.slice_mut(0..self.size as u64).unwrap_or_else(|_| unreachable!("it is that large"))
    }

    fn put(&mut self, start: usize, bytes: Vec<u8>) {
        self.room()[start..start + bytes.len()].copy_from_slice(&bytes);
        if !bytes.is_empty() {
            self.pieces.insert(start, bytes);
        }
    }

    /// What of a range is not known.
    fn gaps(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let mut gaps = Vec::new();
        let before = self.pieces.range(..range.start).next_back();
        let mut at = before.map_or(0, |(start, bytes)| start + bytes.len()).max(range.start);
        for (start, bytes) in self.pieces.range(range.clone()) {
            if at < *start {
                gaps.push(at..*start);
            }
            at = start + bytes.len();
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// What has been changed, and was not told yet.
    pub(super) fn changes(&mut self) -> Vec<Part> {
        let pieces = mem::take(&mut self.pieces);
        let mut changes = Vec::new();
        for (start, old) in &pieces {
            let new = &self.room()[*start..start + old.len()];
            let first = old.iter().zip(new).position(|(old, new)| old != new);
            let last = old.iter().zip(new).rposition(|(old, new)| old != new);
            if let (Some(first), Some(last)) = (first, last) {
                let bytes = new[first..=last].to_vec();
                changes.push(Part { address: (start + first) as u64, bytes });
            }
        }
        for range in self.filled.clone() {
            let bytes = self.room()[range.start as usize..range.end as usize].to_vec();
            changes.push(Part { address: range.start, bytes });
        }
        self.pieces = pieces;
        changes
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// As [`LinearMemory::bytes`].
    pub(super) fn bytes(
        &mut self,
        source: &mut impl Source,
        range: Range<usize>,
    ) -> Result<&mut [u8]> {
        if range.start > range.end || range.end > self.size {
            return Err(outside(&range, self.size));
        }
        for gap in self.gaps(&range) {
            for start in gap.clone().step_by(PIECE) {
                let bytes = source.fetch(start..gap.end.min(start + PIECE))?;
                self.put(start, bytes);
            }
        }
        Ok(&mut self.room()[range])
    }

    /// As [`LinearMemory::whole`].
    pub(super) fn whole(&mut self) -> &mut [u8] {
        self.room()
    }

    /// As [`LinearMemory::filled`].
    pub(super) fn filled(&mut self, ranges: Vec<Range<u64>>, perhaps: Vec<Range<u64>>) {
        self.filled = ranges;
        self.dirty.extend(perhaps);
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        let Some(mut room) = self.room.take() else { return };
        let known = self.pieces.iter().map(|(start, bytes)| {
            let start = *start as u64;
            start..start + bytes.len() as u64
        });
        let used: Vec<Range<u64>> =
            known.chain(self.filled.drain(..)).chain(self.dirty.drain(..)).collect();
        let mut wiped = !thread::panicking();
        for range in used {
            if range.end - range.start <= MAX_WIPED as u64 {
                wiped &= room.slice_mut(range).map(|bytes| bytes.fill(0)).is_ok();
            } else {
                wiped &= room.discard(range).is_ok();
            }
        }
        // What a guest's memory holds is no other's to see.
        if wiped {
            self.rooms.give_back(room);
        }
    }
}

/// A view of a memory, and where its bytes come from.
pub(super) struct Window<'a, S: Source> {
    source: S,
    view: View<'a>,
}

impl<'a, S: Source> Window<'a, S> {
    /// On a memory of this size, some bytes of which came unasked.
    pub(super) fn new(source: S, rooms: &'a Rooms, size: usize, parts: Vec<Part>) -> Result<Self> {
        Ok(Self { source, view: View::new(rooms, size, parts)? })
    }
}

impl<S: Source> LinearMemory for Window<'_, S> {
    fn size(&self) -> usize {
        self.view.size()
    }

    fn bytes(&mut self, range: Range<usize>) -> Result<&mut [u8]> {
        self.view.bytes(&mut self.source, range)
    }

    fn whole(&mut self) -> &mut [u8] {
        self.view.whole()
    }

    fn is_here(&self) -> bool {
        false
    }

    fn filled(&mut self, ranges: Vec<Range<u64>>, perhaps: Vec<Range<u64>>) {
        self.view.filled(ranges, perhaps);
    }

    fn give_back(&mut self) -> Result<()> {
        let changes = self.view.changes();
        self.source.change(changes)
    }
}
