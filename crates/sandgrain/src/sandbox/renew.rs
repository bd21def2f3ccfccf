//! Snapshots of a sandbox, and going back to one.

use super::{LastCall, Sandbox};
use crate::error::{Error, Result};
use crate::host::WASI;
use crate::learned::{Learned, PageSet};
use crate::snapshot::{Snapshot, State, WasiTies};
use sandgrain_abi::layout::PAGE_SIZE;
use sandgrain_abi::message::{Command, Outcome};
use sandgrain_wasi::{Wasi, WasiConfig};

impl Sandbox {
    /// What the sandbox is now, to make others from that go on here: memory, registers, instances. Nothing of
    /// the host is part of it: host functions and WASI are given anew to each.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if the guest has files open, which another would not have; if it was given
    /// random bytes, which the others would share (see
    /// [`snapshot_with_randomness`](Self::snapshot_with_randomness)); or if it runs without a VM.
    /// [`Error::Ended`], [`Error::Host`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        if self.has_got_randomness() {
            return Err(Error::Snapshot(
                "the guest was given random bytes, which every sandbox of the snapshot would share: keys, \
                 seeds of hash tables; try: a snapshot before it asks for them, or, if none of them \
                 protects anything, a snapshot with randomness"
                    .to_owned(),
            ));
        }
        self.snapshot_with_randomness()
    }

    /// As [`snapshot`](Self::snapshot), also of a guest that was given random bytes. Every sandbox made of it
    /// goes on with what the guest made of those bytes, such as the seeds of its hash tables: for guests
    /// that use them for nothing that must stay secret from another.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub fn snapshot_with_randomness(&self) -> Result<Snapshot> {
        self.check_alive()?;
        if self.host.wasi.as_ref().is_some_and(Wasi::has_open_files) {
            return Err(Error::Snapshot(
                "the guest has files open, or has closed or moved its standard descriptors; another \
                 sandbox would not have them so; try: a snapshot before that, or have it close its files"
                    .to_owned(),
            ));
        }
        let Some(guest) = self.machine.capture()? else {
            return Err(Error::Snapshot(
                "there are no snapshots without a VM; try: an engine with one".to_owned(),
            ));
        };
        let knows_directories = self.has_used_wasi()
            || self.origin.as_ref().is_some_and(|s| s.state().knows_directories());
        let config = self.host.wasi.as_ref().map(Wasi::config);
        let mut numbers = self.imports.keys().chain(self.component_imports.keys());
        let wasi = config.filter(|_| numbers.any(|number| *number >= WASI));
        let wasi = wasi.map(|config| WasiTies {
            directories: knows_directories
                .then(|| config.directory_names().map(str::to_owned).collect()),
        });
        Ok(Snapshot::new(State {
            engine: self.engine.clone(),
            guest,
            limits: self.limits.clone(),
            instances: self.exports.instances.clone(),
            names: self.names.clone(),
            main: self.main(),
            imports: self.imports.clone(),
            component_imports: self.component_imports.clone(),
            wasi,
            shares_randomness: self.has_got_randomness(),
            learned: Learned::default(),
        }))
    }

    fn has_got_randomness(&self) -> bool {
        self.host.wasi.as_ref().is_some_and(Wasi::has_given_randomness)
            || self.origin.as_ref().is_some_and(|snapshot| snapshot.state().shares_randomness)
    }

    /// Grants WASI with another configuration than the one that the sandbox was made with: arguments, streams
    /// and directories of one request, say, for a sandbox that was made ahead of it.
    ///
    /// # Errors
    /// [`Error::BadCall`] if the guest has used the other one already; [`Error::Snapshot`] if it knows
    /// directories from before its snapshot was taken, which are not these; [`Error::Grant`] if what is
    /// granted cannot be given.
    pub fn set_wasi(&mut self, config: WasiConfig) -> Result<()> {
        if self.has_used_wasi() {
            return Err(Error::BadCall(
                "the guest has used its WASI already, which cannot be exchanged then".to_owned(),
            ));
        }
        config.check().map_err(Error::Grant)?;
        if let Some(snapshot) = &self.origin {
            snapshot.state().check_wasi(Some(&config))?;
        }
        self.host.wasi =
            Some(Wasi::new(config.output_limits(self.limits.stdout, self.limits.stderr)));
        Ok(())
    }

    /// Goes back to the snapshot that the sandbox was made from, host functions excepted, whose state is the
    /// embedder's. `false`: it could not, and must not be used any more.
    pub(crate) fn reset(&mut self) -> Result<bool> {
        self.teach();
        let Some(origin) = &self.origin else { return Ok(false) };
        if !self.is_alive() {
            return Ok(false);
        }
        let state = origin.state();
        if self.exports.instances.len() != state.instances.len()
            || !self.machine.reset(&state.guest)?
        {
            return Ok(false);
        }
        self.is_waiting = state.guest.is_waiting();
        self.on_wait = None;
        self.last = LastCall::Unknown;
        self.has_called = false;
        self.names.clone_from(&state.names);
        self.imports.clone_from(&state.imports);
        self.component_imports.clone_from(&state.component_imports);
        // The guest gives its own names of resources anew.
        self.host.promised.clear();
        self.host.books = Default::default();
        // As it was granted at first: what one call was given besides is not the next one's.
        self.host.wasi = self.granted.clone().map(Wasi::new);
        Ok(true)
    }

    /// The next call is the last before a [`reset`](Self::reset), with which it may go in one.
    pub(crate) fn next_call_is_last(&mut self) {
        self.last = LastCall::Next;
    }

    /// Whether a [`reset`](Self::reset) waits for no other process.
    pub(crate) fn resets_at_once(&self) -> bool {
        self.machine.resets_at_once()
    }

    /// Whether its snapshot wants to see which pages a call touches.
    pub(super) fn is_curious(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.state().learned.is_curious())
    }

    /// Shows the snapshot which pages calls touch, while it has not seen enough of that.
    pub(super) fn teach(&self) {
        let Some(origin) = &self.origin else { return };
        let state = origin.state();
        if !self.has_called || !self.is_alive() || !self.is_curious() {
            return;
        }
        match self.machine.touched(&state.guest) {
            Ok(pages) => state.learned.add(&pages),
            Err(error) => tracing::warn!(%error, "which pages a call has touched cannot be seen"),
        }
    }

    /// Has the guest touch pages, so that no later call has to wait for them. `false`: it cannot be asked to,
    /// since it is in the middle of a run, or not made from a snapshot.
    pub(crate) fn touch(&mut self, pages: &PageSet) -> Result<bool> {
        let Some(origin) = &self.origin else { return Ok(false) };
        if self.is_waiting {
            return Ok(false);
        }
        let command = Command::Touch(origin.state().guest.page_ranges(pages));
        let outcome = self.execute(command)?;
        self.has_called = false;
        match outcome {
            Outcome::Returned(_) => Ok(true),
            outcome => Err(self.unexpected(outcome)),
        }
    }

    /// Bytes of memory that it has to itself.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        Ok(self.machine.resident_pages()?.unwrap_or(0) * PAGE_SIZE)
    }

    /// Whether it was made from this snapshot.
    pub(crate) fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.is(snapshot))
    }

    /// Whether calls are possible, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        self.check_alive().is_ok() && !self.machine.is_lost()
    }
}
