//! A guest in its VM: commands in, outcomes out, and its requests answered in between.

use crate::error::{Error, Result, described};
use crate::host::Host;
use crate::learned::PageSet;
use crate::limits::Limits;
use crate::linear_memory::LinearMemory;
use crate::machine::address_space::{Access, AddressSpace, LARGE_PAGE};
use crate::machine::base::{self, Base};
use crate::machine::descriptors;
use crate::machine::heap::Heap;
use crate::machine::memories::Memories;
use crate::machine::plan::Plan;
use crate::machine::{Machine, Progress};
use crate::module::Module;
use crate::stats::Stats;
use sandgrain_abi::Encode;
use sandgrain_abi::layout::{self, PAGE_SIZE, mailbox, record};
use sandgrain_abi::message::{Boot, Command, HostReply, Request};
use sandgrain_abi::text::printable;
use sandgrain_hypervisor::{GuestMemory, Hypervisor, Interrupter, Registers, Vm, VmExit};
use std::mem;
use std::ops::Range;
use std::time::{Duration, Instant};

mod booted;
mod calls;
#[cfg(fuzzing)]
pub mod fuzzing;
mod image;
mod room;
#[cfg(test)]
mod tests;

pub(crate) use booted::Booted;
use calls::Moved;
pub(crate) use calls::{Answer, Answers, ComponentCall, GuestCall, HostCall};
pub(crate) use image::GuestImage;

/// What is limited where a module does not fit beside the others.
pub(crate) const NO_ROOM_FOR_CODE: &str = "code of modules that are added later";

/// The largest request that is taken from a guest, in bytes, unless it carries a component's values.
const MAX_REQUEST: u64 = 1 << 20;

/// What the host tells a runtime that starts.
fn boot_message(limits: &Limits, plan: &Plan, cpu_features: Vec<String>) -> Boot {
    Boot {
        version: sandgrain_abi::VERSION,
        heap_size: plan.heap.end - plan.heap.start,
        stack_size: plan.stack.end - plan.stack.start,
        wasm_stack: limits.stack,
        max_tables: limits.tables,
        max_table_elements: limits.table_elements,
        max_instances: limits.instances,
        // How many there are really is up to the modules, of which the runtime has none yet. The host
        // counts when it is asked for one.
        max_memories: layout::MEMORIES_MAX,
        max_memory: limits.memory,
        cpu_features,
    }
}

/// Where a run has ended.
#[derive(Debug, PartialEq)]
enum Stop {
    /// The guest's last request waits for a command.
    Idle(Request),
    /// The guest waits for the answer to a call that the host has put off.
    Waiting,
}

/// Where a guest's messages can be: the mailbox's room and the heap's parts. First virtual and guest-physical
/// address, and bytes.
fn windows(plan: &Plan, heap: &Heap) -> [(u64, u64, u64); 3] {
    let header = layout::MAILBOX_HEADER;
    [
        (layout::MAILBOX + header, base::MAILBOX + header, layout::MAILBOX_SIZE - header),
        (layout::HEAP, plan.heap.start, plan.heap.end - plan.heap.start),
        (layout::MORE_HEAP, plan.more_heap.start, heap.more()),
    ]
}

/// A guest.
pub(crate) struct Guest {
    vm: Box<dyn Vm>,
    space: AddressSpace,
    plan: Plan,
    memories: Memories,
    heap: Heap,
    /// Where what the VM has of each range that it is given by and by ends, in guest-physical memory.
    given: Vec<u64>,
    /// The first address for code that no module has taken.
    next_code: u64,
    /// A reply that did not fit into the room that the guest gave.
    pending: Option<Vec<u8>>,
    /// What the guest waits with for a command.
    idle: bool,
    /// The call that it waits for the answer to, where the host has put that off.
    waiting: Option<GuestCall>,
    moved: Moved,
    /// Where the guest wants its reply.
    reply_room: Range<u64>,
    buffer: Vec<u8>,
    stats: Stats,
    /// Time of what it has done in the middle of the call under way.
    within: Duration,
}

