//! Calls made of arbitrary bytes: what the tests and the fuzz target `wasi` drive.
//!
//! Most of the handles in them are such as earlier calls have returned, or calls would all end at the first look at
//! their handles.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::Full;
use sandgrain_abi::DecodeError;
use sandgrain_abi::component::{Lower as _, Reader, Type, Writer};

use super::functions::{Shape, resource};
use super::{Function, Reply, Response};
use crate::{Cancel, Error, Wasi};

/// For how long a call may wait: long enough to get there, short enough not to stand in the way.
const PATIENCE: Duration = Duration::from_millis(1);

/// How many calls are made at most.
const MAX_CALLS: usize = 64;

/// How many bytes of the host's memory the arguments of a call may take.
const BUDGET: usize = 1 << 20;

/// How many handles of a kind are remembered.
const MAX_REMEMBERED: usize = 16;

/// Bytes of a list that travels beside the call.
const LARGE: usize = 20_000;

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

/// The handles that the guest has, by the numbers of their resource types.
#[derive(Default)]
struct Handles(BTreeMap<usize, Vec<u32>>);

impl Handles {
    fn add(&mut self, kind: usize, handle: u32) {
        let of_kind = self.0.entry(kind).or_default();
        if of_kind.len() < MAX_REMEMBERED {
            of_kind.push(handle);
        }
    }

    fn forget(&mut self, kind: usize, handle: u32) {
        if let Some(of_kind) = self.0.get_mut(&kind) {
            of_kind.retain(|known| *known != handle);
        }
    }

    /// One of the kind that is asked for, most often; or of another kind, or any number.
    fn choose(&self, kind: usize, source: &mut Source<'_>) -> u32 {
        let (how, which) = (source.byte(), usize::from(source.byte()));
        let among = |handles: &[u32]| handles.get(which.checked_rem(handles.len())?).copied();
        let found = match how {
            0..224 => self.0.get(&kind).and_then(|of_kind| among(of_kind)),
            224..240 => among(&self.0.values().flatten().copied().collect::<Vec<_>>()),
            _ => None,
        };
        found.unwrap_or_else(|| source.number() as u32)
    }
}

/// A guest that means harm.
struct Caller<'a> {
    wasi: &'a mut Wasi,
    handles: Handles,
    /// The handles that the present call gives away.
    given: Vec<(usize, u32)>,
    answered: usize,
}

/// Makes calls as a guest might that means harm. How many were answered.
///
/// # Panics
/// When a call fails for no fault of the guest's, or its result is none.
pub fn call(wasi: &mut Wasi, bytes: &[u8]) -> usize {
    let mut caller = Caller { wasi, handles: Handles::default(), given: Vec::new(), answered: 0 };
    let response = caller.is_asked();
    caller.takes_what_is_easily_had();
    let mut source = Source(bytes);
    for _ in 0..MAX_CALLS {
        if source.0.is_empty() {
            break;
        }
        let number = u16::from_le_bytes([source.byte(), source.byte()]);
        let count = Function::all().len() as u16;
        let function = Function::from_index(number % count).expect("it is one of them");
        caller.call(function, &mut source);
    }
    let answered = caller.answered;
    if let Some(response) = response {
        read(response);
    }
    answered
}

