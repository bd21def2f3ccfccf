//! A guest in a worker process.

use super::in_call::InCall;
use super::message::{Ask, Call, MAX_TOLD, Part, Reply, Run, Told, bytes_of, runs};
use super::talk::{Pace, Talk};
use super::window::{Rooms, Source, Window};
use super::worker::{Stop, Worker};
use super::{Workers, lock};
use crate::error::{Error, Result, described};
use crate::guest::{Answer, ComponentCall, GuestImage};
use crate::host::Host;
use crate::learned::PageSet;
use crate::limits::Limits;
use crate::linear_memory::LinearMemory;
use crate::machine::{Begun, Machine, Progress, Step};
use crate::module::Module;
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::stop::Target;
use sandgrain_abi::layout::PAGE_SIZE;
use sandgrain_abi::message::Command;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A guest in a worker process.
pub(crate) struct Remote {
    /// The workers of which it is one.
    workers: Workers,
    worker: Arc<Worker>,
    guest: u64,
    image: u64,
    /// Bytes that each of its linear memories can have.
    max_memory: u64,
    /// Bytes that one call of a component may pass.
    call_bytes: u64,
    /// What goes with the next command.
    attachments: Vec<Vec<u8>>,
    /// What came with the last outcome.
    attached: Vec<Vec<u8>>,
    stop: Arc<Stop>,
    stats: Stats,
    pace: Arc<Pace>,
    /// A turn that has begun, and what the worker has said of it so far.
    begun: Option<(Talk, Option<Told>)>,
    /// Whether it is to be what it is in its image after its next turn.
    resets: bool,
    /// Whether it is what it is in its image.
    is_reset: bool,
}

/// Stops a guest in a worker process.
pub(crate) struct RemoteStop {
    worker: Arc<Worker>,
    guest: u64,
    stop: Arc<Stop>,
}

impl Target for RemoteStop {
    fn stop(&self) {
        lock(&self.stop.since).get_or_insert_with(Instant::now);
        self.worker.stop(self.guest, self.stop.turn.load(Ordering::SeqCst));
    }

    fn clear(&self) {
        self.stop.turn.fetch_add(1, Ordering::SeqCst);
        *lock(&self.stop.since) = None;
    }
}

impl Remote {
    /// A new guest of a snapshot in this worker, which counts it already. It has copies of these pages.
    pub(super) fn make(
        workers: &Workers,
        worker: Arc<Worker>,
        snapshot: &Snapshot,
        pages: &PageSet,
    ) -> Result<Self> {
        let guest = worker.number();
        let known = worker.image(snapshot);
        let (image, pace) = known.inspect_err(|_| workers.is_left(&worker))?;
        let Limits { memory: max_memory, call_bytes, .. } = snapshot.state().limits;
        // From here on, to drop it is to give back what was taken.
        let (stop, stats) = (Arc::default(), Stats::default());
        let workers = workers.clone();
        let (attachments, attached) = (Vec::new(), Vec::new());
        let remote = Self {
            workers,
            worker,
            guest,
            image,
            max_memory,
            call_bytes,
            attachments,
            attached,
            stop,
            stats,
            pace,
            begun: None,
            resets: false,
            is_reset: true,
        };
        remote.worker.have_done(&Ask::Make { guest, image, pages: pages.clone() }, &[])?;
        Ok(remote)
    }

    /// One in a worker that is played, with memories of so many bytes at the most.
    #[cfg(test)]
    pub(super) fn played(worker: Worker, max_memory: u64) -> Self {
        let workers = Workers::of_program("/no/such/worker");
        let (worker, stop, stats) = (Arc::new(worker), Arc::default(), Stats::default());
        Self {
            workers,
            worker,
            guest: 1,
            image: 1,
            max_memory,
            call_bytes: 1 << 20,
            attachments: Vec::new(),
            attached: Vec::new(),
            stop,
            stats,
            pace: Arc::default(),
            begun: None,
            resets: false,
            is_reset: false,
        }
    }

    pub(crate) fn target(&self) -> RemoteStop {
        let (worker, stop) = (Arc::clone(&self.worker), Arc::clone(&self.stop));
        RemoteStop { worker, guest: self.guest, stop }
    }

    pub(super) fn rooms(&self) -> &Rooms {
        self.workers.rooms()
    }

    /// Bytes that each of its linear memories can have.
    pub(super) fn max_memory(&self) -> u64 {
        self.max_memory
    }

    /// Its worker said something that answers no question.
    pub(super) fn nonsense(&self, told: &Told) -> Error {
        self.worker.nonsense(told)
    }

    fn number(&self, ask: &Ask) -> Result<u64> {
        match self.worker.ask(ask)? {
            Told::Number(number) => Ok(number),
            other => Err(self.worker.nonsense(&other)),
        }
    }

    /// What begins a turn of the guest's.
    fn turn(&mut self, command: Option<&Command>) -> Ask {
        let turn = self.stop.turn.load(Ordering::SeqCst);
        let attachments = runs(std::mem::take(&mut self.attachments));
        let (command, reset) = (command.cloned(), self.resets);
        self.is_reset = false;
        Ask::Step { guest: self.guest, turn, command, attachments, reset }
    }

