//! What can go wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// One of the two output streams of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, descriptor 1.
    Stdout,
    /// Standard error, descriptor 2.
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        })
    }
}

/// Why a WASI call, or the check of a configuration, did not succeed.
///
/// Ordinary failures such as a missing file are not errors here: the guest gets them as an error
/// number in [`Reply::Value`](crate::Reply::Value).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The [`Cancel`](crate::Cancel) of the call was cancelled, or its deadline passed.
    #[error("the WASI call was cancelled, or its deadline passed")]
    Cancelled,
    /// The guest wrote more than its configuration allows. The bytes up to the limit were kept.
    #[error(
        "the guest wrote more than {limit} bytes to {stream}; raise the limit of {stream} in the \
         WASI configuration if this much output is expected"
    )]
    OutputLimit {
        /// The stream that is full.
        stream: Stream,
        /// Its limit, in bytes.
        limit: u64,
    },
    /// The guest made a call that the WASI rules answer with a trap, such as a pointer outside
    /// its memory.
    #[error("the WASI call trapped: {0}")]
    Trap(String),
    /// What came as the arguments of a component's call are none of this function, or take more memory than one
    /// call may.
    #[error("the arguments of {function} cannot be read: {problem}")]
    Arguments {
        /// The function that was called.
        function: &'static str,
        /// What is wrong, and where.
        problem: String,
    },
    /// The guest wanted more than its configuration allows.
    #[error(
        "the guest wanted more than {limit} {what}; raise {setting} in the WASI configuration if this many are \
         expected"
    )]
    Limit {
        /// What it wanted.
        what: &'static str,
        /// How many it may have.
        limit: u64,
        /// What sets the limit: a method of [`WasiConfig`](crate::WasiConfig).
        setting: &'static str,
    },
    /// A call of the component is still waiting: the caller is at fault, not the guest's program.
    #[error("another call of this component is still waiting; await it or drop it first")]
    Busy,
    /// The number of arguments does not fit the function: the caller is at fault, not the guest's
    /// program.
    #[error("{function} takes {expected} arguments and was called with {actual}")]
    BadCall {
        /// The function that was called.
        function: &'static str,
        /// How many arguments it takes.
        expected: usize,
        /// How many arguments came.
        actual: usize,
    },
    /// The guest memory that the caller passed does not start at a multiple of 8 bytes.
    #[error(
        "guest memory must start at a multiple of 8 bytes, as a linear memory does, and was \
         passed from address {address:#x}"
    )]
    Misaligned {
        /// Where it starts on the host.
        address: usize,
    },
    /// A granted directory cannot be opened.
    #[error(
        "cannot grant the directory {}: {source}; check that it exists, is a directory and may \
         be read by this process", path.display()
    )]
    Grant {
        /// The path on the host.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration holds something that no guest can be given.
    #[error("the WASI configuration is not usable: {0}")]
    Config(String),
    /// The host lacks a resource that the call needs, such as a thread.
    #[error("the host cannot {what}: {source}; free resources or raise the limits of this process")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
