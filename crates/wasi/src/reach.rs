//! Which bytes of its caller's memory a call touches.
//!
//! Each parameter's [`Part`] stands in the table of functions. What the parts mean follows what the library
//! really does, not only what preview 1 says: of a list of buffers it uses the first that is not empty.

use std::ops::Range;

use wasmtime_wasi::p1::types::{Event, Iovec, Size, Subscription};
use wiggle::GuestType;

use crate::Function;
use crate::context::fuel;

/// Which bytes of its caller's memory a call touches, as offsets from the memory's start.
///
/// This is for whoever answers calls without the memory at hand. [`Wasi::call`](crate::Wasi::call) then gets
/// a window: as many zeros as the memory has bytes, into which `read` and `lent` have been copied. After
/// the call, `lent` and what [`filled_by`](Self::filled_by) says are copied back. All ranges are within the
/// memory and not empty. A range that is not as a whole within the memory is left out where the call is
/// sure to report that, and else cut at the memory's end.
///
/// The guest must not run meanwhile. If it does, the worst is a wrong answer to it: nothing but what was
/// copied into the window, and what the call has written there, comes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// What the call may read and does not change: paths, lists of buffers, bytes to write. In order;
    /// no two overlap or touch.
    pub read: Vec<Range<u64>>,
    /// What the call may change, a part of it perhaps, whether or not it reads it: results of a fixed
    /// size and other small ones. In order; no two overlap or touch. They may overlap the other ranges.
    pub lent: Vec<Range<u64>>,
    /// What the call only fills, from the start of the first range on.
    pub filled: Vec<Range<u64>>,
    /// Where a call that succeeds says how many bytes it has filled, as a `u32`. Else it has filled all.
    used: Option<u64>,
}

impl Reach {
    /// What a call has filled that has returned this error number; `memory` is its window after the call.
    pub fn filled_by(&self, errno: i32, memory: &[u8]) -> Vec<Range<u64>> {
        // The content of a buffer is not specified after an error.
        let mut left = match (errno, self.used) {
            (0, None) => u64::MAX,
            (0, Some(at)) => u32_at(memory, at).unwrap_or(0).into(),
            _ => 0,
        };
        let mut filled = Vec::new();
        for range in &self.filled {
            let bytes = left.min(range.end - range.start);
            left -= bytes;
            filled.extend((bytes > 0).then(|| range.start..range.start + bytes));
        }
        filled
    }
}

/// How many bytes of memory a guest's lists take: its arguments, its environment, and the names of its
/// directories. See [`Wasi::list_sizes`](crate::Wasi::list_sizes).
///
/// The default is that of a guest without any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSizes {
    argument_pointers: u64,
    argument_bytes: u64,
    variable_pointers: u64,
    variable_bytes: u64,
    longest_name: u64,
}

impl ListSizes {
    pub(crate) fn new<'a>(
        args: &[String],
        environment: &[(String, String)],
        names: impl Iterator<Item = &'a str>,
    ) -> Self {
        let pointers = |count: usize| count as u64 * u64::from(Size::guest_size());
        // A NUL ends each string; `=` is between a variable's name and its value.
        let variable = |(name, value): &(String, String)| name.len() + 1 + value.len() + 1;
        Self {
            argument_pointers: pointers(args.len()),
            argument_bytes: args.iter().map(|arg| arg.len() as u64 + 1).sum(),
            variable_pointers: pointers(environment.len()),
            variable_bytes: environment.iter().map(|pair| variable(pair) as u64).sum(),
            longest_name: names.map(|name| name.len() as u64).max().unwrap_or(0),
        }
    }

    pub(crate) fn argument_pointers(&self) -> u64 {
        self.argument_pointers
    }

    pub(crate) fn argument_bytes(&self) -> u64 {
        self.argument_bytes
    }

    pub(crate) fn variable_pointers(&self) -> u64 {
        self.variable_pointers
    }

    pub(crate) fn variable_bytes(&self) -> u64 {
        self.variable_bytes
    }
}

/// What an argument says of the memory. All but `Value` are on the argument that is an address.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// Nothing, or something about the address before it.
    Value,
    /// Text that is read. The next argument is its length.
    Text,
    /// A result of this size.
    Out(fn() -> u32),
    /// A result that says how many bytes of the call's buffer are filled.
    Used,
    /// A buffer that is filled. The next argument is its length.
    Buffer,
    /// A list that is written as a whole.
    List(fn(&ListSizes) -> u64),
    /// A buffer for a directory's name, of which only the name is written. The next argument is its length.
    Name,
    /// A list of buffers that are filled. The next argument is how many there are.
    ReadInto,
    /// A list of buffers that are read. The next argument is how many there are.
    WriteFrom,
    /// A list of subscriptions. The next argument but one is how many there are.
    Subscriptions,
    /// Room for events. The next argument is for how many.
    Events,
}

