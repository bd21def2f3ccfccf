//! The reference engine: the same modules, host functions and limits, run in this process by wasmtime,
//! without the VM. To compare with, and for development where there is no hypervisor.

use crate::caller::Calling;
use crate::error::{Error, Result};
use crate::guest::{Answer, ComponentCall, GuestImage};
use crate::host::Host;
use crate::learned::PageSet;
use crate::limits::Limits;
use crate::linear_memory::{LinearMemory, outside};
use crate::machine::{Machine, Progress};
use crate::module::Module;
use crate::stats::Stats;
use crate::stop::Target;
use sandgrain_abi::Value;
use sandgrain_abi::component::{Attachment, Payload};
use sandgrain_abi::message::{Command, HostReply, Outcome, PageRange, Queued};
use sandgrain_abi::types::ModuleInfo;
use sandgrain_executor::{self as executor, Embedder, Instances, Sizes, State};
use std::cell::RefCell;
use std::mem;
use std::ops::Range;
use std::time::Instant;
use wasmtime::component::Component;
use wasmtime::{AsContextMut, Caller, Engine, Memory, StoreContextMut, UpdateDeadline};

/// A guest without a VM.
pub(crate) struct Reference {
    instances: Instances<Process>,
    /// What goes with the next command.
    attachments: Vec<Vec<u8>>,
    stats: Stats,
}

/// Something compiled for this process.
#[derive(Clone)]
pub(crate) enum Code {
    /// A module.
    Module(wasmtime::Module),
    /// A component.
    Component(Component),
}

thread_local! {
    /// The attachments of the message that the guest on this thread was sent last.
    static ATTACHMENTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What the executor needs of this process.
#[derive(Default)]
struct Process {
    code: Vec<Code>,
    /// Memories that the host has asked for, by number.
    memories: Vec<Memory>,
    /// The host's side, while a command is executed.
    host: Host,
    /// An error that ends the sandbox.
    fatal: Option<Error>,
    host_calls: u64,
}

impl Reference {
    pub(crate) fn new(engine: &Engine, limits: &Limits, modules: &[&ModuleInfo]) -> Self {
        let memories: usize = modules.iter().map(|info| info.memories.len()).sum();
        let sizes = Sizes {
            memory: limits.memory,
            memories: memories as u64 + u64::from(limits.extra_memories) + 1,
            tables: limits.tables,
            table_elements: limits.table_elements,
            instances: limits.instances,
        };
        let mut instances = Instances::new(engine, sizes, Process::default());
        let store = instances.store_mut();
        // The counter belongs to all sandboxes of the engine: each looks whether it is the one meant.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| match context.data().embedder.host.stopped() {
            Some(_) => Err(wasmtime::Error::msg("stopped")),
            None => Ok(UpdateDeadline::Continue(1)),
        });
        Self { instances, attachments: Vec::new(), stats: Stats::default() }
    }
}

/// Stops guests by the engine's counter.
pub(crate) struct Epoch(pub(crate) Engine);

impl Target for Epoch {
    fn stop(&self) {
        self.0.increment_epoch();
    }

    fn clear(&self) {}
}

impl Machine for Reference {
    fn load(&mut self, module: &Module) -> Result<(u64, u64)> {
        let Some(module) = module.process_code() else {
            return Err(Error::BadCall("the module was compiled for a VM".to_owned()));
        };
        let code = &mut self.instances.store_mut().data_mut().embedder.code;
        code.push(module.clone());
        Ok((code.len() as u64 - 1, 0))
    }

    fn attach(&mut self, attachments: Vec<Vec<u8>>) {
        self.attachments = attachments;
    }

    fn take_attached(&mut self) -> Vec<Vec<u8>> {
        // What a guest passes is in its messages: they go nowhere.
        Vec::new()
    }

    fn execute(&mut self, command: &Command, host: &mut Host) -> Result<Progress> {
        ATTACHMENTS.replace(mem::take(&mut self.attachments));
        mem::swap(&mut self.instances.store_mut().data_mut().embedder.host, host);
        let started = Instant::now();
        let outcome = self.instances.execute(command.clone());
        self.stats.guest += started.elapsed();
        let process = &mut self.instances.store_mut().data_mut().embedder;
        mem::swap(&mut process.host, host);
        self.stats.host_calls += mem::take(&mut process.host_calls);
        if let Some(error) = process.fatal.take().or_else(|| host.stopped()) {
            return Err(error);
        }
        Ok(Progress::Done(outcome))
    }

    fn resume(&mut self, _: &mut Host) -> Result<Progress> {
        Err(Error::Host("a guest without a VM cannot wait".to_owned()))
    }

    fn memory(&mut self, number: u32) -> Result<Box<dyn LinearMemory + '_>> {
        let store = self.instances.store_mut();
        let bytes: &mut [u8] = match store.data().embedder.memories.get(number as usize).copied() {
            Some(memory) => memory.data_mut(store),
            None => &mut [],
        };
        Ok(Box::new(bytes))
    }

    fn stats(&mut self) -> &mut Stats {
        &mut self.stats
    }

    fn resident_pages(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn touched(&self, _: &GuestImage) -> Result<PageSet> {
        Ok(PageSet::default())
    }

    fn capture(&self) -> Result<Option<GuestImage>> {
        Ok(None)
    }

    fn reset(&mut self, _: &GuestImage) -> Result<bool> {
        Ok(false)
    }
}

