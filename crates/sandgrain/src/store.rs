//! Snapshots on disk.

use crate::engine::{Engine, Platform};
use crate::error::{Error, Result};
use crate::snapshot::{Snapshot, State};
use files::{Files, is_name};
use key::HostKey;
use manifest::{Manifest, Part};
use refusal::Refusal;
use sandgrain_compile::Cache;
use sandgrain_hypervisor::{Hypervisor, MemoryImage};
use std::path::{Path, PathBuf};

mod files;
mod key;
mod manifest;
mod refusal;

pub(crate) use manifest::{Origin, decode_places, encode_places};

#[cfg(test)]
mod tests;

/// A directory of [snapshots](Snapshot), each under a name.
///
/// Loading one takes microseconds, whatever its size: its memory is mapped, and read from the disk when a guest
/// touches it. Parts that snapshots have in common, such as the runtime's own memory, are there once.
///
/// The directory and its files must belong to this process's user, and nobody else may be able to write to
/// them. What is not memory is authenticated with a key that the store has for itself, so that a
/// snapshot of another host or store is refused, and so is any change. Memory is not read at loading, and so
/// not checked then: [`verify`](Self::verify) does that. To delete files that are in use does no harm; a disk
/// that cannot read them any more ends the process, as with any file that is mapped.
///
/// Any number of threads and processes can use a store at the same time. `docs/snapshot-format.md` describes the
/// files.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    files: Files,
}

