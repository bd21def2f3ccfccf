//! The functions of preview 1: one line each, from which names, types and dispatch are made.

use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{Fd, Fdstat, Filesize, Filestat, Prestat, Size, Timestamp};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as p1;
use wiggle::{GuestMemory, GuestType as _};

use crate::reach::Part::{
    self, Buffer, Events, List, Name, Out, ReadInto, Subscriptions, Text, Used, WriteFrom,
};
use crate::{Cancel, Error, ListSizes, sleep};

/// The type of an argument or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A 32-bit integer. In an argument slot it takes the low 32 bits; the others are ignored.
    I32,
    /// A 64-bit integer.
    I64,
}

/// A function of preview 1. It can only be one that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function(u16);

/// What a function of wasmtime-wasi returned: an error number, or nothing if it does not return.
pub(crate) type Returned = wasmtime::Result<i32>;

type Call = for<'m> fn(
    &mut WasiP1Ctx,
    &mut GuestMemory<'m>,
    &[u64],
    &Cancel,
) -> Option<Result<Returned, Error>>;

struct Entry {
    name: &'static str,
    params: &'static [ValueType],
    parts: &'static [Part],
    results: &'static [ValueType],
    call: Call,
}

impl Function {
    /// The function with this name in the module [`MODULE`](crate::MODULE).
    pub fn lookup(name: &str) -> Option<Self> {
        // Names are resolved when a module is linked, never in a call.
        let index = TABLE.iter().position(|entry| entry.name == name)?;
        Self::from_index(u16::try_from(index).ok()?)
    }

    /// The function with this number, for a caller that sends numbers instead of names.
    pub fn from_index(index: u16) -> Option<Self> {
        TABLE.get(usize::from(index)).map(|_| Self(index))
    }

    /// The number of this function. It is stable only within one build.
    pub fn index(self) -> u16 {
        self.0
    }

    /// All functions of preview 1.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..TABLE.len()).map(|index| Self(index as u16))
    }

    /// The name of this function in its module.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The types of its arguments.
    pub fn params(self) -> &'static [ValueType] {
        self.entry().params
    }

    /// The types of its results: one error number, or none for `proc_exit`.
    pub fn results(self) -> &'static [ValueType] {
        self.entry().results
    }

    /// What each of its arguments says of its caller's memory.
    pub(crate) fn parts(self) -> &'static [Part] {
        self.entry().parts
    }

    /// Calls the function.
    pub(crate) fn call(
        self,
        context: &mut WasiP1Ctx,
        memory: &mut GuestMemory<'_>,
        args: &[u64],
        cancel: &Cancel,
    ) -> Result<Returned, Error> {
        let entry = self.entry();
        (entry.call)(context, memory, args, cancel).unwrap_or_else(|| {
            Err(Error::BadCall {
                function: entry.name,
                expected: entry.params.len(),
                actual: args.len(),
            })
        })
    }

    fn entry(self) -> &'static Entry {
        &TABLE[usize::from(self.0)]
    }
}

/// A value as it travels in an argument slot.
trait Slot {
    const TYPE: ValueType;
    fn from_slot(slot: u64) -> Self;
}

impl Slot for i32 {
    const TYPE: ValueType = ValueType::I32;
    fn from_slot(slot: u64) -> Self {
        slot as u32 as i32
    }
}

impl Slot for i64 {
    const TYPE: ValueType = ValueType::I64;
    fn from_slot(slot: u64) -> Self {
        slot as i64
    }
}

/// Bytes that take a moment only, whatever is done with each.
const PIECE_BYTES: u32 = 1 << 20;