impl Function {
    /// Which bytes of the caller's memory a call with these arguments touches.
    ///
    /// `len` is the memory's length in bytes, `sizes` that of the guest's own lists, and `content` returns
    /// the bytes of a range within the memory. It is asked for lists of buffers only, up to the first buffer
    /// that is not empty, and in pieces of at most 64 KiB.
    ///
    /// Whatever the arguments are, this takes no more memory than such a piece, and asks for no more than
    /// the call itself looks at: at most 128 MiB. Nor are there more bytes in [`Reach::read`].
    ///
    /// # Errors
    ///
    /// Those of `content`.
    pub fn reach<E>(
        self,
        args: &[u64],
        len: u64,
        sizes: &ListSizes,
        mut content: impl FnMut(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<Reach, E> {
        let parts = self.parts();
        // The call refuses any other number of arguments before it looks at one.
        if args.len() != parts.len() {
            return Ok(Reach::default());
        }
        let mut survey = Survey { len, fuel: fuel(self) as u64, reach: Reach::default() };
        for (at, &part) in parts.iter().enumerate() {
            survey.add(part, &args[at..], sizes, &mut content)?;
        }
        let mut reach = survey.reach;
        reach.read = merged(reach.read);
        reach.lent = merged(reach.lent);
        Ok(reach)
    }
}

/// The first and the longest piece of a list of buffers that is asked for, in bytes. Nearly all lists have
/// one to three buffers of 8 bytes.
const FIRST_PIECE_BYTES: u64 = 64;
const PIECE_BYTES: u64 = 64 << 10;

/// A reach while it is put together.
struct Survey {
    len: u64,
    /// How many bytes the library will still copy for this call. It refuses a call that takes more, before
    /// it looks at the bytes that are too many.
    fuel: u64,
    reach: Reach,
}

impl Survey {
    /// Adds what the first of these arguments says.
    fn add<E>(
        &mut self,
        part: Part,
        args: &[u64],
        sizes: &ListSizes,
        content: &mut impl FnMut(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        // Addresses and lengths of preview 1 have 32 bits.
        let word = |at: usize| args.get(at).map_or(0, |&slot| u64::from(slot as u32));
        let start = word(0);
        match part {
            Part::Value => {}
            Part::Text => {
                if self.pay(word(1), 1) {
                    self.reach.read.extend(self.whole(start, word(1)));
                }
            }
            Part::Out(size) => self.reach.lent.extend(self.whole(start, size().into())),
            Part::Used => {
                self.reach.used = Some(start);
                self.reach.lent.extend(self.whole(start, Size::guest_size().into()));
            }
            // All of it need not be in memory if not all of it gets filled.
            Part::Buffer => self.reach.filled.extend(self.cut(start, word(1))),
            Part::List(bytes) => self.reach.filled.extend(self.whole(start, bytes(sizes))),
            Part::Name => {
                let bytes = word(1).min(sizes.longest_name);
                self.reach.lent.extend(self.cut(start, bytes));
            }
            Part::ReadInto => {
                if let Some((start, bytes)) = self.first_buffer(start, word(1), content)? {
                    self.reach.filled.extend(self.cut(start, bytes));
                }
            }
            Part::WriteFrom => {
                if let Some((start, bytes)) = self.first_buffer(start, word(1), content)? {
                    self.reach.read.extend(self.whole(start, bytes));
                }
            }
            // Of both lists, what is in memory is used before it is noticed that the rest is not.
            Part::Subscriptions => {
                if self.pay(word(2), size_of::<Subscription>()) {
                    let bytes = word(2) * u64::from(Subscription::guest_size());
                    self.reach.read.extend(self.cut(start, bytes));
                }
            }
            Part::Events => {
                if self.pay(word(1), size_of::<Event>()) {
                    let bytes = word(1) * u64::from(Event::guest_size());
                    self.reach.lent.extend(self.cut(start, bytes));
                }
            }
        }
        Ok(())
    }

    /// Adds a list of buffers as far as it is looked at, and returns where the buffer that is used starts,
    /// and its length: the first one that is not empty.
    fn first_buffer<E>(
        &mut self,
        list: u64,
        count: u64,
        content: &mut impl FnMut(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<Option<(u64, u64)>, E> {
        if !self.pay(count, size_of::<Iovec>()) {
            return Ok(None);
        }
        let size = u64::from(Iovec::guest_size());
        let end = list + size * count.min(self.len.saturating_sub(list) / size);
        let (mut at, mut piece, mut found) = (list, FIRST_PIECE_BYTES, None);
        while at < end && found.is_none() {
            let next = end.min(at + piece);
            let bytes = content(at..next)?;
            let entries = bytes.as_chunks().0.iter().map(|entry| u64::from_le_bytes(*entry));
            // An address in the low half, a length in the high one.
            found = (1..).zip(entries).find(|&(_, entry)| entry >> 32 > 0);
            at = found.map_or(next, |(count, _)| at + size * count);
            piece = PIECE_BYTES.min(piece * 4);
        }
        self.reach.read.extend(self.cut(list, at - list));
        let buffer = found.map(|(_, entry)| (entry & u64::from(u32::MAX), entry >> 32));
        Ok(buffer.filter(|&(_, length)| self.pay(length, 1)))
    }

    /// Whether the library will copy that many things of this size.
    fn pay(&mut self, count: u64, bytes: usize) -> bool {
        let left = count.checked_mul(bytes as u64).and_then(|sum| self.fuel.checked_sub(sum));
        self.fuel = left.unwrap_or(self.fuel);
        left.is_some()
    }

    /// A range, if it is within the memory.
    fn whole(&self, start: u64, bytes: u64) -> Option<Range<u64>> {
        let end = start.checked_add(bytes)?;
        (bytes > 0 && end <= self.len).then_some(start..end)
    }

    /// The part of a range that is within the memory.
    fn cut(&self, start: u64, bytes: u64) -> Option<Range<u64>> {
        self.whole(start, bytes.min(self.len.saturating_sub(start)))
    }
}

/// The same ranges in order, those that overlap or touch made one.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn u32_at(memory: &[u8], at: u64) -> Option<u32> {
    let from = memory.get(usize::try_from(at).ok()?..)?;
    Some(u32::from_le_bytes(*from.first_chunk()?))
}
