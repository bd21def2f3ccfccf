//! The call under way in a sandbox, and stopping it.

use crate::sync::{self, Mutex, MutexGuard};
use crate::watchdog::Watchdog;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// Why a call was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked for it.
    Interrupted,
    /// Its time was over.
    Deadline,
}

/// What runs calls, one after another, and can be told to stop one.
pub trait Target: Send + Sync + 'static {
    /// What tells one call from the next, for what has to be stopped besides the guest.
    type Token: Clone + Send;

    /// Before a call: forgets a stop that came too late for the last one. The control's lock is held, so it
    /// must not ask the control anything.
    fn begin(&self, deadline: Option<Instant>) -> Self::Token;

    /// Stops the guest, now or as soon as it runs. The control's lock is held here too, since a guest does not
    /// know one call from the next.
    fn stop(&self);

    /// Stops what else the call with this token does. No lock is held: it may wake whoever waits for that, and
    /// run what they have to say.
    fn cancel(&self, token: &Self::Token);
}

/// The stopping side of one sandbox.
pub struct Control<T: Target> {
    target: T,
    state: Mutex<State<T::Token>>,
}

struct State<Token> {
    /// The call under way.
    call: Option<Call<Token>>,
    /// For when the watchdog has this sandbox on its list.
    watched: Option<Instant>,
}

struct Call<Token> {
    token: Token,
    deadline: Option<Instant>,
    reason: Option<Reason>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value behind these locks is valid at all times.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Target> Control<T> {
    /// That of a sandbox in which nothing runs.
    pub fn new(target: impl Into<T>) -> Arc<Self> {
        let state = Mutex::new(State { call: None, watched: None });
        Arc::new(Self { target: target.into(), state })
    }

    /// Begins a call, which may be stopped from now on.
    pub fn begin(self: &Arc<Self>, watchdog: &Watchdog<T>, deadline: Option<Instant>) -> T::Token {
        let mut state = lock(&self.state);
        // A stop that came too late for the last call must not hit this one.
        let token = self.target.begin(deadline);
        state.call = Some(Call { token: token.clone(), deadline, reason: None });
        if let Some(deadline) = deadline
            && state.watched.is_none_or(|watched| watched > deadline)
        {
            state.watched = Some(deadline);
            drop(state);
            watchdog.watch(deadline, Arc::downgrade(self));
        }
        token
    }

    /// Ends a call; says why it was stopped, if it was.
    pub fn end(&self) -> Option<Reason> {
        lock(&self.state).call.take().and_then(|call| call.reason)
    }

    /// Why the call under way is to stop, if it is. Deadlines do not need the watchdog here.
    pub fn reason(&self) -> Option<Reason> {
        let state = lock(&self.state);
        let call = state.call.as_ref()?;
        let late = || call.deadline.is_some_and(|deadline| sync::now() >= deadline);
        call.reason.or_else(|| late().then_some(Reason::Deadline))
    }

    /// Stops the call under way. Does nothing if there is none.
    pub fn interrupt(&self) {
        let token = self.stop(&mut lock(&self.state), Reason::Interrupted);
        self.cancel(token);
    }

    /// Stops the guest; the token of the call that is to be cancelled when the lock is free.
    #[must_use]
    fn stop(&self, state: &mut State<T::Token>, reason: Reason) -> Option<T::Token> {
        let call = state.call.as_mut()?;
        call.reason.get_or_insert(reason);
        self.target.stop();
        Some(call.token.clone())
    }

    fn cancel(&self, token: Option<T::Token>) {
        if let Some(token) = token {
            self.target.cancel(&token);
        }
    }

    /// The watchdog's look at this sandbox: when to look again, if ever.
    pub(crate) fn check(&self, now: Instant) -> Option<Instant> {
        let mut state = lock(&self.state);
        let deadline = state.call.as_ref().and_then(|call| call.deadline);
        let (token, again) = match deadline {
            Some(deadline) if deadline <= now => (self.stop(&mut state, Reason::Deadline), None),
            later => (None, later),
        };
        state.watched = again;
        drop(state);
        self.cancel(token);
        again
    }
}

impl<T: Target> fmt::Debug for Control<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}
