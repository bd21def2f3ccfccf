//! Calls that no thread waits for: a guest has a thread while it runs, and none while it waits.

use super::{Instance, Sandbox};
use crate::error::{Error, Result};
use crate::exports;
use crate::guest::GuestImage;
use crate::host::Host;
use crate::learned::PageSet;
use crate::linear_memory::LinearMemory;
use crate::machine::{Begun, Machine, Progress, Step};
use crate::module::Module;
use crate::stats::Stats;
use crate::typed::WasmValues;
use crate::vcpus::{Guest, Job};
use sandgrain_abi::Value;
use sandgrain_abi::message::{Command, Outcome, Queued};
use std::future::poll_fn;
use std::mem;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Instant;
use tokio::sync::oneshot;
use tracing::Instrument;

impl Sandbox {
    /// As [`call`](Self::call), for any executor: the guest runs on one of the engine's
    /// [vCPU threads](crate::EngineBuilder::vcpu_threads), and while it waits for an
    /// [asynchronous host function](crate::SandboxBuilder::async_function), or sleeps, it has none. Those
    /// futures are polled where this one is. Other host functions, and WASI calls other than a plain sleep,
    /// run on the vCPU thread, which waits where they do: reads of a pipe that is silent, for example. Without
    /// a VM the guest's calls are on its thread's stack, so it keeps that in every case. Of a guest in a
    /// [worker process](crate::Workers) that takes only a moment, less than a millisecond, the end is awaited right
    /// here.
    ///
    /// The deadline is for all of the call, waiting for a vCPU thread included. To drop the future stops the
    /// guest and ends the sandbox; what it has written and nobody has taken may be lost then.
    ///
    /// ```
    /// use sandgrain::{Engine, Module, Sandbox};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let engine = Engine::builder().vcpu_threads(2).build()?;
    /// let module = Module::new(&engine, br#"
    ///     (module
    ///       (import "host" "later" (func $later (param i32) (result i32)))
    ///       (func (export "f") (result i32) (call $later (i32.const 42))))
    /// "#)?;
    /// let later = |n: u32| async move {
    ///     tokio::time::sleep(Duration::from_millis(10)).await;
    ///     n
    /// };
    /// let mut sandbox = Sandbox::builder(&module).async_function("host", "later", later).build()?;
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    /// let n: u32 = runtime.block_on(sandbox.call_async("f", ()))?;
    /// assert_eq!(n, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Panics
    /// As [`call`](Self::call), if a host function does.
    pub async fn call_async<P: WasmValues, R: WasmValues>(
        &mut self,
        name: &str,
        params: P,
    ) -> Result<R> {
        self.exports.check_type::<P, R>(name)?;
        let args = params.into_values();
        let results = self.call_values_async(self.main(), name, &args).await?;
        self.settled(exports::typed(name, &results))
    }

    /// As [`call_values`](Self::call_values), awaited as [`call_async`](Self::call_async) is.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_values_async(
        &mut self,
        instance: Instance,
        name: &str,
        args: &[Value],
    ) -> Result<Vec<Value>> {
        let span = tracing::debug_span!("call", name);
        async {
            let (command, results) = self.exports.call(instance, name, args)?;
            self.check_not_waiting()?;
            let progress = self.drive_async(Step::Execute(command)).await?;
            let outcome = self.done(progress)?;
            self.settled(exports::returned(outcome, &results))
        }
        .instrument(span)
        .await
    }

    /// Has somebody told whenever the guest begins to wait, or waits on, in an asynchronous call for something of the
    /// host's, and so needs no CPU: who gives each call a CPU's time may give it to another then. Until the sandbox is
    /// reset.
    pub fn on_wait(&mut self, told: impl Fn() + Send + Sync + 'static) {
        self.on_wait = Some(Box::new(told));
    }

    /// As [`drive`](Self::drive), on vCPU threads, and on none while the guest waits.
    pub(super) async fn drive_async(&mut self, step: Step) -> Result<Progress> {
        let pages = self.open_books()?;
        let mut call = Underway { sandbox: self, queued: None, is_over: false };
        let result = call.drive(step).await;
        call.is_over = true;
        drop(call);
        self.close_books(pages, result)
    }
}

/// A call that is under way, until it is over or nobody polls it any more.
struct Underway<'a> {
    sandbox: &'a mut Sandbox,
    /// The number under which the guest waits for a thread, or runs on one.
    queued: Option<u64>,
    is_over: bool,
}

