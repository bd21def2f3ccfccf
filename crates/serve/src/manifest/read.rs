//! Reading a manifest from the top, and what its sections have to do with one another.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::function::{self, FunctionPlaces, Surroundings};
use super::limits::{self, Limits, Pool, Tenant};
use super::sections::{APPLICATION, COMPONENT, CRON, HTTP, LIMITS, POOL, TENANT, TOP, TRIGGER};
use super::table::{Table, type_of};
use super::trigger::{self, CronTrigger, HttpTrigger};
use super::{Application, Manifest, nearest, values};
use crate::report::{Problems, quoted};
use crate::units::shown_size;

/// A manifest while it is read.
pub(super) struct Reader<'d> {
    problems: &'d Problems<'d>,
    root: Table<'d>,
    directory: &'d Path,
    limits: Limits,
    pool: Pool,
    manifest: Manifest,
    places: Vec<FunctionPlaces>,
    /// Functions by their ids.
    known: BTreeMap<String, Known>,
}

/// What is known of a function.
struct Known {
    /// Which of the manifest's it is.
    index: usize,
    /// Where its name stands.
    at: usize,
    /// Whether something calls it.
    is_called: bool,
}

impl<'d> Reader<'d> {
    pub(super) fn new(problems: &'d Problems<'d>, root: &'d DeTable<'d>, path: &'d Path) -> Self {
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

    pub(super) fn read(mut self) -> (Manifest, Vec<FunctionPlaces>) {
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
        self.known.insert(id, Known { index, at, is_called: false });
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
                    shown_size(limits.memory),
                    shown_size(quota)
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
            self.known.insert(inline, Known { index, at, is_called: true });
            return Some(index);
        }
        let id = table.required_string("component")?;
        if let Some(known) = self.known.get_mut(id.text) {
            known.is_called = true;
            return Some(known.index);
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
        // Functions with a limit of their own are told of where that stands.
        let functions = &self.manifest.functions;
        let most = self.limits.memory;
        let is_used = functions.is_empty() || functions.iter().any(|f| f.limits.memory == most);
        if is_used
            && most > memory
            && let Some(at) = place(limits, "memory").or(place(tenant, "memory"))
        {
            self.problems.error(
                at,
                format!(
                    "one VM may take {} of memory, and all of the tenant's {}",
                    shown_size(most),
                    shown_size(memory)
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
        for (id, Known { at, is_called, .. }) in &self.known {
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
