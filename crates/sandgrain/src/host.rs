//! The host's side of a sandbox: what answers the guest's calls.

use crate::caller::{Caller, Calling};
use crate::component::ComponentFunctions;
use crate::error::{BoxError, Error, Result, Trap};
use crate::exports::Exports;
use crate::host_functions::{Body, HostFunctions};
use crate::linear_memory::LinearMemory;
use crate::stop::{Control, Reason};
use sandgrain_abi::Value;
use sandgrain_abi::component::Writer;
use sandgrain_abi::message::{Fault, HostReply, Outcome};
use sandgrain_abi::text::printable;
use sandgrain_abi::types::{FuncType, ValType};
use sandgrain_wasi::{Cancel, Function, Reach, Reply, ValueType, Wasi, component};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Host functions from this number on are WASI's.
pub(crate) const WASI: u32 = 1 << 24;

mod components;
mod told;

/// What a call has become that was put off.
pub(crate) enum Later {
    /// A host function's results.
    Values(Result<Vec<Value>, BoxError>),
    /// A host function's result, for a component.
    Component(Result<Writer, BoxError>),
    /// WASI's answer to a component.
    Wasi(Result<component::Reply, sandgrain_wasi::Error>),
    /// What had to be done before the call has failed.
    Failed(Error),
}

/// Something that a guest waits for.
pub(crate) type Pending = Pin<Box<dyn Future<Output = Later> + Send>>;

/// What answers a guest's calls.
#[derive(Default)]
pub(crate) struct Host {
    /// What host functions can call of the guest.
    pub(crate) exports: Arc<Exports>,
    pub(crate) functions: HostFunctions,
    pub(crate) components: ComponentFunctions,
    /// Whether what was queued before a call of a component is done already.
    pub(crate) has_run_queue: bool,
    /// What the guest's own names of resources of the host stand for.
    pub(crate) promised: BTreeMap<u32, u32>,
    pub(crate) books: told::Books,
    /// Bytes that one call of a component may pass.
    pub(crate) call_bytes: u64,
    pub(crate) wasi: Option<Wasi>,
    /// Stops the waiting of the call under way.
    pub(crate) cancel: Cancel,
    pub(crate) control: Weak<Control>,
    pub(crate) started: Option<Instant>,
    /// The error that ends the call under way, once the guest has unwound.
    pub(crate) failure: Option<Error>,
    /// What a host function's call of the guest has led to, if that ends the call from outside as well.
    pub(crate) fatal: Option<Error>,
    /// Calls of the guest by host functions that are within each other, and how many there may be.
    pub(crate) depth: u32,
    pub(crate) max_depth: u32,
    /// Whether reading from the standard input is put off.
    pub(crate) stop_at_input: bool,
    /// Whether what takes its time is put off, to be awaited without a thread.
    pub(crate) awaits: bool,
    /// What has been put off, and has to be awaited.
    pub(crate) pending: Option<Pending>,
    /// What that has become: the answer when the host is asked again.
    pub(crate) answer: Option<Later>,
}

/// The wire's type of a WASI function.
fn wasi_type(function: Function) -> FuncType {
    let types = |types: &[ValueType]| {
        let map = types.iter().map(|ty| match ty {
            ValueType::I32 => ValType::I32,
            ValueType::I64 => ValType::I64,
        });
        map.collect()
    };
    FuncType { params: types(function.params()), results: types(function.results()) }
}

/// The arguments of a WASI call, and how many they are. The engine has checked the types; anything else is a
/// guest that got around it.
fn slots(args: &[Value]) -> Result<([u64; 16], usize)> {
    let mut slots = [0; 16];
    for (slot, arg) in slots.iter_mut().zip(args) {
        *slot = match *arg {
            Value::I32(value) => u64::from(value.cast_unsigned()),
            Value::I64(value) => value.cast_unsigned(),
            _ => return Err(Error::Guest("it called WASI with other than integers".into())),
        };
    }
    Ok((slots, args.len()))
}

/// Gets those bytes of a memory into its window that a call of WASI is going to read or to change. What it is
/// going to fill; nothing, if all of the memory is at hand.
fn lend(
    function: Function,
    args: &[u64],
    wasi: &mut Wasi,
    memory: &mut dyn LinearMemory,
) -> Result<Option<Reach>> {
    if memory.is_here() {
        return Ok(None);
    }
    // A window is no larger than the address space.
    let bytes = |range: &Range<u64>| range.start as usize..range.end as usize;
    let (size, sizes) = (memory.size() as u64, wasi.list_sizes());
    let reach = function
        .reach(args, size, &sizes, |range| memory.bytes(bytes(&range)).map(|list| list.to_vec()))?;
    for range in reach.read.iter().chain(&reach.lent) {
        memory.bytes(bytes(range))?;
    }
    Ok(Some(reach))
}

