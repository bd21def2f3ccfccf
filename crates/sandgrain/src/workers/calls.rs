//! A guest's calls, as a worker answers them: by asking the process that started it.

use super::line::Line;
use super::message::{Call, MAX_ASKED, PIECE, Part, Reply, Run, Told, bytes_of, runs};
use crate::error::{Error, Result};
use crate::guest::{Answer, Answers, Guest, GuestCall, HostCall};
use crate::host::wasi_call;
use sandgrain_wasi::ListSizes;
use std::convert::Infallible;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The other end of a line, as a guest's host in one of its turns.
pub(super) struct Calls<'a> {
    line: &'a mut Line,
    stop: &'a AtomicU64,
    turn: u64,
}

impl<'a> Calls<'a> {
    pub(super) fn new(line: &'a mut Line, stop: &'a AtomicU64, turn: u64) -> Self {
        Self { line, stop, turn }
    }

    /// Tells of a call.
    fn tell_of(&mut self, call: &GuestCall, guest: &mut Guest, again: bool) -> Result<()> {
        let told = match call {
            GuestCall::Core(call) => {
                let memory = call.memory.map(|number| guest.memory(number)).transpose()?;
                let size = memory.as_ref().map(|bytes| bytes.len() as u64);
                let parts = needed(call, memory.unwrap_or_default());
                let (function, args) = (call.function, call.args.clone());
                Told::Call(Call { function, args, size, parts, again })
            }
            GuestCall::Component(call) => {
                let attachments = guest.attachments(call)?;
                let attachments = attachments.into_iter().map(|run| Run(run.to_vec())).collect();
                Told::ComponentCall { call: call.clone(), attachments, again }
            }
        };
        self.tell(&told)
    }

    fn tell(&mut self, told: &Told) -> Result<()> {
        self.line.send(told, &[], wait_on).map_err(lost)
    }
}

/// A worker has nothing better to do.
pub(super) fn wait_on() -> io::Result<()> {
    Ok(())
}

fn lost(error: io::Error) -> Error {
    Error::Host(format!("the line to the host: {error}"))
}

/// Some bytes of a memory, no more than fit into a message.
pub(super) fn piece(memory: &[u8], range: Range<u64>) -> Result<Vec<u8>> {
    let bytes = memory.get(range.start as usize..range.end as usize);
    let bytes = bytes.filter(|bytes| bytes.len() <= PIECE);
    bytes.map(<[u8]>::to_vec).ok_or_else(|| Error::Host(format!("bytes {range:?} of a memory")))
}

/// Changes some bytes of a memory.
pub(super) fn change(memory: &mut [u8], part: &Part) -> Result<()> {
    let start = part.address as usize;
    let place = start.checked_add(part.bytes.len()).and_then(|end| memory.get_mut(start..end));
    let place = place.ok_or_else(|| Error::Host("changes beyond a memory's end".to_owned()))?;
    place.copy_from_slice(&part.bytes);
    Ok(())
}

/// What will be needed of the caller's memory, as far as that can be told, and is not much.
fn needed(call: &HostCall, memory: &[u8]) -> Vec<Part> {
    let Some((function, slots, count)) = wasi_call(call.function, &call.args) else {
        return Vec::new();
    };
    let read = |range: Range<u64>| {
        let list = memory.get(range.start as usize..range.end as usize);
        Ok::<_, Infallible>(list.unwrap_or_default().to_vec())
    };
    let args = slots.get(..count).unwrap_or_default();
    let Ok(reach) = function.reach(args, memory.len() as u64, &ListSizes::default(), read);
    let mut ranges = [reach.read, reach.lent].concat();
    ranges.sort_by_key(|range| range.start);
    let (mut end, mut left) = (0, PIECE);
    let parts = ranges.into_iter().map_while(|range| {
        // Each byte once.
        let start = range.start.max(end);
        end = range.end.max(end);
        let bytes = memory.get(start as usize..end as usize)?;
        left = left.checked_sub(bytes.len())?;
        Some(Part { address: start, bytes: bytes.to_vec() })
    });
    parts.collect()
}

impl Answers for Calls<'_> {
    fn stopped(&self) -> Option<Error> {
        (self.stop.load(Ordering::SeqCst) == self.turn).then_some(Error::Interrupted)
    }

    fn answer(
        &mut self,
        call: &GuestCall,
        guest: &mut Guest,
        again: bool,
    ) -> Result<Option<Answer>> {
        let number = match call {
            GuestCall::Core(call) => call.memory,
            GuestCall::Component(_) => None,
        };
        self.tell_of(call, guest, again)?;
        loop {
            let reply = self.line.receive(MAX_ASKED, wait_on).map_err(lost)?;
            match reply {
                Reply::Fetch(range) => {
                    self.tell(&Told::Bytes(piece(memory(guest, number)?, range)?))?;
                }
                Reply::Answer { reply, parts, attachments } => {
                    change_all(memory(guest, number)?, &parts)?;
                    return Ok(Some(Answer { reply, attachments: bytes_of(attachments) }));
                }
                Reply::Execute { command, parts, attachments } => {
                    change_all(memory(guest, number)?, &parts)?;
                    let (outcome, attachments) =
                        guest.execute_in_call(command, bytes_of(attachments), self)?;
                    let len = memory(guest, number)?.len() as u64;
                    let (attachments, size) = (runs(attachments), number.map(|_| len));
                    self.tell(&Told::Within { outcome, attachments, size })?;
                }
                Reply::Later => return Ok(None),
                Reply::Over => return Err(Error::Host("its call was given up".to_owned())),
            }
        }
    }
}

/// The linear memory of this number, if there is one.
fn memory(guest: &mut Guest, number: Option<u32>) -> Result<&mut [u8]> {
    let memory = number.map(|number| guest.memory(number)).transpose()?;
    Ok(memory.unwrap_or_default())
}

fn change_all(memory: &mut [u8], parts: &[Part]) -> Result<()> {
    parts.iter().try_for_each(|part| change(memory, part))
}
