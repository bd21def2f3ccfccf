//! What a guest is told before it asks, and what it has not been told yet.

use super::components::wasi_function;
use super::{Host, WASI};
use crate::error::{Error, Result};
use crate::guest::ComponentCall;
use sandgrain_abi::component::{Payload, Writer};
use sandgrain_abi::message::{Clock, HostReply, Known, MAX_NAMES, PROMISED, Promise, Queued, Told};
use sandgrain_hypervisor::tick_rate;
use sandgrain_wasi::Cancel;
use sandgrain_wasi::component::Function;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a stream that are sent ahead of the reads that want them.
const AHEAD: usize = 8 << 10;
/// Random bytes that are sent ahead.
const RANDOM: u64 = 1 << 10;
/// Bytes that one thing may have that a guest is told and may not need.
const MAX_TOLD: usize = 4 << 10;

/// What every guest may ask for once: about the world around it.
const WORLD: [&str; 7] = [
    "get-environment",
    "get-arguments",
    "initial-cwd",
    "get-directories",
    "get-terminal-stdin",
    "get-terminal-stdout",
    "get-terminal-stderr",
];

/// What a guest is told of a request with the call.
const REQUEST: [&str; 4] = [
    "[method]incoming-request.method",
    "[method]incoming-request.path-with-query",
    "[method]incoming-request.scheme",
    "[method]incoming-request.authority",
];

/// What is known of a guest's queued calls.
#[derive(Default)]
pub(crate) struct Books {
    /// The guest's next own name of a resource is this one, or above.
    next: u32,
    /// Standard streams that it has by names of its own.
    standard: BTreeSet<u32>,
    /// Failures to write to a standard stream that it does not know of; if it has dropped that, under `None`.
    untold: BTreeMap<Option<u32>, Vec<u8>>,
    /// Whether it was told of the world around it.
    knows_world: bool,
}

