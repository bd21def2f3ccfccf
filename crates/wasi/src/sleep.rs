//! `poll_oneoff`: the one function that waits for time.

use std::future::Future;
use std::time::{Duration, Instant};

use wasmtime_wasi::p1::types::{
    Errno, Event, EventFdReadwrite, Eventrwflags, Eventtype, Subclockflags, Subscription,
    SubscriptionU,
};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as p1};
use wiggle::{GuestMemory, GuestPtr};

use crate::functions::Returned;
use crate::{Cancel, Error, runtime};

/// Waits for the first of the guest's events.
pub(crate) fn poll_oneoff(
    context: &mut WasiP1Ctx,
    memory: &mut GuestMemory<'_>,
    cancel: &Cancel,
    subscriptions: i32,
    events: i32,
    count: i32,
    nevents: i32,
) -> Result<Returned, Error> {
    // For a single relative timer, the usual way to sleep, the library would block this thread
    // in `thread::sleep`, where nothing can stop it. So this case is answered here.
    if count == 1
        && let Some((userdata, duration)) = relative_timer(memory, subscriptions)
    {
        // A moment that the clock cannot represent never comes.
        cancel.sleep_until(Instant::now().checked_add(duration))?;
        return Ok(answer(memory, userdata, events, nevents));
    }
    // All others wait with tokio's timers, which must be created inside of a runtime.
    let handle = runtime::handle()?;
    let _entered = handle.enter();
    cancel.block_on(p1::poll_oneoff(context, memory, subscriptions, events, count, nevents))
}

/// Waits on any executor: the time is this crate's own runtime's.
///
/// # Errors
///
/// [`Error::Host`] if that cannot be started.
pub fn sleep(duration: Duration) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let handle = runtime::handle()?;
    let _entered = handle.enter();
    Ok(tokio::time::sleep(duration))
}

/// The time that a call of `poll_oneoff` waits for, if it does nothing else.
pub(crate) fn sleeps_for(args: &[u64], memory: &mut [u8]) -> Option<Duration> {
    let &[subscriptions, _, 1, _] = args else { return None };
    let memory = GuestMemory::Unshared(memory);
    Some(relative_timer(&memory, subscriptions as u32 as i32)?.1)
}

/// What such a call returns when the time is over.
pub(crate) fn woken(args: &[u64], memory: &mut [u8]) -> Option<Returned> {
    let &[subscriptions, events, 1, nevents] = args else { return None };
    let mut memory = GuestMemory::Unshared(memory);
    let (userdata, _) = relative_timer(&memory, subscriptions as u32 as i32)?;
    Some(answer(&mut memory, userdata, events as u32 as i32, nevents as u32 as i32))
}

fn relative_timer(memory: &GuestMemory<'_>, subscription: i32) -> Option<(u64, Duration)> {
    // A subscription that cannot be read is left to the library, which reports it.
    let subscription = memory.read(GuestPtr::<Subscription>::new(subscription as u32)).ok()?;
    let SubscriptionU::Clock(clock) = subscription.u else { return None };
    let relative = !clock.flags.contains(Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME);
    relative.then(|| (subscription.userdata, Duration::from_nanos(clock.timeout)))
}

fn answer(memory: &mut GuestMemory<'_>, userdata: u64, events: i32, nevents: i32) -> Returned {
    let fd_readwrite = EventFdReadwrite { nbytes: 1, flags: Eventrwflags::empty() };
    let event = Event { userdata, error: Errno::Success, type_: Eventtype::Clock, fd_readwrite };
    memory.write(GuestPtr::<Event>::new(events as u32), event)?;
    memory.write(GuestPtr::<u32>::new(nevents as u32), 1)?;
    Ok(Errno::Success as i32)
}
