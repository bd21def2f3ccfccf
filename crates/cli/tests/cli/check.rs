//! `check`: manifests of the function server.

use crate::command::{Place, example};
use std::fs;

const MANIFEST: &str = r#"spin_manifest_version = 2

[application]
name = "greeter"

[[trigger.http]]
route = "/hello/:name"
component = "hello"
executor = { type = "wagi" }

[component.hello]
source = "hello.wasm"
"#;

#[test]
fn a_manifest_that_is_right_is_told_so() {
    let place = Place::with("app.toml", MANIFEST);
    place.write("hello.wasm", fs::read(example("wat/hello.wasm")).unwrap());
    let ended = place.run(&["check", "app.toml"]);
    ended.prints("app.toml is right: 1 functions, 1 routes\n");
    assert_eq!(ended.stderr, "");
}

#[test]
fn all_that_is_wrong_is_told_with_its_place() {
    let wrong = MANIFEST.replace("name = \"greeter\"", "nmae = \"greeter\"");
    let place = Place::with("app.toml", wrong + "memroy = 5\n");
    let ended = place.run(&["check", "app.toml"]);
    assert!(ended.fails(214).contains("app.toml has"), "{ended:?}");
    for part in ["app.toml:4:1: error: ", "try: name", "app.toml:13:1: error: ", "hello.wasm"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

#[test]
fn a_manifest_that_is_not_there_is_an_error() {
    let ended = Place::new().run(&["check", "missing.toml"]);
    assert!(ended.fails(214).contains("missing.toml"), "{ended:?}");
}
