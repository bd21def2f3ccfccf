//! `sandgrain check`: whether a manifest of the function server is right.

use crate::exit::Class;
use crate::failure::Failure;
use crate::terminal::{print, print_error, printable};
use clap::Args;
use sandgrain_serve::{Severity, check};
use std::path::PathBuf;

/// Options of `sandgrain check`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The manifest, such as app.toml
    manifest: PathBuf,
}

/// Checks, and says everything that is wrong.
pub fn execute(arguments: &Arguments) -> Result<(), Failure> {
    let report = check(&arguments.manifest);
    // The report's text is safe to show: what comes from the file is escaped there.
    print_error(&report.to_string());
    let path = printable(&arguments.manifest.display().to_string());
    match report.into_manifest() {
        Ok(manifest) => {
            let (functions, routes) = (manifest.functions.len(), manifest.routes.iter().count());
            let text = format!("{path} is right: {functions} functions, {routes} routes\n");
            print(&text).map_err(|error| Failure::output(&error))
        }
        Err(report) => {
            let count = report.problems().iter().filter(|p| p.severity == Severity::Error).count();
            let what = format!("{path} has {} errors", count + report.omitted());
            Err(Failure::new(Class::Manifest, what, "correcting the lines above"))
        }
    }
}