impl Guest {
    /// Makes a machine with the runtime in it; nothing runs yet.
    pub(crate) fn boot(
        hypervisor: &dyn Hypervisor,
        base: &Base,
        limits: &Limits,
        plan: Plan,
        cpu_features: Vec<String>,
    ) -> Result<Self> {
        let hv = |error| Error::hypervisor(&error);
        let memory = GuestMemory::with_image(&base.image, plan.memory_len()?).map_err(hv)?;
        let mut memory = memory.with_reach(plan.code.end).map_err(hv)?;
        let mut space = base.space.clone();
        space.go_on_at(plan.tables.start, plan.tables.end);
        let stack = plan.stack.end - plan.stack.start;
        let bottom = layout::STACK_TOP - stack;
        space.map(&mut memory, bottom, plan.stack.start, stack, Access::ReadWrite)?;
        let heap = plan.heap.end - plan.heap.start;
        space.map(&mut memory, layout::HEAP, plan.heap.start, heap, Access::ReadWrite)?;

        let mut buffer = Vec::new();
        boot_message(limits, &plan, cpu_features).encode_to(&mut buffer);
        memory.write(base::MAILBOX + layout::MAILBOX_HEADER, &buffer).map_err(hv)?;

        let mut vm = hypervisor.create_vm(memory).map_err(hv)?;
        let features = hypervisor.cpu_features();
        let registers = descriptors::registers(space.root(), base.program.gate.start, features);
        vm.set_system_registers(&registers).map_err(hv)?;
        let rsp = layout::STACK_TOP - 64;
        vm.set_registers(&Registers { rip: base.program.entry, rsp, ..Default::default() })
            .map_err(hv)?;
        space.go_on_at(plan.module_tables.start, plan.module_tables.end);
        Ok(Self {
            memories: Memories::new(&plan, limits.memory),
            heap: Heap::default(),
            given: Vec::new(),
            vm,
            space,
            plan,
            next_code: 0,
            pending: None,
            idle: false,
            waiting: None,
            moved: Moved::new(limits.call_bytes),
            reply_room: 0..0,
            buffer,
            stats: Stats::default(),
            within: Duration::ZERO,
        })
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        self.vm.interrupter()
    }

    /// Puts a module's code into the guest: its text executable, the rest readable. Its address.
    pub(crate) fn load(&mut self, code: &[u8], text: Range<usize>) -> Result<(u64, u64)> {
        let len = (code.len() as u64).next_multiple_of(PAGE_SIZE);
        // Large code starts where large pages can map it.
        let alignment = if len >= LARGE_PAGE { LARGE_PAGE } else { PAGE_SIZE };
        let start = self.next_code.next_multiple_of(alignment);
        let Some((start, phys)) = self.plan.place_code(start, len) else {
            let Plan { code, more_code, .. } = &self.plan;
            return Err(Error::Limit {
                what: NO_ROOM_FOR_CODE,
                limit: format!("{} bytes", code.end - code.start + more_code.end - more_code.start),
                detail: format!("another module of {len} bytes does not fit"),
            });
        };
        let address = layout::CODE + start;
        let memory = self.vm.memory_mut();
        memory.write(phys, code).map_err(|error| Error::hypervisor(&error))?;
        let text = text.start as u64..(text.end as u64).next_multiple_of(PAGE_SIZE);
        for (part, access) in [
            (0..text.start, Access::ReadOnly),
            (text.clone(), Access::Code),
            (text.end..len, Access::ReadOnly),
        ] {
            let (virt, phys) = (address + part.start, phys + part.start);
            self.space.map(memory, virt, phys, part.end.saturating_sub(part.start), access)?;
        }
        self.next_code = start + len;
        self.give()?;
        Ok((address, code.len() as u64))
    }

    /// Runs the guest until it waits for its first command.
    fn start(&mut self, host: &mut dyn Answers) -> Result<()> {
        match self.run(host)? {
            Stop::Idle(Request::Ready) => Ok(()),
            Stop::Idle(other) => Err(Error::Guest(format!("it began with {}", described(&other)))),
            Stop::Waiting => Err(Error::Guest("it began with a call".to_owned())),
        }
    }

    /// Runs until the guest has nothing more to ask, or has to wait.
    fn run(&mut self, host: &mut dyn Answers) -> Result<Stop> {
        self.idle = false;
        loop {
            let entered = Instant::now();
            let exit = self.vm.run();
            let left = Instant::now();
            self.stats.guest += left - entered;
            self.stats.exits += 1;
            let stop = self.exit(exit, host);
            self.stats.host += left.elapsed().saturating_sub(mem::take(&mut self.within));
            if let Some(stop) = stop? {
                self.idle = matches!(stop, Stop::Idle(_));
                return Ok(stop);
            }
        }
    }

    /// Runs until what the guest was told is done, or it has to wait.
    fn progress(&mut self, host: &mut dyn Answers) -> Result<Progress> {
        match self.run(host)? {
            Stop::Idle(Request::Done(outcome)) => Ok(Progress::Done(outcome)),
            Stop::Idle(other) => {
                Err(Error::Guest(format!("it answered a command with {}", described(&other))))
            }
            Stop::Waiting => Ok(Progress::Waiting),
        }
    }

