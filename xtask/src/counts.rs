//! The structural counts, made in the emulated machine.

use crate::svm::{self, Error};
use std::path::PathBuf;
use std::process::Command;

/// Builds the program that counts, and runs it. Its exit status.
pub fn run() -> Result<u8, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let program = "sandgrain-counts";
    let built = Command::new(cargo)
        .args(["build", "--release", "--workspace", "--locked", "--quiet", "--bin", program])
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.success() {
        return Err(format!("{program} cannot be built: {built}").into());
    }
    // It lies beside this one: both are built with the one profile that there is.
    let beside: PathBuf = std::env::current_exe()?.with_file_name(program);
    svm::run(&svm::Arguments {
        timeout: 180,
        memory: "3G".to_owned(),
        environment: vec!["SANDGRAIN_TEST_AVAILABLE_TSS=1".to_owned()],
        console: false,
        command: vec![beside.into_os_string()],
    })
}
