//! Every section of a manifest and every key that it may have. docs/serve.md has the same in its tables.

/// A kind of table in a manifest.
#[derive(Debug)]
pub struct Section {
    /// What it is called: `[limits]`.
    pub name: &'static str,
    /// The keys that are known in it.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What becomes of it.
    pub used: Use,
}

/// What becomes of a key.
#[derive(Debug)]
pub enum Use {
    /// It is read.
    Read {
        /// What it takes: `a size`.
        kind: &'static str,
        /// What holds where it is not given, or `required`.
        default: &'static str,
        /// An example, or how it is written.
        example: &'static str,
    },
    /// Nothing: it is for other tools.
    Ignored,
    /// It is an error: manifests for Spin can have it, but nothing here does what it asks for.
    Refused {
        /// Why.
        why: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
}

impl Section {
    /// The key of this name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Whether there is a key of this name that is read.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.key(name).is_some_and(Key::is_read)
    }
}

impl Key {
    /// Whether it is read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.used, Use::Read { .. })
    }
}

const fn key(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    example: &'static str,
) -> Key {
    Key { name, used: Use::Read { kind, default, example } }
}

const fn refused(name: &'static str, why: &'static str, advice: &'static str) -> Key {
    Key { name, used: Use::Refused { why, advice } }
}

const fn ignored(name: &'static str) -> Key {
    Key { name, used: Use::Ignored }
}

/// All sections, in the order of docs/serve.md.
pub const SECTIONS: &[&Section] = &[
    &TOP,
    &APPLICATION,
    &TRIGGER,
    &HTTP,
    &EXECUTOR,
    &CRON,
    &COMPONENT,
    &FILES,
    &LIMITS,
    &POOL,
    &TENANT,
];

pub(super) const TOP: Section = Section {
    name: "the manifest",
    keys: &[
        key("spin_manifest_version", "the number 2", "required", "spin_manifest_version = 2"),
        key("application", "a table", "required", "[application] and name = \"hello\""),
        key("trigger", "tables", "none", "[[trigger.http]] with a route and a component"),
        key("component", "tables", "none", "[component.hello] and source = \"hello.wasm\""),
        key("limits", "a table", "all defaults", "[limits]"),
        key("pool", "a table", "all defaults", "[pool]"),
        key("tenant", "a table", "all defaults", "[tenant]"),
        refused("variables", "there are no variables", "environment in a component's section"),
        refused("profile", "there are no profiles", "a manifest for each"),
    ],
};

pub(super) const APPLICATION: Section = Section {
    name: "[application]",
    keys: &[
        key("name", "a name", "required", "name = \"hello\""),
        key("version", "a string", "none", "version = \"1.0.0\""),
        key("description", "a string", "none", "description = \"says hello\""),
        key("authors", "a list of strings", "none", "authors = [\"Ada\"]"),
        refused("trigger", "triggers have no settings in common", "whole paths in each route"),
        ignored("tool"),
    ],
};

pub(super) const TRIGGER: Section = Section {
    name: "[trigger]",
    keys: &[
        key("http", "a list of tables", "none", "[[trigger.http]] with two brackets"),
        key("cron", "a list of tables", "none", "[[trigger.cron]] with two brackets"),
        refused(
            "redis",
            "functions are called by HTTP requests and schedules only",
            "[[trigger.http]]",
        ),
        refused(
            "mqtt",
            "functions are called by HTTP requests and schedules only",
            "[[trigger.http]]",
        ),
        refused(
            "sqs",
            "functions are called by HTTP requests and schedules only",
            "[[trigger.http]]",
        ),
        refused(
            "command",
            "functions are called by HTTP requests and schedules only",
            "`sandgrain run`",
        ),
    ],
};

pub(super) const HTTP: Section = Section {
    name: "[[trigger.http]]",
    keys: &[
        key("route", "a route", "required", "route = \"/hello\" or route = \"/hello/...\""),
        key("component", "an id or a table", "required", "component = \"hello\""),
        key("executor", "a table", "{ type = \"http\" }", "executor = { type = \"wagi\" }"),
        refused("id", "a trigger is called by its route", "leaving it out"),
        refused("static_response", "only functions answer requests", "a component that does"),
    ],
};

pub(super) const EXECUTOR: Section = Section {
    name: "executor",
    keys: &[
        key("type", "\"http\" or \"wagi\"", "required", "type = \"wagi\""),
        key("argv", "a string", "${SCRIPT_NAME} ${ARGS}", "argv = \"${SCRIPT_NAME} ${ARGS}\""),
        key("entrypoint", "a string", "_start", "entrypoint = \"_start\""),
    ],
};