    /// Deals with one exit; says so if the run ends with it.
    fn exit(
        &mut self,
        exit: Result<VmExit, sandgrain_hypervisor::Error>,
        host: &mut dyn Answers,
    ) -> Result<Option<Stop>> {
        match exit.map_err(|error| Error::hypervisor(&error))? {
            VmExit::PortOut { port: layout::PORT_HYPERCALL, .. } => self.hypercall(host),
            VmExit::PortOut { port: layout::PORT_FATAL, .. } => Err(self.fault()),
            VmExit::Interrupted => match host.stopped() {
                Some(error) => Err(error),
                // Meant for an earlier call: go on.
                None => Ok(None),
            },
            exit => Err(Error::Guest(format!("it left the VM by {exit:?}"))),
        }
    }

    fn hypercall(&mut self, host: &mut dyn Answers) -> Result<Option<Stop>> {
        self.stats.hypercalls += 1;
        let Some(request) = self.receive()? else {
            return Ok(None);
        };
        let answer = match request {
            Request::Ready | Request::Done(_) => return Ok(Some(Stop::Idle(request))),
            Request::HostCall { function, memory, args } => {
                let call = GuestCall::Core(HostCall { function, memory, args });
                return self.guest_call(call, host);
            }
            Request::ComponentCall { function, args, queued } => {
                let call = GuestCall::Component(ComponentCall { function, args, queued });
                return self.guest_call(call, host);
            }
            Request::Send(range) => self.send_run(range)?,
            Request::Receive { attachment, place } => self.receive_run(attachment, place)?,
            Request::CreateMemory { size, maximum } => {
                let memory = self.vm.memory_mut();
                let reply = self.memories.create(memory, &mut self.space, size, maximum)?;
                self.give()?;
                reply
            }
            Request::GrowMemory { memory: number, size } => {
                let memory = self.vm.memory_mut();
                let reply = self.memories.grow(memory, &mut self.space, number, size)?;
                self.give()?;
                reply
            }
            Request::GrowHeap { size } => self.grow_heap(size)?,
            Request::Panic(message) => {
                let message = printable(&message);
                return Err(Error::Guest(format!("its runtime gave up: {message}")));
            }
            Request::Fault => return Err(self.fault()),
        };
        self.answer(&answer, host)?;
        Ok(None)
    }

    /// Replies to a request other than the last.
    fn answer(&mut self, answer: &HostReply, host: &dyn Answers) -> Result<()> {
        self.reply(answer)?;
        // A host function may have used up the time; the guest must not get another turn then.
        host.stopped().map_or(Ok(()), Err)
    }

    /// The bytes of a linear memory; none if there is no such memory.
    pub(crate) fn memory(&mut self, number: u32) -> Result<&mut [u8]> {
        let range = self.memories.range(number).unwrap_or(0..0);
        self.vm.memory_mut().slice_mut(range).map_err(|error| Error::hypervisor(&error))
    }

    pub(crate) fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Pages of memory that the guest has to itself.
    pub(crate) fn private_pages(&self) -> Result<u64> {
        self.vm.memory().resident_pages().map_err(|error| Error::hypervisor(&error))
    }

    /// Has the guest do something, and answers its calls.
    pub(crate) fn execute(
        &mut self,
        command: &Command,
        host: &mut dyn Answers,
    ) -> Result<Progress> {
        if !self.idle {
            self.start(host)?;
        }
        self.reply(command)?;
        self.progress(host)
    }

    /// Has the guest go on with the answer to the call that it waits with.
    pub(crate) fn resume(&mut self, host: &mut dyn Answers) -> Result<Progress> {
        let Some(call) = self.waiting.take() else {
            return Err(Error::Host("a guest that does not wait was resumed".to_owned()));
        };
        if !self.answer_call(&call, host, true)? {
            return Err(Error::Host("a call was put off twice".to_owned()));
        }
        self.progress(host)
    }

