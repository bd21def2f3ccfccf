//! What a worker process does: it makes guests, runs them and drops them, as it is told.

use super::calls::{Calls, change, piece, wait_on};
use super::line::{Line, receive_packet, send_packet};
use super::lock;
use super::message::{Ask, Beginning, Control, MAX_ASKED, Told, bytes_of, runs};
use super::worker::Device;
use crate::error::{Error, Result};
use crate::guest::{Guest, GuestImage};
use crate::limits::Limits;
use crate::machine::Progress;
use crate::store::Origin;
use rustix::net::SendFlags;
use rustix::process::setpriority_process;
use sandgrain_abi::Decoder;
use sandgrain_hypervisor::kvm::{Kvm, KvmOptions};
use sandgrain_hypervisor::{Confinement, Hypervisor, Interrupter, MemoryImage, Place};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// The niceness of threads that nobody waits for: a call that comes gets their CPU at once.
const BACKGROUND: i32 = 10;

/// Things by the numbers that the other side has given them.
type Numbered<T> = Mutex<BTreeMap<u64, Arc<T>>>;

/// What all lines of a worker share.
struct Worker {
    hypervisor: Box<dyn Hypervisor>,
    images: Numbered<GuestImage>,
    guests: Numbered<Seat>,
}

/// A guest, and what stops it.
struct Seat {
    guest: Mutex<Guest>,
    image: Arc<GuestImage>,
    interrupter: Interrupter,
    /// The turn that is to end.
    stop: AtomicU64,
}