    /// One turn of the guest's, in which its calls are answered.
    fn step(&mut self, command: Option<&Command>, host: &mut Host) -> Result<Progress> {
        let is_late = matches!(self.begun, Some((_, None)));
        let (mut talk, mut told) = match self.begun.take() {
            Some(begun) => begun,
            None => {
                let ask = self.turn(command);
                let mut talk = self.talk()?;
                talk.say(&ask)?;
                (talk, None)
            }
        };
        if is_late {
            let first = talk.hear();
            self.pace.was_late(&first);
            told = Some(first?);
        }
        let told = Turn { guest: &*self, talk: &mut talk }.hear_on(told, host)?;
        self.left(told)
    }

    fn talk(&self) -> Result<Talk> {
        let mut talk = self.worker.talk(Some(&self.stop))?;
        talk.allow(self.call_bytes);
        Ok(talk)
    }

    /// What the worker has said at the end of a turn.
    fn left(&mut self, told: Told) -> Result<Progress> {
        match told {
            Told::Left { stats, outcome, attachments, is_reset } => {
                self.stats += stats;
                self.attached = bytes_of(attachments);
                self.resets &= outcome.is_none();
                self.is_reset = is_reset;
                Ok(outcome.map_or(Progress::Waiting, Progress::Done))
            }
            other => Err(self.worker.nonsense(&other)),
        }
    }
}

/// A turn of a guest's.
pub(super) struct Turn<'a> {
    pub(super) guest: &'a Remote,
    pub(super) talk: &'a mut Talk,
}

impl Turn<'_> {
    /// What the worker says next that is not a call; calls are answered.
    pub(super) fn hear(&mut self, host: &mut Host) -> Result<Told> {
        self.hear_on(None, host)
    }

    /// As [`hear`](Self::hear), where it has said this already.
    fn hear_on(&mut self, mut first: Option<Told>, host: &mut Host) -> Result<Told> {
        loop {
            let told = first.take().map_or_else(|| self.talk.hear(), Ok)?;
            let answered = match told {
                Told::Call(call) => self.answer(call, host),
                Told::ComponentCall { call, attachments, again } => {
                    self.answer_component(&call, &attachments, again, host)
                }
                told => return Ok(told),
            };
            if let Err(error) = answered {
                self.give_up();
                return Err(error);
            }
        }
    }

    /// After a call that could not be answered, the turn is over; so are the calls that it was within.
    fn give_up(&mut self) {
        if self.talk.is_over() || self.talk.say(&Reply::Over).is_err() {
            return;
        }
        // What comes next on this line must be that it is over.
        if let Ok(told) = self.talk.hear()
            && !self.talk.is_over()
        {
            self.guest.worker.nonsense(&told);
        }
    }

    /// Answers a component's call.
    fn answer_component(
        &mut self,
        call: &ComponentCall,
        attachments: &[Run],
        again: bool,
        host: &mut Host,
    ) -> Result<()> {
        let turn = Turn { guest: self.guest, talk: &mut *self.talk };
        let mut guest = InCall::new(turn, None, Vec::new(), attachments)?;
        if !again && host.puts_off_component(call, &mut guest)? {
            drop(guest);
            return self.talk.say(&Reply::Later);
        }
        let Answer { reply, attachments } = host.call_component(call, &mut guest)?;
        drop(guest);
        if let Some(error) = host.stopped() {
            return Err(error);
        }
        self.talk.say(&Reply::Answer { reply, parts: Vec::new(), attachments: runs(attachments) })
    }

    /// Answers a call.
    fn answer(&mut self, call: Call, host: &mut Host) -> Result<()> {
        let Call { function, args, size, parts, again } = call;
        let turn = Turn { guest: self.guest, talk: &mut *self.talk };
        let mut guest = InCall::new(turn, size, parts, &[])?;
        if !again && host.puts_off(function, &mut guest, &args)? {
            drop(guest);
            return self.talk.say(&Reply::Later);
        }
        let reply = host.call(function, &mut guest, &args)?;
        if let Some(error) = host.stopped() {
            return Err(error);
        }
        let parts = guest.changes();
        drop(guest);
        self.talk.say(&Reply::Answer { reply, parts, attachments: Vec::new() })
    }
}

/// The size of a linear memory, as a worker says it.
pub(super) fn checked(size: u64, most: u64) -> Result<usize> {
    if size > most {
        return Err(Error::Guest(format!("its memory is said to have {size} bytes")));
    }
    Ok(size as usize)
}

/// A memory while its guest waits for a command.
struct AtRest<'a> {
    worker: &'a Arc<Worker>,
    guest: u64,
    memory: u32,
}

