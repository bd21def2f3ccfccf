//! Whether requests should be sent here.

use crate::server::Shared;

/// Whether they should, and why not.
pub(super) struct Readiness {
    pub(super) is_ready: bool,
    /// What `/readyz` says.
    pub(super) text: String,
}

/// A server's, as it is now.
pub(super) fn of(shared: &Shared) -> Readiness {
    if shared.is_leaving() {
        return Readiness { is_ready: false, text: "the server is about to end\n".to_owned() };
    }
    Readiness { is_ready: true, text: "ok\n".to_owned() }
}
