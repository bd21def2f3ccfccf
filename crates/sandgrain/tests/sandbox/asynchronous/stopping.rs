//! Awaited calls that are stopped: on request, at their deadline, and by whoever does not want them any more.

use super::*;
use crate::support::soon;
use std::thread;

/// Where a call is when it is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Spinning,
    Waiting,
    Sleeping,
    Queued,
}

const PLACES: [Place; 4] = [Place::Spinning, Place::Waiting, Place::Sleeping, Place::Queued];

/// A call without an end, on an engine with one thread.
struct Endless {
    place: Place,
    engine: Engine,
    sandbox: Sandbox,
    /// Says that it has begun.
    begun: mpsc::Receiver<()>,
    /// Kept by what the sandbox was given.
    kept: Arc<()>,
}

impl Endless {
    fn new(engine: &Engine, place: Place, limits: Limits) -> Self {
        let (sender, begun) = mpsc::channel();
        let kept = Arc::new(());
        let held = Arc::clone(&kept);
        let sandbox = described(engine)
            .function("host", "begun", move || {
                // A test that is over does not listen.
                let _ = (sender.send(()), &held);
            })
            .async_function("host", "later", |_: u32| pending::<u32>())
            .limits(limits)
            .build()
            .expect("a sandbox");
        Self { place, engine: engine.clone(), sandbox, begun, kept }
    }

    /// Has the call come to its place, does something, and gives back what the call has led to, if it is not
    /// dropped before.
    fn call(&mut self, then: impl FnOnce(Pin<&mut dyn Future<Output = sandgrain::Result<()>>>)) {
        let (release, held) = mpsc::channel::<()>();
        let (taken, is_taken) = mpsc::channel();
        // Takes the only thread, without an end.
        let mut other = described(&self.engine)
            .function("host", "begun", move || {
                taken.send(()).expect("somebody listens");
                let _ = held.recv();
            })
            .build()
            .expect("a sandbox");
        let mut other = Box::pin(other.call_async::<_, ()>("begin", ()));
        if self.place == Place::Queued {
            assert!(poll_once(other.as_mut()).is_pending());
            is_taken.recv().expect("it begins");
        }
        let (place, sandbox) = (self.place, &mut self.sandbox);
        let mut future = Box::pin(async move {
            match place {
                Place::Spinning | Place::Queued => sandbox.call_async("spin", ()).await,
                Place::Waiting => sandbox.call_async::<_, u32>("later", 1_u32).await.map(drop),
                Place::Sleeping => {
                    let args = (HOUR, 64);
                    sandbox.call_async::<_, (i32, i32, i64)>("sleep", args).await.map(drop)
                }
            }
        });
        assert!(poll_once(future.as_mut()).is_pending());
        if place != Place::Queued {
            self.begun.recv().expect("it begins");
        }
        then(future.as_mut());
        drop(future);
        if place == Place::Queued {
            release.send(()).expect("the other one waits");
            block_on(other).expect("the other one goes on");
        }
    }

    /// What is so after a stop.
    fn ended(mut self, reason: &str) {
        let place = self.place;
        is_free(&self.engine);
        for result in [
            self.sandbox.call::<_, u32>("later", 1_u32),
            block_on(self.sandbox.call_async("later", 1_u32)),
        ] {
            let (name, text) = name_of(result);
            assert!(name == "ended" && text.contains(reason), "{place:?}: {text}");
        }
        let handle = self.sandbox.interrupt_handle();
        drop(self.sandbox);
        handle.interrupt();
        assert_eq!(Arc::strong_count(&self.kept), 1, "{place:?}: something is left");
    }
}

fn everywhere(limits: &Limits, test: impl Fn(Endless)) {
    for engine in two_with_threads(1) {
        for place in PLACES {
            test(Endless::new(&engine, place, limits.clone()));
        }
    }
}

#[test]
fn a_deadline_ends_a_call_wherever_it_is() {
    everywhere(&soon(), |mut endless| {
        let place = endless.place;
        endless.call(|future| {
            let result = block_on(future);
            assert!(matches!(result, Err(Error::Deadline(_))), "{place:?}: {result:?}");
        });
        endless.ended("deadline");
    });
}

#[test]
fn an_interrupt_ends_a_call_wherever_it_is() {
    everywhere(&Limits::default().deadline(None), |mut endless| {
        let place = endless.place;
        let handle = endless.sandbox.interrupt_handle();
        endless.call(|future| {
            let thread = thread::spawn(move || handle.interrupt());
            let result = block_on(future);
            assert!(matches!(result, Err(Error::Interrupted)), "{place:?}: {result:?}");
            thread.join().expect("no panic");
        });
        endless.ended("interrupted");
    });
}

#[test]
fn a_future_that_is_dropped_stops_its_call_wherever_it_is() {
    everywhere(&Limits::default().deadline(None), |mut endless| {
        endless.call(|_| {});
        endless.ended("dropped");
    });
}

#[test]
fn a_call_whose_sandbox_is_dropped_with_it_leaves_the_thread() {
    for engine in two_with_threads(1) {
        let Endless { mut sandbox, begun, .. } =
            Endless::new(&engine, Place::Spinning, Limits::default().deadline(None));
        let mut future = Box::pin(async move { sandbox.call_async::<_, ()>("spin", ()).await });
        assert!(poll_once(future.as_mut()).is_pending());
        begun.recv().expect("it begins");
        drop(future);
        is_free(&engine);
    }
}

#[test]
fn a_call_that_nobody_has_polled_has_done_nothing() {
    on_both(|engine| {
        let mut one = sandbox(engine);
        drop(one.call_async::<_, ()>("spin", ()));
        assert_eq!(one.call::<_, u32>("later", 1_u32).expect("a call"), 2);
    });
}

#[test]
fn a_thread_that_waits_for_a_future_can_be_stopped_too() {
    for limits in [soon(), Limits::default().deadline(None)] {
        for engine in two_with_threads(1) {
            let is_interrupted = limits.deadline.is_none();
            let Endless { mut sandbox, begun, .. } =
                Endless::new(&engine, Place::Waiting, limits.clone());
            let handle = sandbox.interrupt_handle();
            let thread = is_interrupted.then(|| {
                thread::spawn(move || {
                    begun.recv().expect("it begins");
                    handle.interrupt();
                })
            });
            let result = sandbox.call::<_, u32>("later", 1_u32);
            match result {
                Err(Error::Interrupted) if is_interrupted => {}
                Err(Error::Deadline(_)) if !is_interrupted => {}
                other => panic!("{other:?}"),
            }
            if let Some(thread) = thread {
                thread.join().expect("no panic");
            }
        }
    }
}

#[test]
fn interrupts_at_any_moment_end_an_awaited_call() {
    let engine = with_threads(2);
    for round in 0..30_u32 {
        let mut one = sandbox(&engine);
        let handle = one.interrupt_handle();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                handle.interrupt();
                thread::yield_now();
            }
        });
        let result = match round % 2 {
            0 => block_on(one.call_async::<_, ()>("spin", ())),
            _ => block_on(async {
                one.call_async::<_, (i32, i32, i64)>("sleep", (HOUR, 64)).await.map(drop)
            }),
        };
        assert!(matches!(result, Err(Error::Interrupted)), "round {round}: {result:?}");
        drop(stop);
        thread.join().expect("no panic");
    }
    is_free(&engine);
}
