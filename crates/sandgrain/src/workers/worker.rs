//! One worker process, as the process that started it sees it.

use super::line::{self, Line};
use super::lock;
use super::message::{Ask, Beginning, Control, Told};
use super::talk::{Pace, Talk};
use crate::error::{Error, Result};
use crate::snapshot::Snapshot;
use crate::store::Origin;
use rustix::net::{SendFlags, sockopt};
use sandgrain_abi::Encoder;
use sandgrain_abi::text::printable;
use sandgrain_wasi::Cancel;
use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a worker may take to begin, or for anything that runs no guest. One that takes longer is killed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a guest that was told to stop may go on.
const GRACE: Duration = Duration::from_secs(2);
/// Descriptors that a worker may have: for each sandbox its VM, its vCPU, a line and a layer of its image; and for
/// the rest.
const DESCRIPTORS_EACH: u64 = 4;
const DESCRIPTORS: u64 = 512;
/// Lines of each kind that are kept while nobody talks on them. Each costs two descriptors and a thread of the worker's
/// with its part of the heap; a new one costs the start of that thread. More of them are of use only where the number of
/// calls under way in one worker goes up and down by more than this, again and again.
pub(super) const MAX_IDLE: usize = 16;
/// How often whoever waits for a worker looks at the clock.
const TICK: Duration = Duration::from_millis(250);

thread_local! {
    static BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// Says that nobody waits for what this thread asks of workers from now on.
pub(crate) fn in_background() {
    BACKGROUND.set(true);
}

/// What a program's first argument is where it is to be a worker.
pub(super) const ASKED: &str = "sandgrain-worker";
/// What a worker has in its environment, and nothing else.
const IS_WORKER: &str = "SANDGRAIN_WORKER";

/// What a worker opens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    pub(crate) available_tss: bool,
}

/// A worker process.
pub(super) struct Worker {
    id: u32,
    child: Mutex<Child>,
    control: OwnedFd,
    /// Lines that nobody talks on: those for what somebody waits for, and those for the rest.
    lines: [Mutex<Vec<Line>>; 2],
    /// Images that it knows, and how many guests of each it has.
    images: Mutex<Vec<Known>>,
    guests: AtomicUsize,
    next: AtomicU64,
    lost: AtomicBool,
    /// Why it was killed, if that is why it is lost.
    killed: OnceLock<String>,
    /// Cancelled when its process has ended, for those who await that.
    ended: Cancel,
}

struct Known {
    snapshot: Snapshot,
    number: u64,
    guests: usize,
    pace: Arc<Pace>,
}

/// What is to stop one guest.
#[derive(Debug, Default)]
pub(super) struct Stop {
    pub(super) turn: AtomicU64,
    /// When it was told to.
    pub(super) since: Mutex<Option<Instant>>,
}

impl Worker {
    /// Starts one and waits until it has opened what it needs.
    pub(super) fn start(
        program: &Path,
        sandboxes: usize,
        device: &Device,
        origin: Origin,
    ) -> Result<Self> {
        let failed = |what: &str, error: io::Error| {
            Error::Host(format!(
                "a worker process: {what}: {error}; try: a higher limit of processes or descriptors, if that is it"
            ))
        };
        if std::env::var_os(IS_WORKER).is_some() {
            return Err(Error::Host(
                "this process was started to be a worker and wants to have some itself; try: calling \
                 `sandgrain::be_worker_if_asked` first in its `main`"
                    .to_owned(),
            ));
        }
        let (control, theirs) =
            line::control_pair().map_err(|error| failed("its socket", error))?;
        let mut command = Command::new(program);
        // Nothing of this process is its business, and what a terminal sends to this one is not for it.
        command.arg(ASKED).env_clear().env(IS_WORKER, "1").current_dir("/").process_group(0);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        sandgrain_hypervisor::inherit_nothing(&mut command)
            .map_err(|error| Error::Host(format!("a worker process: {error}")))?;
        let child = command.spawn().map_err(|error| {
            Error::Host(format!(
                "{}, which is to be a worker process, cannot be started: {error}; try: the path of a program \
                 that is one",
                program.display()
            ))
        })?;
        // The command holds the other end until it is dropped.
        drop(command);
        let worker = Self::of(child, control);
        let sandboxes = u64::try_from(sandboxes).unwrap_or(u64::MAX);
        let descriptors = sandboxes.saturating_mul(DESCRIPTORS_EACH).saturating_add(DESCRIPTORS);
        let begin = Control::Begin { origin, device: device.clone(), descriptors };
        match worker.command(&begin, &[]).and_then(|()| worker.beginning()) {
            Ok(Beginning::Ready(_)) => {
                tracing::debug!(id = worker.id, "a worker process has begun");
                Ok(worker)
            }
            Ok(Beginning::Failed(why)) => {
                Err(Error::Host(format!("a worker process could not begin: {}", printable(&why))))
            }
            Err(error) => {
                let end = worker.end();
                Err(Error::Host(format!(
                    "{} did not become a worker process ({error}; {end}); try: a program that calls \
                     `sandgrain::be_worker_if_asked` first",
                    program.display()
                )))
            }
        }
    }

