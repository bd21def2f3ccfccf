//! What a guest was denied, for those who want to know.

use std::fmt;
use std::sync::Arc;

use sandgrain_abi::text::{ELLIPSIS, printable};

use crate::trace::CallTrace;
use crate::{Trace, WasiConfig};

/// Bytes of what a guest has named that are told. The longest name of a host has 253.
const MAX_TARGET: usize = 256;

/// What is told where a call has named no path: what it is about is open already.
const OPEN_FILE: &str = "a descriptor";

/// What a guest needs a grant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// To send an HTTP request to a host.
    Http,
    /// To have a TCP socket, or to connect one to an address.
    Tcp,
    /// To have a UDP socket, or to send datagrams to an address.
    Udp,
    /// To listen at an address of this machine, or to be bound to it.
    Listen,
    /// To look up the addresses of a name, or to be given one of them.
    Lookup,
    /// To do something with a file or a directory: to change it where only reading is granted, or anything at all
    /// outside of what is granted.
    File,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Http, Self::Tcp, Self::Udp, Self::Listen, Self::Lookup, Self::File];

    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Listen => "listen",
            Self::Lookup => "lookup",
            Self::File => "file",
        }
    }
}

/// Something that a guest wanted, and that nothing grants it. See [`WasiConfig::on_denied`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Denied<'a> {
    /// What it would have needed.
    pub capability: Capability,
    /// What for, as the guest has named it: a host and a port, a name, an address, a path, or two paths with a comma
    /// between them. Of an address that is not given to it, the name too: `10.1.2.3 of example.com`. A socket that is
    /// not made is `a socket`, a file that is open already `a descriptor`. It is printable, and cut where it is long.
    pub target: &'a str,
    /// What the guest's call is part of, if that is known.
    pub trace: Option<&'a Trace>,
}

/// Who is told.
#[derive(Clone)]
pub(crate) struct Listener(pub(crate) Arc<dyn Fn(&Denied<'_>) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// Tells what one guest is denied.
#[derive(Default)]
pub(crate) struct Denials {
    listener: Option<Listener>,
    trace: CallTrace,
}

impl Denials {
    pub(crate) fn new(config: &WasiConfig, trace: &CallTrace) -> Self {
        Self { listener: config.denied.clone(), trace: trace.clone() }
    }

    pub(crate) fn tell(&self, capability: Capability, target: &str) {
        let Some(Listener(listener)) = &self.listener else { return };
        let (target, trace) = (short(target), self.trace.get());
        listener(&Denied { capability, target: &target, trace: trace.as_ref() });
    }

    /// Tells of a file, by the [paths](named_paths) that the guest's call has named, if any.
    pub(crate) fn tell_of_file(&self, paths: &str) {
        self.tell(Capability::File, if paths.is_empty() { OPEN_FILE } else { paths });
    }
}

/// The paths that a call has named, as they are told. No more of them is copied: a guest can pass megabytes.
pub(crate) fn named_paths(paths: &[&[u8]]) -> String {
    // One byte more of each than is told, so that it is seen to be cut.
    let shown =
        paths.iter().map(|path| String::from_utf8_lossy(&path[..path.len().min(MAX_TARGET + 1)]));
    shown.collect::<Vec<_>>().join(", ")
}

fn short(target: &str) -> String {
    let end = target.floor_char_boundary(MAX_TARGET);
    let mut shown = printable(&target[..end]);
    if end < target.len() && !shown.ends_with(ELLIPSIS) {
        shown.push_str(ELLIPSIS);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{MAX_TARGET, named_paths, short};

    #[test]
    fn what_a_guest_names_is_shown_shortly_and_without_what_a_terminal_obeys() {
        assert_eq!(short("api.example.com:443"), "api.example.com:443");
        assert_eq!(short("a\x1b[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(short(&"é".repeat(1 << 20)), "é".repeat(MAX_TARGET / 2) + "...");
        assert!(short(&"\u{1b}".repeat(1 << 20)).len() < 1100);
    }

    #[test]
    fn all_paths_of_a_call_are_shown_as_far_as_there_is_room() {
        assert_eq!(named_paths(&[]), "");
        assert_eq!(named_paths(&[b"a"]), "a");
        assert_eq!(named_paths(&[b"a\xff", b"b"]), "a\u{fffd}, b");
        let long = named_paths(&[&[b'x'; 1000], b"b"]);
        assert_eq!(short(&long), "x".repeat(MAX_TARGET) + "...");
    }
}
