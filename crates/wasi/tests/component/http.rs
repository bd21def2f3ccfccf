//! What the tests of HTTP share.

use sandgrain_abi::DecodeError;
use sandgrain_abi::component::{Lift, Reader, Type, Types};

use super::support::Guest;

pub const HTTP: &str = "wasi:http/types@0.2.0";

// Cases of `error-code`.
pub const DNS_ERROR: u32 = 1;
pub const IP_PROHIBITED: u32 = 4;
pub const REFUSED: u32 = 6;
pub const LIMIT_REACHED: u32 = 11;
pub const TLS_PROTOCOL: u32 = 12;
pub const TLS_CERTIFICATE: u32 = 13;
pub const READ_TIMEOUT: u32 = 9;
pub const DENIED: u32 = 15;
pub const REQUEST_BODY: u32 = 17;
pub const URI_INVALID: u32 = 19;
pub const RESPONSE_HEADERS: u32 = 26;

/// The case of an `error-code`.
#[derive(Debug, PartialEq)]
pub struct Code(pub u32);

impl Lift<'_> for Code {
    fn is_of(_: Type, _: &Types) -> bool {
        false
    }

    fn lift(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let case = from.u32()?;
        match case {
            1 => drop(<(Option<String>, Option<u16>)>::lift(from)?),
            17 | 28 => drop(Option::<u64>::lift(from)?),
            21 | 26 => drop(Option::<u32>::lift(from)?),
            38 => drop(Option::<String>::lift(from)?),
            _ => {}
        }
        Ok(Self(case))
    }
}

pub type Fields = Vec<(String, Vec<u8>)>;

impl Guest {
    pub fn http<T: for<'a> Lift<'a>>(
        &mut self,
        name: &str,
        args: impl sandgrain_abi::component::Lower,
    ) -> T {
        self.call(HTTP, name, args)
    }

    pub fn fields(&mut self, entries: &[(&str, &str)]) -> u32 {
        let entries: Fields =
            entries.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect();
        let made: Result<u32, u32> = self.http("[static]fields.from-list", entries);
        made.unwrap()
    }

    /// A body's stream, of whoever has one.
    pub fn body(&mut self, consume: &str, of: u32) -> (u32, u32) {
        let body: Result<u32, ()> = self.http(consume, of);
        let body = body.unwrap();
        let stream: Result<u32, ()> = self.http("[method]incoming-body.stream", body);
        (body, stream.unwrap())
    }

    /// The trailers that are behind a body, which has been read.
    pub fn trailers(&mut self, body: u32, stream: u32) -> Option<Fields> {
        self.drop_handle("wasi:io/streams@0.2.0", "input-stream", stream);
        let trailers: u32 = self.http("[static]incoming-body.finish", body);
        let pollable: u32 = self.http("[method]future-trailers.subscribe", trailers);
        self.block(pollable);
        type Got = Option<Result<Result<Option<u32>, Code>, ()>>;
        let got: Got = self.http("[method]future-trailers.get", trailers);
        let fields = got.unwrap().unwrap().unwrap()?;
        Some(self.http("[method]fields.entries", fields))
    }
}
