//! What answers the calls of components.

use super::{Host, Later, Pending};
use crate::error::{Error, Result};
use crate::guest::{self, ComponentCall};
use sandgrain_abi::component::{FunctionType, Reader, Types, Writer};
use sandgrain_abi::message::{Dropped, HostReply, ImportedItem};
use sandgrain_wasi::component::{Answer, Function, Reply};
use std::sync::Arc;

/// A reader of a call's arguments.
fn reader<'a>(call: &'a ComponentCall, attachments: &'a [&'a [u8]], budget: u64) -> Reader<'a> {
    let budget = usize::try_from(budget).unwrap_or(usize::MAX);
    Reader::new(&call.args.body, attachments, &call.args.resources, budget)
}

/// Numbers from this one on are those of WASI's functions.
const WASI_FUNCTIONS: u32 = super::WASI;
/// Numbers from this one on are those of WASI's resource types.
const WASI_TYPES: u32 = 1024;

/// A function of WASI's by its number among all.
fn wasi_function(number: u32) -> Option<Function> {
    let index = number.checked_sub(WASI_FUNCTIONS)?;
    u16::try_from(index).ok().and_then(Function::from_index)
}

/// A function's name for people.
fn name(function: Function) -> String {
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

    /// Drops resources of the host.
    pub(crate) fn drop_resources(&mut self, dropped: &[Dropped]) -> Result<()> {
        for Dropped { function, resource } in dropped {
            if *function < WASI_FUNCTIONS {
                self.components.dropped(*function, *resource)?;
                continue;
            }
            let body = resource.to_le_bytes();
            let args = Reader::new(&body, &[], &[], body.len());
            let (Some(function), Some(wasi)) = (wasi_function(*function), &mut self.wasi) else {
                return Err(Error::Guest(format!(
                    "it dropped by function {function}, never given"
                )));
            };
            wasi.call_component(function, args, &self.cancel)
                .map_err(|error| self.error_of_wasi(|| name(function), error))?;
        }
        Ok(())
    }

    /// Whether the answer to a component's call is put off, because it takes its time, and there is no thread that
    /// waits for it. In that case it is [pending](Self::pending).
    pub(crate) fn puts_off_component(
        &mut self,
        call: &ComponentCall,
        attachments: &[&[u8]],
    ) -> Result<bool> {
        if !self.awaits {
            return Ok(false);
        }
        if let Err(error) = self.drop_resources(&call.dropped) {
            if error.is_final() {
                return Err(error);
            }
            // It is the answer.
            self.answer = Some(Later::Failed(error));
            return Ok(false);
        }
        self.has_dropped = true;
        let mut args = reader(call, attachments, self.call_bytes);
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
        attachments: &[&[u8]],
    ) -> Result<guest::Answer> {
        match self.answer_component(call, attachments) {
            Ok(out) => {
                let (payload, attachments) = out.finish();
                Ok(guest::Answer { reply: HostReply::Component(payload), attachments })
            }
            Err(Error::Interrupted) => Err(self.cancelled()),
            Err(error) if error.is_final() => Err(error),
            Err(error) => {
                self.failure = Some(error);
                Ok(HostReply::Abort.into())
            }
        }
    }

    fn answer_component(&mut self, call: &ComponentCall, attachments: &[&[u8]]) -> Result<Writer> {
        let has_dropped = std::mem::take(&mut self.has_dropped);
        let answer = self.answer.take();
        if !has_dropped && answer.is_none() {
            self.drop_resources(&call.dropped)?;
        }
        if call.function == HostReply::NO_FUNCTION {
            return match answer {
                Some(Later::Failed(error)) => Err(error),
                _ => Ok(Writer::new()),
            };
        }
        let mut args = reader(call, attachments, self.call_bytes);
        let is_wasi = call.function >= WASI_FUNCTIONS;
        let result = match answer {
            Some(Later::Component(answer)) if !is_wasi => {
                return self.components.finish(call.function, answer);
            }
            Some(Later::Wasi(answer)) if is_wasi => return self.wasi_reply(call.function, answer),
            Some(Later::Failed(error)) => return Err(error),
            Some(_) => return Err(Error::Host("another kind of call was answered".to_owned())),
            None if is_wasi => return self.call_wasi_component(call.function, args),
            None => self.components.call(call.function, &mut args, &self.cancel),
        };
        if args.is_over_budget() {
            return Err(Error::Limit {
                what: "what one call passes",
                limit: format!("{} bytes", self.call_bytes),
                detail: "the guest passes more".to_owned(),
            });
        }
        result
    }

    fn call_wasi_component(&mut self, number: u32, args: Reader<'_>) -> Result<Writer> {
        let (Some(function), Some(wasi)) = (wasi_function(number), &mut self.wasi) else {
            return Err(Error::Guest(format!("it called WASI function {number}, never given")));
        };
        let span = tracing::trace_span!("wasi", function = function.name());
        let _entered = span.enter();
        let reply = wasi.call_component(function, args, &self.cancel);
        self.wasi_reply(number, reply)
    }

    fn wasi_reply(
        &self,
        number: u32,
        reply: Result<Reply, sandgrain_wasi::Error>,
    ) -> Result<Writer> {
        match reply {
            Ok(Reply::Value(out)) => Ok(out),
            Ok(Reply::Exit(code)) => Err(Error::Exit(code)),
            Err(error) => {
                let function = || wasi_function(number).map_or_else(String::new, name);
                Err(self.error_of_wasi(function, error))
            }
        }
    }
}
