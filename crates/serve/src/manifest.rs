//! The manifest of an application: `app.toml`, a documented subset of Spin's `spin.toml` with sections of our own.
//!
//! docs/serve.md describes it. What is not understood is an error, with its line and column; all errors of a file
//! are told, not only the first one.

mod function;
mod limits;
mod nearest;
mod outbound;
mod schedule;
mod sections;
mod table;
mod trigger;
mod values;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::report::{Problems, Report, quoted};
use crate::routes::Routes;
use function::Surroundings;
use sections::{APPLICATION, COMPONENT, CRON, HTTP, LIMITS, POOL, TENANT, TOP, TRIGGER};
use table::{Table, type_of};

pub use function::{Directory, Function};
pub use limits::{Limits, MAX_VMS, Policy, Pool, Tenant};
pub use outbound::{Outbound, Scheme};
pub use schedule::{InvalidSchedule, Schedule};
pub use sections::{Key, SECTIONS, Section, Use};
pub use trigger::{Argument, CronTrigger, Executor, HttpTrigger};
pub use values::MAX_NAME;

pub(crate) use function::FunctionPlaces;

/// How many bytes a manifest may have.
pub const MAX_SIZE: u64 = 1 << 20;

/// An application: functions, and what calls them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Manifest {
    /// What it is.
    pub application: Application,
    /// On whose behalf it runs.
    pub tenant: Tenant,
    /// Its functions.
    pub functions: Vec<Function>,
    /// Which requests call which function.
    pub routes: Routes<HttpTrigger>,
    /// Which functions run by themselves.
    pub schedules: Vec<CronTrigger>,
}

/// What an application is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Who made it.
    pub authors: Vec<String>,
}

impl Manifest {
    /// Reads a manifest from a file.
    #[must_use]
    pub fn read(path: impl AsRef<Path>) -> Report {
        let path = path.as_ref();
        match load(path) {
            Ok(text) => Self::parse(&text, path),
            Err(report) => report,
        }
    }

    /// Reads a manifest from a text. `path` is what messages call it, and its directory is what paths in it are
    /// relative to.
    #[must_use]
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Report {
        let problems = Problems::new(text);
        let (manifest, _) = parse(&problems, text, path.as_ref());
        Report::new(problems, path.as_ref(), manifest)
    }
}