    /// Reads the guest's request. `None`: it asked again for a reply, and has it.
    fn receive(&mut self) -> Result<Option<Request>> {
        let hv = |error| Error::hypervisor(&error);
        // One copy of the header; all that follows works on the copy.
        let mut header = [0; layout::MAILBOX_HEADER as usize];
        self.vm.memory().read(base::MAILBOX, &mut header).map_err(hv)?;
        let field = |at: u64| {
            let at = at as usize;
            header[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let room = field(mailbox::REPLY_CAPACITY);
        self.reply_room = self.translate(field(mailbox::REPLY_ADDRESS), room)?;
        let len = field(mailbox::REQUEST_LEN);
        if len == 0 {
            let Some(reply) = self.pending.take() else {
                return Err(Error::Guest("it asked for a reply that there is not".to_owned()));
            };
            self.send(reply)?;
            return Ok(None);
        }
        let range = self.translate(field(mailbox::REQUEST_ADDRESS), len)?;
        // Nothing runs while the host decodes, so the bytes can be read in place; each is read once.
        let bytes = self.vm.memory().slice(range).map_err(hv)?;
        let carries_values = Request::carries_values(bytes);
        let most = if carries_values { MAX_REQUEST + self.moved.most } else { MAX_REQUEST };
        if len > most {
            return Err(if carries_values {
                Error::Limit {
                    what: "what one call passes",
                    limit: format!("{} bytes", self.moved.most),
                    detail: format!("the guest passes {len} bytes"),
                }
            } else {
                Error::Guest(format!("it sent a request of {len} bytes"))
            });
        }
        let request = Request::decode_from(bytes);
        // A reply is for the request before it: whoever asks for something else gives it up, unless that is the
        // heap to put it in.
        if !matches!(request, Ok(Request::GrowHeap { .. })) {
            self.pending = None;
        }
        request.map(Some).map_err(|error| Error::Guest(format!("it sent a {error}")))
    }

    /// Guest-physical bytes of a range that the guest named: within the mailbox's room or the heap.
    fn translate(&self, address: u64, len: u64) -> Result<Range<u64>> {
        for (virt, phys, size) in windows(&self.plan, &self.heap) {
            if let Some(offset) = address.checked_sub(virt)
                && offset <= size
                && len <= size - offset
            {
                return Ok(phys + offset..phys + offset + len);
            }
        }
        Err(Error::Guest(format!(
            "it named {len} bytes at {address:#x}, which are not its to name"
        )))
    }

    fn reply(&mut self, message: &impl Encode) -> Result<()> {
        let mut bytes = mem::take(&mut self.buffer);
        bytes.clear();
        message.encode_to(&mut bytes);
        self.send(bytes)
    }

    /// Writes a reply, or only its length if there is no room for it.
    fn send(&mut self, bytes: Vec<u8>) -> Result<()> {
        let hv = |error| Error::hypervisor(&error);
        let memory = self.vm.memory_mut();
        let len = bytes.len() as u64;
        memory.write_u64(base::MAILBOX + mailbox::REPLY_LEN, len).map_err(hv)?;
        if len <= self.reply_room.end - self.reply_room.start {
            memory.write(self.reply_room.start, &bytes).map_err(hv)?;
            self.buffer = bytes;
        } else {
            self.pending = Some(bytes);
        }
        Ok(())
    }

    /// What the gate wrote down of a trap that nothing handles.
    fn fault(&self) -> Error {
        let field = |at| self.vm.memory().read_u64(base::RECORD + at).unwrap_or(u64::MAX);
        let vector = field(record::VECTOR);
        let how = match field(record::FATAL) {
            record::fatal::NONE => "in the runtime",
            record::fatal::RING0 => "in the gate",
            record::fatal::NESTED => "in the trap entry",
            record::fatal::SYSCALL => {
                return Error::Guest(format!("`syscall` at {:#x}", field(record::RIP)));
            }
            _ => "with a record that makes no sense",
        };
        Error::Guest(format!(
            "exception {vector} {how}: error code {:#x}, rip {:#x}, rsp {:#x}, cr2 {:#x}",
            field(record::ERROR),
            field(record::RIP),
            field(record::RSP),
            field(record::ADDRESS),
        ))
    }
}

impl Machine for Guest {
    fn load(&mut self, module: &Module) -> Result<(u64, u64)> {
        match module.artifact() {
            Some(artifact) => self.load(artifact.code(), artifact.text()),
            None => Err(Error::BadCall("the module was compiled to run without a VM".to_owned())),
        }
    }

    fn execute(&mut self, command: &Command, host: &mut Host) -> Result<Progress> {
        Guest::execute(self, command, host)
    }

    fn resume(&mut self, host: &mut Host) -> Result<Progress> {
        Guest::resume(self, host)
    }

    fn memory(&mut self, number: u32) -> Result<Box<dyn LinearMemory + '_>> {
        Ok(Box::new(Guest::memory(self, number)?))
    }

    fn attach(&mut self, attachments: Vec<Vec<u8>>) {
        Guest::attach(self, attachments);
    }

    fn take_attached(&mut self) -> Vec<Vec<u8>> {
        Guest::take_attached(self)
    }

    fn stats(&mut self) -> &mut Stats {
        self.stats_mut()
    }

    fn resident_pages(&self) -> Result<Option<u64>> {
        self.private_pages().map(Some)
    }

    fn touched(&self, image: &GuestImage) -> Result<PageSet> {
        Guest::touched(self, image)
    }

    fn capture(&self) -> Result<Option<GuestImage>> {
        Guest::capture(self).map(Some)
    }

    fn reset(&mut self, image: &GuestImage) -> Result<bool> {
        Guest::reset(self, image)
    }
}