/// Serves as a worker, on the control socket that is this process's standard input, until it is closed.
pub(super) fn run() -> io::Result<()> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    let worker = match begin(control.as_fd()) {
        Ok((worker, origin)) => {
            send_packet(control.as_fd(), &Beginning::Ready(origin), &[], SendFlags::empty())?;
            Arc::new(worker)
        }
        Err(error) => {
            let failed = Beginning::Failed(error.to_string());
            return send_packet(control.as_fd(), &failed, &[], SendFlags::empty());
        }
    };
    let mut files = Vec::new();
    while let Some(message) = receive_packet(control.as_fd(), &mut files)? {
        match message {
            Control::Line { background } => {
                for file in files.drain(..) {
                    let worker = Arc::clone(&worker);
                    let line = Line::new(UnixStream::from(file));
                    let serve = move || {
                        if background {
                            // A thread's own in Linux. Without it, it only gets in others' way.
                            let _ = setpriority_process(None, BACKGROUND);
                        }
                        worker.serve(line);
                    };
                    thread::Builder::new().name("sandgrain-line".to_owned()).spawn(serve)?;
                }
            }
            Control::Stop { guest, turn } => {
                let seat = lock(&worker.guests).get(&guest).cloned();
                if let Some(seat) = seat {
                    seat.stop.store(turn, Ordering::SeqCst);
                    seat.interrupter.interrupt();
                }
            }
            Control::Begin { .. } => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

/// Opens what the worker needs and gives up the rest.
fn begin(control: BorrowedFd<'_>) -> Result<(Worker, Origin)> {
    let failed = |error: io::Error| Error::Host(format!("the control socket: {error}"));
    let begin = receive_packet(control, &mut Vec::new()).map_err(failed)?;
    let Some(Control::Begin { origin, device, descriptors }) = begin else {
        return Err(Error::Host("it was not told what to open".to_owned()));
    };
    let Device { path, available_tss } = device;
    let kvm = Kvm::open_with(&path, KvmOptions { available_tss })
        .map_err(|error| Error::NoHypervisor(error.to_string()))?;
    let hypervisor: Box<dyn Hypervisor> = Box::new(kvm);
    let here = Origin::here(&*hypervisor);
    if here != origin {
        return Err(Error::Host(format!(
            "the worker's program has another library or runtime than the one that started it: {here:?}"
        )));
    }
    confine(descriptors)?;
    Ok((Worker { hypervisor, images: Numbered::default(), guests: Numbered::default() }, here))
}

/// Gives up all that running VMs does not need.
fn confine(descriptors: u64) -> Result<()> {
    let confinement = Confinement { descriptors, new_images: false };
    confinement.apply().map_err(|error| Error::Host(error.to_string()))
}

impl Worker {
    /// Does what is asked for on a line, until it is closed.
    fn serve(&self, mut line: Line) {
        while let Ok((ask, files)) = line.receive_files(MAX_ASKED) {
            let act = AssertUnwindSafe(|| self.act(ask, files, &mut line));
            let told = match catch_unwind(act) {
                Ok(Ok(told)) => told,
                Ok(Err(error)) => Told::Failed(error.into()),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                    let text = format!("a worker panicked: {}", text.unwrap_or("without a word"));
                    Told::Failed(Error::Host(text).into())
                }
            };
            if line.send(&told, &[], wait_on).is_err() {
                return;
            }
        }
    }

    fn act(&self, ask: Ask, files: Vec<OwnedFd>, line: &mut Line) -> Result<Told> {
        match ask {
            Ask::Image { number, places, limits, guest } => {
                let image = self.image(files, &places, &limits, &guest)?;
                lock(&self.images).insert(number, Arc::new(image));
            }
            Ask::Forget(image) => drop(lock(&self.images).remove(&image)),
            Ask::Make { guest: number, image, pages } => {
                let image = lock(&self.images).get(&image).cloned();
                let image = image.ok_or_else(|| unknown("image"))?;
                let guest = Guest::from_image(&*self.hypervisor, &image, &pages)?;
                let (interrupter, stop) = (guest.interrupter(), AtomicU64::new(0));
                let seat = Seat { guest: Mutex::new(guest), image, interrupter, stop };
                lock(&self.guests).insert(number, Arc::new(seat));
            }
            Ask::Step { guest, turn, command, attachments, reset } => {
                let seat = self.seat(guest)?;
                let mut guest = lock(&seat.guest);
                // What was meant for an earlier turn is withdrawn, unless it was for this one.
                seat.interrupter.clear();
                if seat.stop.load(Ordering::SeqCst) == turn {
                    return Err(Error::Interrupted);
                }
                *guest.stats_mut() = Default::default();
                if command.is_some() {
                    guest.attach(bytes_of(attachments));
                }
                let mut calls = Calls::new(line, &seat.stop, turn);
                let progress = match &command {
                    Some(command) => guest.execute(command, &mut calls)?,
                    None => guest.resume(&mut calls)?,
                };
                let outcome = match progress {
                    Progress::Done(outcome) => Some(outcome),
                    Progress::Waiting => None,
                };
                let attachments = runs(guest.take_attached());
                let stats = *guest.stats_mut();
                // Why it could not be is told where it is asked for by itself.
                let is_reset =
                    reset && outcome.is_some() && guest.reset(&seat.image).unwrap_or(false);
                return Ok(Told::Left { stats, outcome, attachments, is_reset });
            }
            Ask::Load { guest, code, text } => {
                let text = text.start as usize..text.end as usize;
                let (address, len) = lock(&self.seat(guest)?.guest).load(&code, text)?;
                return Ok(Told::Loaded(address, len));
            }
            Ask::Reset(guest) => {
                let seat = self.seat(guest)?;
                let is_reset = lock(&seat.guest).reset(&seat.image)?;
                return Ok(Told::Flag(is_reset));
            }
            Ask::Touched(guest) => {
                let seat = self.seat(guest)?;
                let pages = lock(&seat.guest).touched(&seat.image)?;
                return Ok(Told::Pages(pages));
            }
            Ask::Resident(guest) => {
                return Ok(Told::Number(lock(&self.seat(guest)?.guest).private_pages()?));
            }
            Ask::Size { guest, memory } => {
                let size = lock(&self.seat(guest)?.guest).memory(memory)?.len();
                return Ok(Told::Number(size as u64));
            }
            Ask::Read { guest, memory, range } => {
                let seat = self.seat(guest)?;
                let mut guest = lock(&seat.guest);
                return Ok(Told::Bytes(piece(guest.memory(memory)?, range)?));
            }
            Ask::Write { guest, memory, parts } => {
                let seat = self.seat(guest)?;
                let mut guest = lock(&seat.guest);
                let bytes = guest.memory(memory)?;
                for part in parts {
                    change(bytes, &part)?;
                }
            }
            Ask::Close(guest) => drop(lock(&self.guests).remove(&guest)),
        }
        Ok(Told::Done)
    }

    fn seat(&self, guest: u64) -> Result<Arc<Seat>> {
        lock(&self.guests).get(&guest).cloned().ok_or_else(|| unknown("guest"))
    }

    fn image(
        &self,
        files: Vec<OwnedFd>,
        places: &[Place],
        limits: &Limits,
        guest: &[u8],
    ) -> Result<GuestImage> {
        let files = files.into_iter().map(File::from).collect();
        let memory =
            MemoryImage::from_layers(files, places).map_err(|error| Error::hypervisor(&error))?;
        GuestImage::decode(&mut Decoder::new(guest), memory, limits, self.hypervisor.kind())
            .map_err(|error| Error::Host(format!("an image: {error}")))
    }
}

fn unknown(what: &str) -> Error {
    Error::Host(format!("a worker was asked about an {what} that it does not have"))
}