impl Source for AtRest<'_> {
    fn fetch(&mut self, range: Range<usize>) -> Result<Vec<u8>> {
        let (guest, memory) = (self.guest, self.memory);
        let wanted = range.start as u64..range.end as u64;
        bytes(self.worker.ask(&Ask::Read { guest, memory, range: wanted })?, &range)
    }

    fn change(&mut self, parts: Vec<Part>) -> Result<()> {
        let (guest, memory) = (self.guest, self.memory);
        self.worker.have_done(&Ask::Write { guest, memory, parts }, &[])
    }
}

pub(super) fn bytes(told: Told, range: &Range<usize>) -> Result<Vec<u8>> {
    match told {
        Told::Bytes(bytes) if bytes.len() == range.len() => Ok(bytes),
        other => Err(Error::Guest(format!(
            "its worker process was asked for bytes {range:?} and answered with {}",
            described(&other)
        ))),
    }
}

impl Machine for Remote {
    fn load(&mut self, module: &Module) -> Result<(u64, u64)> {
        let Some(artifact) = module.artifact() else {
            return Err(Error::BadCall("the module was compiled to run without a VM".to_owned()));
        };
        let text = artifact.text().start as u64..artifact.text().end as u64;
        let code = artifact.code().to_vec();
        self.is_reset = false;
        match self.worker.ask(&Ask::Load { guest: self.guest, code, text })? {
            Told::Loaded(address, len) => Ok((address, len)),
            other => Err(self.worker.nonsense(&other)),
        }
    }

    fn attach(&mut self, attachments: Vec<Vec<u8>>) {
        self.attachments = attachments;
    }

    fn take_attached(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.attached)
    }

    fn execute(&mut self, command: &Command, host: &mut Host) -> Result<Progress> {
        self.step(Some(command), host)
    }

    fn resume(&mut self, host: &mut Host) -> Result<Progress> {
        self.step(None, host)
    }

    fn begin(&mut self, step: &Step) -> Result<Begun> {
        // One that goes on asks for an answer first.
        let Step::Execute(command) = step else { return Ok(Begun::Not) };
        if !self.pace.is_quick() {
            return Ok(Begun::Not);
        }
        let ask = self.turn(Some(command));
        let mut talk = self.talk()?;
        match talk.ask_for_a_moment(&ask)? {
            told @ (None | Some(Told::Call(_) | Told::ComponentCall { .. })) => {
                // Of one that has said nothing yet it is not known why.
                if told.is_some() {
                    self.pace.was_slow();
                }
                self.begun = Some((talk, told));
                Ok(Begun::UnderWay)
            }
            Some(told) => self.left(told).map(Begun::Over),
        }
    }

    fn reset_when_done(&mut self) {
        self.resets = true;
    }

    fn memory(&mut self, memory: u32) -> Result<Box<dyn LinearMemory + '_>> {
        let guest = self.guest;
        self.is_reset = false;
        let size = checked(self.number(&Ask::Size { guest, memory })?, self.max_memory)?;
        let source = AtRest { worker: &self.worker, guest, memory };
        Ok(Box::new(Window::new(source, self.workers.rooms(), size, Vec::new())?))
    }

    fn stats(&mut self) -> &mut Stats {
        &mut self.stats
    }

    fn resident_pages(&self) -> Result<Option<u64>> {
        let pages = self.number(&Ask::Resident(self.guest))?;
        // So many that their bytes can be counted.
        Ok(Some(pages.min(u64::MAX / PAGE_SIZE / 2)))
    }

    fn touched(&self, image: &GuestImage) -> Result<PageSet> {
        match self.worker.ask(&Ask::Touched(self.guest))? {
            // Whatever it says, these are pages that guests of the image have.
            Told::Pages(pages) => Ok(image.known_pages(pages)),
            other => Err(self.worker.nonsense(&other)),
        }
    }

    fn capture(&self) -> Result<Option<GuestImage>> {
        Err(Error::Snapshot(
            "the sandbox is in a worker process, whose memory is not taken over; try: a snapshot of a sandbox \
             in this process"
                .to_owned(),
        ))
    }

    fn is_lost(&self) -> bool {
        self.worker.is_lost()
    }

    fn loss(&self) -> Pin<Box<dyn Future<Output = Error> + Send>> {
        Box::pin(Arc::clone(&self.worker).loss())
    }

    fn reset(&mut self, _: &GuestImage) -> Result<bool> {
        self.resets = false;
        if self.is_reset {
            return Ok(true);
        }
        match self.worker.ask(&Ask::Reset(self.guest))? {
            Told::Flag(is_reset) => {
                self.is_reset = is_reset;
                Ok(is_reset)
            }
            other => Err(self.worker.nonsense(&other)),
        }
    }

    fn resets_at_once(&self) -> bool {
        self.is_reset
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.begun = None;
        if !self.worker.is_lost()
            && let Err(error) = self.worker.have_done(&Ask::Close(self.guest), &[])
        {
            tracing::debug!(%error, "a guest in a worker process is not closed");
        }
        self.worker.image_is_left(self.image);
        self.workers.is_left(&self.worker);
    }
}

const _: () = assert!(super::message::PIECE < MAX_TOLD);
