//! What a guest was denied, for those who want to know.

use std::fmt;
use std::sync::Arc;

use sandgrain_abi::text::{ELLIPSIS, printable};

use crate::trace::CallTrace;
use crate::{Trace, WasiConfig};

/// Bytes of what a guest has named that are told. The longest name of a host has 253.
pub(crate) const MAX_TARGET: usize = 256;

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
    /// To look up the addresses of a name.
    Lookup,
    /// To open a file or a directory: for writing where only reading is granted, or outside of what is granted. Of
    /// preview 1, all that is done to files by their paths.
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
    /// What for, as the guest has named it: a host and a port, a name, an address, a path. It is printable, and cut
    /// where it is long.
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
    use super::{MAX_TARGET, short};

    #[test]
    fn what_a_guest_names_is_shown_shortly_and_without_what_a_terminal_obeys() {
        assert_eq!(short("api.example.com:443"), "api.example.com:443");
        assert_eq!(short("a\x1b[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(short(&"é".repeat(1 << 20)), "é".repeat(MAX_TARGET / 2) + "...");
        assert!(short(&"\u{1b}".repeat(1 << 20)).len() < 1100);
    }
}
