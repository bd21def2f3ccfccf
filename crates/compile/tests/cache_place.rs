//! Where the user's cache is. In a file, and so in a process, of its own: the environment belongs to
//! the whole process.

use sandgrain_compile::{Cache, Error};
use std::path::Path;
use std::process::Command;

const EXPECTED: &str = "SANDGRAIN_COMPILE_TEST_PLACE";

/// Not a test of its own: what [`places`] runs with other environments.
#[test]
fn child() {
    match std::env::var(EXPECTED) {
        Ok(none) if none.is_empty() => {
            assert!(matches!(Cache::user_default(), Err(Error::NoCacheDir)));
        }
        Ok(place) => assert_eq!(Cache::user_default().expect("place").dir(), Path::new(&place)),
        Err(_) => {}
    }
}

#[test]
fn places() {
    for (xdg, home, place) in [
        (Some("/x"), Some("/home/me"), "/x/sandgrain"),
        (None, Some("/home/me"), "/home/me/.cache/sandgrain"),
        (Some(""), Some("/home/me"), "/home/me/.cache/sandgrain"),
        (Some("relative"), Some("/home/me"), "/home/me/.cache/sandgrain"),
        (None, Some("relative"), ""),
        (None, None, ""),
    ] {
        let mut command = Command::new(std::env::current_exe().expect("test program"));
        command.args(["--exact", "child"]).env(EXPECTED, place);
        for (name, value) in [("XDG_CACHE_HOME", xdg), ("HOME", home)] {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().expect("child");
        assert!(output.status.success(), "{xdg:?} {home:?}: {output:?}");
    }
}
