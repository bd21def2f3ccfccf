//! A guest's calls of the host, and the runs of bytes that go beside its messages.

use super::{Guest, Stop};
use crate::error::{Error, Result};
use crate::host::Host;
use sandgrain_abi::Value;
use sandgrain_abi::component::{Attachment, Payload};
use sandgrain_abi::message::{HostReply, MemoryRange, Queued};
use std::ops::Range;

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

/// A call with what is seen of the guest's memory in it, while the guest stands still.
pub(crate) enum Seen<'a> {
    /// The linear memory that the caller exports.
    Core(&'a HostCall, Option<&'a mut [u8]>),
    /// The bytes of its attachments.
    Component(&'a ComponentCall, &'a [&'a [u8]]),
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

    /// Whether the guest has to wait for the answer to a call, without a thread.
    fn puts_off(&mut self, call: Seen<'_>) -> Result<bool>;

    /// Answers a call. It may be one that was put off.
    fn answer(&mut self, call: Seen<'_>) -> Result<Answer>;
}

impl Answers for Host {
    fn stopped(&self) -> Option<Error> {
        Host::stopped(self)
    }

    fn puts_off(&mut self, call: Seen<'_>) -> Result<bool> {
        match call {
            Seen::Core(HostCall { function, args, .. }, mut memory) => {
                Host::puts_off(self, *function, memory.as_mut().map(|bytes| bytes as _), args)
            }
            Seen::Component(call, attachments) => self.puts_off_component(call, attachments),
        }
    }

    fn answer(&mut self, call: Seen<'_>) -> Result<Answer> {
        match call {
            Seen::Core(HostCall { function, args, .. }, mut memory) => {
                let memory = memory.as_mut().map(|bytes| bytes as _);
                self.call(*function, memory, args).map(Answer::from)
            }
            Seen::Component(call, attachments) => self.call_component(call, attachments),
        }
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
        if self.with_seen(&call, |seen| host.puts_off(seen))? {
            self.waiting = Some(call);
            return Ok(Some(Stop::Waiting));
        }
        self.answer_call(&call, host)?;
        Ok(None)
    }

    /// Has the host answer a call.
    pub(super) fn answer_call(&mut self, call: &GuestCall, host: &mut dyn Answers) -> Result<()> {
        let function = match call {
            GuestCall::Core(call) => call.function,
            GuestCall::Component(call) => call.function,
        };
        let span = tracing::trace_span!("hypercall", function);
        let _entered = span.enter();
        self.stats.host_calls += 1;
        let Answer { reply, attachments } = self.with_seen(call, |seen| host.answer(seen))?;
        self.moved.outgoing = attachments;
        self.answer(&reply, host)
    }

    /// Shows a call, and what it needs of the guest's memory.
    fn with_seen<T>(
        &mut self,
        call: &GuestCall,
        see: impl FnOnce(Seen<'_>) -> Result<T>,
    ) -> Result<T> {
        match call {
            GuestCall::Core(call) => {
                let memory = call.memory.map(|number| self.memory(number)).transpose()?;
                see(Seen::Core(call, memory))
            }
            GuestCall::Component(call) => {
                let attachments = self.attachments(&call.args.attachments)?;
                see(Seen::Component(call, &attachments))
            }
        }
    }

    /// The bytes of a call's attachments, which are in the guest's memory.
    fn attachments(&self, attachments: &[Attachment]) -> Result<Vec<&[u8]>> {
        // The same bytes can be attached any number of times.
        let mut left = self.moved.most;
        let runs = attachments.iter().map(|attachment| match attachment {
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
