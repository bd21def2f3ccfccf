//! A look at the files that a manifest names.

use sandgrain_serve::check;
use std::fs;
use tempfile::TempDir;

const MODULE: &[u8] = b"\0asm\x01\0\0\0and so on";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0and so on";

/// A directory with these files.
fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

/// What is told of a manifest in a directory, without the directory.
fn told(directory: &TempDir, manifest: &str) -> String {
    let path = directory.path().join("app.toml");
    fs::write(&path, manifest).unwrap();
    let report = check(&path);
    assert_eq!(report.is_good(), report.problems().is_empty());
    report.to_string().replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn what_can_be_served_is_good() {
    let directory = directory(&[("build/a.wasm", COMPONENT), ("b.wasm", MODULE), ("data/x", b"")]);
    let manifest = r#"
        spin_manifest_version = 2
        application = { name = "x" }
        [[trigger.http]]
        route = "/a"
        component = "a"
        [[trigger.http]]
        route = "/b"
        component = "b"
        executor = { type = "wagi" }
        [[trigger.cron]]
        schedule = "* * * * *"
        component = "b"
        [component.a]
        source = "build/a.wasm"
        files = ["data", { source = ".", destination = "/all" }]
        [component.b]
        source = "b.wasm"
    "#;
    assert_eq!(told(&directory, manifest), "");
}

#[test]
fn everything_that_is_wrong_with_files_and_manifest_is_told() {
    let directory = directory(&[
        ("module.wasm", MODULE),
        ("both.wasm", COMPONENT),
        ("text.wasm", b"(module)"),
        ("empty.wasm", b""),
        ("short.wasm", b"\0asm\x01\0\0"),
        ("later.wasm", b"\0asm\x02\0\x03\0"),
        ("directory.wasm/x", b""),
        ("file", b""),
    ]);
    let mut manifest = "spin_manifest_version = 2\n[application]\nnmae = \"x\"\n".to_owned();
    for name in ["module", "both", "text", "empty", "short", "later", "directory", "missing"] {
        manifest += &format!(
            "[[trigger.http]]\nroute = \"/{name}\"\ncomponent = \"{name}\"\n[component.{name}]\n\
             source = \"{name}.wasm\"\n"
        );
    }
    manifest += "files = [\"file\", \"nothing\"]\n[[trigger.http]]\nroute = \"/2\"\ncomponent = \"both\"\n\
        executor = { type = \"wagi\" }\n[[trigger.http]]\nroute = \"/3\"\ncomponent = \"none\"\n";
    let kinds = "try: a component or module of WebAssembly in the binary format";
    assert_eq!(
        told(&directory, &manifest),
        format!(
            "app.toml:2:1: error: [application] has no name; try: name = \"hello\"\n\
             app.toml:3:1: error: [application] has no key \"nmae\"; try: name\n\
             app.toml:8:10: error: the source \"module.wasm\" is a module, and only components handle requests \
             themselves; try: executor = {{ type = \"wagi\" }} in its trigger, or building it as a component\n\
             app.toml:13:10: error: \"both\" is called as a handler of requests and as a program; try: the same \
             executor in all of its triggers, or two components\n\
             app.toml:18:10: error: the source \"text.wasm\" is not WebAssembly; {kinds}\n\
             app.toml:23:10: error: the source \"empty.wasm\" is empty; {kinds}\n\
             app.toml:28:10: error: the source \"short.wasm\" is not WebAssembly; {kinds}\n\
             app.toml:33:10: error: the source \"later.wasm\" is WebAssembly of version 2 and layer 3, which is \
             unknown; {kinds}\n\
             app.toml:38:10: error: the source \"directory.wasm\" is not a file; {kinds}\n\
             app.toml:43:10: error: the source \"missing.wasm\" cannot be read: No such file or directory (os \
             error 2); try: building it, or the path of a file that exists\n\
             app.toml:44:10: error: \"file\" is not a directory, and single files cannot be granted; try: the \
             directory that it is in\n\
             app.toml:44:18: error: the directory \"nothing\" cannot be read: No such file or directory (os error \
             2); try: the path of a directory that exists\n\
             app.toml:51:13: error: there is no component \"none\"; try: a section [component.ID] with this id\n"
        )
    );
}

#[test]
fn a_manifest_that_is_not_there_is_told_as_by_reading_it() {
    let directory = directory(&[]);
    let report = check(directory.path().join("app.toml"));
    assert!(
        report.to_string().ends_with(
            "app.toml: error: the file cannot be read: No such file or directory (os error 2); \
        try: the path of a manifest\n"
        ),
        "{report}"
    );
}

#[test]
fn a_trigger_whose_component_is_missing_says_nothing_of_another_one() {
    let directory = directory(&[("a.wasm", MODULE)]);
    let manifest = r#"
        spin_manifest_version = 2
        application = { name = "x" }
        [[trigger.http]]
        route = "/missing"
        component = "missing"
        [[trigger.http]]
        route = "/a"
        component = "a"
        executor = { type = "wagi" }
        [component.a]
        source = "a.wasm"
    "#;
    assert_eq!(
        told(&directory, manifest),
        "app.toml:6:21: error: there is no component \"missing\"; try: a section [component.ID] with this id\n"
    );
}
