//! Functions: what a manifest's components are here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::limits::{self, Limits, Pool};
use super::outbound::{self, Outbound};
use super::sections::{FILES, LIMITS, POOL};
use super::table::{Table, Text, type_of};
use super::values::path_problem;
use crate::report::quoted;

/// A program and what it is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// The component's id. One that is written into its trigger is called after that: `http-1`.
    pub id: String,
    /// What it is for, for people.
    pub description: Option<String>,
    /// The file of WebAssembly.
    pub source: PathBuf,
    /// The environment, each name once: for `WasiConfig::env`.
    pub environment: Vec<(String, String)>,
    /// The directories, each for reading only: for `WasiConfig::preopen`.
    pub directories: Vec<Directory>,
    /// Where it may send requests and open connections to: for `WasiConfig::allow_http` and the like.
    pub outbound: Vec<Outbound>,
    /// What it may use.
    pub limits: Limits,
    /// The VMs that are made for it.
    pub pool: Pool,
}

/// A directory that a function may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The directory on the host.
    pub host: PathBuf,
    /// Its name in the guest.
    pub guest: String,
}

/// Where a function's section has what can only be checked with a look at the file system.
#[derive(Debug, Default)]
pub(crate) struct FunctionPlaces {
    pub(crate) source: Option<usize>,
    pub(crate) directories: Vec<usize>,
}

/// What a function has that does not stand in its own section.
pub(super) struct Surroundings<'a> {
    /// The directory that paths are relative to: the manifest's.
    pub(super) directory: &'a Path,
    pub(super) limits: &'a Limits,
    pub(super) pool: &'a Pool,
}

pub(super) fn function(
    table: &Table<'_>,
    id: String,
    around: &Surroundings<'_>,
) -> (Function, FunctionPlaces) {
    let mut places = FunctionPlaces::default();
    let source = source(table);
    places.source = source.map(|source| source.at);
    let directories = directories(table, around.directory, &mut places);
    // That of a component in its trigger has no brackets.
    let name = |key: &str| match table.name.strip_suffix(']').filter(|name| name.starts_with("[c"))
    {
        Some(name) => format!("{name}.{key}]"),
        None => format!("{key} of {}", table.name),
    };
    let own_limits = table.table("limits", &LIMITS, name("limits"));
    let own_pool = table.table("pool", &POOL, name("pool"));
    let function = Function {
        id,
        description: table.string("description").map(|text| text.text.to_owned()),
        source: source.map(|source| around.directory.join(source.text)).unwrap_or_default(),
        environment: environment(table),
        directories,
        outbound: outbound::outbound(table),
        limits: own_limits.map_or_else(
            || around.limits.clone(),
            |own| limits::limits(&own, around.limits.clone()),
        ),
        pool: own_pool
            .map_or_else(|| around.pool.clone(), |own| limits::pool(&own, around.pool.clone())),
    };
    (function, places)
}

fn source<'d>(table: &Table<'d>) -> Option<Text<'d>> {
    let value = table.get("source");
    if let Some(value) = value
        && let DeValue::Table(source) = value.get_ref()
    {
        let from = if source.contains_key("url") { "a URL" } else { "a registry" };
        let what = format!("source in {} is {from}, which is not supported", table.name);
        table.problems.error(value.span().start, what, "a file, such as source = \"hello.wasm\"");
        return None;
    }
    let source = table.required_string("source")?;
    if source.text.contains("://") {
        let what = format!("source in {} is a URL, which is not supported", table.name);
        table.problems.error(source.at, what, "a file, such as source = \"hello.wasm\"");
        return None;
    }
    check_path(table, "source", source).then_some(source)
}

/// Whether a path may be used; if not, that is told.
fn check_path(table: &Table<'_>, key: &str, path: Text<'_>) -> bool {
    let Some((problem, advice)) = path_problem(path.text) else { return true };
    let what = format!("{key} in {} is {}, which {problem}", table.name, quoted(path.text));
    table.problems.error(path.at, what, advice);
    false
}

