//! The dispatcher of hypercalls without a guest that runs: what the fuzz target `hypercalls` drives.

use super::{Guest, Stop};
use crate::caller::Caller;
use crate::engine::Virtual;
use crate::error::{Error, Trap};
use crate::host::Host;
use crate::host_functions::{Body, HostFunctions, IntoHostFunction};
use crate::limits::Limits;
use crate::machine::base;
use crate::workers::Device;
use sandgrain_abi::Encode;
use sandgrain_abi::layout::{self, mailbox};
use sandgrain_abi::message::{Fault, HostReply, Outcome, Request};
use sandgrain_abi::types::{FuncType, MemoryType, ModuleInfo};
use sandgrain_wasi::{Cancel, Wasi, WasiConfig};
use std::time::{Duration, Instant};

/// For how long WASI may wait: long enough to get there, short enough not to stand in the way.
const PATIENCE: Duration = Duration::from_millis(2);

/// A hypercall as a hostile guest makes it up.
#[derive(Debug)]
pub struct Hypercall {
    /// Address and bytes of the request, as the mailbox's header has them.
    pub request: (u64, u64),
    /// Address and bytes of the room for the reply.
    pub room: (u64, u64),
    /// What is in the mailbox behind its header; cut where that ends.
    pub mailbox: Vec<u8>,
    /// What the heap begins with.
    pub heap: Vec<u8>,
    /// What the first linear memory begins with, if there is one.
    pub memory: Vec<u8>,
}

/// A guest that never runs, and the host behind it.
pub struct Dispatcher {
    platform: Virtual,
    limits: Limits,
    info: ModuleInfo,
    /// The machine's own first pages: descriptors and the trap record.
    pages: Vec<u8>,
    /// One to which the host has not said anything yet.
    unused: Option<Guest>,
}

impl Dispatcher {
    /// Opens the machine's hypervisor.
    ///
    /// # Errors
    /// [`Error::NoHypervisor`], [`Error::Host`].
    pub fn new() -> Result<Self, Error> {
        let hypervisor =
            sandgrain_hypervisor::open().map_err(|error| Error::NoHypervisor(error.to_string()))?;
        let memory = MemoryType {
            minimum: 1,
            maximum: None,
            page_size: 1 << 16,
            memory64: false,
            shared: false,
        };
        let info = ModuleInfo { memories: vec![memory; 2], ..ModuleInfo::default() };
        let limits =
            Limits::default().memory(1 << 20).heap(4 << 20).stdout(1 << 16).stderr(1 << 16);
        let platform = Virtual::new(hypervisor, Device::default())?;
        let mut new = Self { platform, limits, info, pages: Vec::new(), unused: None };
        let guest = new.guest();
        new.pages = first_pages(&guest).to_vec();
        new.unused = Some(guest);
        Ok(new)
    }

    /// Makes the hypercalls, one after the other, up to one that ends the guest. How many the host
    /// took.
    ///
    /// # Panics
    /// When the host does what no request may make it do.
    pub fn dispatch(&mut self, calls: &[Hypercall]) -> usize {
        let mut guest = self.unused.take().unwrap_or_else(|| self.guest());
        let mut host = self.host();
        let mut taken = 0;
        for call in calls {
            match hypercall(&mut guest, &mut host, call) {
                Ok(None) => check_reply(&guest),
                Ok(Some(Request::Done(Outcome::Trapped(trap)))) => check_trap(trap),
                Ok(Some(Request::Ready | Request::Done(_))) => {}
                Ok(Some(other)) => panic!("{other:?} waits for a command"),
                Err(Error::Guest(reason)) => {
                    check_text(&reason);
                    break;
                }
                // WASI's patience.
                Err(Error::Interrupted) => break,
                Err(other) => panic!("{call:x?}: {other:?}"),
            }
            taken += 1;
        }
        self.check_memory(&guest);
        // The host has answered nothing, so the next input finds it as this one did.
        if taken == 0 {
            self.unused = Some(guest);
        }
        taken
    }

    fn guest(&self) -> Guest {
        let guest = self.platform.unstarted(&self.limits, &[(&self.info, 0)]);
        guest.expect("the host has room for another guest")
    }