impl SnapshotStore {
    /// The store in this directory, which is created, for this user alone, if there is none.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if others can write to it or it cannot be created.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let files = Files::new(dir.into());
        files.create().map_err(Refusal::of_store)?;
        Ok(Self { files })
    }

    /// The user's own store: `snapshots` in the user's [cache](Cache::user_default) of compiled modules.
    ///
    /// # Errors
    /// As [`open`](Self::open), and if the environment does not say where the user's cache is.
    pub fn user_default() -> Result<Self> {
        let cache = Cache::user_default().map_err(|error| {
            Error::Snapshot(format!("the store of snapshots: {error}; try: naming a directory"))
        })?;
        Self::open(cache.dir().join("snapshots"))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// Saves a snapshot, in place of an earlier one of this name, whose sandboxes go on. Until all of it is on
    /// disk, the earlier one is found under the name.
    ///
    /// A name has up to 100 letters, digits, and `.`, `_` and `-`, of which it does not begin with any.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if it cannot be written, which changes nothing.
    pub fn save(&self, name: &str, snapshot: &Snapshot) -> Result<()> {
        check_name(name)?;
        let state = snapshot.state();
        let hypervisor = &*state.engine.virtual_machines()?.hypervisor;
        self.save_state(name, state, hypervisor).map_err(|refusal| refusal.of(name))
    }

    fn save_state(
        &self,
        name: &str,
        state: &State,
        hypervisor: &dyn Hypervisor,
    ) -> Result<(), Refusal> {
        self.files.create()?;
        let lock = self.files.lock()?;
        self.tidy(&lock);
        let key = self.files.key_or_new(&lock)?;
        lock.lock_shared().map_err(|error| self.files.lock_error(error))?;
        let replaces = self.files.read(name).is_ok();
        let saved = self.write(name, state, hypervisor, &key);
        lock.unlock().map_err(|error| self.files.lock_error(error))?;
        if replaces || saved.is_err() {
            self.tidy(&lock);
        }
        saved
    }

    fn write(
        &self,
        name: &str,
        state: &State,
        hypervisor: &dyn Hypervisor,
        key: &HostKey,
    ) -> Result<(), Refusal> {
        let memory = &state.guest.memory;
        let (contents, places) = memory.layers().map_err(|error| Refusal::image(&error))?;
        let part =
            |content: &&[u8]| Part { digest: blake3::hash(content), len: content.len() as u64 };
        let parts: Vec<Part> = contents.iter().map(part).collect();
        let origin = Origin::here(hypervisor);
        let bytes = manifest::write(key, name, &origin, &parts, &places, state);
        // Nothing is saved that could not be loaded.
        let manifest = Manifest::read(&bytes, key, name)?;
        manifest.state(&state.engine, hypervisor, |_, _| Ok(memory.clone()))?;
        for (part, content) in parts.iter().zip(contents) {
            self.files.write_part(part, content)?;
        }
        self.files.write(name, &bytes)
    }

    /// Removes what nobody needs, if nobody else is saving. It is for the next save to do what fails here.
    fn tidy(&self, lock: &std::fs::File) {
        if lock.try_lock().is_err() {
            return;
        }
        if let Err((name, refusal)) = self.files.remove_unused() {
            tracing::debug!(?name, %refusal, "parts of snapshots are left");
        }
        // It goes with the file at the latest.
        let _ = lock.unlock();
    }

    /// A snapshot that was saved, to make sandboxes from as from the one that was. Its memory is mapped, not
    /// read.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if there is none of this name; if it is damaged, incomplete, or saved with another key;
    /// if it was taken with another version of this library, of the engine in it or of the runtime, on
    /// another kind of hypervisor or with other CPU features; or if the engine has no VMs. In all of these
    /// cases another snapshot can be taken and saved under the name.
    pub fn load(&self, engine: &Engine, name: &str) -> Result<Snapshot> {
        check_name(name)?;
        let Platform::Vm(platform) = &engine.inner.platform else {
            return Err(Error::Snapshot(format!(
                "the snapshot {name:?} is one of a VM, and this engine runs guests without; try: an engine with \
                 VMs"
            )));
        };
        let state = self.with_manifest(name, |manifest| {
            manifest.state(engine, &*platform.hypervisor, |parts, places| {
                let files = parts.iter().map(|part| self.files.open_part(part));
                MemoryImage::from_layers(files.collect::<Result<_, _>>()?, places)
                    .map_err(|error| Refusal::image(&error))
            })
        });
        state.map(Snapshot::new).map_err(|refusal| refusal.of(name))
    }

    /// Reads all of a saved snapshot, and checks that it is what was saved. Whether it fits an engine is for
    /// [`load`](Self::load) to say.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if there is none of this name, or if it is not what was saved.
    pub fn verify(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let verified = self.with_manifest(name, |manifest| {
            manifest.parts.iter().try_for_each(|part| self.files.verify_part(part))
        });
        verified.map_err(|refusal| refusal.of(name))
    }

    /// Does something with a manifest and the parts that it names.
    fn with_manifest<T>(
        &self,
        name: &str,
        action: impl Fn(&Manifest<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.files.check()?;
        let mut bytes = self.files.read(name)?;
        loop {
            let result = action(&Manifest::read(&bytes, &self.files.key()?, name)?);
            let Err(Refusal::PartMissing { .. }) = result else { return result };
            // Perhaps it was saved anew in the meantime, and the parts of the old one have gone.
            let now = self.files.read(name)?;
            if now == bytes {
                return result;
            }
            bytes = now;
        }
    }

    /// The names of all snapshots, whether they can be loaded or not.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if the directory cannot be read or others can write to it.
    pub fn list(&self) -> Result<Vec<String>> {
        self.files.check().and_then(|()| self.files.names()).map_err(Refusal::of_store)
    }

    /// Deletes a snapshot, and the parts that no other has; while another process is saving, those go later.
    /// Sandboxes of it go on.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if there is none of this name, or it cannot be deleted.
    pub fn remove(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let removed = self.files.check().and_then(|()| self.files.remove(name));
        removed
            .and_then(|()| self.files.lock())
            .map(|lock| self.tidy(&lock))
            .map_err(|e| e.of(name))
    }

    /// Deletes parts that no snapshot has any more, and what crashes have left. Says how many bytes those had.
    /// [`remove`](Self::remove) and [`save`](Self::save) do so too, unless another process is saving or a
    /// snapshot is damaged; this waits for the one and tells the other.
    ///
    /// # Errors
    /// [`Error::Snapshot`] with the first snapshot whose parts are not known, or what cannot be deleted.
    pub fn remove_unused(&self) -> Result<u64> {
        let lock =
            self.files.check().and_then(|()| self.files.lock()).map_err(Refusal::of_store)?;
        lock.lock().map_err(|error| self.files.lock_error(error).of_store())?;
        self.files.remove_unused().map_err(|(name, refusal)| match name {
            Some(name) => refusal.of(&name),
            None => refusal.of_store(),
        })
    }
}

fn check_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Error::Snapshot(format!(
        "{name:?} cannot be a snapshot's name: it has up to 100 letters, digits, and `.`, `_` and `-`, and \
         begins with a letter or digit; try: such a one"
    )))
}