/// A function of WASI by its number among them.
fn wasi_function(number: u32) -> Option<Function> {
    u16::try_from(number).ok().and_then(Function::from_index)
}

/// A call by its number, if it is one of WASI: which function, its arguments and how many.
pub(crate) fn wasi_call(number: u32, args: &[Value]) -> Option<(Function, [u64; 16], usize)> {
    let function = number.checked_sub(WASI).and_then(wasi_function)?;
    let (slots, count) = slots(args).ok()?;
    Some((function, slots, count))
}

impl Host {
    /// What the host offers under a name: its number, and its type.
    pub(crate) fn find(&self, module: &str, name: &str) -> Result<(u32, FuncType), String> {
        if let Some((number, ty)) = self.functions.find(module, name) {
            return Ok((number as u32, ty.clone()));
        }
        if module != sandgrain_wasi::MODULE {
            return Err("nothing offers it; define a host function or preload a module".to_owned());
        }
        match Wasi::lookup(name) {
            Some(_) if self.wasi.is_none() => Err("WASI is not granted".to_owned()),
            Some(function) => Ok((WASI + u32::from(function.index()), wasi_type(function))),
            None => Err("WASI preview 1 has no such function".to_owned()),
        }
    }

    /// Whether whoever runs the guest wants to know of a call before it is answered.
    fn stops_at(&self, function: u32, args: &[Value]) -> bool {
        let reads = |number| wasi_function(number).is_some_and(|f| f.name() == "fd_read");
        self.stop_at_input
            && args.first() == Some(&Value::I32(0))
            && function.checked_sub(WASI).is_some_and(reads)
    }

    /// Whether the answer to a call is put off: because whoever runs the guest wants to know of it first, or
    /// because it takes its time, and there is no thread that waits for it. In that case it is
    /// [pending](Self::pending). Then the host is to be [asked](Self::call) once more.
    pub(crate) fn puts_off(
        &mut self,
        function: u32,
        guest: &mut dyn Calling,
        args: &[Value],
    ) -> Result<bool> {
        if !self.awaits {
            return Ok(self.stops_at(function, args));
        }
        self.pending = match function.checked_sub(WASI) {
            None => {
                let pending = self.functions.begin(function as usize, args);
                pending.map(|pending| -> Pending {
                    Box::pin(async move { Later::Values(pending.await) })
                })
            }
            Some(_) => self.begin_sleep(function, guest, args)?,
        };
        Ok(self.pending.is_some())
    }

    fn begin_sleep(
        &mut self,
        number: u32,
        memory: &mut dyn Calling,
        args: &[Value],
    ) -> Result<Option<Pending>> {
        // What is wrong with the call is said where it is answered.
        let Some((function, slots, count)) = wasi_call(number, args) else { return Ok(None) };
        if !memory.has_memory() {
            return Ok(None);
        }
        let (Some(wasi), Some(args)) = (&mut self.wasi, slots.get(..count)) else {
            return Ok(None);
        };
        lend(function, args, wasi, memory)?;
        let time = wasi.sleeps_for(function, args, memory.whole());
        let sleep = time.and_then(|time| sandgrain_wasi::sleep(time).ok());
        Ok(sleep.map(|sleep| -> Pending {
            Box::pin(async move {
                sleep.await;
                Later::Values(Ok(Vec::new()))
            })
        }))
    }

    /// Why the call under way is to stop, if it is.
    pub(crate) fn stopped(&self) -> Option<Error> {
        let reason = self.control.upgrade()?.reason()?;
        Some(self.stop_error(reason))
    }

    /// Why the waiting of the call under way was cancelled.
    pub(crate) fn cancelled(&self) -> Error {
        self.stopped().unwrap_or(Error::Interrupted)
    }

    pub(crate) fn stop_error(&self, reason: Reason) -> Error {
        match reason {
            Reason::Interrupted => Error::Interrupted,
            Reason::Deadline => {
                let taken = self.started.map_or(Duration::ZERO, |started| started.elapsed());
                Error::Deadline(taken)
            }
        }
    }

    /// Calls a function for the guest. An error that ends the call is kept until the guest has
    /// unwound; one that ends the sandbox is returned.
    pub(crate) fn call(
        &mut self,
        function: u32,
        guest: &mut dyn Calling,
        args: &[Value],
    ) -> Result<HostReply> {
        let result = match (function.checked_sub(WASI), self.answer.take()) {
            (Some(number), answer) => self.call_wasi(number, guest, args, answer.is_some()),
            (None, Some(Later::Values(answer))) => self.functions.finish(function as usize, answer),
            (None, Some(_)) => Err(Error::Host("another kind of call was answered".to_owned())),
            (None, None) => self.call_function(function as usize, guest, args),
        };
        match result {
            Ok(values) => Ok(HostReply::Values(values)),
            Err(Error::Interrupted) => Err(self.cancelled()),
            Err(error) if error.is_final() => Err(error),
            Err(error) => {
                self.failure = Some(error);
                Ok(HostReply::Abort)
            }
        }
    }

