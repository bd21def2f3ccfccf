//! Module files.

use crate::failure::Failure;
use std::path::Path;

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::file("read", path, &error))
}

/// The failure of compiling or loading a file: which one it is comes first.
pub fn failure(path: &Path, error: sandgrain::Error) -> Failure {
    let mut failure = Failure::from(error);
    failure.what = format!("{}: {}", path.display(), failure.what);
    failure
}
