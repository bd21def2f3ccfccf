//! A guest's calls of the host, and the runs of bytes that go beside its messages.

use super::{Guest, Stop};
use crate::caller::Calling;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::linear_memory::{LinearMemory, outside};
use crate::machine::Progress;
use sandgrain_abi::Value;
use sandgrain_abi::component::{Attachment, Payload};
use sandgrain_abi::message::{Command, HostReply, MemoryRange, Outcome, Queued};
use std::mem;
use std::ops::Range;
use std::time::Instant;

/// A call of a host function, as the guest has made it.
#[derive(Clone, Debug)]
pub(crate) struct HostCall {
    pub(crate) function: u32,
    /// The linear memory that its caller exports.
    pub(crate) memory: Option<u32>,
    pub(crate) args: Vec<Value>,
}

/// A call of a host function by a component.
#[derive(Clone, Debug)]
pub(crate) struct ComponentCall {
    pub(crate) function: u32,
    pub(crate) args: Payload,
    /// What it has queued before.
    pub(crate) queued: Vec<Queued>,
}

/// Either.
#[derive(Clone, Debug)]
pub(crate) enum GuestCall {
    Core(HostCall),
    Component(ComponentCall),
}

/// What answers a call: a message, and the bytes of its attachments.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: HostReply,
    pub(crate) attachments: Vec<Vec<u8>>,
}

impl From<HostReply> for Answer {
    fn from(reply: HostReply) -> Self {
        Self { reply, attachments: Vec::new() }
    }
}

/// What a guest's calls are answered by.
pub(crate) trait Answers {
    /// Why the call under way is to stop, if it is.
    fn stopped(&self) -> Option<Error>;

    /// Answers a call; `None`: the guest has to wait for that, without a thread, and is then to ask `again`.
    fn answer(
        &mut self,
        call: &GuestCall,
        guest: &mut Guest,
        again: bool,
    ) -> Result<Option<Answer>>;
}

impl Answers for Host {
    fn stopped(&self) -> Option<Error> {
        Host::stopped(self)
    }

    fn answer(
        &mut self,
        call: &GuestCall,
        guest: &mut Guest,
        again: bool,
    ) -> Result<Option<Answer>> {
        let mut guest = InCall { guest, call };
        match call {
            GuestCall::Core(HostCall { function, args, .. }) => {
                if !again && self.puts_off(*function, &mut guest, args)? {
                    return Ok(None);
                }
                self.call(*function, &mut guest, args).map(|reply| Some(reply.into()))
            }
            GuestCall::Component(call) => {
                if !again && self.puts_off_component(call, &mut guest)? {
                    return Ok(None);
                }
                self.call_component(call, &mut guest).map(Some)
            }
        }
    }
}

/// A guest in the middle of a call.
pub(crate) struct InCall<'a> {
    guest: &'a mut Guest,
    call: &'a GuestCall,
}

impl InCall<'_> {
    /// The number of the linear memory that the caller exports.
    fn number(&self) -> Option<u32> {
        match self.call {
            GuestCall::Core(call) => call.memory,
            GuestCall::Component(_) => None,
        }
    }
}

impl LinearMemory for InCall<'_> {
    fn size(&self) -> usize {
        let range = self.number().and_then(|number| self.guest.memories.range(number));
        range.map_or(0, |range| (range.end - range.start) as usize)
    }

    fn bytes(&mut self, range: Range<usize>) -> Result<&mut [u8]> {
        let size = self.size();
        self.whole().get_mut(range.clone()).ok_or_else(|| outside(&range, size))
    }

    fn whole(&mut self) -> &mut [u8] {
        let number = self.number();
        number.and_then(|number| self.guest.memory(number).ok()).unwrap_or_default()
    }
}

impl Calling for InCall<'_> {
    fn has_memory(&self) -> bool {
        self.number().is_some()
    }

    fn attachments(&mut self) -> Result<Vec<&[u8]>> {
        match self.call {
            GuestCall::Core(_) => Ok(Vec::new()),
            GuestCall::Component(call) => self.guest.attachments(call),
        }
    }

    fn execute(
        &mut self,
        command: Command,
        attachments: Vec<Vec<u8>>,
        host: &mut Host,
    ) -> Result<(Outcome, Vec<Vec<u8>>)> {
        self.guest.execute_in_call(command, attachments, host)
    }
}

/// Runs of bytes beside messages.
#[derive(Debug)]
pub(super) struct Moved {
    /// Those of the message that the guest was sent last.
    pub(super) outgoing: Vec<Vec<u8>>,
    /// Those that it has sent since the last command.
    pub(super) incoming: Vec<Vec<u8>>,
    /// How many bytes these may have, and how many they have.
    pub(super) most: u64,
    count: u64,
}

impl Moved {
    pub(super) fn new(most: u64) -> Self {
        Self { outgoing: Vec::new(), incoming: Vec::new(), most, count: 0 }
    }

    /// Counts bytes that the guest sends. The limit, if they are too many.
    fn count(&mut self, len: u64) -> Option<String> {
        // To keep a run costs something even if there is nothing in it.
        let len = len.max(64);
        let count = self.count.checked_add(len).filter(|count| *count <= self.most);
        match count {
            Some(count) => {
                self.count = count;
                None
            }
            None => Some(format!("what one call passes is limited to {} bytes", self.most)),
        }
    }
}

