//! What the benchmarks measure, for `cargo bench -p sandgrain` and for `sandgrain bench`.
//!
//! Things are measured in [groups](Group), each beside the floor that it stands on: a call beside a
//! bare exit of the VM, a sandbox beside the smallest VM, a kernel in the VM beside the same kernel in
//! this process. [`measure`] takes turns between the members of a group, so that whatever slows the
//! machine down meanwhile slows all of them, and ratios stay true on a machine that does not stay
//! still.
#![forbid(unsafe_code)]

mod calls;
mod components;
mod compute;
pub mod floor;
mod http;
mod machine;
mod measure;
mod report;
pub mod start;

pub use machine::Machine;
pub use measure::{Samples, measure};
pub use report::{Goal, Report, Row};

use sandgrain::{Engine, Error, Result};
use std::fmt;
use std::time::Duration;

/// Does the thing once and says how long it took; what comes before and after is not counted.
pub type Timed = Box<dyn FnMut() -> Result<Duration>>;

/// One thing that is measured.
pub struct Member {
    /// Its name, unique among all.
    pub name: &'static str,
    /// What it is to reach, compared with the first member of its group.
    pub goal: Goal,
    /// How often it leaves the VM, where that was counted.
    pub exits: Option<u64>,
    /// Does it once.
    pub time: Timed,
}

/// How long one sample of a group takes, and with it how many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Microseconds.
    Calls,
    /// About a millisecond.
    Creations,
    /// Tens of milliseconds.
    Kernels,
}

/// Things that are compared with the first of them.
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// How long a sample takes.
    pub scale: Scale,
    /// The floor first.
    pub members: Vec<Member>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes one group of things to measure.
pub type MakeGroup = fn(&Engine) -> Result<Group>;

/// All groups. Each is made only when its turn comes, so that no other VMs are around.
pub const GROUPS: [MakeGroup; 12] = [
    calls::calls,
    calls::creation,
    components::number,
    components::host_call,
    components::string,
    components::list,
    components::record,
    http::hello,
    compute::recursive,
    compute::memory,
    compute::float_simd,
    compute::indirect,
];

/// The engine to measure with: this machine's hypervisor, and no cache of compiled modules.
///
/// # Errors
/// [`Error::NoHypervisor`] if there is none.
pub fn engine() -> Result<Engine> {
    Engine::builder().without_cache().build()
}

fn host_error(what: &str, error: &dyn fmt::Display) -> Error {
    Error::Host(format!("{what}: {error}"))
}