/// Has `work` done for a range of memory, a piece at a time, for as long as it succeeds.
fn in_pieces(
    cancel: &Cancel,
    mut work: impl FnMut(i32, i32) -> Returned,
    start: i32,
    len: i32,
) -> Result<Returned, Error> {
    let (mut start, mut left) = (start as u32, len as u32);
    loop {
        cancel.check()?;
        let piece = left.min(PIECE_BYTES);
        let returned = work(start as i32, piece as i32);
        left -= piece;
        match (&returned, start.checked_add(piece)) {
            (Ok(0), Some(next)) if left > 0 => start = next,
            // A range beyond the last address: what lies there is not the guest's.
            (Ok(0), None) if left > 0 => return Ok(work(-1, 2)),
            _ => return Ok(returned),
        }
    }
}

/// How the functions are run: `now` never waits, `file` is a future that waits at most for the
/// file system or a stream, `timer` needs tokio's clock, `exit` does not return, `quiet` keeps
/// the library from logging a warning each time, which a guest could flood the host with, and
/// `pieces` works on a range of memory a piece at a time, so that it can be cancelled in between.
/// What an address is for stands after its type ([`Part`]). Sockets are never there, so no address that
/// is passed with one is used.
macro_rules! functions {
    ($($how:ident $name:ident($($param:ident: $type:ty $(= $part:expr)?),*);)*) => {
        static TABLE: &[Entry] = &[$(Entry {
            name: stringify!($name),
            params: &[$(<$type as Slot>::TYPE),*],
            parts: &[$(functions!(@part $($part)?)),*],
            results: functions!(@results $how),
            call: |context, memory, args, cancel| {
                let &[$($param),*] = args else { return None };
                $(let $param = <$type as Slot>::from_slot($param);)*
                Some(functions!(@run $how context, memory, cancel, $name($($param),*)))
            },
        }),*];
    };
    (@part) => { Part::Value };
    (@part $part:expr) => { $part };
    (@results exit) => { &[] };
    (@results $how:ident) => { &[ValueType::I32] };
    (@run now $c:ident, $m:ident, $k:ident, $name:ident($($arg:ident),*)) => {{
        let _ = $k;
        Ok(p1::$name($c, $m $(, $arg)*))
    }};
    (@run quiet $c:ident, $m:ident, $k:ident, $name:ident($($arg:ident),*)) => {{
        let _ = $k;
        let silent = tracing::Dispatch::none();
        Ok(tracing::dispatcher::with_default(&silent, || p1::$name($c, $m $(, $arg)*)))
    }};
    (@run exit $c:ident, $m:ident, $k:ident, $name:ident($($arg:ident),*)) => {{
        let _ = $k;
        Ok(p1::$name($c, $m $(, $arg)*).map(|()| 0))
    }};
    (@run file $c:ident, $m:ident, $k:ident, $name:ident($($arg:ident),*)) => {
        $k.block_on(p1::$name($c, $m $(, $arg)*))
    };
    (@run pieces $c:ident, $m:ident, $k:ident, $name:ident($($arg:ident),*)) => {
        in_pieces($k, |start, len| p1::$name($c, $m, start, len) $(, $arg)*)
    };
    (@run timer $c:ident, $m:ident, $k:ident, $name:ident($($arg:ident),*)) => {
        sleep::$name($c, $m, $k $(, $arg)*)
    };
}