    fn host(&self) -> Host {
        fn add<M>(functions: &mut HostFunctions, name: &str, function: impl IntoHostFunction<M>) {
            fn ty<M, F: IntoHostFunction<M>>(_: &F) -> FuncType {
                F::func_type()
            }
            let ty = ty(&function);
            functions.add("host", name, ty, Body::Now(function.into_call()));
        }
        let mut functions = HostFunctions::default();
        add(&mut functions, "fill", |caller: &mut Caller<'_>, address: u32, len: u32| {
            caller.bytes(address, len).map(|bytes| bytes.fill(0xff))
        });
        add(&mut functions, "add", |a: i64, b: f64, c: f32| (a as f64 + b + f64::from(c), a));
        let config = WasiConfig::new()
            .arg("program")
            .env("NAME", "value")
            .output_limits(self.limits.stdout, self.limits.stderr);
        Host {
            functions,
            wasi: Some(Wasi::new(config)),
            cancel: Cancel::new().with_deadline(Instant::now() + PATIENCE),
            ..Host::default()
        }
    }

    /// The machine's own pages are as they were, and no linear memory lies in them or in another; nor is the heap
    /// larger than its room.
    fn check_memory(&self, guest: &Guest) {
        let untouched = first_pages(guest) == self.pages;
        assert!(untouched, "descriptors or the trap record were written to");
        let heap = guest.heap.range(&guest.plan);
        assert!(heap.end <= guest.plan.more_heap.end, "the heap is at {heap:x?}");
        let mut end = guest.plan.memories.start;
        for number in 0.. {
            let Some(range) = guest.memories.range(number) else { break };
            assert!(
                end <= range.start && range.end <= guest.plan.memories.end,
                "memory {number} is at {range:x?}, from {end:x} on there is room"
            );
            assert!(range.end - range.start <= self.limits.memory, "memory {number}: {range:x?}");
            end = range.end;
        }
    }
}

fn first_pages(guest: &Guest) -> &[u8] {
    guest.vm.memory().slice(0..base::MAILBOX).expect("the first pages")
}

fn hypercall(
    guest: &mut Guest,
    host: &mut Host,
    call: &Hypercall,
) -> Result<Option<Request>, Error> {
    let room = (layout::MAILBOX_SIZE - layout::MAILBOX_HEADER) as usize;
    let bytes = &call.mailbox[..call.mailbox.len().min(room)];
    let heap = guest.plan.heap.start;
    if let Ok(memory) = guest.memory(0) {
        let len = call.memory.len().min(memory.len());
        memory[..len].copy_from_slice(&call.memory[..len]);
    }
    let memory = guest.vm.memory_mut();
    memory.write(base::MAILBOX + layout::MAILBOX_HEADER, bytes).expect("the mailbox");
    memory.write(heap, &call.heap).expect("the heap");
    for (field, value) in [
        (mailbox::REQUEST_ADDRESS, call.request.0),
        (mailbox::REQUEST_LEN, call.request.1),
        (mailbox::REPLY_ADDRESS, call.room.0),
        (mailbox::REPLY_CAPACITY, call.room.1),
    ] {
        memory.write_u64(base::MAILBOX + field, value).expect("the mailbox");
    }
    Ok(match guest.hypercall(host)? {
        Some(Stop::Idle(request)) => Some(request),
        Some(Stop::Waiting) => panic!("nobody has told the host to put anything off"),
        None => None,
    })
}

/// A reply that has room is one.
fn check_reply(guest: &Guest) {
    let memory = guest.vm.memory();
    let len = memory.read_u64(base::MAILBOX + mailbox::REPLY_LEN).expect("the mailbox");
    let room = &guest.reply_room;
    if len <= room.end - room.start {
        let bytes = memory.slice(room.start..room.start + len).expect("the reply");
        HostReply::decode_from(bytes).expect("a reply");
    }
}

/// What an error says of a trap is text for a terminal.
fn check_trap(trap: sandgrain_abi::Trap) {
    if let Fault::Wasm { code, message } = trap.fault {
        let trap = Trap { code, message, frames: trap.frames };
        check_text(&trap.to_string());
        trap.backtrace().for_each(|line| check_text(&line));
    }
}

fn check_text(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?} is not for a terminal");
}
