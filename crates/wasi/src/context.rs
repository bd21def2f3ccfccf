//! The WASI of one sandbox.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::cli::IsTerminal as _;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::Errno;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1 as _;
use wiggle::GuestMemory;

use crate::component::{Slot, State};
use crate::denied::{Denials, named_paths};
use crate::reach::Part;
use crate::trace::CallTrace;
use crate::{
    Cancel, Error, Function, ListSizes, Stream, Streams, Trace, WasiConfig, open, runtime, sleep,
};

/// How many bytes of guest memory one call may make the host copy; wasmtime's own limit.
const FUEL_BYTES: usize = 128 << 20;

/// The same for `poll_oneoff`, which makes much work of each byte: some ten thousand events.
const POLL_FUEL_BYTES: usize = 1 << 20;

/// How many bytes of guest memory one call of this function may make the host copy. For a structure
/// the library counts the size that it has on the host.
pub(crate) fn fuel(function: Function) -> usize {
    if function.name() == "poll_oneoff" { POLL_FUEL_BYTES } else { FUEL_BYTES }
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The call returns this error number to the guest; 0 is success.
    Value(i32),
    /// The guest asked to exit with this code, which can be any. Nothing is returned to it.
    Exit(i32),
}

/// The WASI of one sandbox.
///
/// Nothing is opened or built before the first call, so a guest that makes none costs nothing.
pub struct Wasi {
    config: WasiConfig,
    streams: Streams,
    context: Option<WasiP1Ctx>,
    /// What a component's calls work on. The same guest never makes both kinds.
    pub(crate) component: Slot,
    pub(crate) trace: CallTrace,
    sizes: ListSizes,
    open_files: u32,
    /// Whether descriptors that were there from the start have been closed or replaced.
    moved_descriptors: bool,
    /// Whether the guest was given random bytes.
    gave_randomness: bool,
}

impl fmt::Debug for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wasi")
            .field("created", &self.is_created())
            .field("streams", &self.streams)
            .field("open_files", &self.open_files)
            .finish_non_exhaustive()
    }
}