functions! {
    now args_get(argv: i32 = List(ListSizes::argument_pointers), argv_buf: i32 = List(ListSizes::argument_bytes));
    now args_sizes_get(argc: i32 = Out(Size::guest_size), argv_buf_size: i32 = Out(Size::guest_size));
    now environ_get(environ: i32 = List(ListSizes::variable_pointers), environ_buf: i32 = List(ListSizes::variable_bytes));
    now environ_sizes_get(count: i32 = Out(Size::guest_size), buf_size: i32 = Out(Size::guest_size));
    now clock_res_get(id: i32, resolution: i32 = Out(Timestamp::guest_size));
    now clock_time_get(id: i32, precision: i64, time: i32 = Out(Timestamp::guest_size));
    file fd_advise(fd: i32, offset: i64, len: i64, advice: i32);
    now fd_allocate(fd: i32, offset: i64, len: i64);
    file fd_close(fd: i32);
    file fd_datasync(fd: i32);
    file fd_fdstat_get(fd: i32, stat: i32 = Out(Fdstat::guest_size));
    now fd_fdstat_set_flags(fd: i32, flags: i32);
    now fd_fdstat_set_rights(fd: i32, base: i64, inheriting: i64);
    file fd_filestat_get(fd: i32, stat: i32 = Out(Filestat::guest_size));
    file fd_filestat_set_size(fd: i32, size: i64);
    file fd_filestat_set_times(fd: i32, atim: i64, mtim: i64, flags: i32);
    file fd_pread(fd: i32, iovs: i32 = ReadInto, iovs_len: i32, offset: i64, nread: i32 = Used);
    now fd_prestat_get(fd: i32, prestat: i32 = Out(Prestat::guest_size));
    now fd_prestat_dir_name(fd: i32, path: i32 = Name, path_len: i32);
    file fd_pwrite(fd: i32, iovs: i32 = WriteFrom, iovs_len: i32, offset: i64, nwritten: i32 = Out(Size::guest_size));
    file fd_read(fd: i32, iovs: i32 = ReadInto, iovs_len: i32, nread: i32 = Used);
    file fd_readdir(fd: i32, buf: i32 = Buffer, buf_len: i32, cookie: i64, used: i32 = Used);
    file fd_renumber(fd: i32, to: i32);
    file fd_seek(fd: i32, offset: i64, whence: i32, position: i32 = Out(Filesize::guest_size));
    file fd_sync(fd: i32);
    now fd_tell(fd: i32, position: i32 = Out(Filesize::guest_size));
    file fd_write(fd: i32, iovs: i32 = WriteFrom, iovs_len: i32, nwritten: i32 = Out(Size::guest_size));
    file path_create_directory(fd: i32, path: i32 = Text, path_len: i32);
    file path_filestat_get(fd: i32, flags: i32, path: i32 = Text, path_len: i32, stat: i32 = Out(Filestat::guest_size));
    file path_filestat_set_times(fd: i32, flags: i32, path: i32 = Text, path_len: i32, atim: i64, mtim: i64, fst_flags: i32);
    file path_link(fd: i32, flags: i32, path: i32 = Text, path_len: i32, to_fd: i32, to: i32 = Text, to_len: i32);
    file path_open(fd: i32, dirflags: i32, path: i32 = Text, path_len: i32, oflags: i32, base: i64, inheriting: i64, fdflags: i32, opened: i32 = Out(Fd::guest_size));
    file path_readlink(fd: i32, path: i32 = Text, path_len: i32, buf: i32 = Buffer, buf_len: i32, used: i32 = Used);
    file path_remove_directory(fd: i32, path: i32 = Text, path_len: i32);
    file path_rename(fd: i32, path: i32 = Text, path_len: i32, to_fd: i32, to: i32 = Text, to_len: i32);
    file path_symlink(target: i32 = Text, target_len: i32, fd: i32, path: i32 = Text, path_len: i32);
    file path_unlink_file(fd: i32, path: i32 = Text, path_len: i32);
    timer poll_oneoff(subscriptions: i32 = Subscriptions, events: i32 = Events, count: i32, nevents: i32 = Out(Size::guest_size));
    exit proc_exit(code: i32);
    now proc_raise(signal: i32);
    now sched_yield();
    pieces random_get(buf: i32 = Buffer, len: i32);
    quiet sock_accept(fd: i32, flags: i32, opened: i32);
    quiet sock_recv(fd: i32, iovs: i32, iovs_len: i32, flags: i32, nread: i32, roflags: i32);
    quiet sock_send(fd: i32, iovs: i32, iovs_len: i32, flags: i32, nwritten: i32);
    quiet sock_shutdown(fd: i32, how: i32);
}
