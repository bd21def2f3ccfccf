//! What answers the calls of components.

use super::{Host, Later, Pending};
use crate::caller::Calling;
use crate::component::Arguments;
use crate::error::{Error, Result};
use crate::guest::{self, ComponentCall};
use sandgrain_abi::component::{FunctionType, Payload, Reader, Types, Writer};
use sandgrain_abi::message::{HostReply, ImportedItem, Promise, Queued};
use sandgrain_wasi::component::{Answer, Function, Reply};
use std::collections::BTreeMap;
use std::sync::Arc;

impl ComponentCall {
    /// A reader of its arguments.
    pub(crate) fn reader<'a>(
        &'a self,
        attachments: &'a [&'a [u8]],
        promised: &'a BTreeMap<u32, u32>,
        budget: u64,
    ) -> Reader<'a> {
        let budget = usize::try_from(budget).unwrap_or(usize::MAX);
        let Payload { body, resources, .. } = &self.args;
        Reader::new(body, attachments, resources, budget).with_promised(promised)
    }
}

/// Numbers from this one on are those of WASI's functions.
const WASI_FUNCTIONS: u32 = super::WASI;
/// Numbers from this one on are those of WASI's resource types.
const WASI_TYPES: u32 = 1024;

/// A function of WASI's by its number among all.
pub(super) fn wasi_function(number: u32) -> Option<Function> {
    let index = number.checked_sub(WASI_FUNCTIONS)?;
    u16::try_from(index).ok().and_then(Function::from_index)
}

/// The same of a number that the guest has sent.
pub(super) fn known_function(number: u32) -> Result<Function> {
    let missing = || Error::Guest(format!("it called WASI function {number}, never given"));
    wasi_function(number).ok_or_else(missing)
}

/// A function's name for people.
pub(super) fn name(function: Function) -> String {
    format!("{}#{}", function.instance(), function.name())
}

impl Host {
    /// What the host offers as a resource type.
    ///
    /// # Errors
    /// Why it offers none.
    pub(crate) fn find_resource(&self, path: &[String]) -> Result<ImportedItem, String> {
        if let Some(ty) = self.components.find_resource(path) {
            return Ok(ImportedItem::Resource { ty, drop: ty });
        }
        let drop = match path {
            [instance, name] => Function::lookup(instance, &format!("[resource-drop]{name}")),
            _ => None,
        };
        match drop {
            Some(_) if self.wasi.is_none() => Err("WASI is not granted".to_owned()),
            // By its drop, of which each has one.
            Some(drop) => Ok(ImportedItem::Resource {
                ty: WASI_TYPES + u32::from(drop.index()),
                drop: WASI_FUNCTIONS + u32::from(drop.index()),
            }),
            None => Err("nothing offers this resource type; define it".to_owned()),
        }
    }

    /// What the guest can tell of the answers of a function.
    pub(crate) fn promise(number: u32) -> Promise {
        let Some(function) = wasi_function(number) else { return Promise::None };
        let (interface, _) = function.instance().split_once('@').unwrap_or_default();
        Promise::of(interface, function.name())
    }