impl Wasi {
    /// The WASI of a new sandbox. The configuration is not looked at before the first call; to
    /// find its errors early, use [`WasiConfig::check`].
    pub fn new(config: WasiConfig) -> Self {
        let streams = Streams::new(&config);
        Self {
            config,
            streams,
            context: None,
            component: Slot::default(),
            trace: CallTrace::default(),
            sizes: ListSizes::default(),
            open_files: 0,
            moved_descriptors: false,
            gave_randomness: false,
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &WasiConfig {
        &self.config
    }

    /// Says which trace the guest's calls are part of from now on, or that it is none. HTTP requests that a component
    /// sends carry it on, unless they have a `traceparent` of their own.
    pub fn set_trace(&mut self, trace: Option<Trace>) {
        self.trace.set(trace);
    }

    /// Whether the guest has descriptors that a new WASI with the same configuration would not have:
    /// files that it has opened, or streams and directories that it has closed or put in another's place. For a
    /// component these are all handles of resources.
    pub fn has_open_files(&self) -> bool {
        self.moved_descriptors
            || self.open_files > self.initial_descriptors()
            || self.component.ask(State::has_resources, true)
    }

    /// Whether the guest was given random bytes. Two guests that go on from the same state would share
    /// them.
    pub fn has_given_randomness(&self) -> bool {
        self.gave_randomness || self.component.ask(State::gave_randomness, true)
    }

    /// Whether one of the standard streams is a terminal.
    pub fn has_terminal(&self) -> bool {
        self.config.stdin.is_terminal()
            || [Stream::Stdout, Stream::Stderr]
                .into_iter()
                .any(|stream| self.streams.sink(stream).is_terminal())
    }

    fn initial_descriptors(&self) -> u32 {
        3_u32.saturating_add(self.config.preopens.len() as u32)
    }

    /// The function with this name in the module [`MODULE`](crate::MODULE).
    pub fn lookup(name: &str) -> Option<Function> {
        Function::lookup(name)
    }

    /// Whether a call has been made, and with it the context built.
    pub fn is_created(&self) -> bool {
        self.context.is_some() || self.component.ask(|_| true, true)
    }

    /// Answers one call of the guest.
    ///
    /// `args` are the raw arguments, one slot each; an `i32` takes the low half of its slot.
    /// `memory` is the guest's linear memory, of any length, or a window of it ([`Reach`](crate::Reach)). It must
    /// start at a multiple of 8 bytes, as linear memories do.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] if `cancel` stopped the call. The guest's open files stay usable.
    /// [`Error::OutputLimit`] if the guest wrote too much. [`Error::Trap`] for a call that the
    /// WASI rules answer with a trap, such as a pointer outside of memory. [`Error::BadCall`] for the wrong number of arguments, and [`Error::Misaligned`] for
    /// memory that the host did not align. [`Error::Grant`] and
    /// [`Error::Config`], on the first call, if what the configuration grants cannot be given.
    /// [`Error::Host`] if the host has no thread left.
    pub fn call(
        &mut self,
        function: Function,
        args: &[u64],
        memory: &mut [u8],
        cancel: &Cancel,
    ) -> Result<Reply, Error> {
        cancel.check()?;
        let address = memory.as_ptr().addr();
        if !memory.is_empty() && !address.is_multiple_of(8) {
            return Err(Error::Misaligned { address });
        }
        if let Some(reply) = answer(function, args, memory) {
            return reply;
        }
        self.create()?;
        let Some(context) = &mut self.context else { unreachable!("built above") };
        // The library's file threads come from the runtime that is current, else from one more of
        // its own. Without them there is no need to pay for one.
        let handle = self.config.cancellable_files.then(runtime::handle).transpose()?;
        let _entered = handle.as_ref().map(|handle| handle.enter());
        context.set_hostcall_fuel(fuel(function));
        match function.name() {
            "path_open" if self.open_files >= self.config.max_open_files => {
                return Ok(Reply::Value(Errno::Mfile as i32));
            }
            "path_open" if !self.config.cancellable_files => {
                if let Some(errno) = open::refuse(context, args, memory, cancel)? {
                    return Ok(Reply::Value(errno as i32));
                }
                context.set_hostcall_fuel(fuel(function));
            }
            _ => {}
        }
        let mut lent = GuestMemory::Unshared(&mut *memory);
        let returned = function.call(context, &mut lent, args, cancel)?;
        match returned {
            Ok(errno) => {
                if errno == Errno::Perm as i32 {
                    self.tell_denied(function, args, memory);
                }
                self.keep_books(function, args, errno);
                Ok(Reply::Value(errno))
            }
            Err(error) => Err(Self::failure(error)),
        }
    }

    /// The time for which a call would do nothing but sleep, if that is all that it is. Whoever has something
    /// better to do than to wait for [`call`](Self::call) [sleeps](crate::sleep) that long instead, and then
    /// [wakes](Self::wake) the guest.
    pub fn sleeps_for(
        &mut self,
        function: Function,
        args: &[u64],
        memory: &mut [u8],
    ) -> Option<Duration> {
        if function.name() != "poll_oneoff" {
            return None;
        }
        // What cannot be given is left to `call`, which reports it.
        self.create().ok()?;
        sleep::sleeps_for(args, memory)
    }

    /// Answers a call that [only sleeps](Self::sleeps_for), when the time is over.
    ///
    /// # Errors
    ///
    /// [`Error::Trap`] for a pointer outside of memory, and for a call that is another.
    pub fn wake(args: &[u64], memory: &mut [u8]) -> Result<Reply, Error> {
        match sleep::woken(args, memory) {
            Some(returned) => returned.map(Reply::Value).map_err(Self::failure),
            None => Err(Error::Trap("a call that does not sleep was woken".to_owned())),
        }
    }

    /// How much memory the guest's own lists take, for [`Function::reach`].
    pub fn list_sizes(&mut self) -> ListSizes {
        // What cannot be given is left to `call`, which reports it.
        let _ = self.create();
        self.sizes
    }

    /// Builds the context, if no call has been made before.
    fn create(&mut self) -> Result<(), Error> {
        if self.context.is_none() {
            // Looked at once: the environment of the host may change at any time.
            let environment = self.config.environment();
            let context = build(&self.config, &environment, &self.streams)?;
            self.context = Some(context);
            let names = self.config.directory_names();
            self.sizes = ListSizes::new(&self.config.args, &environment, names);
            self.open_files = self.initial_descriptors();
        }
        Ok(())
    }

    /// What the guest wrote, also while a call runs.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The standard output captured so far; empty if it is not captured.
    pub fn stdout(&self) -> Bytes {
        self.streams.stdout()
    }

    /// The standard error captured so far; empty if it is not captured.
    pub fn stderr(&self) -> Bytes {
        self.streams.stderr()
    }

    /// The captured standard output, which is then forgotten. It still counts for the limit.
    pub fn take_stdout(&mut self) -> Bytes {
        self.streams.take(Stream::Stdout)
    }

    /// The captured standard error, which is then forgotten. It still counts for the limit.
    pub fn take_stderr(&mut self) -> Bytes {
        self.streams.take(Stream::Stderr)
    }

    /// What an error of a WASI function stands for: one of this crate's errors, or a trap.
    fn failure(error: wasmtime::Error) -> Error {
        error.downcast().unwrap_or_else(|error| Error::Trap(format!("{error:#}")))
    }

    /// Tells of what the guest may not do with files, by the paths that its call has named.
    fn tell_denied(&self, function: Function, args: &[u64], memory: &[u8]) {
        // What these say is the other end of a stream's; a file to be written is refused when it is opened.
        if matches!(function.name(), "fd_read" | "fd_write") {
            return;
        }
        let text = |place: &[u64]| {
            let (start, length) = (place[0] as u32 as usize, place[1] as u32 as usize);
            start.checked_add(length).and_then(|end| memory.get(start..end)).unwrap_or_default()
        };
        // The argument after a text's address is its length.
        let places = function.parts().iter().zip(args.windows(2));
        let texts = places.filter(|(part, _)| matches!(part, Part::Text));
        let paths: Vec<&[u8]> = texts.map(|(_, place)| text(place)).collect();
        Denials::new(&self.config, &self.trace).tell_of_file(&named_paths(&paths));
    }

    /// Keeps the number of open descriptors, which the library does not tell, and what else is asked about
    /// later.
    fn keep_books(&mut self, function: Function, args: &[u64], errno: i32) {
        if errno != 0 {
            return;
        }
        let descriptor = |at: usize| args.get(at).map_or(0, |&fd| fd as u32);
        match function.name() {
            "random_get" => self.gave_randomness = true,
            "path_open" => self.open_files = self.open_files.saturating_add(1),
            "fd_close" => {
                self.open_files = self.open_files.saturating_sub(1);
                self.moved_descriptors |= descriptor(0) < self.initial_descriptors();
            }
            // The descriptor that is written over gets closed.
            "fd_renumber" if descriptor(0) != descriptor(1) => {
                self.open_files = self.open_files.saturating_sub(1);
                self.moved_descriptors = true;
            }
            _ => {}
        }
    }
}

/// Answers calls that the library would do much work for before it refuses them, and exits: the library
/// takes codes above 125 for traps, while programs do exit with them.
fn answer(function: Function, args: &[u64], memory: &[u8]) -> Option<Result<Reply, Error>> {
    if function.name() == "proc_exit"
        && let &[code] = args
    {
        return Some(Ok(Reply::Exit(code as u32 as i32)));
    }
    // For all other paths the library does this itself.
    if function.name() == "path_unlink_file"
        && let &[_, _, length] = args
        && length as u32 as usize > FUEL_BYTES
    {
        return Some(Ok(Reply::Value(Errno::Nomem as i32)));
    }
    if function.name() == "random_get"
        && let &[start, length] = args
        && u64::from(start as u32) + u64::from(length as u32) > memory.len() as u64
    {
        return Some(Err(Error::Trap(format!(
            "random_get: {} bytes at {} are outside of the memory of {} bytes",
            length as u32,
            start as u32,
            memory.len()
        ))));
    }
    None
}

fn build(
    config: &WasiConfig,
    environment: &[(String, String)],
    streams: &Streams,
) -> Result<WasiP1Ctx, Error> {
    Ok(builder(config, environment, streams)?.build_p1())
}

/// What both previews are granted. Network is for whoever wants more to add.
pub(crate) fn builder(
    config: &WasiConfig,
    environment: &[(String, String)],
    streams: &Streams,
) -> Result<WasiCtxBuilder, Error> {
    config.check()?;
    let mut builder = WasiCtxBuilder::new();
    // The directories take this setting when they are opened, so it goes first.
    builder.allow_blocking_current_thread(!config.cancellable_files);
    builder.args(&config.args).envs(environment);
    config.stdin.install(&mut builder);
    builder.stdout(streams.sink(Stream::Stdout).clone());
    builder.stderr(streams.sink(Stream::Stderr).clone());
    for preopen in &config.preopens {
        builder
            .preopened_dir(&preopen.host, &preopen.guest, preopen.access.permissions())
            .map_err(|error| Error::Grant {
                path: preopen.host.clone(),
                source: error
                    .downcast()
                    .unwrap_or_else(|e| std::io::Error::other(format!("{e:#}"))),
            })?;
    }
    // Sockets are denied by default. Denying them again survives a change of that default.
    builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    Ok(builder)
}