    /// Calls a host function, with what the guest sent. Where it returns a future, this thread waits for it;
    /// [`Error::Interrupted`] if the call is stopped meanwhile.
    fn call_function(
        &mut self,
        number: usize,
        guest: &mut dyn Calling,
        args: &[Value],
    ) -> Result<Vec<Value>> {
        let (span, mut body) = self.functions.take(number)?;
        let _entered = span.enter();
        let result = match &mut body {
            Body::Now(call) => Ok(call(&mut Caller::new(guest, self), args)),
            Body::Later(call) => {
                self.cancel.block_on(call(args)).map_err(|_cancelled| Error::Interrupted)
            }
            Body::UnderWay => unreachable!("it is not taken then"),
        };
        self.functions.put_back(number, body);
        match self.fatal.take() {
            Some(error) => Err(error),
            None => self.functions.finish(number, result?),
        }
    }

    /// What a command has come to: its outcome, or the error that the embedder gets.
    pub(crate) fn completed(&mut self, outcome: Outcome) -> Result<Outcome> {
        match outcome {
            Outcome::Trapped(trap) => Err(match trap.fault {
                Fault::Wasm { code, message } => {
                    Error::Trap(Trap::reported(code, message, trap.frames))
                }
                Fault::Host => self.failure.take().unwrap_or_else(|| {
                    Error::Guest("it reports a host function's error that there was not".to_owned())
                }),
            }),
            Outcome::Limited(detail) => Err(Error::Limit {
                what: "the sandbox",
                limit: "what its limits say".into(),
                detail: printable(&detail),
            }),
            Outcome::Refused(reason) => Ok(Outcome::Refused(printable(&reason))),
            outcome => Ok(outcome),
        }
    }

    fn call_wasi(
        &mut self,
        number: u32,
        memory: &mut dyn LinearMemory,
        args: &[Value],
        has_slept: bool,
    ) -> Result<Vec<Value>> {
        let (Some(function), Some(wasi)) = (wasi_function(number), &mut self.wasi) else {
            return Err(Error::Guest(format!("it called WASI function {number}, never given")));
        };
        let span = tracing::trace_span!("wasi", function = function.name());
        let _entered = span.enter();
        let (slots, count) = slots(args)?;
        let args = slots.get(..count).unwrap_or_default();
        let reach = lend(function, args, wasi, memory)?;
        let reply = match has_slept {
            true => Wasi::wake(args, memory.whole()),
            false => wasi.call(function, args, memory.whole(), &self.cancel),
        };
        if let Some(reach) = reach {
            let filled = match &reply {
                Ok(Reply::Value(errno)) => reach.filled_by(*errno, memory.whole()),
                _ => Vec::new(),
            };
            memory.filled(filled, reach.filled);
        }
        match reply {
            Ok(Reply::Value(_)) if function.results().is_empty() => Ok(Vec::new()),
            Ok(Reply::Value(errno)) => Ok(vec![Value::I32(errno)]),
            Ok(Reply::Exit(code)) => Err(Error::Exit(code)),
            Err(error) => Err(self.wasi_error(function, error)),
        }
    }

    fn wasi_error(&self, function: Function, error: sandgrain_wasi::Error) -> Error {
        self.error_of_wasi(|| format!("{}.{}", sandgrain_wasi::MODULE, function.name()), error)
    }

    /// An error of WASI's, in the function of this name.
    pub(crate) fn error_of_wasi(
        &self,
        function: impl Fn() -> String,
        error: sandgrain_wasi::Error,
    ) -> Error {
        use sandgrain_wasi::Error as E;
        match error {
            E::Cancelled => self.cancelled(),
            E::OutputLimit { stream, limit } => Error::Limit {
                what: match stream {
                    sandgrain_wasi::Stream::Stdout => "standard output",
                    sandgrain_wasi::Stream::Stderr => "standard error",
                },
                limit: format!("{limit} bytes"),
                detail: "the guest wrote more".to_owned(),
            },
            E::Limit { what, limit, setting } => Error::Limit {
                what,
                limit: limit.to_string(),
                detail: format!("the guest wanted more, in {} (`{setting}`)", function()),
            },
            E::Arguments { .. } => Error::Guest(error.to_string()),
            E::Grant { .. } | E::Config(_) => Error::Grant(error),
            E::Host { .. } => Error::Host(error.to_string()),
            other => Error::HostFunction { function: function(), source: other.into() },
        }
    }
}
