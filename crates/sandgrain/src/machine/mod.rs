//! The machine that a guest sees: its page tables, descriptors, program, memories, registers.
//!
//! The host builds all of it before the guest's first instruction, and edits the page tables later only
//! to turn absent entries into present ones, when a linear memory is made or it or the heap grows. The page
//! tables are not mapped in the guest, so that nothing in it can change them.

pub(crate) mod address_space;
pub(crate) mod base;
pub(crate) mod descriptors;
pub(crate) mod heap;
pub(crate) mod memories;
pub(crate) mod plan;
pub(crate) mod program;

use crate::error::{Error, Result};
use crate::guest::GuestImage;
use crate::host::Host;
use crate::learned::PageSet;
use crate::linear_memory::LinearMemory;
use crate::module::Module;
use crate::stats::Stats;
use sandgrain_abi::message::{Command, Outcome, Queued};
use std::future::pending;
use std::pin::Pin;

/// How far a guest has come with what it was told.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It has done it.
    Done(Outcome),
    /// It waits for the answer to a call that the host has put off.
    Waiting,
}

/// How far a step has come that was begun.
#[derive(Debug)]
pub(crate) enum Begun {
    /// To its end.
    Over(Progress),
    /// It goes on where the same is executed.
    UnderWay,
    /// Nowhere: it begins where it is executed.
    Not,
}

/// What a guest is to do.
pub(crate) enum Step {
    /// Something new.
    Execute(Command),
    /// To go on with the answer that it waits for.
    Resume,
    /// Nothing: the host is to do what it has queued.
    RunQueue(Vec<Queued>),
}

impl Step {
    pub(crate) fn run(&self, machine: &mut dyn Machine, host: &mut Host) -> Result<Progress> {
        match self {
            Self::Execute(command) => machine.execute(command, host),
            Self::Resume => machine.resume(host),
            Self::RunQueue(queued) => {
                host.run_queue(queued)?;
                Ok(Progress::Done(Outcome::Returned(Vec::new())))
            }
        }
    }
}

/// What a sandbox runs its modules on: a VM, or the reference engine without one.
pub(crate) trait Machine: Send {
    /// Puts a module where commands can name it: by address and length.
    fn load(&mut self, module: &Module) -> Result<(u64, u64)>;
    /// Gives the bytes of the attachments of what it is told next.
    fn attach(&mut self, attachments: Vec<Vec<u8>>);
    /// The bytes of the attachments of what it has done last.
    fn take_attached(&mut self) -> Vec<Vec<u8>>;
    /// Has the guest do something, and answers its requests until it is done, or waits for an answer that the
    /// host puts off.
    fn execute(&mut self, command: &Command, host: &mut Host) -> Result<Progress>;
    /// Asks the host once more what it has put off, and has the guest go on with the answer.
    fn resume(&mut self, host: &mut Host) -> Result<Progress>;
    /// Begins what somebody else does, another process, and waits a moment for its end, but no longer: for those who
    /// must not be held up.
    fn begin(&mut self, _: &Step) -> Result<Begun> {
        Ok(Begun::Not)
    }
    /// Says that the guest will be [reset](Self::reset) once it has done what it is told next, which may be done along
    /// with it.
    fn reset_when_done(&mut self) {}
    /// A linear memory; one of no bytes if there is no such memory.
    fn memory(&mut self, number: u32) -> Result<Box<dyn LinearMemory + '_>>;
    /// Figures since they were last taken.
    fn stats(&mut self) -> &mut Stats;
    /// Pages of memory that the guest has to itself so far, if the machine can tell.
    fn resident_pages(&self) -> Result<Option<u64>>;
    /// Pages that the guest has touched, as those made from the image it was made from will; none without a VM.
    fn touched(&self, image: &GuestImage) -> Result<PageSet>;
    /// What the guest is now, to be made again; `None` if this kind of machine cannot.
    fn capture(&self) -> Result<Option<GuestImage>>;
    /// Whether it is known to be gone.
    fn is_lost(&self) -> bool {
        false
    }
    /// The error that its calls fail with, once it is gone: for those that wait for something else meanwhile.
    fn loss(&self) -> Pin<Box<dyn Future<Output = Error> + Send>> {
        Box::pin(pending())
    }
    /// Makes the guest what it was when the image was taken that it was made from. `false`: it could not, and
    /// must not be used any more.
    fn reset(&mut self, image: &GuestImage) -> Result<bool>;
    /// Whether a reset waits for nobody else.
    fn resets_at_once(&self) -> bool {
        true
    }
}
