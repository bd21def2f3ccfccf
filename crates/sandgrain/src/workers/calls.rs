//! A guest's calls, as a worker answers them: by asking the process that started it.

use super::line::Line;
use super::message::{Call, MAX_ASKED, PIECE, Part, Reply, Run, Told, bytes_of};
use crate::error::{Error, Result};
use crate::guest::{Answer, Answers, ComponentCall, HostCall, Seen};
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
    /// The answer to a call that was asked about and not put off.
    reply: Option<Answer>,
}

impl<'a> Calls<'a> {
    pub(super) fn new(line: &'a mut Line, stop: &'a AtomicU64, turn: u64) -> Self {
        Self { line, stop, turn, reply: None }
    }

    /// Asks for the answer to a call; `None` if it is put off.
    fn ask(
        &mut self,
        call: &HostCall,
        memory: Option<&mut [u8]>,
        again: bool,
    ) -> Result<Option<Answer>> {
        let size = memory.as_ref().map(|bytes| bytes.len() as u64);
        let bytes = memory.unwrap_or_default();
        let (function, args) = (call.function, call.args.clone());
        let parts = needed(call, bytes);
        self.tell(&Told::Call(Call { function, args, size, parts, again }))?;
        loop {
            match self.line.receive(MAX_ASKED, wait_on).map_err(lost)? {
                Reply::Fetch(range) => self.tell(&Told::Bytes(piece(bytes, range)?))?,
                Reply::Answer { reply, parts, attachments } => {
                    for part in &parts {
                        change(bytes, part)?;
                    }
                    return Ok(Some(Answer { reply, attachments: bytes_of(attachments) }));
                }
                Reply::Later => return Ok(None),
                Reply::Over => return Err(Error::Host("its call was given up".to_owned())),
            }
        }
    }

    /// The same of a component's call.
    fn ask_component(
        &mut self,
        call: &ComponentCall,
        attachments: &[&[u8]],
        again: bool,
    ) -> Result<Option<Answer>> {
        let attachments = attachments.iter().map(|run| Run(run.to_vec())).collect();
        self.tell(&Told::ComponentCall { call: call.clone(), attachments, again })?;
        match self.line.receive(MAX_ASKED, wait_on).map_err(lost)? {
            Reply::Answer { reply, attachments, .. } => {
                Ok(Some(Answer { reply, attachments: bytes_of(attachments) }))
            }
            Reply::Later => Ok(None),
            Reply::Over => Err(Error::Host("its call was given up".to_owned())),
            Reply::Fetch(_) => Err(Error::Host("memory of a component was asked for".to_owned())),
        }
    }

    fn ask_any(&mut self, call: Seen<'_>, again: bool) -> Result<Option<Answer>> {
        match call {
            Seen::Core(call, memory) => self.ask(call, memory, again),
            Seen::Component(call, attachments) => self.ask_component(call, attachments, again),
        }
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

    fn puts_off(&mut self, call: Seen<'_>) -> Result<bool> {
        self.reply = self.ask_any(call, false)?;
        Ok(self.reply.is_none())
    }

    fn answer(&mut self, call: Seen<'_>) -> Result<Answer> {
        if let Some(reply) = self.reply.take() {
            return Ok(reply);
        }
        let reply = self.ask_any(call, true)?;
        reply.ok_or_else(|| Error::Host("a call was put off twice".to_owned()))
    }
}