impl Underway<'_> {
    async fn drive(&mut self, mut step: Step) -> Result<Progress> {
        loop {
            // Without a VM it cannot stop in the middle.
            self.sandbox.host.awaits = !self.sandbox.engine.is_without_vm();
            let progress = self.run(step).await;
            self.sandbox.host.awaits = false;
            let pending = match progress? {
                Progress::Waiting => self.sandbox.host.pending.take(),
                Progress::Done(Outcome::Component { result, queued }) => {
                    self.run_queue(queued).await?;
                    return Ok(Progress::Done(Outcome::Component { result, queued: Vec::new() }));
                }
                done @ Progress::Done(_) => return Ok(done),
            };
            let Some(pending) = pending else { return Ok(Progress::Waiting) };
            let started = Instant::now();
            let cancel = self.sandbox.host.cancel.clone();
            let mut answered = pin!(cancel.wait_for(pending));
            let mut loss = self.sandbox.machine.loss();
            let told = &mut self.sandbox.on_wait;
            let answer = poll_fn(|context| {
                let polled = match answered.as_mut().poll(context) {
                    Poll::Ready(answer) => Poll::Ready(answer.map_err(|_cancelled| None)),
                    // There is nobody any more to be answered.
                    Poll::Pending => loss.as_mut().poll(context).map(|error| Err(Some(error))),
                };
                if polled.is_pending()
                    && let Some(told) = told
                {
                    told();
                }
                polled
            })
            .await;
            self.sandbox.machine.stats().host += started.elapsed();
            let answer =
                answer.map_err(|error| error.unwrap_or_else(|| self.sandbox.host.cancelled()))?;
            self.sandbox.host.answer = Some(answer);
            step = Step::Resume;
        }
    }

    /// Does what the guest has queued: here, unless that has to wait for somebody.
    async fn run_queue(&mut self, mut queued: Vec<Queued>) -> Result<()> {
        let done = self.sandbox.host.run_queue_now(&queued)?;
        if done == queued.len() {
            return Ok(());
        }
        queued.drain(..done);
        self.run(Step::RunQueue(queued)).await.map(|_| ())
    }

    /// Has the guest run: in its worker process, if that takes but a moment, else on a vCPU thread, as soon as one is
    /// free.
    async fn run(&mut self, step: Step) -> Result<Progress> {
        let is_under_way = match self.sandbox.machine.begin(&step)? {
            Begun::Over(progress) => return Ok(progress),
            Begun::UnderWay => true,
            Begun::Not => false,
        };
        let cancel = self.sandbox.host.cancel.clone();
        let (back, mut returned) = oneshot::channel();
        let machine = mem::replace(&mut self.sandbox.machine, Box::new(Away::default()));
        let guest = Guest { machine, host: mem::take(&mut self.sandbox.host) };
        let control = Arc::clone(&self.sandbox.control);
        let span = tracing::Span::current();
        let job = Job { guest, step, control, span, back };
        let vcpus = &self.sandbox.engine.inner.vcpus;
        let number = match vcpus.run(job) {
            Ok(number) => number,
            Err(failed) => {
                let (error, guest) = *failed;
                self.has_back(guest);
                return Err(error);
            }
        };
        self.queued = Some(number);
        let returned = match cancel.wait_for(&mut returned).await {
            Ok(returned) => returned,
            Err(_cancelled) => match self.sandbox.engine.inner.vcpus.take_back(number) {
                Some(guest) => {
                    self.has_back(guest);
                    if is_under_way {
                        let reason = "no thread was free to go on with its call in time";
                        self.sandbox.ended.get_or_insert_with(|| reason.to_owned());
                    }
                    return Err(self.sandbox.host.cancelled());
                }
                // It has a thread, and has been told to stop.
                None => returned.await,
            },
        };
        let Ok((guest, result)) = returned else {
            return Err(Error::Host("a vCPU thread has lost its guest".to_owned()));
        };
        self.has_back(guest);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn has_back(&mut self, guest: Guest) {
        self.queued = None;
        self.sandbox.machine = guest.machine;
        self.sandbox.host = guest.host;
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.sandbox.control.interrupt();
        // A panic of a host function leaves the sandbox as it does in a call that a thread waits for.
        if !thread::panicking() {
            let reason = "its future was dropped before it was done";
            self.sandbox.ended.get_or_insert_with(|| reason.to_owned());
        }
        if let Some(number) = self.queued {
            // It may be needed for what the guest has written.
            if let Some(guest) = self.sandbox.engine.inner.vcpus.take_back(number) {
                self.has_back(guest);
            }
        }
    }
}

/// What a sandbox has in place of its machine while that runs elsewhere.
#[derive(Default)]
struct Away {
    stats: Stats,
}

fn away<T>() -> Result<T> {
    Err(Error::Ended("its machine is away".to_owned()))
}

impl Machine for Away {
    fn load(&mut self, _: &Module) -> Result<(u64, u64)> {
        away()
    }

    fn attach(&mut self, _: Vec<Vec<u8>>) {}

    fn take_attached(&mut self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn execute(&mut self, _: &Command, _: &mut Host) -> Result<Progress> {
        away()
    }

    fn resume(&mut self, _: &mut Host) -> Result<Progress> {
        away()
    }

    fn memory(&mut self, _: u32) -> Result<Box<dyn LinearMemory + '_>> {
        away()
    }

    fn stats(&mut self) -> &mut Stats {
        &mut self.stats
    }

    fn resident_pages(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn touched(&self, _: &GuestImage) -> Result<PageSet> {
        away()
    }

    fn capture(&self) -> Result<Option<GuestImage>> {
        away()
    }

    fn reset(&mut self, _: &GuestImage) -> Result<bool> {
        away()
    }
}