/// A guest in the middle of a call.
struct InCall<'a> {
    store: StoreContextMut<'a, State<Process>>,
    /// What the caller exports.
    memory: Option<Memory>,
}

impl InCall<'_> {
    /// Has the host answer the call. It is with the call meanwhile, and not in the store.
    fn answer(mut self, answer: impl FnOnce(&mut Host, &mut Self) -> Result<Answer>) -> HostReply {
        let process = &mut self.store.data_mut().embedder;
        process.host_calls += 1;
        let mut host = mem::take(&mut process.host);
        let answered = answer(&mut host, &mut self);
        let process = &mut self.store.data_mut().embedder;
        process.host = host;
        match answered {
            Ok(Answer { reply, attachments }) => {
                ATTACHMENTS.replace(attachments);
                reply
            }
            Err(error) => {
                process.fatal = Some(error);
                HostReply::Abort
            }
        }
    }
}

impl LinearMemory for InCall<'_> {
    fn size(&self) -> usize {
        self.memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    fn bytes(&mut self, range: Range<usize>) -> Result<&mut [u8]> {
        let size = self.size();
        self.whole().get_mut(range.clone()).ok_or_else(|| outside(&range, size))
    }

    fn whole(&mut self) -> &mut [u8] {
        match self.memory {
            Some(memory) => memory.data_mut(&mut self.store),
            None => &mut [],
        }
    }
}

impl Calling for InCall<'_> {
    fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    fn attachments(&mut self) -> Result<Vec<&[u8]>> {
        // What a guest passes is in its messages.
        Ok(Vec::new())
    }

    fn execute(
        &mut self,
        command: Command,
        attachments: Vec<Vec<u8>>,
        host: &mut Host,
    ) -> Result<(Outcome, Vec<Vec<u8>>)> {
        ATTACHMENTS.replace(attachments);
        mem::swap(&mut self.store.data_mut().embedder.host, host);
        let outcome = executor::execute(self.store.as_context_mut(), command);
        let process = &mut self.store.data_mut().embedder;
        mem::swap(&mut process.host, host);
        match process.fatal.take().or_else(|| host.stopped()) {
            Some(error) => Err(error),
            None => Ok((outcome, Vec::new())),
        }
    }
}

impl Embedder for Process {
    fn module(&mut self, _: &Engine, address: u64, _: u64) -> wasmtime::Result<wasmtime::Module> {
        match self.code.get(address as usize) {
            Some(Code::Module(module)) => Ok(module.clone()),
            _ => Err(wasmtime::Error::msg("a module that was never loaded")),
        }
    }

    fn component(&mut self, _: &Engine, address: u64, _: u64) -> wasmtime::Result<Component> {
        match self.code.get(address as usize) {
            Some(Code::Component(component)) => Ok(component.clone()),
            _ => Err(wasmtime::Error::msg("a component that was never loaded")),
        }
    }

    fn touch(&mut self, _: &[PageRange]) {}

    fn memory_number(store: &mut StoreContextMut<'_, State<Self>>, memory: &Memory) -> Option<u32> {
        let memories = &mut store.data_mut().embedder.memories;
        memories.push(*memory);
        u32::try_from(memories.len() - 1).ok()
    }

    fn call_host(
        caller: &mut Caller<'_, State<Self>>,
        function: u32,
        memory: Option<Memory>,
        args: Vec<Value>,
    ) -> Result<HostReply, String> {
        let guest = InCall { store: caller.as_context_mut(), memory };
        Ok(guest.answer(|host, guest| host.call(function, guest, &args).map(Answer::from)))
    }

    fn call_component(
        store: &mut StoreContextMut<'_, State<Self>>,
        function: u32,
        args: Payload,
        queued: Vec<Queued>,
    ) -> Result<HostReply, String> {
        let call = ComponentCall { function, args, queued };
        let guest = InCall { store: store.as_context_mut(), memory: None };
        Ok(guest.answer(|host, guest| host.call_component(&call, guest)))
    }

    fn done(_: Outcome) -> Result<HostReply, String> {
        Err("the host told it to do something, rather than having it done".to_owned())
    }

    fn ticks() -> Option<u64> {
        None
    }

    fn locate(_: &[u8]) -> Option<Attachment> {
        None
    }

    fn send(_: &[u8]) -> Result<bool, String> {
        Ok(false)
    }

    fn receive(number: u32, place: &mut [u8]) -> Result<(), String> {
        ATTACHMENTS.with_borrow(|attachments| match attachments.get(number as usize) {
            Some(run) if run.len() == place.len() => {
                place.copy_from_slice(run);
                Ok(())
            }
            _ => Err("an attachment that there is not".to_owned()),
        })
    }
}