fn environment(table: &Table<'_>) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    let Some(variables) = table.names("environment") else { return environment };
    for (name, value) in variables.iter() {
        let (at, name) = (name.span().start, name.get_ref());
        let place = &table.name;
        if name.is_empty() || name.contains(['=', '\0']) {
            let what = format!(
                "environment in {place} has the name {}, which is empty or has = or NUL in it",
                quoted(name)
            );
            table.problems.error(at, what, "another name");
            continue;
        }
        let (value_at, value) = (value.span().start, value);
        match value.get_ref() {
            DeValue::String(text) if text.contains('\0') => table.problems.error(
                value_at,
                format!("environment in {place} has a NUL byte in the value of {}", quoted(name)),
                "a value without it",
            ),
            DeValue::String(text) => environment.push((name.to_string(), text.to_string())),
            _ => table.problems.error(
                value_at,
                format!("environment in {place} has {} for {}", type_of(value), quoted(name)),
                "a string, in quotes",
            ),
        }
    }
    environment
}

fn directories(table: &Table<'_>, base: &Path, places: &mut FunctionPlaces) -> Vec<Directory> {
    let mut directories = Vec::new();
    let mut taken = BTreeSet::new();
    for value in table.list("files").into_iter().flatten() {
        let at = value.span().start;
        let pair = match value.get_ref() {
            DeValue::String(text) => same_place(table, Text { text, at }),
            DeValue::Table(pair) => {
                let pair = Table::new(
                    table.problems,
                    &FILES,
                    format!("files of {}", table.name),
                    pair,
                    at,
                );
                source_and_destination(&pair)
            }
            _ => {
                let what = format!("files in {} has {} in it", table.name, type_of(value));
                table.problems.error(
                    at,
                    what,
                    "\"data\", or { source = \"data\", destination = \"/data\" }",
                );
                None
            }
        };
        let Some((host, guest)) = pair else { continue };
        if !taken.insert(guest.clone()) {
            let what = format!("files in {} has {} a second time", table.name, quoted(&guest));
            table.problems.error(at, what, "another destination");
            continue;
        }
        places.directories.push(at);
        directories.push(Directory { host: base.join(host), guest });
    }
    directories
}

/// A directory that has the same name in the guest as in the manifest's directory.
fn same_place(table: &Table<'_>, path: Text<'_>) -> Option<(String, String)> {
    if !check_path(table, "files", path) {
        return None;
    }
    let wrong = |problem: &str, advice: String| {
        let what = format!("files in {} has {}, {problem}", table.name, quoted(path.text));
        table.problems.error(path.at, what, advice);
        None
    };
    if path.text.contains(['*', '?', '[']) {
        return wrong(
            "a pattern; only whole directories can be granted",
            "the directory that they are in".to_owned(),
        );
    }
    if path.text.starts_with('/') {
        let advice = format!("{{ source = {:?}, destination = \"/data\" }}", path.text);
        return wrong("an absolute path without a destination", advice);
    }
    let parts = path.text.split('/').filter(|part| !part.is_empty() && *part != ".");
    let guest = parts.fold(String::new(), |guest, part| guest + "/" + part);
    Some((path.text.to_owned(), if guest.is_empty() { "/".to_owned() } else { guest }))
}

fn source_and_destination(pair: &Table<'_>) -> Option<(String, String)> {
    let source = pair.required_string("source");
    let source = source.filter(|source| check_path(pair, "source", *source));
    let destination = pair.required_string("destination")?;
    let is_plain = |path: &str| {
        let inside = path.strip_prefix('/').map(|path| path.strip_suffix('/').unwrap_or(path));
        inside.is_some_and(|inside| {
            inside.is_empty() || !inside.split('/').any(|part| matches!(part, "" | "." | ".."))
        })
    };
    if !is_plain(destination.text) || destination.text.contains('\0') {
        let what = format!(
            "destination in {} is {}, which is no plain absolute path",
            pair.name,
            quoted(destination.text)
        );
        pair.problems.error(destination.at, what, "a path such as \"/data\"");
        return None;
    }
    let guest = destination.text.trim_end_matches('/');
    let guest = if guest.is_empty() { "/" } else { guest };
    Some((source?.text.to_owned(), guest.to_owned()))
}