impl Guest {
    /// A call: it is answered, or the guest waits for that.
    pub(super) fn guest_call(
        &mut self,
        call: GuestCall,
        host: &mut dyn Answers,
    ) -> Result<Option<Stop>> {
        if self.answer_call(&call, host, false)? {
            return Ok(None);
        }
        self.waiting = Some(call);
        Ok(Some(Stop::Waiting))
    }

    /// Has the host answer a call. `false`: the guest has to wait.
    pub(super) fn answer_call(
        &mut self,
        call: &GuestCall,
        host: &mut dyn Answers,
        again: bool,
    ) -> Result<bool> {
        let function = match call {
            GuestCall::Core(call) => call.function,
            GuestCall::Component(call) => call.function,
        };
        let span = tracing::trace_span!("hypercall", function);
        let _entered = span.enter();
        let Some(Answer { reply, attachments }) = host.answer(call, self, again)? else {
            return Ok(false);
        };
        self.stats.host_calls += 1;
        self.moved.outgoing = attachments;
        self.answer(&reply, host)?;
        Ok(true)
    }

    /// Has the guest do something in the middle of a call of the host: what that has come to, and the bytes of its
    /// attachments. It waits for the answer to its call afterwards.
    pub(crate) fn execute_in_call(
        &mut self,
        command: Command,
        attachments: Vec<Vec<u8>>,
        host: &mut dyn Answers,
    ) -> Result<(Outcome, Vec<Vec<u8>>)> {
        let started = Instant::now();
        let moved = Moved { outgoing: attachments, ..Moved::new(self.moved.most) };
        let outer = mem::replace(&mut self.moved, moved);
        self.answer(&HostReply::Execute(command), host)?;
        let progress = self.progress(host)?;
        self.idle = false;
        let moved = mem::replace(&mut self.moved, outer);
        // It is in the books already, and not the host's.
        self.within += started.elapsed();
        match progress {
            Progress::Done(outcome) => Ok((outcome, moved.incoming)),
            Progress::Waiting => Err(Error::Host("a call within a call was put off".to_owned())),
        }
    }

    /// The bytes of a call's attachments, which are in the guest's memory.
    pub(crate) fn attachments(&self, call: &ComponentCall) -> Result<Vec<&[u8]>> {
        // The same bytes can be attached any number of times.
        let mut left = self.moved.most;
        let runs = call.args.attachments.iter().map(|attachment| match attachment {
            Attachment::Memory(range) => match left.checked_sub(range.len) {
                Some(rest) => {
                    left = rest;
                    self.run_of(range)
                }
                None => Err(Error::Limit {
                    what: "what one call passes",
                    limit: format!("{} bytes", self.moved.most),
                    detail: format!("the guest passes {} bytes more", range.len - left),
                }),
            },
            Attachment::Sent { .. } => {
                Err(Error::Guest("it attached to a call what it has not sent".to_owned()))
            }
        });
        runs.collect()
    }

    /// Where a range of a linear memory is in guest-physical memory.
    fn place_of(&self, range: &MemoryRange) -> Result<Range<u64>> {
        let MemoryRange { memory, address, len } = *range;
        let known = self.memories.range(memory).unwrap_or(0..0);
        let start = known.start.checked_add(address);
        let place = start.and_then(|start| Some(start..start.checked_add(len)?));
        place.filter(|place| place.end <= known.end).ok_or_else(|| {
            Error::Guest(format!("it named {len} bytes at {address:#x} of its memory {memory}"))
        })
    }

    fn run_of(&self, range: &MemoryRange) -> Result<&[u8]> {
        let place = self.place_of(range)?;
        self.vm.memory().slice(place).map_err(|error| Error::hypervisor(&error))
    }

    /// Keeps a run of bytes that the guest sends ahead of an outcome.
    pub(super) fn send_run(&mut self, range: MemoryRange) -> Result<HostReply> {
        if let Some(limit) = self.moved.count(range.len) {
            return Ok(HostReply::Refused(limit));
        }
        let run = self.run_of(&range)?.to_vec();
        self.moved.incoming.push(run);
        Ok(HostReply::Moved)
    }

    /// Puts an attachment where the guest wants it.
    pub(super) fn receive_run(&mut self, attachment: u32, place: MemoryRange) -> Result<HostReply> {
        let to = match place.memory {
            MemoryRange::HEAP => self.translate(place.address, place.len)?,
            _ => self.place_of(&place)?,
        };
        let run = self.moved.outgoing.get(attachment as usize);
        let Some(run) = run.filter(|run| run.len() as u64 == place.len) else {
            return Err(Error::Guest(format!(
                "it wanted an attachment {attachment} that there is not"
            )));
        };
        self.vm.memory_mut().write(to.start, run).map_err(|error| Error::hypervisor(&error))?;
        Ok(HostReply::Moved)
    }

    /// What goes with the next command.
    pub(crate) fn attach(&mut self, attachments: Vec<Vec<u8>>) {
        self.moved = Moved { outgoing: attachments, ..Moved::new(self.moved.most) };
    }

    /// What came with the last outcome.
    pub(crate) fn take_attached(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.moved.incoming)
    }
}