fn handle(args: &[u8], at: usize) -> Option<u32> {
    args.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Whether a read has returned as many bytes as it was to.
fn has_read(args: &[u8], run: &[u8]) -> bool {
    let asked = args.get(4..).and_then(|bytes| bytes.first_chunk());
    let read = handle(run, 0).map(u64::from);
    read.is_some() && asked.map(|bytes| u64::from_le_bytes(*bytes)) == read
}

/// The resource that a call takes away, if it takes one.
fn taken(promise: Promise, args: &[u8]) -> Option<u32> {
    match promise {
        Promise::NewResponse | Promise::BodyFinish | Promise::FinishIncoming => handle(args, 0),
        // After the place where it goes, and that it is no error.
        Promise::OutparamSet => handle(args, 5),
        _ => None,
    }
}

impl Host {
    /// The host's handle of what the guest means by one.
    fn meant(&self, handle: u32) -> Option<u32> {
        match handle {
            PROMISED.. => self.promised.get(&handle).copied(),
            handle => Some(handle),
        }
    }

    /// Whether a queued call has returned what the guest could tell: nothing, `ok`, a resource, or what was sent ahead.
    pub(super) fn check_promise(
        &mut self,
        function: Function,
        call: &Queued,
        result: &[u8],
    ) -> Result<()> {
        let promise = Self::promise(call.function);
        let first = handle(&call.args, 0);
        match (promise, call.made, result) {
            (Promise::Read, None, [0, 0, read @ ..]) if has_read(&call.args, read) => {}
            (Promise::Flush, None, [1, ..]) => {
                let stream = first.and_then(|stream| self.meant(stream));
                match stream.filter(|stream| self.books.standard.contains(stream)) {
                    Some(stream) => drop(self.books.untold.insert(Some(stream), result.to_vec())),
                    None => return Err(broken(function)),
                }
            }
            (_, None, [] | [0]) => {}
            (_, Some(name), [0, made @ ..] | made) if made.len() == 4 => {
                let made = handle(made, 0).unwrap_or_default();
                self.name(name, made)?;
                if promise == Promise::Output {
                    self.books.standard.insert(made);
                }
            }
            _ => return Err(broken(function)),
        }
        if function.name().starts_with("[resource-drop]") {
            let stream = first.and_then(|resource| self.meant(resource));
            if let Some(stream) = stream.filter(|stream| self.books.standard.remove(stream))
                && let Some(failure) = self.books.untold.remove(&Some(stream))
            {
                self.books.untold.insert(None, failure);
            }
            self.promised.remove(&first.unwrap_or_default());
        }
        if let Some(name) = taken(promise, &call.args) {
            self.promised.remove(&name);
        }
        Ok(())
    }

    /// Keeps what a name of the guest's stands for.
    fn name(&mut self, name: u32, resource: u32) -> Result<()> {
        if name < self.books.next.max(PROMISED) || name == u32::MAX {
            return Err(Error::Guest(format!("it named a resource {name}, out of turn")));
        }
        if self.promised.len() >= MAX_NAMES {
            return Err(Error::Guest(format!("it named more than {MAX_NAMES} resources")));
        }
        self.books.next = name + 1;
        self.promised.insert(name, resource);
        Ok(())
    }

    /// What is to be answered to a call of a stream whose last write has failed, which the guest does not know yet.
    pub(super) fn owed(&mut self, call: &ComponentCall) -> Option<Writer> {
        let promise = Self::promise(call.function);
        let is_output = matches!(
            promise,
            Promise::CheckWrite | Promise::Write | Promise::WriteAndFlush | Promise::Flush
        );
        if self.books.untold.is_empty() || !is_output {
            return None;
        }
        let stream = self.meant(handle(&call.args.body, 0)?)?;
        let failure = self.books.untold.remove(&Some(stream))?;
        let mut out = Writer::new();
        out.raw(&failure);
        Some(out)
    }

    /// Ends a call with what is queued for after it.
    ///
    /// # Errors
    /// What that led to, and what the guest has not been told of.
    pub(crate) fn end_queue(&mut self, queued: &[Queued]) -> Result<()> {
        self.run_queue(queued)?;
        if self.owes() { Err(unknown_failure()) } else { Ok(()) }
    }

    /// Whether there is a failure that the guest does not know of.
    pub(super) fn owes(&self) -> bool {
        !self.books.untold.is_empty()
    }

    /// A call begins, to which the failures of an earlier one that has trapped are nothing.
    pub(crate) fn begin_queue(&mut self) {
        self.books.untold.clear();
    }

    /// An answer, with what the guest need not ask for then.
    pub(super) fn reply(&mut self, call: &ComponentCall, result: Payload) -> HostReply {
        let mut told = Told::default();
        match wasi_function(call.function) {
            Some(_) if Self::promise(call.function) == Promise::Read => {
                let asked = call.args.body.get(4..).and_then(|bytes| bytes.first_chunk());
                let asked = asked.map_or(0, |bytes| u64::from_le_bytes(*bytes));
                // `ok`, a run in the message, and its length.
                let is_small = matches!(result.body.as_slice(), [0, 0, _, _, _, _, read @ ..]
                    if asked < AHEAD as u64 || (read.len() as u64) < asked);
                if is_small
                    && let Some(stream) = handle(&call.args.body, 0).and_then(|h| self.meant(h))
                    && let Some(wasi) = &mut self.wasi
                {
                    told.ahead = wasi.look_ahead(stream, AHEAD);
                }
            }
            Some(_) if Self::promise(call.function) == Promise::Now => {
                if let (Ok(now), Some(rate)) = (result.body.as_slice().try_into(), tick_rate()) {
                    told.clock = Some(Clock { now: u64::from_le_bytes(now), rate });
                }
            }
            Some(function)
                if matches!(
                    Self::promise(call.function),
                    Promise::RandomBytes | Promise::RandomNumber
                ) =>
            {
                // Who asks for some asks for more.
                if let Some(more) = Function::lookup(function.instance(), "get-random-bytes") {
                    // So many may be more than it may have at once.
                    let run = self.run_now(more, &RANDOM.to_le_bytes()).unwrap_or_default();
                    told.random = run.get(5..).unwrap_or_default().to_vec();
                }
            }
            Some(function) if WORLD.contains(&function.name()) && !self.books.knows_world => {
                let functions = Function::all().map(|function| WASI + u32::from(function.index()));
                // What is wrong is said to whoever asks for it.
                told.known = self.world(functions).unwrap_or_default();
            }
            _ => {}
        }
        match told.is_empty() {
            true => HostReply::Component(result),
            false => HostReply::ComponentTold { result, told },
        }
    }

    /// What a guest may ask for of the world around it, of these functions.
    fn world(&mut self, functions: impl Iterator<Item = u32>) -> Result<Vec<Known>> {
        self.books.knows_world = true;
        let Some(wasi) = &self.wasi else { return Ok(Vec::new()) };
        let has_terminal = wasi.has_terminal();
        let has_directory = wasi.config().directory_names().next().is_some();
        let mut known = Vec::new();
        for number in functions {
            let Some(function) = wasi_function(number) else { continue };
            let result = match function.name() {
                "get-environment" | "get-arguments" | "initial-cwd" => {
                    match self.told_result(function, &[])? {
                        Some(result) => result,
                        None => continue,
                    }
                }
                "get-directories" if !has_directory => 0_u32.to_le_bytes().to_vec(),
                name if name.starts_with("get-terminal-") && !has_terminal => vec![0],
                _ => continue,
            };
            known.push(Known { function: number, args: Vec::new(), result });
        }
        Ok(known)
    }

    /// A result that can be told ahead; `None` if it is too large.
    fn told_result(&mut self, function: Function, args: &[u8]) -> Result<Option<Vec<u8>>> {
        let Payload { body, attachments, .. } = self.run_payload(function, args)?;
        Ok((attachments.is_empty() && body.len() <= MAX_TOLD).then_some(body))
    }

    /// What a component is told of an incoming request with the call, of what it imports.
    pub(crate) fn known(
        &mut self,
        imports: &BTreeMap<u32, Vec<String>>,
        request: u32,
    ) -> Result<Vec<Known>> {
        // Nothing is under way that could be stopped.
        self.cancel = Cancel::new();
        let mut known = Vec::new();
        let args = request.to_le_bytes();
        for number in imports.keys() {
            let Some(function) = wasi_function(*number) else { continue };
            if REQUEST.contains(&function.name()) {
                if let Some(result) = self.told_result(function, &args)? {
                    known.push(Known { function: *number, args: args.to_vec(), result });
                }
            } else if function.name() == "[method]incoming-request.headers"
                && let Some(result) = self.entries(function, request)?
            {
                let args = Known::entries_of(request);
                known.push(Known { function: *number, args, result });
            }
        }
        if !self.books.knows_world {
            known.extend(self.world(imports.keys().copied())?);
        }
        Ok(known)
    }

    /// The entries of a request's headers.
    fn entries(&mut self, headers: Function, request: u32) -> Result<Option<Vec<u8>>> {
        let find = |name| Function::lookup(headers.instance(), name);
        let (Some(entries), Some(drop)) =
            (find("[method]fields.entries"), find("[resource-drop]fields"))
        else {
            return Ok(None);
        };
        let fields = self.run_now(headers, &request.to_le_bytes())?;
        let result = self.told_result(entries, &fields)?;
        self.run_now(drop, &fields)?;
        Ok(result)
    }
}

/// The error that a guest would have been given, had it not ended first.
pub(super) fn unknown_failure() -> Error {
    Error::HostFunction {
        function: "wasi:io/streams#[method]output-stream.blocking-flush".to_owned(),
        source: "the last write to a standard stream has failed; the guest had gone on before that was known"
            .into(),
    }
}

/// A queued call has returned something else than the guest was told.
fn broken(function: Function) -> Error {
    Error::HostFunction {
        function: super::components::name(function),
        source: "it has failed, after the guest had gone on as if it had not".into(),
    }
}
