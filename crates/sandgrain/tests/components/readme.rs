//! The table of what is supported in README.md is what the code says.

use crate::table::{directory, list, text};
use sandgrain::compile::wasm_features;
use sandgrain::wasi::{self, component};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The most characters of a line.
const WIDTH: usize = 120;

/// What stands around the table.
const BEGIN: &str =
    "<!-- what is supported: the test readme_says_what_is_supported has these lines -->\n";
const END: &str = "<!-- end of what is supported -->\n";

/// Features that the engine has a switch for and that are no proposals.
const NO_PROPOSALS: [&str; 3] = ["FLOATS", "GC_TYPES", "BULK_MEMORY_OPT"];

/// The row of a table, in as many lines as it takes.
fn row(out: &mut String, title: &str, items: &[String]) {
    let mut line = format!("| {title} | ");
    let mut is_empty = true;
    for item in items {
        if !is_empty && line.len() + item.len() + ", ".len() + ", |".len() > WIDTH {
            *out += &format!("{line}, |\n");
            line = "| | ".to_owned();
            is_empty = true;
        }
        line += if is_empty { "" } else { ", " };
        line += item;
        is_empty = false;
    }
    *out += &format!("{line} |\n");
}

fn proposals<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names = names.filter(|name| !NO_PROPOSALS.contains(name));
    names.map(|name| name.to_lowercase().replace('_', "-")).collect()
}

/// The interfaces of WASI 0.2 by their packages.
fn interfaces() -> BTreeMap<String, Vec<String>> {
    let mut packages = BTreeMap::<String, Vec<String>>::new();
    for instance in component::interfaces() {
        let (name, version) = instance.split_once('@').expect("a version");
        let (package, interface) = name.split_once('/').expect("a package");
        packages.entry(format!("{package} {version}")).or_default().push(interface.to_owned());
    }
    packages
}

fn language(name: &str) -> &'static str {
    match name {
        "assemblyscript" => "AssemblyScript",
        "c" => "C",
        "cpp" => "C++",
        "go" => "Go",
        "js" => "JavaScript",
        "py" | "python.wasm" => "Python",
        "rust" => "Rust",
        other => panic!("no language {other}: name it here"),
    }
}

/// The languages of the programs, each with its files.
fn programs() -> BTreeMap<&'static str, Vec<String>> {
    let text_of = std::fs::read(directory().join("../expected.json")).expect("the table");
    let table: Value = serde_json::from_slice(&text_of).expect("JSON");
    let mut languages = BTreeMap::<_, Vec<String>>::new();
    for run in table["runs"].as_array().expect("runs") {
        let wasm = text(run, "wasm");
        let name = wasm.split('/').next().unwrap_or_default();
        if name == "wat" {
            continue;
        }
        let files = languages.entry(language(name)).or_default();
        let file = format!("`{wasm}`");
        if !files.contains(&file) {
            files.push(file);
        }
    }
    languages
}

/// The languages of the components, each with its kinds.
fn components() -> BTreeMap<&'static str, Vec<String>> {
    let mut languages = BTreeMap::<_, Vec<String>>::new();
    for entry in list("components") {
        let name = text(entry, "name");
        let (prefix, _) = name.split_once('-').expect("a language and a kind");
        languages.entry(language(prefix)).or_default().push(format!("`{name}`"));
    }
    languages
}

fn supported() -> String {
    let mut out = "| supported | |\n|---|---|\n".to_owned();
    let on = wasm_features();
    row(&mut out, "proposals", &proposals(on.iter_names().map(|(name, _)| name)));
    let off = on.complement();
    row(&mut out, "proposals that are off", &proposals(off.iter_names().map(|(name, _)| name)));
    let preview1 = format!("all {} functions of `{}`", wasi::Function::all().len(), wasi::MODULE);
    row(&mut out, "WASI preview 1", &[preview1]);
    for (package, interfaces) in interfaces() {
        row(&mut out, &package, &interfaces);
    }
    for (language, files) in programs() {
        row(&mut out, &format!("programs in {language}"), &files);
    }
    for (language, names) in components() {
        row(&mut out, &format!("components in {language}"), &names);
    }
    out
}

#[test]
fn readme_says_what_is_supported() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(path).expect("README.md");
    let right = supported();
    let table = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let found = table.map(|(table, _)| table);
    assert!(
        found == Some(right.as_str()),
        "README.md says otherwise; between the lines\n{BEGIN}and\n{END}it must have\n\n{right}"
    );
}