impl Caller<'_> {
    /// A request that it may answer, if it still may have the handles.
    fn is_asked(&mut self) -> Option<Response> {
        let request = http::Request::post("/path?query")
            .header("host", "example.com")
            .body(Full::new(Bytes::from_static(b"body")))
            .expect("a request");
        let incoming = self.wasi.incoming_request(request).ok()?;
        for (name, handle) in [
            ("incoming-request", incoming.request),
            ("response-outparam", incoming.response_outparam),
        ] {
            let kind = resource("wasi:http/types", name).expect("there are requests");
            self.handles.add(kind, handle);
        }
        Some(incoming.response)
    }

    /// Calls everything once that returns a handle and takes none.
    fn takes_what_is_easily_had(&mut self) {
        for function in Function::all() {
            let returns = function.result().is_some_and(has_handle);
            if returns && !function.params().iter().any(has_handle) {
                self.call(function, &mut Source(&[]));
            }
        }
    }

    fn call(&mut self, function: Function, source: &mut Source<'_>) {
        let mut args = Writer::new();
        self.given.clear();
        if source.byte() == 255 {
            let count = usize::from(source.byte());
            args.raw(&source.bytes(count));
        } else if let Some(kind) = function.drops() {
            self.write_handle(kind, true, source, &mut args);
        } else {
            function.params().iter().for_each(|shape| self.write(shape, source, &mut args));
        }
        let Some(result) = self.reply(function, args) else { return };
        self.answered += 1;
        for (kind, handle) in std::mem::take(&mut self.given) {
            self.handles.forget(kind, handle);
        }
        let (payload, attachments) = result.finish();
        let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
        let mut from = Reader::new(&payload.body, &attachments, &[], usize::MAX);
        let noted =
            function.result().map_or(Ok(()), |shape| note(shape, &mut from, &mut self.handles));
        if let Err(error) = noted.and_then(|()| from.finish()) {
            panic!("{function:?} returned what it cannot return: {error}");
        }
    }

    fn reply(&mut self, function: Function, args: Writer) -> Option<Writer> {
        let (payload, attachments) = args.finish();
        let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
        let args = Reader::new(&payload.body, &attachments, &[], BUDGET);
        let cancel = Cancel::new().with_deadline(Instant::now() + PATIENCE);
        match self.wasi.call_component(function, args, &cancel) {
            Ok(Reply::Value(result)) => Some(result),
            Err(
                error @ (Error::Busy | Error::Config(_) | Error::Grant { .. } | Error::Host { .. }),
            ) => {
                panic!("{function:?} fails for no fault of the guest: {error}")
            }
            Ok(Reply::Exit(_)) | Err(_) => None,
        }
    }

    fn write_handle(
        &mut self,
        kind: usize,
        owned: bool,
        source: &mut Source<'_>,
        out: &mut Writer,
    ) {
        let handle = self.handles.choose(kind, source);
        if owned {
            self.given.push((kind, handle));
        }
        out.u32(handle);
    }

    /// Writes a value of a type.
    fn write(&mut self, shape: &Shape, source: &mut Source<'_>, out: &mut Writer) {
        match shape {
            Shape::Plain(ty) => match ty {
                Type::Bool => out.u8(source.byte() & 1),
                Type::U8 | Type::S8 => out.u8(source.byte()),
                Type::U16 | Type::S16 => (source.number() as u16).lower(out),
                Type::U32 | Type::S32 | Type::F32 | Type::Char => out.u32(source.number() as u32),
                Type::String => source.text().lower(out),
                _ => source.number().lower(out),
            },
            Shape::Own(kind) => self.write_handle(*kind, true, source, out),
            Shape::Borrow(kind) => self.write_handle(*kind, false, source, out),
            Shape::List(Shape::Plain(Type::U8)) => match source.byte() {
                255 => out.run(&vec![source.byte(); LARGE]),
                count => out.run(&source.bytes(count.into())),
            },
            Shape::List(element) => {
                let count = source.byte() % 5;
                out.count(count.into());
                (0..count).for_each(|_| self.write(element, source, out));
            }
            Shape::Option(of) => {
                let some = source.byte() & 1;
                out.u8(some);
                if some == 1 {
                    self.write(of, source, out);
                }
            }
            Shape::Result(ok, err) => {
                let failed = source.byte() & 1;
                out.u8(failed);
                if let Some(shape) = if failed == 1 { err } else { ok } {
                    self.write(shape, source, out);
                }
            }
            Shape::Tuple(shapes) => {
                shapes.iter().for_each(|shape| self.write(shape, source, out));
            }
            Shape::Record(fields) => {
                fields.iter().for_each(|(_, shape)| self.write(shape, source, out));
            }
            Shape::Variant(cases) => {
                let case = usize::from(source.byte()) % cases.len();
                out.count(case);
                if let Some(shape) = cases[case].1 {
                    self.write(shape, source, out);
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
}

/// Whether a value of a type can have a handle in it.
fn has_handle(shape: &Shape) -> bool {
    match shape {
        Shape::Plain(_) | Shape::Enum(_) | Shape::Flags(_) => false,
        Shape::Own(_) | Shape::Borrow(_) => true,
        Shape::List(of) | Shape::Option(of) => has_handle(of),
        Shape::Result(ok, err) => [ok, err].into_iter().flatten().any(|shape| has_handle(shape)),
        Shape::Tuple(shapes) => shapes.iter().any(has_handle),
        Shape::Record(fields) => fields.iter().any(|(_, shape)| has_handle(shape)),
        Shape::Variant(cases) => cases.iter().filter_map(|(_, shape)| *shape).any(has_handle),
    }
}

/// Reads a value of a type, and remembers the handles in it.
fn note(shape: &Shape, from: &mut Reader<'_>, handles: &mut Handles) -> Result<(), DecodeError> {
    match shape {
        Shape::Plain(ty) => match ty {
            Type::Bool => drop(from.bool()?),
            Type::U8 | Type::S8 => drop(from.u8()?),
            Type::U16 | Type::S16 => drop(from.array::<2>()?),
            Type::U32 | Type::S32 | Type::F32 | Type::Char => drop(from.u32()?),
            Type::String => drop(from.run()?),
            _ => drop(from.array::<8>()?),
        },
        Shape::Own(kind) | Shape::Borrow(kind) => handles.add(*kind, from.u32()?),
        Shape::List(Shape::Plain(ty)) if *ty != Type::String => drop(from.run()?),
        Shape::List(element) => {
            for _ in 0..from.count(0)? {
                note(element, from, handles)?;
            }
        }
        Shape::Option(of) => {
            if from.bool()? {
                note(of, from, handles)?;
            }
        }
        Shape::Result(ok, err) => {
            if let Some(shape) = if from.bool()? { err } else { ok } {
                note(shape, from, handles)?;
            }
        }
        Shape::Tuple(shapes) => {
            shapes.iter().try_for_each(|shape| note(shape, from, handles))?;
        }
        Shape::Record(fields) => {
            fields.iter().try_for_each(|(_, shape)| note(shape, from, handles))?;
        }
        Shape::Variant(cases) => {
            let case = cases.get(from.u32()? as usize).ok_or(from.error("a case"))?;
            if let Some(shape) = case.1 {
                note(shape, from, handles)?;
            }
        }
        Shape::Enum(names) => {
            names.get(from.u32()? as usize).ok_or(from.error("a case"))?;
        }
        Shape::Flags(names) => drop(from.raw(names.len().div_ceil(8))?),
    }
    Ok(())
}

/// Reads as much of a response as there is.
fn read(mut response: Response) {
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(response)) = Pin::new(&mut response).poll(&mut context) else { return };
    let mut body = response.into_body();
    while let Poll::Ready(Some(Ok(_))) = Pin::new(&mut body).poll_frame(&mut context) {}
}
