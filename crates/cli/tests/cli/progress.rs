//! The line that shows that compiling goes on.

use crate::command::{Ended, Place};
use std::process::Command;

/// A module that takes much longer to compile than the line waits: thousands of long functions.
fn large() -> String {
    let round =
        "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 31)) (i32.popcnt (local.get 0))))";
    let body = round.repeat(100);
    let functions: String = (0..3000)
        .map(|n| {
            format!("(func (export \"f{n}\") (param i32) (result i32) {body} (local.get 0))\n")
        })
        .collect();
    format!("(module {functions})")
}

#[test]
fn long_compiling_shows_a_line_on_a_terminal_only() {
    let place = Place::with("large.wat", large());
    let ended = place.run(&["compile", "--no-cache", "large.wat"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "no terminal");

    // `script` gives its command a terminal, and passes on what appears there.
    let command = format!("{} compile --no-cache large.wat", env!("CARGO_BIN_EXE_sandgrain"));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    script.current_dir(place.path(".")).env("TERM", "xterm");
    let output = match script.stdin(std::process::Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!("the command `script` (util-linux) is needed: {error}"),
    };
    let ended = Ended::new(output);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("compiling large.wat ("), "{ended:?}");
    // The line is gone at the end: the last thing done is to clear it.
    assert!(ended.stdout.trim_end().ends_with("\x1b[2K"), "{ended:?}");
}