pub(super) const CRON: Section = Section {
    name: "[[trigger.cron]]",
    keys: &[
        key("schedule", "five fields of cron", "required", "schedule = \"*/5 * * * *\""),
        key("component", "an id or a table", "required", "component = \"hello\""),
        refused(
            "cron_expression",
            "seconds and years cannot be scheduled",
            "schedule with five fields: minute, hour, day of the month, month, day of the week",
        ),
        refused("id", "a trigger is called by its schedule", "leaving it out"),
    ],
};

pub(super) const COMPONENT: Section = Section {
    name: "[component.ID]",
    keys: &[
        key("source", "the path of a file", "required", "source = \"hello.wasm\""),
        key("description", "a string", "none", "description = \"says hello\""),
        key("environment", "a table of strings", "none", "environment = { LANG = \"C\" }"),
        key("files", "a list of directories", "none", "files = [\"data\"]"),
        key(
            "allowed_outbound_hosts",
            "a list of destinations",
            "none",
            "allowed_outbound_hosts = [\"*://10.0.0.1:443\"]",
        ),
        key("limits", "a table", "[limits]", "[component.hello.limits]"),
        key("pool", "a table", "[pool]", "[component.hello.pool]"),
        ignored("build"),
        ignored("tool"),
        refused(
            "exclude_files",
            "files grants whole directories",
            "a directory with the function's files alone",
        ),
        refused(
            "allowed_http_hosts",
            "this key is of Spin's first version",
            "allowed_outbound_hosts, with scheme and port",
        ),
        refused("variables", "there are no variables", "environment"),
        refused(
            "key_value_stores",
            "there are no key-value stores",
            "a store elsewhere, by allowed_outbound_hosts",
        ),
        refused(
            "sqlite_databases",
            "there are no databases",
            "a database elsewhere, by allowed_outbound_hosts",
        ),
        refused(
            "ai_models",
            "there are no models",
            "a service elsewhere, by allowed_outbound_hosts",
        ),
        refused(
            "dependencies",
            "a component cannot import what another one exports",
            "one component that is composed of both",
        ),
        refused(
            "dependencies_inherit_configuration",
            "a component cannot import what another one exports",
            "one component that is composed of both",
        ),
        refused(
            "targets",
            "what a component needs is read from the component itself",
            "leaving it out",
        ),
        refused("profile", "there are no profiles", "a manifest for each"),
    ],
};

pub(super) const FILES: Section = Section {
    name: "files",
    keys: &[
        key("source", "the path of a directory", "required", "source = \"data\""),
        key("destination", "a path in the guest", "required", "destination = \"/data\""),
    ],
};

pub(super) const LIMITS: Section = Section {
    name: "[limits]",
    keys: &[
        key("memory", "a size", "256M", "memory = \"256M\""),
        key("stack", "a size", "512K", "stack = \"512K\""),
        key("heap", "a size", "64M", "heap = \"64M\""),
        key("deadline", "a time", "30s", "deadline = \"500ms\", or \"none\""),
        key("tables", "a number", "100", "tables = 100"),
        key("table_elements", "a number", "1000000", "table_elements = 1000000"),
        key("instances", "a number", "100", "instances = 100"),
        key("call_bytes", "a size", "128M", "call_bytes = \"128M\""),
        key("stdout", "a size", "16M", "stdout = \"16M\""),
        key("stderr", "a size", "16M", "stderr = \"16M\""),
        key("request_body", "a size", "64M", "request_body = \"64M\""),
        key("response_body", "a size", "64M", "response_body = \"64M\""),
        key("header_bytes", "a size", "64K", "header_bytes = \"64K\""),
        key("concurrency", "a number", "64", "concurrency = 64"),
        key("queue", "a number", "256", "queue = 256"),
    ],
};

pub(super) const POOL: Section = Section {
    name: "[pool]",
    keys: &[
        key(
            "policy",
            "\"fresh\" or \"reset\"",
            "fresh",
            "policy = \"fresh\" or policy = \"reset\"",
        ),
        key("parked_min", "a number", "1", "parked_min = 1"),
        key("parked_max", "a number", "16", "parked_max = 16"),
        key("at_most", "a number", "64", "at_most = 64"),
        key("memory", "a size", "256M", "memory = \"256M\""),
    ],
};

pub(super) const TENANT: Section = Section {
    name: "[tenant]",
    keys: &[
        key("name", "a name", "the application's", "name = \"acme\""),
        key("hosts", "a list of strings", "all other hosts", "hosts = [\"app.example.com\"]"),
        key("concurrency", "a number", "256", "concurrency = 256"),
        key("queue", "a number", "1024", "queue = 1024"),
        key("memory", "a size", "4G", "memory = \"4G\""),
        key("vms", "a number", "256", "vms = 256"),
    ],
};
