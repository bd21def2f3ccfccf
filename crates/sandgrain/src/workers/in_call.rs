//! A guest in a worker process, in the middle of a call.

use super::message::{Part, Reply, Run, Told, bytes_of, runs};
use super::remote::{Turn, bytes, checked};
use super::window::{Source, View};
use crate::caller::Calling;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::linear_memory::{LinearMemory, outside};
use sandgrain_abi::message::{Command, Outcome};
use std::ops::Range;

/// A guest in a worker process, in the middle of a call.
pub(super) struct InCall<'a, 'b> {
    turn: Turn<'a>,
    /// The linear memory that the caller exports. Changes of it go with what is said next.
    memory: Option<View<'a>>,
    attachments: &'b [Run],
}

impl<'a, 'b> InCall<'a, 'b> {
    /// With a memory of this size, some bytes of which came unasked.
    pub(super) fn new(
        turn: Turn<'a>,
        size: Option<u64>,
        parts: Vec<Part>,
        attachments: &'b [Run],
    ) -> Result<Self> {
        let mut guest = Self { turn, memory: None, attachments };
        guest.see(size, parts)?;
        Ok(guest)
    }

    fn see(&mut self, size: Option<u64>, parts: Vec<Part>) -> Result<()> {
        let guest = self.turn.guest;
        self.memory = match size {
            Some(size) => {
                Some(View::new(guest.rooms(), checked(size, guest.max_memory())?, parts)?)
            }
            None => None,
        };
        Ok(())
    }

    /// What has been changed of the memory.
    pub(super) fn changes(&mut self) -> Vec<Part> {
        self.memory.as_mut().map(View::changes).unwrap_or_default()
    }
}

impl Source for Turn<'_> {
    fn fetch(&mut self, range: Range<usize>) -> Result<Vec<u8>> {
        self.talk.say(&Reply::Fetch(range.start as u64..range.end as u64))?;
        bytes(self.talk.hear()?, &range)
    }

    fn change(&mut self, _: Vec<Part>) -> Result<()> {
        Ok(())
    }
}

impl LinearMemory for InCall<'_, '_> {
    fn size(&self) -> usize {
        self.memory.as_ref().map_or(0, View::size)
    }

    fn bytes(&mut self, range: Range<usize>) -> Result<&mut [u8]> {
        match &mut self.memory {
            Some(memory) => memory.bytes(&mut self.turn, range),
            None if range.is_empty() => Ok(&mut []),
            None => Err(outside(&range, 0)),
        }
    }

    fn whole(&mut self) -> &mut [u8] {
        self.memory.as_mut().map(View::whole).unwrap_or_default()
    }

    fn is_here(&self) -> bool {
        self.memory.is_none()
    }

    fn filled(&mut self, ranges: Vec<Range<u64>>, perhaps: Vec<Range<u64>>) {
        if let Some(memory) = &mut self.memory {
            memory.filled(ranges, perhaps);
        }
    }
}

impl Calling for InCall<'_, '_> {
    fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    fn attachments(&mut self) -> Result<Vec<&[u8]>> {
        Ok(self.attachments.iter().map(|Run(bytes)| bytes.as_slice()).collect())
    }

    fn execute(
        &mut self,
        command: Command,
        attachments: Vec<Vec<u8>>,
        host: &mut Host,
    ) -> Result<(Outcome, Vec<Vec<u8>>)> {
        let parts = self.changes();
        let had_memory = self.memory.take().is_some();
        self.turn.talk.say(&Reply::Execute { command, parts, attachments: runs(attachments) })?;
        match self.turn.hear(host)? {
            Told::Within { outcome, attachments, size } if size.is_some() == had_memory => {
                self.see(size, Vec::new())?;
                match host.stopped() {
                    Some(error) => Err(error),
                    None => Ok((outcome, bytes_of(attachments))),
                }
            }
            told @ Told::Left { .. } => Err(Error::Guest(format!(
                "its worker process said of a call within a call: {}",
                crate::error::described(&told)
            ))),
            told => Err(self.turn.guest.nonsense(&told)),
        }
    }
}
