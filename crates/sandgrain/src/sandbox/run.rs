//! WASI commands: programs that run from `_start`, or a component's `wasi:cli/run`, to their exit.

use super::{Sandbox, check};
use crate::error::{Error, Result};
use crate::machine::{Progress, Step};
use sandgrain_abi::component::{Function, Payload};
use sandgrain_abi::message::{Command, Outcome};
use sandgrain_abi::types::{ExternType, FuncType};
use tracing::Instrument;

/// What a WASI command begins with.
const START: &str = "_start";
/// The interface by which a component is a command, without its version.
const RUN: &str = "wasi:cli/run@0.2.";

impl Sandbox {
    /// Runs a WASI command: calls `_start`, or a component's `wasi:cli/run`. Its exit code. Where a run has been stopped
    /// [at its input](Self::run_to_input), in this sandbox or before its snapshot was taken, it goes on.
    ///
    /// # Errors
    /// As [`Sandbox::call`], but an exit is not an error.
    pub fn run(&mut self) -> Result<i32> {
        match self.start_or_go_on(false)? {
            Some(code) => Ok(code),
            None => Err(self.end("it waits where it was not told to")),
        }
    }

    /// As [`run`](Self::run), awaited as [`call_async`](Self::call_async) is.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_async(&mut self) -> Result<i32> {
        let span = tracing::debug_span!("call", name = START);
        async {
            let step = self.run_step()?;
            let result = self.drive_async(step).await;
            match self.run_ended(result)? {
                Some(code) => Ok(code),
                None => Err(self.end("it waits where it was not told to")),
            }
        }
        .instrument(span)
        .await
    }

    /// Runs a WASI command up to its first read from the standard input; `None` if it came there. Then a
    /// [snapshot](Self::snapshot) can be taken, of an interpreter, say, that has loaded its libraries and is
    /// about to read its program: sandboxes made of it [go on](Self::run) from there, each with an input of
    /// its own. `Some` is the exit code of a program that did not read any.
    ///
    /// # Errors
    /// As [`Sandbox::run`]; [`Error::BadCall`] without a VM, or if the run has been stopped there already.
    pub fn run_to_input(&mut self) -> Result<Option<i32>> {
        if self.engine.is_without_vm() {
            return Err(Error::BadCall(
                "a run cannot be stopped in the middle without a VM; try: an engine with one"
                    .to_owned(),
            ));
        }
        if self.is_waiting {
            return Err(Error::BadCall("the run waits for input already".to_owned()));
        }
        self.start_or_go_on(true)
    }

    /// Whether the guest is in the middle of a run, about to read from its standard input.
    #[must_use]
    pub fn is_waiting_for_input(&self) -> bool {
        self.is_waiting
    }

    fn start_or_go_on(&mut self, stop_at_input: bool) -> Result<Option<i32>> {
        let span = tracing::debug_span!("call", name = START, stop_at_input);
        let _entered = span.enter();
        let step = self.run_step()?;
        self.host.stop_at_input = stop_at_input;
        let result = self.drive(&step);
        self.host.stop_at_input = false;
        self.run_ended(result)
    }

    /// What begins a run, or has it go on.
    fn run_step(&mut self) -> Result<Step> {
        self.check_alive()?;
        if self.exports.module(self.main())?.component().is_some() {
            let path = self.command()?;
            return Ok(Step::Execute(Command::CallComponent {
                instance: self.main().0,
                path,
                args: Payload::default(),
                known: Vec::new(),
            }));
        }
        match self.exports.module(self.main())?.export(START) {
            Some(ExternType::Func(ty)) if *ty == FuncType::default() => {}
            other => {
                let module = self.exports.module(self.main())?;
                return Err(check::no_export(module, START, other, "function"));
            }
        }
        let (instance, export) = (self.main().0, START.to_owned());
        if std::mem::take(&mut self.is_waiting) {
            return Ok(Step::Resume);
        }
        Ok(Step::Execute(Command::Call { instance, export, args: Vec::new() }))
    }

    /// The path to the function by which the component is a command.
    fn command(&self) -> Result<Vec<String>> {
        let info = self.exports.component(self.main())?;
        let is_run = |function: &&Function| match function.path.as_slice() {
            [instance, name] => instance.starts_with(RUN) && name == "run",
            _ => false,
        };
        let run = info.exports.iter().find(is_run).map(|function| function.path.clone());
        run.ok_or_else(|| {
            Error::BadCall(
                "the component is not a program: it exports no wasi:cli/run@0.2".to_owned(),
            )
        })
    }

    /// The exit code of a run; `None` if it waits for input.
    fn run_ended(&mut self, result: Result<Progress>) -> Result<Option<i32>> {
        match result {
            Ok(Progress::Waiting) => Ok(None),
            Ok(Progress::Done(Outcome::Returned(values))) if values.is_empty() => Ok(Some(0)),
            Ok(Progress::Done(Outcome::Component { result, queued })) => {
                self.host.run_queue(&queued)?;
                // `result`: ok or err.
                match result.body.as_slice() {
                    [failed @ (0 | 1)] => Ok(Some(i32::from(*failed))),
                    _ => Err(self.end("its run has returned something else than a result")),
                }
            }
            Ok(Progress::Done(outcome)) => Err(self.unexpected(outcome)),
            Err(Error::Exit(code)) => Ok(Some(code)),
            Err(error) => Err(error),
        }
    }
}
