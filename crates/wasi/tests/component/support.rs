//! A component whose calls are made by hand.

use sandgrain_abi::DecodeError;
use sandgrain_abi::component::{Lift, Lower, Reader, Type, Types, Writer};
use sandgrain_wasi::component::{Answer, Function, Pending, Reply};
use sandgrain_wasi::{Cancel, Error, Wasi, WasiConfig};

const BUDGET: usize = 1 << 24;

pub const IO: &str = "wasi:io/streams@0.2.0";
pub const POLL: &str = "wasi:io/poll@0.2.0";
pub const CLOCK: &str = "wasi:clocks/monotonic-clock@0.2.0";
pub const FILES: &str = "wasi:filesystem/types@0.2.0";

pub struct Guest {
    pub wasi: Wasi,
    pub cancel: Cancel,
}

/// The arguments as they travel: attachments first made whole.
pub fn with_reader<T>(args: &impl Lower, then: impl FnOnce(Reader<'_>) -> T) -> T {
    let mut writer = Writer::new();
    args.lower(&mut writer);
    let (payload, attachments) = writer.finish();
    let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
    then(Reader::new(&payload.body, &attachments, &[], BUDGET))
}

pub fn read<T: for<'a> Lift<'a>>(result: Writer) -> T {
    let (payload, attachments) = result.finish();
    let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
    let mut reader = Reader::new(&payload.body, &attachments, &[], BUDGET);
    let value = T::lift(&mut reader).expect("a value of the result's type");
    reader.finish().expect("nothing else");
    value
}

pub fn function(instance: &str, name: &str) -> Function {
    Function::lookup(instance, name).unwrap_or_else(|| panic!("no {name} in {instance}"))
}

impl Guest {
    pub fn new(config: WasiConfig) -> Self {
        Self { wasi: Wasi::new(config), cancel: Cancel::new() }
    }

    pub fn try_call(
        &mut self,
        instance: &str,
        name: &str,
        args: impl Lower,
    ) -> Result<Reply, Error> {
        let function = function(instance, name);
        let (wasi, cancel) = (&mut self.wasi, &self.cancel);
        with_reader(&args, |args| wasi.call_component(function, args, cancel))
    }

    pub fn call<T: for<'a> Lift<'a>>(&mut self, instance: &str, name: &str, args: impl Lower) -> T {
        match self.try_call(instance, name, args) {
            Ok(Reply::Value(result)) => read(result),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// The message of the trap that a call ends in.
    pub fn trap(&mut self, instance: &str, name: &str, args: impl Lower) -> String {
        match self.try_call(instance, name, args) {
            Err(Error::Trap(message)) => message,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn begin(&mut self, instance: &str, name: &str, args: impl Lower) -> Answer {
        let function = function(instance, name);
        with_reader(&args, |args| self.wasi.begin_component_call(function, args)).expect(name)
    }

    /// A call that has to wait.
    pub fn later(&mut self, instance: &str, name: &str, args: impl Lower) -> Pending {
        match self.begin(instance, name, args) {
            Answer::Later(pending) => pending,
            now => panic!("{name}: {now:?}"),
        }
    }

    pub fn drop_handle(&mut self, instance: &str, resource: &str, handle: u32) {
        self.call::<()>(instance, &format!("[resource-drop]{resource}"), handle);
    }

    pub fn block(&mut self, pollable: u32) {
        self.call::<()>(POLL, "[method]pollable.block", pollable);
        self.drop_handle(POLL, "pollable", pollable);
    }

    pub fn read(&mut self, stream: u32, length: u64) -> Result<Vec<u8>, StreamError> {
        self.call(IO, "[method]input-stream.blocking-read", (stream, length))
    }

    pub fn read_to_end(&mut self, stream: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.read(stream, 1 << 16) {
                Ok(bytes) => all.extend(bytes),
                Err(StreamError::Closed) => return all,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    pub fn write(&mut self, stream: u32, bytes: &[u8]) -> Result<(), StreamError> {
        for piece in bytes.chunks(4096) {
            self.call::<Result<(), StreamError>>(
                IO,
                "[method]output-stream.blocking-write-and-flush",
                (stream, piece),
            )?;
        }
        Ok(())
    }

    pub fn timer(&mut self, nanoseconds: u64) -> u32 {
        self.call(CLOCK, "subscribe-duration", nanoseconds)
    }
}

/// A handle in a list. A list of numbers travels in another way.
pub struct Handle(u32);

pub fn handles(handles: &[u32]) -> Vec<Handle> {
    handles.iter().copied().map(Handle).collect()
}

impl Lower for Handle {
    fn is_of(_: Type, _: &Types) -> bool {
        false
    }

    fn lower(&self, out: &mut Writer) {
        out.u32(self.0);
    }
}

/// `stream-error` of `wasi:io/streams`.
#[derive(Debug, PartialEq)]
pub enum StreamError {
    Failed(u32),
    Closed,
}

impl Lift<'_> for StreamError {
    fn is_of(_: Type, _: &Types) -> bool {
        false
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.u32()? {
            0 => Ok(Self::Failed(from.u32()?)),
            1 => Ok(Self::Closed),
            _ => Err(from.error("a stream error")),
        }
    }
}
