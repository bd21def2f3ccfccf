//! What answers the calls of components.

use super::{Host, Later, Pending};
use crate::error::{Error, Result};
use crate::guest::{Answer, ComponentCall};
use sandgrain_abi::component::{FunctionType, Reader, Types, Writer};
use sandgrain_abi::message::{HostReply, ImportedItem};
use std::sync::Arc;

/// A reader of a call's arguments.
fn reader<'a>(call: &'a ComponentCall, attachments: &'a [&'a [u8]], budget: u64) -> Reader<'a> {
    let budget = usize::try_from(budget).unwrap_or(usize::MAX);
    Reader::new(&call.args.body, attachments, &call.args.resources, budget)
}

impl Host {
    /// What the host offers as a resource type.
    ///
    /// # Errors
    /// Why it offers none.
    pub(crate) fn find_resource(&self, path: &[String]) -> Result<ImportedItem, String> {
        match self.components.find_resource(path) {
            Some(ty) => Ok(ImportedItem::Resource { ty, drop: ty }),
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
        match self.components.find(path, ty, types) {
            Some(found) => found,
            None => Err("nothing offers it; define a host function".to_owned()),
        }
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
        let mut args = reader(call, attachments, self.call_bytes);
        let pending = self.components.begin(call.function, &mut args);
        self.pending = pending
            .map(|pending| -> Pending { Box::pin(async move { Later::Component(pending.await) }) });
        Ok(self.pending.is_some())
    }

    /// Calls a function for a component. An error that ends the call is kept until the guest has unwound; one that
    /// ends the sandbox is returned.
    pub(crate) fn call_component(
        &mut self,
        call: &ComponentCall,
        attachments: &[&[u8]],
    ) -> Result<Answer> {
        match self.answer_component(call, attachments) {
            Ok(out) => {
                let (payload, attachments) = out.finish();
                Ok(Answer { reply: HostReply::Component(payload), attachments })
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
        for dropped in &call.dropped {
            self.components.dropped(dropped.function, dropped.resource)?;
        }
        if call.function == HostReply::NO_FUNCTION {
            return Ok(Writer::new());
        }
        let mut args = reader(call, attachments, self.call_bytes);
        let result = match self.answer.take() {
            Some(Later::Component(answer)) => return self.components.finish(call.function, answer),
            Some(_) => return Err(Error::Host("another kind of call was answered".to_owned())),
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
}
