//! The trace that a guest's calls are part of.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue};

use crate::cancel::lock;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Which trace a guest's calls are part of, and of what in it: the headers of the W3C recommendation "Trace Context".
/// See [`Wasi::set_trace`](crate::Wasi::set_trace).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The value of `traceparent`.
    pub parent: HeaderValue,
    /// The value of `tracestate`, if there is one.
    pub state: Option<HeaderValue>,
}

/// The trace of one guest's calls, if it is known. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct CallTrace(Arc<Mutex<Option<Trace>>>);

impl CallTrace {
    pub(crate) fn set(&self, trace: Option<Trace>) {
        *lock(&self.0) = trace;
    }

    pub(crate) fn get(&self) -> Option<Trace> {
        lock(&self.0).clone()
    }

    /// Makes a request of the guest's part of the trace, unless the guest has said itself what it is part of.
    pub(crate) fn pass_on(&self, headers: &mut HeaderMap) {
        if headers.contains_key(PARENT) {
            return;
        }
        let Some(Trace { parent, state }) = self.get() else { return };
        headers.insert(PARENT, parent);
        // One of the guest's own means nothing without a parent.
        headers.remove(STATE);
        if let Some(state) = state {
            headers.insert(STATE, state);
        }
    }
}
