//! The head of a response that a program prints, as CGI programs do.
//!
//! ```text
//! Status: 404 Not Found
//! Content-Type: text/plain
//!
//! Nothing here.
//! ```
//!
//! A response has a status of 200 if there is no `Status`, or of 302 with a `Location`. RFC 3875 has the server
//! answer for another path itself if `Location` is a path; here the client is sent there too, so that every answer
//! is one to a request that the client has made.

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};

use crate::headers::is_of_one_connection;

/// How many headers a head can have, at most; those that are left out count as well.
pub const MAX_HEADERS: usize = 100;

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status, from 200 to 599.
    pub status: StatusCode,
    /// The headers, without `Status`.
    ///
    /// They say nothing of how the response travels. Headers of a connection and `Content-Length` are left out:
    /// with a length that is not the body's, a program could have what it prints taken for the response to
    /// somebody else's request. The server finds out itself how long the body is.
    pub headers: HeaderMap,
}

/// Reads a head out of an output that arrives in pieces.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    /// The bytes of the head that have arrived.
    read: usize,
    /// What has arrived of a line that has not ended.
    line: Vec<u8>,
    /// How many lines have ended.
    lines: usize,
    status: Option<StatusCode>,
    headers: HeaderMap,
    /// What every further call says.
    over: Option<HeadError>,
}