    /// The number of the function that satisfies an import.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn find_component_function(
        &mut self,
        path: &[String],
        ty: &FunctionType,
        types: &Arc<Types>,
    ) -> Result<u32, String> {
        if let Some(found) = self.components.find(path, ty, types) {
            return found;
        }
        let function = match path {
            [instance, name] => Function::lookup(instance, name),
            _ => None,
        };
        match function {
            Some(_) if self.wasi.is_none() => Err("WASI is not granted".to_owned()),
            Some(function) if !function.has_type(ty, types) => Err(format!(
                "the component wants {}, which is not its type in {}",
                types.summary_of_function(ty),
                function.instance()
            )),
            Some(function) => Ok(WASI_FUNCTIONS + u32::from(function.index())),
            None => Err("nothing offers it; define a host function".to_owned()),
        }
    }

    /// Does the calls that the guest has queued, each of which must return what the guest could tell.
    pub(crate) fn run_queue(&mut self, queued: &[Queued]) -> Result<()> {
        for call in queued {
            self.run_queued_call(call, true)?;
        }
        Ok(())
    }

    /// The same, up to the first call that would have to wait. How many have been done.
    pub(crate) fn run_queue_now(&mut self, queued: &[Queued]) -> Result<usize> {
        for (at, call) in queued.iter().enumerate() {
            if !self.run_queued_call(call, false)? {
                return Ok(at);
            }
        }
        Ok(queued.len())
    }

    /// Does a queued call. `false`: it would have to wait, and may not.
    fn run_queued_call(&mut self, call: &Queued, may_wait: bool) -> Result<bool> {
        if call.function < WASI_FUNCTIONS {
            // Of the embedder's own only the dropping of a resource is queued.
            let Ok(resource) = <[u8; 4]>::try_from(call.args.as_slice()) else {
                return Err(Error::Guest(format!(
                    "it queued function {}, which is none",
                    call.function
                )));
            };
            self.components.dropped(call.function, u32::from_le_bytes(resource))?;
            return Ok(true);
        }
        let function = known_function(call.function)?;
        let result = match Self::promise(call.function) {
            Promise::Write | Promise::WriteAndFlush => {
                self.write(function, &call.args, may_wait)?
            }
            Promise::Flush if !may_wait => self.run_without_waiting(function, &call.args)?,
            _ => Some(self.run_now(function, &call.args)?),
        };
        let Some(result) = result else { return Ok(false) };
        self.check_promise(function, call, &result)?;
        Ok(true)
    }

    /// Writes to a stream as much as the guest was told that it takes. Where it does not take that at once, it is waited
    /// for; `None`: it may not be.
    fn write(
        &mut self,
        function: Function,
        args: &[u8],
        may_wait: bool,
    ) -> Result<Option<Vec<u8>>> {
        let streams = function.instance();
        let find = |name| {
            let missing = || Error::Host(format!("there is no {name} in {streams}"));
            Function::lookup(streams, name).ok_or_else(missing)
        };
        let Some((handle, run)) = args.split_first_chunk::<4>() else {
            return Err(Error::Guest("it queued a write to nothing".to_owned()));
        };
        let permitted = self.run_now(find("[method]output-stream.check-write")?, handle)?;
        let room = match permitted.as_slice() {
            [0, room @ ..] => room.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
            _ => 0,
        };
        if room >= run.len() as u64 {
            return self.run_now(find("[method]output-stream.write")?, args).map(Some);
        }
        if !may_wait {
            return Ok(None);
        }
        self.run_now(find("[method]output-stream.blocking-write-and-flush")?, args).map(Some)
    }

    /// Calls a function of WASI's that can be called again if it would wait: `None`.
    fn run_without_waiting(&mut self, function: Function, args: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(wasi) = &mut self.wasi else {
            return Err(Error::Guest("it queued a call of WASI, never given".to_owned()));
        };
        let budget = usize::try_from(self.call_bytes).unwrap_or(usize::MAX);
        let args = Reader::new(args, &[], &[], budget).with_promised(&self.promised);
        let reply = match wasi.begin_component_call(function, args) {
            Ok(Answer::Later(_)) => return Ok(None),
            Ok(Answer::Now(reply)) => Ok(reply),
            Err(error) => Err(error),
        };
        Ok(Some(self.wasi_reply(function, reply)?.finish().0.body))
    }

    /// Calls a function of WASI's. What it returns, in as far as that is in the message.
    pub(super) fn run_now(&mut self, function: Function, args: &[u8]) -> Result<Vec<u8>> {
        Ok(self.run_payload(function, args)?.body)
    }

    /// Calls a function of WASI's.
    pub(super) fn run_payload(&mut self, function: Function, args: &[u8]) -> Result<Payload> {
        let Some(wasi) = &mut self.wasi else {
            return Err(Error::Guest("it queued a call of WASI, never given".to_owned()));
        };
        let budget = usize::try_from(self.call_bytes).unwrap_or(usize::MAX);
        let args = Reader::new(args, &[], &[], budget).with_promised(&self.promised);
        let reply = wasi.call_component(function, args, &self.cancel);
        Ok(self.wasi_reply(function, reply)?.finish().0)
    }

    /// Whether the answer to a component's call is put off, because it takes its time, and there is no thread that
    /// waits for it. In that case it is [pending](Self::pending).
    pub(crate) fn puts_off_component(
        &mut self,
        call: &ComponentCall,
        guest: &mut dyn Calling,
    ) -> Result<bool> {
        if !self.awaits {
            return Ok(false);
        }
        let attachments = guest.attachments()?;
        if let Err(error) = self.run_queue(&call.queued) {
            if error.is_final() {
                return Err(error);
            }
            // It is the answer.
            self.answer = Some(Later::Failed(error));
            return Ok(false);
        }
        self.has_run_queue = true;
        if let Some(owed) = self.owed(call) {
            self.answer = Some(Later::Wasi(Ok(Reply::Value(owed))));
            return Ok(false);
        }
        let mut args = call.reader(&attachments, &self.promised, self.call_bytes);
        if call.function < WASI_FUNCTIONS {
            let pending = self.components.begin(call.function, &mut args);
            self.pending = pending.map(|pending| -> Pending {
                Box::pin(async move { Later::Component(pending.await) })
            });
            return Ok(self.pending.is_some());
        }
        let (Some(function), Some(wasi)) = (wasi_function(call.function), &mut self.wasi) else {
            // What is wrong with the call is said where it is answered.
            return Ok(false);
        };
        match wasi.begin_component_call(function, args) {
            Ok(Answer::Later(pending)) => {
                self.pending = Some(Box::pin(async move { Later::Wasi(pending.await) }));
            }
            Ok(Answer::Now(reply)) => self.answer = Some(Later::Wasi(Ok(reply))),
            Err(error) => self.answer = Some(Later::Wasi(Err(error))),
        }
        Ok(self.pending.is_some())
    }

    /// Calls a function for a component. An error that ends the call is kept until the guest has unwound; one that
    /// ends the sandbox is returned.
    pub(crate) fn call_component(
        &mut self,
        call: &ComponentCall,
        guest: &mut dyn Calling,
    ) -> Result<guest::Answer> {
        match self.answer_component(call, guest) {
            Ok(out) => {
                let (payload, attachments) = out.finish();
                Ok(guest::Answer { reply: self.reply(call, payload), attachments })
            }
            Err(Error::Interrupted) => Err(self.cancelled()),
            Err(error) if error.is_final() => Err(error),
            Err(error) => {
                self.failure = Some(error);
                Ok(HostReply::Abort.into())
            }
        }
    }

    fn answer_component(
        &mut self,
        call: &ComponentCall,
        guest: &mut dyn Calling,
    ) -> Result<Writer> {
        let attachments = guest.attachments()?;
        let has_run_queue = std::mem::take(&mut self.has_run_queue);
        let answer = self.answer.take();
        if !has_run_queue && answer.is_none() {
            self.run_queue(&call.queued)?;
        }
        if call.function == HostReply::NO_FUNCTION {
            return match answer {
                Some(Later::Failed(error)) => Err(error),
                _ => Ok(Writer::new()),
            };
        }
        if answer.is_none()
            && let Some(owed) = self.owed(call)
        {
            return Ok(owed);
        }
        let is_wasi = call.function >= WASI_FUNCTIONS;
        match answer {
            Some(Later::Component(answer)) if !is_wasi => {
                self.components.finish(call.function, answer)
            }
            Some(Later::Wasi(answer)) if is_wasi => {
                self.wasi_reply(known_function(call.function)?, answer)
            }
            Some(Later::Failed(error)) => Err(error),
            Some(_) => Err(Error::Host("another kind of call was answered".to_owned())),
            None if is_wasi => {
                let Some(wasi) = &mut self.wasi else {
                    return Err(Error::Guest("it called WASI, never given".to_owned()));
                };
                let function = known_function(call.function)?;
                let span = tracing::trace_span!("wasi", function = function.name());
                let _entered = span.enter();
                let args = call.reader(&attachments, &self.promised, self.call_bytes);
                let reply = wasi.call_component(function, args, &self.cancel);
                self.wasi_reply(function, reply)
            }
            None => self.call_component_function(call, guest),
        }
    }

    /// Calls a host function.
    fn call_component_function(
        &mut self,
        call: &ComponentCall,
        guest: &mut dyn Calling,
    ) -> Result<Writer> {
        let (span, mut body, definition) = self.components.take(call.function)?;
        let _entered = span.enter();
        let mut args = Arguments::new(call, guest, self);
        let result = body.call(definition.as_ref(), &mut args);
        let is_over_budget = args.is_over_budget();
        self.components.put_back(call.function, body, definition);
        if let Some(error) = self.fatal.take() {
            return Err(error);
        }
        if is_over_budget {
            return Err(Error::Limit {
                what: "what one call passes",
                limit: format!("{} bytes", self.call_bytes),
                detail: "the guest passes more".to_owned(),
            });
        }
        let result = result.map_err(|_cancelled| Error::Interrupted)?;
        self.components.finish(call.function, result)
    }

    fn wasi_reply(
        &self,
        function: Function,
        reply: Result<Reply, sandgrain_wasi::Error>,
    ) -> Result<Writer> {
        match reply {
            Ok(Reply::Value(out)) => Ok(out),
            Ok(Reply::Exit(0)) if self.owes() => Err(super::told::unknown_failure()),
            Ok(Reply::Exit(code)) => Err(Error::Exit(code)),
            Err(error) => Err(self.error_of_wasi(|| name(function), error)),
        }
    }
}
