//! A worker process and nothing else: for programs that do not start themselves once more as one.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sandgrain::be_worker_if_asked();
    // Whoever gets here by hand had better be told.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        b"sandgrain-worker is started by programs that run sandboxes in worker processes (sandgrain::Workers)\n",
    );
    ExitCode::from(2)
}
