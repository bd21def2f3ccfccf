//! A program by itself, as a manifest that answers every path with it.

use std::path::Path;

use super::{Argument, Executor, Function, HttpTrigger, Limits, Manifest, Pool, Tenant, values};
use crate::report::{Problems, Report};
use crate::routes::{Route, Routes};

/// What a component has in it that handles requests itself: the name of the interface that it exports.
const HANDLER: &[u8] = b"wasi:http/incoming-handler@0.2.";

impl Manifest {
    /// The manifest of a program by itself, with all defaults: it answers every path, as a handler of requests if it is
    /// a component that exports `wasi:http/incoming-handler`, else as a WAGI program. It is granted nothing.
    #[must_use]
    pub fn of_program(path: impl AsRef<Path>) -> Report {
        let path = path.as_ref();
        let problems = Problems::new("");
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let what = format!("the file cannot be read: {error}");
                problems.file(what, "the path of a component or module");
                return Report::unreadable(problems, path);
            }
        };
        let is_handler = bytes.windows(HANDLER.len()).any(|window| window == HANDLER);
        let executor = match is_handler {
            true => Executor::Http,
            false => Executor::Wagi {
                argv: vec![Argument::ScriptName, Argument::Query],
                entrypoint: "_start".to_owned(),
            },
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let allowed = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
        let mut name: String = stem.chars().filter(allowed).take(values::MAX_NAME).collect();
        if values::name_problem(&name).is_some() {
            name = "function".to_owned();
        }
        let mut routes = Routes::new();
        if let Ok(route) = "/...".parse::<Route>() {
            // The first one has none to be like.
            let _ = routes.insert(route, HttpTrigger { function: 0, executor });
        }
        let function = Function {
            id: name.clone(),
            description: None,
            source: path.to_owned(),
            environment: Vec::new(),
            directories: Vec::new(),
            outbound: Vec::new(),
            limits: Limits::default(),
            pool: Pool::default(),
        };
        let mut manifest = Self { routes, functions: vec![function], ..Self::default() };
        manifest.tenant = Tenant { name: name.clone(), ..Tenant::default() };
        manifest.application.name = name;
        Report::new(problems, path, manifest)
    }
}