    /// That of a process which has the other end of the control socket.
    fn of(child: Child, control: OwnedFd) -> Self {
        Self {
            id: child.id(),
            child: Mutex::new(child),
            control,
            lines: Default::default(),
            images: Mutex::default(),
            guests: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            lost: AtomicBool::new(false),
            killed: OnceLock::new(),
            ended: Cancel::new(),
        }
    }

    /// One whose part is played by somebody else, on this line, and the other end of its control socket.
    #[cfg(test)]
    pub(super) fn played(line: Line) -> (Self, OwnedFd) {
        let (control, theirs) = line::control_pair().expect("a pair");
        let child = Command::new("sleep").arg("100").spawn().expect("a process");
        line.wait_at_most(Duration::from_millis(10)).expect("a time");
        let worker = Self::of(child, control);
        worker.keep(line, false);
        worker.guests.store(1, Ordering::Release);
        (worker, theirs)
    }

    fn beginning(&self) -> io::Result<Beginning> {
        sockopt::set_socket_timeout(&self.control, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let beginning = line::receive_packet(self.control.as_fd(), &mut Vec::new())?;
        beginning.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// Sends a message on the control socket, without ever waiting.
    fn command(&self, message: &Control, files: &[&OwnedFd]) -> io::Result<()> {
        let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        line::send_packet(self.control.as_fd(), message, &files, SendFlags::DONTWAIT)
    }

    /// The process's number.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Guests that it has, or is about to have.
    pub(super) fn guests(&self) -> &AtomicUsize {
        &self.guests
    }

    /// Whether it is of no use any more.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// A number that no guest or image of it has had.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Has a guest stop, if it is in this turn. A worker that does not listen is killed.
    pub(super) fn stop(&self, guest: u64, turn: u64) {
        if let Err(error) = self.command(&Control::Stop { guest, turn }, &[])
            && !self.is_lost()
        {
            self.kill(&format!("it does not listen: {error}"));
        }
    }

    /// Kills it, because it does not do what it should, say. Whether it was not lost before.
    pub(super) fn kill(&self, why: &str) -> bool {
        let is_news = !self.lost.swap(true, Ordering::AcqRel);
        if is_news {
            tracing::warn!(id = self.id, why, "a worker process is killed");
            // Before its lines are closed, by which others come to ask why.
            let _ = self.killed.set(why.to_owned());
        }
        // It may have ended by itself.
        let _ = lock(&self.child).kill();
        is_news
    }

    /// How the process has ended. One that has not by now is made to.
    fn end(&self) -> String {
        self.lost.store(true, Ordering::Release);
        let mut child = lock(&self.child);
        // What closes its sockets comes a moment before its end.
        for _ in 0..100 {
            match child.try_wait() {
                Ok(Some(status)) => return Ended(status).to_string(),
                Ok(None) => sleep(Duration::from_millis(1)),
                Err(error) => return format!("its status: {error}"),
            }
        }
        let _ = child.kill();
        child.wait().map_or_else(|error| format!("its status: {error}"), |s| Ended(s).to_string())
    }

    /// Notes that its process has ended.
    pub(super) fn note_end(&self) {
        let is_news = !self.is_lost();
        let how = self.end();
        if is_news {
            tracing::warn!(id = self.id, how, "a worker process has ended");
        }
        self.ended.cancel();
    }

    /// The error that its guests' calls fail with, once its process has ended.
    pub(super) async fn loss(self: Arc<Self>) -> Error {
        // Nothing but the end comes of this.
        let _ = self.ended.wait_for(pending::<()>()).await;
        self.lost_by(io::Error::from(ErrorKind::UnexpectedEof).into())
    }

    /// Something to be asked on a line, and the answer to it.
    pub(super) fn ask(self: &Arc<Self>, ask: &Ask) -> Result<Told> {
        let mut talk = self.talk(None)?;
        talk.say(ask)?;
        talk.hear()
    }

    /// Something to be done, with files that it is for, and that it is.
    pub(super) fn have_done(self: &Arc<Self>, ask: &Ask, files: &[&File]) -> Result<()> {
        let mut talk = self.talk(None)?;
        talk.say_with_files(ask, files)?;
        match talk.hear()? {
            Told::Done => Ok(()),
            other => Err(self.nonsense(&other)),
        }
    }

    /// A line to talk on.
    pub(super) fn talk(self: &Arc<Self>, stop: Option<&Arc<Stop>>) -> Result<Talk> {
        let background = BACKGROUND.get();
        let known = lock(self.lines(background)).pop();
        let line = match known {
            Some(line) => line,
            None => self.line(background).map_err(|error| match error.kind() {
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => self.lost_by(error.into()),
                _ => Error::Host(format!(
                    "a line to a worker process: {error}; try: a higher limit of descriptors (ulimit -n)"
                )),
            })?,
        };
        Ok(Talk::new(Arc::clone(self), line, background, stop.cloned()))
    }

    /// Keeps a line that nobody talks on, or closes it, with which its thread ends, where enough are kept.
    pub(super) fn keep(&self, line: Line, background: bool) {
        let mut lines = lock(self.lines(background));
        if lines.len() < MAX_IDLE {
            lines.push(line);
        }
    }

    fn lines(&self, background: bool) -> &Mutex<Vec<Line>> {
        &self.lines[usize::from(background)]
    }

    fn line(&self, background: bool) -> io::Result<Line> {
        let (ours, theirs) = UnixStream::pair()?;
        self.command(&Control::Line { background }, &[&theirs.into()])?;
        let line = Line::new(ours);
        line.wait_at_most(TICK)?;
        Ok(line)
    }

    /// The number of a snapshot's image, which the worker knows from now on, for one guest more; and how long its
    /// guests' calls take.
    pub(super) fn image(self: &Arc<Self>, snapshot: &Snapshot) -> Result<(u64, Arc<Pace>)> {
        // Locked meanwhile: whoever wants the same had better wait than do the same.
        let mut images = lock(&self.images);
        if let Some(known) = images.iter_mut().find(|known| known.snapshot.is(snapshot)) {
            known.guests += 1;
            return Ok((known.number, Arc::clone(&known.pace)));
        }
        let state = snapshot.state();
        let number = self.number();
        let (files, places) = state.guest.memory.files();
        if files.len() > line::MAX_FILES {
            return Err(Error::Snapshot(format!(
                "the snapshot has {} layers, of which a worker process can get {}; try: a snapshot that is not \
                 one of so many others",
                files.len(),
                line::MAX_FILES
            )));
        }
        let mut guest = Vec::new();
        state.guest.encode(&mut Encoder::new(&mut guest));
        let ask = Ask::Image { number, places, limits: state.limits.clone(), guest };
        self.have_done(&ask, &files)?;
        let pace = Arc::<Pace>::default();
        let known =
            Known { snapshot: snapshot.clone(), number, guests: 1, pace: Arc::clone(&pace) };
        images.push(known);
        Ok((number, pace))
    }

    /// One guest of an image is gone. What no guest has is forgotten.
    pub(super) fn image_is_left(self: &Arc<Self>, number: u64) {
        let mut images = lock(&self.images);
        let Some(at) = images.iter().position(|known| known.number == number) else { return };
        images[at].guests -= 1;
        if images[at].guests == 0 {
            let known = images.swap_remove(at);
            if !self.is_lost()
                && let Err(error) = self.ask(&Ask::Forget(known.number))
            {
                tracing::debug!(%error, "a worker process does not forget an image");
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends by itself when its control socket is closed, but whoever waits for that might wait long.
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Why a talk came to its end before its time.
pub(super) enum Lost {
    Io(io::Error),
    Late(&'static str),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Worker {
    /// Whether to wait on for the worker.
    pub(super) fn wait_on(&self, stop: Option<&Stop>, said: Instant) -> Result<(), Lost> {
        let late = match stop {
            // What a host function has taken meanwhile is not the worker's.
            Some(stop) => lock(&stop.since)
                .filter(|since| said.max(*since).elapsed() > GRACE)
                .map(|_| "it does not stop a guest"),
            None => (said.elapsed() > PATIENCE).then_some("it does not answer"),
        };
        late.map_or(Ok(()), |why| Err(Lost::Late(why)))
    }

    pub(super) fn lost_by(&self, lost: Lost) -> Error {
        let why = match lost {
            Lost::Io(error) if error.kind() == ErrorKind::InvalidData => {
                let why = format!("it sent {}", printable(&error.to_string()));
                self.kill(&why);
                why
            }
            Lost::Io(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                self.killed.get().cloned().unwrap_or_else(|| self.end())
            }
            Lost::Io(error) => {
                self.kill("its line is broken");
                error.to_string()
            }
            Lost::Late(why) => {
                self.kill(why);
                why.to_owned()
            }
        };
        Error::Host(format!(
            "the worker process {} is lost, with the sandboxes in it: {why}; try: a new sandbox",
            self.id
        ))
    }

    /// It said something that answers no question.
    pub(super) fn nonsense(&self, told: &impl fmt::Debug) -> Error {
        let told = crate::error::described(told);
        self.lost_by(Lost::Io(io::Error::new(ErrorKind::InvalidData, told)))
    }
}

/// How a process has ended.
struct Ended(ExitStatus);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.signal() {
            // The filter's.
            Some(signal) if signal == SIGSYS => {
                f.write_str("it was ended for a system call that it may not make")
            }
            Some(signal) => write!(f, "it was ended by signal {signal}"),
            None => write!(f, "it ended with {}", self.0),
        }
    }
}

/// The signal of a process that makes a system call that it may not make, on x86-64.
const SIGSYS: i32 = 31;
