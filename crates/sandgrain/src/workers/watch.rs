//! Worker processes that end while nobody listens to them: one thread of this process watches all of them.

use super::lock;
use super::worker::Worker;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};
use std::thread;

/// What the thread watches.
struct Watch {
    epoll: OwnedFd,
    watched: Mutex<Watched>,
}

/// Processes that have not ended, as far as is known, by numbers of their own: those that the kernel gives them it
/// gives to others later.
#[derive(Default)]
struct Watched {
    workers: BTreeMap<u64, (OwnedFd, Weak<Worker>)>,
    next: u64,
}

/// Has a worker [told](Worker::note_end) when its process ends.
pub(super) fn watch(worker: &Arc<Worker>) -> io::Result<()> {
    let watch = Watch::running()?;
    let process = Pid::from_raw(worker.id().cast_signed()).ok_or(ErrorKind::NotFound)?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    let mut watched = lock(&watch.watched);
    let number = watched.next;
    let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
    epoll::add(&watch.epoll, &process, epoll::EventData::new_u64(number), once)?;
    watched.next += 1;
    watched.workers.insert(number, (process, Arc::downgrade(worker)));
    Ok(())
}

impl Watch {
    /// The one of this process. Its thread is started when it is first needed, and stays.
    fn running() -> io::Result<Arc<Self>> {
        static WATCH: Mutex<Option<Arc<Watch>>> = Mutex::new(None);
        let mut running = lock(&WATCH);
        if let Some(watch) = &*running {
            return Ok(Arc::clone(watch));
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = Arc::new(Self { epoll, watched: Mutex::default() });
        let watching = Arc::clone(&watch);
        let run = move || watching.run();
        thread::Builder::new().name("sandgrain-workers".to_owned()).spawn(run)?;
        *running = Some(Arc::clone(&watch));
        Ok(watch)
    }

    /// What the thread does.
    fn run(&self) {
        loop {
            let mut room = [MaybeUninit::<epoll::Event>::uninit(); 1];
            let number = match epoll::wait(&self.epoll, &mut room, None) {
                Ok((events, _)) => events.first().map(|event| event.data.u64()),
                Err(Errno::INTR) => None,
                Err(error) => {
                    tracing::warn!(%error, "ends of worker processes are not noticed any more");
                    return;
                }
            };
            let ended = number.and_then(|number| lock(&self.watched).workers.remove(&number));
            if let Some(worker) = ended.and_then(|(_, worker)| worker.upgrade()) {
                worker.note_end();
            }
        }
    }
}
