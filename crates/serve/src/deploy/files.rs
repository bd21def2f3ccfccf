//! The files that an application is made from, and whether they have changed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// File systems tell the time of a change in steps, which are no longer than that.
const STEP: Duration = Duration::from_secs(2);

/// A file, and what shows that it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    path: PathBuf,
    /// Its size, time of change in nanoseconds and number; nothing if it is not there.
    seen: Option<(u64, u128, u64)>,
}

impl Mark {
    fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let seen = std::fs::metadata(path).ok().map(|metadata| {
            let changed = metadata.modified().map_or(0, nanoseconds);
            (metadata.len(), changed, metadata.ino())
        });
        Self { path: path.to_owned(), seen }
    }

    /// Whether the file, if it has been looked at just now, was left alone before for so long that a change from now on
    /// shows in its mark.
    fn is_settled(&self) -> bool {
        let age = |changed| nanoseconds(SystemTime::now()).saturating_sub(changed);
        self.seen.is_none_or(|(_, changed, _)| age(changed) > STEP.as_nanos())
    }
}

/// Since 1970.
fn nanoseconds(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// The files that an application is made from, as they were when they were looked at.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    manifest: Mark,
    /// Those that the manifest names.
    sources: Vec<Mark>,
    /// Whether a manifest that still has this mark still is the same, and names the same sources.
    is_settled: bool,
}

impl Files {
    /// A manifest, which is about to be read.
    pub(super) fn of(manifest: &Path) -> Self {
        let manifest = Mark::of(manifest);
        Self { is_settled: manifest.is_settled(), manifest, sources: Vec::new() }
    }

    /// The manifest names this source, which is about to be read.
    pub(super) fn add(&mut self, source: &Path) {
        self.sources.push(Mark::of(source));
    }

    /// Whether all of them can be seen to be what they were, without reading any. Not for a manifest that had changed
    /// only just before: what is written within one step of the file system's clock has the same mark.
    pub(crate) fn are_unchanged(&self) -> bool {
        let is_unchanged = |mark: &Mark| Mark::of(&mark.path) == *mark;
        self.is_settled && is_unchanged(&self.manifest) && self.sources.iter().all(is_unchanged)
    }

    /// Whether they are the same files as those, and none of them has changed.
    pub(crate) fn are_as(&self, others: &Self) -> bool {
        (&self.manifest, &self.sources) == (&others.manifest, &others.sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use tempfile::TempDir;

    fn long_ago() -> SystemTime {
        SystemTime::now() - Duration::from_secs(60)
    }

    /// A directory with a manifest, changed at that time, and a source, which are looked at.
    fn looked_at(changed: SystemTime) -> (TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let (manifest, source) = (dir.path().join("app.toml"), dir.path().join("a.wasm"));
        fs::write(&source, "a").unwrap();
        fs::write(&manifest, "names it").unwrap();
        let file = File::options().write(true).open(&manifest).unwrap();
        file.set_modified(changed).unwrap();
        let mut files = Files::of(&manifest);
        files.add(&source);
        (dir, files)
    }

    #[test]
    fn files_that_were_left_alone_need_not_be_read_again() {
        let (_dir, files) = looked_at(long_ago());
        assert!(files.are_unchanged());
    }

    #[test]
    fn a_change_of_any_file_is_seen() {
        for (name, content) in
            [("app.toml", Some("names none")), ("a.wasm", Some("other")), ("a.wasm", None)]
        {
            let (dir, files) = looked_at(long_ago());
            let path = dir.path().join(name);
            match content {
                Some(content) => fs::write(path, content).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            assert!(!files.are_unchanged(), "{name}");
        }
    }

    #[test]
    fn a_manifest_that_has_just_been_written_is_read_again() {
        // However long this test is kept waiting.
        let (dir, files) = looked_at(SystemTime::now() + Duration::from_secs(60));
        assert!(!files.are_unchanged(), "what follows at once could have the same mark");
        let mut again = Files::of(&dir.path().join("app.toml"));
        again.add(&dir.path().join("a.wasm"));
        assert!(again.are_as(&files), "and yet nothing has changed");
    }

    #[test]
    fn a_source_that_was_not_there_is_seen_to_come() {
        let (dir, mut files) = looked_at(long_ago());
        let later = dir.path().join("later.wasm");
        files.add(&later);
        assert!(files.are_unchanged());
        fs::write(later, "it has come").unwrap();
        assert!(!files.are_unchanged());
    }
}
