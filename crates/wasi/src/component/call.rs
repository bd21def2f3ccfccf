//! How a component's calls are answered.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use sandgrain_abi::component::{Reader, Writer};
use tokio::runtime::Handle;
use wasmtime_wasi::{I32Exit, ResourceTableError};

use super::generated::Prepared;
use super::state::State;
use super::{Function, Reply};
use crate::cancel::lock;
use crate::{Cancel, Error, Wasi};

/// Where the state of a component is while no call works on it.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Held>>);

#[derive(Default)]
enum Held {
    /// No call has been made.
    #[default]
    Nothing,
    Here(Box<State>),
    /// A call works on it.
    Lent,
}

impl Slot {
    /// Asks the state something. There is an answer also while there is none.
    pub(crate) fn ask(&self, question: fn(&State) -> bool, lent: bool) -> bool {
        match &*lock(&self.0) {
            Held::Nothing => false,
            Held::Here(state) => question(state),
            Held::Lent => lent,
        }
    }
}

/// The state of a component in the hands of a call. It goes back when the call is over or given up.
pub(super) struct Lent {
    state: Option<Box<State>>,
    slot: Slot,
}

impl Deref for Lent {
    type Target = State;

    fn deref(&self) -> &State {
        self.state.as_ref().expect("it goes back only at the end")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_mut().expect("it goes back only at the end")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            *lock(&self.slot.0) = Held::Here(state);
        }
    }
}

/// How [`Wasi::begin_component_call`] has answered.
#[derive(Debug)]
pub enum Answer {
    /// The call is over.
    Now(Reply),
    /// The call waits.
    Later(Pending),
}

/// A call that waits. It can be awaited on any executor, and stopped with [`Cancel::wait_for`]. When it is
/// dropped, the call is given up, and the guest's resources stay as they are.
///
/// Until it is done or dropped, no other call of the guest is answered.
#[must_use = "a call that nobody awaits is given up"]
pub struct Pending {
    function: Function,
    handle: Handle,
    /// Present until it is dropped.
    answering: Option<Pin<Box<dyn Future<Output = wasmtime::Result<Writer>> + Send>>>,
    limit: u32,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("function", &self.function).finish_non_exhaustive()
    }
}

impl Future for Pending {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _entered = this.handle.enter();
        let Some(answering) = &mut this.answering else {
            return Poll::Ready(Err(Error::Trap("a call that is over was awaited".to_owned())));
        };
        let outcome = std::task::ready!(answering.as_mut().poll(context));
        this.answering = None;
        Poll::Ready(reply(this.function, this.limit, outcome))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _entered = self.handle.enter();
        self.answering = None;
    }
}

impl Wasi {
    /// Answers one call of a component.
    ///
    /// `args` are the arguments as they travel, in the shape of the function's type, which the caller has
    /// [compared](Function::has_type) with the component's own. For the dropping of a resource it is its handle.
    /// Handles travel as the numbers that results had for them.
    ///
    /// The call waits on this thread, until it is answered or `cancel` stops it. To do without the thread, see
    /// [`begin_component_call`](Self::begin_component_call).
    ///
    /// # Errors
    ///
    /// [`Error::Arguments`] for bytes that are no arguments of the function. [`Error::Trap`] for a call that
    /// ends the guest, such as one with a handle that there is not. [`Error::Limit`] and
    /// [`Error::OutputLimit`] when the guest wanted too much. [`Error::Cancelled`] if `cancel` stopped the
    /// call; the guest's resources stay usable. [`Error::Busy`] while another call waits. On the first call,
    /// [`Error::Grant`] and [`Error::Config`] if what the configuration grants cannot be given, and
    /// [`Error::Host`] if the host has no thread left.
    pub fn call_component(
        &mut self,
        function: Function,
        args: Reader<'_>,
        cancel: &Cancel,
    ) -> Result<Reply, Error> {
        cancel.check()?;
        let prepared = prepare(function, args)?;
        let mut lent = self.lend()?;
        let handle = lent.handle.clone();
        let _entered = handle.enter();
        let limit = lent.limits.handles;
        let outcome = cancel.block_on(prepared(&mut lent))?;
        reply(function, limit, outcome)
    }

    /// Answers one call of a component at once, if it can be, or returns what can be awaited.
    ///
    /// Operations on files are done on this thread, unless
    /// [`cancellable_files`](crate::WasiConfig::cancellable_files) is set; everything else that waits does so
    /// in the [`Pending`] call.
    ///
    /// # Errors
    ///
    /// Those of [`call_component`](Self::call_component).
    pub fn begin_component_call(
        &mut self,
        function: Function,
        args: Reader<'_>,
    ) -> Result<Answer, Error> {
        let prepared = prepare(function, args)?;
        let mut lent = self.lend()?;
        let (handle, limit) = (lent.handle.clone(), lent.limits.handles);
        let mut answering = Box::pin(async move { prepared(&mut lent).await });
        let polled = {
            let _entered = handle.enter();
            answering.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        match polled {
            Poll::Ready(outcome) => reply(function, limit, outcome).map(Answer::Now),
            Poll::Pending => {
                let answering = Some(answering as _);
                Ok(Answer::Later(Pending { function, handle, answering, limit }))
            }
        }
    }

    /// The state, made if no call has been before.
    pub(super) fn lend(&mut self) -> Result<Lent, Error> {
        let mut held = lock(&self.component.0);
        let state = match std::mem::replace(&mut *held, Held::Lent) {
            Held::Here(state) => state,
            Held::Lent => return Err(Error::Busy),
            Held::Nothing => {
                *held = Held::Nothing;
                // Looked at once: the environment of the host may change at any time.
                let environment = self.config().environment();
                let state = State::new(self.config(), &environment, self.streams(), &self.trace)?;
                let state = Box::new(state);
                *held = Held::Lent;
                state
            }
        };
        drop(held);
        Ok(Lent { state: Some(state), slot: self.component.clone() })
    }
}

fn prepare(function: Function, mut args: Reader<'_>) -> Result<Prepared, Error> {
    let prepared = function.prepare(&mut args).and_then(|prepared| {
        args.finish()?;
        Ok(prepared)
    });
    prepared
        .map_err(|error| Error::Arguments { function: function.name(), problem: error.to_string() })
}

/// What the library has answered, as the caller gets it.
fn reply(
    function: Function,
    limit: u32,
    outcome: wasmtime::Result<Writer>,
) -> Result<Reply, Error> {
    let error = match outcome {
        Ok(result) => return Ok(Reply::Value(result)),
        Err(error) => error,
    };
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Ok(Reply::Exit(*code));
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return Err(Error::Limit { what: "handles", limit: limit.into(), setting: "max_handles" });
    }
    Err(error.downcast().unwrap_or_else(|error| {
        Error::Trap(format!("{} of {}: {error:#}", function.name(), function.instance()))
    }))
}