/// The text of a file.
pub(crate) fn load(path: &Path) -> Result<String, Report> {
    let fail = |text: &str, at: Option<usize>, what: String, advice: &str| {
        let problems = Problems::new(text);
        match at {
            Some(at) => problems.error(at, what, advice),
            None => problems.file(what, advice),
        }
        Report::unreadable(problems, path)
    };
    let mut bytes = Vec::new();
    // Something else, such as a pipe, might never end, or never even open.
    let read = std::fs::metadata(path).and_then(|metadata| {
        if !metadata.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        return Err(fail("", None, format!("cannot be read: {error}"), "the path of a manifest"));
    }
    if bytes.len() as u64 > MAX_SIZE {
        let what = format!("has more than {MAX_SIZE} bytes");
        return Err(fail("", None, what, "several manifests"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let end = error.utf8_error().valid_up_to();
        let valid = std::str::from_utf8(&error.as_bytes()[..end]).unwrap_or_default();
        fail(
            valid,
            Some(end),
            "there is a byte that is not UTF-8".to_owned(),
            "saving the file as UTF-8",
        )
    })
}

/// Reads as much of a manifest as can be understood, and tells what cannot.
pub(crate) fn parse(
    problems: &Problems<'_>,
    text: &str,
    path: &Path,
) -> (Manifest, Vec<FunctionPlaces>) {
    if text.len() as u64 > MAX_SIZE {
        problems.file(format!("has more than {MAX_SIZE} bytes"), "several manifests");
        return Default::default();
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let message = error.message();
        let advice = match message {
            "duplicate key" => "one of them",
            _ => "TOML's syntax: [section], and key = \"value\" below it",
        };
        // One without a place is about an end that came too early.
        let at = error.span().map_or(text.len(), |span| span.start);
        problems.syntax(Some(at), format!("this is not TOML: {message}"), advice);
    }
    Reader::new(problems, root.get_ref(), path).read()
}

/// A manifest while it is read.
struct Reader<'d> {
    problems: &'d Problems<'d>,
    root: Table<'d>,
    directory: &'d Path,
    limits: Limits,
    pool: Pool,
    manifest: Manifest,
    places: Vec<FunctionPlaces>,
    /// Functions by their ids, where each one's name stands, and whether something calls it.
    known: BTreeMap<String, (usize, usize, bool)>,
}

impl<'d> Reader<'d> {
    fn new(problems: &'d Problems<'d>, root: &'d DeTable<'d>, path: &'d Path) -> Self {
        Self {
            problems,
            root: Table::new(problems, &TOP, TOP.name, root, 0),
            directory: path.parent().unwrap_or(Path::new("")),
            limits: Limits::default(),
            pool: Pool::default(),
            manifest: Manifest::default(),
            places: Vec::new(),
            known: BTreeMap::new(),
        }
    }

    fn read(mut self) -> (Manifest, Vec<FunctionPlaces>) {
        self.check_version();
        self.read_application();
        let own = self.root.table("limits", &LIMITS, LIMITS.name);
        if let Some(own) = &own {
            self.limits = limits::limits(own, Limits::default());
        }
        if let Some(own) = self.root.table("pool", &POOL, POOL.name) {
            self.pool = limits::pool(&own, Pool::default());
        }
        let tenant = self.root.table("tenant", &TENANT, TENANT.name);
        let unnamed = Tenant { name: self.manifest.application.name.clone(), ..Tenant::default() };
        self.manifest.tenant = match &tenant {
            Some(tenant) => limits::tenant(tenant, unnamed),
            None => unnamed,
        };
        self.read_components();
        self.read_triggers();
        self.check_quotas(tenant.as_ref(), own.as_ref());
        self.check_uncalled();
        (self.manifest, self.places)
    }

    fn check_version(&self) {
        let Some(value) = self.root.get("spin_manifest_version") else {
            return self.root.missing("spin_manifest_version");
        };
        let is_2 = value.get_ref().as_integer().and_then(values::number) == Some(2);
        if !is_2 {
            self.problems.error(
                value.span().start,
                "the version of the manifest is not the number 2",
                "spin_manifest_version = 2, and the sections of that version (docs/serve.md)",
            );
        }
    }

    fn read_application(&mut self) {
        let Some(table) = self.root.table("application", &APPLICATION, APPLICATION.name) else {
            if self.root.get("application").is_none() {
                self.root.missing("application");
            }
            return;
        };
        if table.get("name").is_none() {
            table.missing("name");
        }
        let string = |key| table.string(key).map(|text| text.text.to_owned());
        self.manifest.application = Application {
            name: table.name_of("name").unwrap_or_default().to_owned(),
            version: string("version"),
            description: string("description"),
            authors: table.strings("authors").iter().map(|text| text.text.to_owned()).collect(),
        };
    }

    fn read_components(&mut self) {
        let Some(components) = self.root.names("component") else { return };
        for (id, value) in components.iter() {
            let (at, id) = (id.span().start, id.get_ref());
            if let Some(problem) = values::id_problem(id) {
                self.problems.error(
                    at,
                    format!("the component id {} {problem}", quoted(id)),
                    "words of letters and digits with - between them, such as hello-world",
                );
            }
            let DeValue::Table(table) = value.get_ref() else {
                let what = format!("the component {} is {}", quoted(id), type_of(value));
                self.problems.error(
                    at,
                    what,
                    "[component.hello] and source = \"hello.wasm\" below it",
                );
                continue;
            };
            // The id may be anything that can be in quotes.
            let shown = if values::id_problem(id).is_none() { id.to_string() } else { quoted(id) };
            let name = format!("[component.{shown}]");
            let table = Table::new(self.problems, &COMPONENT, name, table, value.span().start);
            self.add_function(&table, id.to_string(), at);
        }
    }

    /// Adds a function, and says which one it is.
    fn add_function(&mut self, table: &Table<'_>, id: String, at: usize) -> usize {
        let around =
            Surroundings { directory: self.directory, limits: &self.limits, pool: &self.pool };
        let (function, places) = function::function(table, id.clone(), &around);
        let index = self.manifest.functions.len();
        self.check_memory(table, &function.limits);
        self.manifest.functions.push(function);
        self.places.push(places);
        self.known.insert(id, (index, at, false));
        index
    }

    /// One VM has to fit into what its tenant may have.
    fn check_memory(&self, table: &Table<'_>, limits: &Limits) {
        let quota = self.manifest.tenant.memory;
        let own = table.get("limits").and_then(|limits| limits.get_ref().as_table()?.get("memory"));
        if let Some(own) = own
            && limits.memory > quota
        {
            self.problems.error(
                own.span().start,
                format!(
                    "a VM of {} may take {} of memory, and all of the tenant's {}",
                    table.name,
                    values::shown_size(limits.memory),
                    values::shown_size(quota)
                ),
                "less, or more memory in [tenant]",
            );
        }
    }

    fn read_triggers(&mut self) {
        let Some(trigger) = self.root.table("trigger", &TRIGGER, TRIGGER.name) else { return };
        for (section, key) in [(&HTTP, "http"), (&CRON, "cron")] {
            for (at, value) in trigger.list(key).into_iter().flatten().enumerate() {
                let DeValue::Table(table) = value.get_ref() else {
                    trigger.wrong_type(key, value);
                    continue;
                };
                let table =
                    Table::new(self.problems, section, section.name, table, value.span().start);
                let inline = format!("{key}-{}", at + 1);
                if key == "http" {
                    self.read_http(&table, inline);
                } else {
                    self.read_cron(&table, inline);
                }
            }
        }
    }

    fn read_http(&mut self, table: &Table<'_>, inline: String) {
        let route = trigger::route(table);
        let executor = trigger::executor(table);
        let function = self.called(table, inline);
        let Some((route, at)) = route else { return };
        let text = quoted(route.as_str());
        // A trigger without a function is no part of a manifest that is used, but another one with its route is
        // told all the same.
        let function = function.unwrap_or(usize::MAX);
        if let Err(duplicate) =
            self.manifest.routes.insert(route, HttpTrigger { function, executor })
        {
            let earlier = quoted(&duplicate.earlier);
            let what = format!("the route {text} matches the same paths as {earlier} before it");
            self.problems.error(at, what, "another route, or one trigger only");
        }
    }

    fn read_cron(&mut self, table: &Table<'_>, inline: String) {
        let schedule = trigger::schedule(table);
        let function = self.called(table, inline);
        if let (Some(schedule), Some(function)) = (schedule, function) {
            self.manifest.schedules.push(CronTrigger { function, schedule });
        }
    }

    /// The function that a trigger calls: one that has a section, or one that stands in the trigger itself.
    fn called(&mut self, table: &Table<'_>, inline: String) -> Option<usize> {
        let value = table.get("component");
        if let Some(value) = value
            && let DeValue::Table(own) = value.get_ref()
        {
            let at = value.span().start;
            if self.known.contains_key(&inline) {
                let what =
                    format!("the component in this trigger is called {inline}, as another one is");
                self.problems.error(at, what, "a section and an id for one of them");
            }
            let name = format!("component in {}", table.name);
            let own = Table::new(self.problems, &COMPONENT, name, own, at);
            let index = self.add_function(&own, inline.clone(), at);
            self.known.insert(inline, (index, at, true));
            return Some(index);
        }
        let id = table.required_string("component")?;
        if let Some((index, _, is_called)) = self.known.get_mut(id.text) {
            *is_called = true;
            return Some(*index);
        }
        let what = format!("there is no component {}", quoted(id.text));
        let near = if self.problems.is_full() {
            None
        } else {
            nearest::nearest(id.text, self.known.keys().map(String::as_str))
        };
        let advice = match near {
            Some(known) => format!("component = \"{known}\""),
            None => "a section [component.ID] with this id".to_owned(),
        };
        self.problems.absence(id.at, what, advice);
        None
    }

    /// What the tenant may have is enough for what the functions are bound to need.
    fn check_quotas(&self, tenant: Option<&Table<'_>>, limits: Option<&Table<'_>>) {
        let Tenant { memory, vms, .. } = self.manifest.tenant;
        let place = |table: Option<&Table<'_>>, key| table?.place_of(&[key]);
        if self.limits.memory > memory
            && let Some(at) = place(limits, "memory").or(place(tenant, "memory"))
        {
            self.problems.error(
                at,
                format!(
                    "one VM may take {} of memory, and all of the tenant's {}",
                    values::shown_size(self.limits.memory),
                    values::shown_size(memory)
                ),
                "less memory in [limits], or more in [tenant]",
            );
        }
        let parked =
            self.manifest.functions.iter().map(|function| u64::from(function.pool.parked_min));
        let parked: u64 = parked.sum();
        if parked > u64::from(vms) {
            let at = place(tenant, "vms").or(tenant.map(|tenant| tenant.at)).unwrap_or(0);
            self.problems.error(
                at,
                format!("the functions park {parked} VMs at least, and the tenant may have {vms}"),
                format!("vms = {parked} in [tenant], or parked_min = 0 in [pool]"),
            );
        }
    }

    /// Functions that nothing calls.
    fn check_uncalled(&self) {
        if self.manifest.functions.is_empty() {
            self.problems.absence(
                0,
                "there is no function",
                "[component.hello] and source = \"hello.wasm\", and a [[trigger.http]] for it",
            );
        }
        for (id, (_, at, is_called)) in &self.known {
            if !is_called {
                let what = format!("nothing calls the component {}", quoted(id));
                self.problems.warning(
                    *at,
                    what,
                    "a [[trigger.http]] with a route and this component",
                );
            }
        }
    }
}
