//! Calls made of arbitrary bytes: what the tests and the fuzz target `wasi` drive.

use std::time::{Duration, Instant};

use sandgrain_abi::component::{Lower as _, Reader, Type, Writer};

use super::functions::Shape;
use super::{Function, Reply};
use crate::{Cancel, Error, Wasi};

/// For how long a call may wait: long enough to get there, short enough not to stand in the way.
const PATIENCE: Duration = Duration::from_millis(1);

/// How many calls are made at most.
const MAX_CALLS: usize = 64;

/// How many bytes of the host's memory the arguments of a call may take.
const BUDGET: usize = 1 << 20;

/// Texts that lead somewhere.
const TEXTS: &[&str] = &[
    "",
    ".",
    "..",
    "file",
    "sub",
    "sub/new",
    "link",
    "/",
    "content-length",
    "host",
    "10",
    "127.0.0.1:9",
    "localhost",
    "/path?query",
    "\0",
];

/// Arbitrary bytes, then zeroes for ever.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// A number, most often a small one.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::from_le_bytes([(); 8].map(|()| self.byte())),
            254 => u64::MAX,
            253 => 1 << (self.byte() % 64),
            small => u64::from(small % 32),
        }
    }

    fn text(&mut self) -> String {
        let choice = usize::from(self.byte());
        match TEXTS.get(choice % (TEXTS.len() + 4)) {
            Some(text) => (*text).to_owned(),
            None => String::from_utf8_lossy(&self.bytes(choice % 16)).into_owned(),
        }
    }
}

/// Makes calls as a guest might that means harm. How many were answered.
pub fn call(wasi: &mut Wasi, bytes: &[u8]) -> usize {
    let mut source = Source(bytes);
    let mut answered = 0;
    for _ in 0..MAX_CALLS {
        if source.0.is_empty() {
            break;
        }
        let number = u16::from_le_bytes([source.byte(), source.byte()]);
        let count = Function::all().len() as u16;
        let function = Function::from_index(number % count).expect("it is one of them");
        let mut args = Writer::new();
        if source.byte() == 255 {
            let count = usize::from(source.byte());
            args.raw(&source.bytes(count));
        } else if function.name().starts_with("[resource-drop]") {
            args.u32(source.number() as u32);
        } else {
            function.params().iter().for_each(|shape| write(shape, &mut source, &mut args));
        }
        answered += usize::from(made(wasi, function, args));
    }
    answered
}

fn made(wasi: &mut Wasi, function: Function, args: Writer) -> bool {
    let (payload, attachments) = args.finish();
    let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
    let args = Reader::new(&payload.body, &attachments, &[], BUDGET);
    let cancel = Cancel::new().with_deadline(Instant::now() + PATIENCE);
    match wasi.call_component(function, args, &cancel) {
        Ok(Reply::Value(_)) => true,
        Err(
            error @ (Error::Busy | Error::Config(_) | Error::Grant { .. } | Error::Host { .. }),
        ) => {
            panic!("{function:?} fails for no fault of the guest: {error}")
        }
        Ok(Reply::Exit(_)) | Err(_) => false,
    }
}

/// Writes a value of a type.
fn write(shape: &Shape, source: &mut Source<'_>, out: &mut Writer) {
    match shape {
        Shape::Plain(ty) => match ty {
            Type::Bool => out.u8(source.byte() & 1),
            Type::U8 | Type::S8 => out.u8(source.byte()),
            Type::U16 | Type::S16 => (source.number() as u16).lower(out),
            Type::U32 | Type::S32 | Type::F32 | Type::Char => out.u32(source.number() as u32),
            Type::String => source.text().lower(out),
            _ => source.number().lower(out),
        },
        Shape::Own(_) | Shape::Borrow(_) => out.u32(source.number() as u32),
        Shape::List(Shape::Plain(Type::U8)) => {
            let count = usize::from(source.byte());
            out.run(&source.bytes(count));
        }
        Shape::List(element) => {
            let count = source.byte() % 5;
            out.count(count.into());
            (0..count).for_each(|_| write(element, source, out));
        }
        Shape::Option(of) => {
            let some = source.byte() & 1;
            out.u8(some);
            if some == 1 {
                write(of, source, out);
            }
        }
        Shape::Result(ok, err) => {
            let failed = source.byte() & 1;
            out.u8(failed);
            if let Some(shape) = if failed == 1 { err } else { ok } {
                write(shape, source, out);
            }
        }
        Shape::Tuple(shapes) => shapes.iter().for_each(|shape| write(shape, source, out)),
        Shape::Record(fields) => fields.iter().for_each(|(_, shape)| write(shape, source, out)),
        Shape::Variant(cases) => {
            let case = usize::from(source.byte()) % cases.len();
            out.count(case);
            if let Some(shape) = cases[case].1 {
                write(shape, source, out);
            }
        }
        Shape::Enum(names) => out.count(usize::from(source.byte()) % names.len()),
        Shape::Flags(names) => {
            for names in names.chunks(8) {
                out.u8(source.byte() & (0xff >> (8 - names.len())));
            }
        }
    }
}