impl Parser {
    /// For a head of at most this many bytes, with line ends and the empty line.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            read: 0,
            line: Vec::new(),
            lines: 0,
            status: None,
            headers: HeaderMap::new(),
            over: None,
        }
    }

    /// Takes the next bytes of the output: the head, if it ends in them, and those bytes that follow it, which are
    /// the first ones of the body.
    ///
    /// How the output is divided makes no difference, and the work is proportional to its length.
    ///
    /// # Errors
    /// [`HeadError`] if this is no head; [`HeadError::Over`] if the head has been returned already. Both of them
    /// again for all bytes that follow.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(Head, Bytes)>, HeadError> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        let result = self.advance(bytes);
        match &result {
            Ok(None) => {}
            Ok(Some(_)) => self.over = Some(HeadError::Over),
            Err(error) => self.over = Some(error.clone()),
        }
        result
    }

    /// What is wrong with an output that ends without a whole head.
    #[must_use]
    pub fn finish(self) -> HeadError {
        match self.over {
            Some(over) => over,
            None if self.read == 0 => HeadError::Nothing,
            None => HeadError::Unfinished,
        }
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<Option<(Head, Bytes)>, HeadError> {
        let mut left = bytes;
        while !left.is_empty() {
            let end = left.iter().position(|byte| *byte == b'\n');
            let (part, rest) = left.split_at(end.map_or(left.len(), |at| at + 1));
            // Before the line is looked at: otherwise it would depend on the pieces which error comes first.
            if part.len() > self.limit - self.read {
                return Err(HeadError::TooLarge { limit: self.limit });
            }
            self.read += part.len();
            self.line.extend_from_slice(part);
            left = rest;
            let mut line = std::mem::take(&mut self.line);
            if line.pop_if(|byte| *byte == b'\n').is_none() {
                self.line = line;
                break;
            }
            line.pop_if(|byte| *byte == b'\r');
            self.lines += 1;
            if line.is_empty() {
                return Ok(Some((self.head()?, Bytes::copy_from_slice(left))));
            }
            self.header(&line)?;
        }
        Ok(None)
    }

    /// Takes a line, which is not empty.
    fn header(&mut self, line: &[u8]) -> Result<(), HeadError> {
        let at = self.lines;
        if at > MAX_HEADERS {
            return Err(HeadError::TooMany);
        }
        if is_blank(&line[0]) {
            return Err(HeadError::Folded { line: at });
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or(HeadError::NoHeader { line: at })?;
        let name = HeaderName::from_bytes(&line[..colon]);
        let name = name.map_err(|_| HeadError::NoHeader { line: at })?;
        let value = HeaderValue::from_bytes(trimmed(&line[colon + 1..]));
        let value = value.map_err(|_| HeadError::Value { line: at })?;

        let is_status = name.as_str() == "status";
        if is_status || name == CONTENT_TYPE || name == LOCATION {
            if value.is_empty() {
                return Err(HeadError::Value { line: at });
            }
            if self.headers.contains_key(&name) || is_status && self.status.is_some() {
                return Err(HeadError::Repeated { line: at });
            }
        }
        if is_status {
            self.status = Some(status(value.as_bytes()).ok_or(HeadError::Status { line: at })?);
        } else if name != CONTENT_LENGTH && !is_of_one_connection(&name) {
            self.headers.append(name, value);
        }
        Ok(())
    }

    fn head(&mut self) -> Result<Head, HeadError> {
        let status = match self.status {
            Some(status) => status,
            None if self.headers.contains_key(LOCATION) => StatusCode::FOUND,
            None if self.headers.contains_key(CONTENT_TYPE) => StatusCode::OK,
            None => return Err(HeadError::Insufficient),
        };
        Ok(Head { status, headers: std::mem::take(&mut self.headers) })
    }
}

/// The status of a response, as `404 Not Found` or `404`. What follows the number is for people.
fn status(value: &[u8]) -> Option<StatusCode> {
    let (code, reason) = value.split_at_checked(3)?;
    if !reason.first().is_none_or(is_blank) {
        return None;
    }
    // Those below are no responses yet, but change what the connection is.
    StatusCode::from_bytes(code).ok().filter(|code| (200..=599).contains(&code.as_u16()))
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_blank(first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_blank(last)
    {
        value = rest;
    }
    value
}

/// Why an output is no response. The text has nothing of the output in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// There is no output at all.
    Nothing,
    /// The output ends before the empty line.
    Unfinished,
    /// The head has none of `Content-Type`, `Location` and `Status`.
    Insufficient,
    /// A line is no header: it has no colon, or what is before it is no name.
    NoHeader {
        /// The line, from 1.
        line: usize,
    },
    /// A line begins with a blank, as if it continued the one before.
    Folded {
        /// The line, from 1.
        line: usize,
    },
    /// A header's value has control characters in it, or is empty and must not be.
    Value {
        /// The line, from 1.
        line: usize,
    },
    /// The value of `Status` is not a number from 200 to 599, with or without words after it.
    Status {
        /// The line, from 1.
        line: usize,
    },
    /// `Content-Type`, `Location` or `Status` is there for the second time.
    Repeated {
        /// The line, from 1.
        line: usize,
    },
    /// The head has more bytes than it may.
    TooLarge {
        /// How many it may have.
        limit: usize,
    },
    /// There are more than [`MAX_HEADERS`] headers.
    TooMany,
    /// The head was returned before. What follows is the body.
    Over,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PRINT: &str =
            "try: printing `Content-Type: text/plain` and an empty line before the body";
        match self {
            Self::Nothing => write!(f, "the program printed nothing; {PRINT}"),
            Self::Unfinished => write!(f, "the program's output has no empty line; {PRINT}"),
            Self::Insufficient => write!(
                f,
                "the program printed an empty line, but no Content-Type, Location or Status before it; {PRINT}"
            ),
            Self::NoHeader { line } => {
                write!(f, "line {line} of the program's output is no header; {PRINT}")
            }
            Self::Folded { line } => write!(
                f,
                "line {line} of the program's output begins with a blank; try: each header in one line"
            ),
            Self::Value { line } => write!(
                f,
                "the header in line {line} of the program's output has no value, or control characters in it; \
                 try: printing characters only"
            ),
            Self::Status { line } => write!(
                f,
                "the status in line {line} of the program's output is not one; try: a number from 200 to 599, \
                 such as `Status: 404 Not Found`"
            ),
            Self::Repeated { line } => write!(
                f,
                "line {line} of the program's output has a header again that can be there once; try: printing it \
                 once"
            ),
            Self::TooLarge { limit } => write!(
                f,
                "the program's output has no empty line within {limit} bytes; try: printing one before the body, \
                 or a larger header_bytes in [limits]"
            ),
            Self::TooMany => write!(
                f,
                "the program's output has more than {MAX_HEADERS} headers; try: fewer, and an empty line before \
                 the body"
            ),
            Self::Over => f.write_str(
                "the head of the output was read before; try: passing the rest on as the body",
            ),
        }
    }
}

impl std::error::Error for HeadError {}
