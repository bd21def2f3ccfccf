//! Sandgrain's function server: HTTP requests in, each answered by a function in a micro-VM that nobody used before.
//!
//! A [manifest] says which functions there are, what they are granted, and which requests they answer. A [`Server`]
//! serves manifests: it compiles the functions, keeps VMs of each ready, gives each request its turn and a VM,
//! and drops the VM when the answer is complete. Tenants share no process, VM, snapshot or cache.
//!
//! ```
//! use sandgrain_serve::manifest::Manifest;
//!
//! let report = Manifest::parse(
//!     r#"
//!     spin_manifest_version = 2
//!     [application]
//!     name = "greeter"
//!     [[trigger.http]]
//!     route = "/hello/:name"
//!     component = "hello"
//!     [component.hello]
//!     source = "hello.wasm"
//!     limits = { memory = "64M", deadline = "500ms" }
//!     "#,
//!     "app.toml",
//! );
//! let manifest = report.into_manifest().expect("a good manifest");
//! let found = manifest.routes.find("/hello/ada").expect("a route");
//! assert_eq!(manifest.functions[found.function.function].id, "hello");
//! assert_eq!(found.parameters().collect::<Vec<_>>(), [("name", "ada")]);
//! ```
#![forbid(unsafe_code)]

mod admin;
mod admission;
mod check;
mod cron;
mod deploy;
mod headers;
pub mod manifest;
mod report;
mod request;
pub mod routes;
mod server;
mod telemetry;
pub mod units;
mod wagi;

pub use check::check;
pub use deploy::DeployError;
pub use report::{MAX_PROBLEMS, Position, Problem, Report, Severity};
pub use server::{Server, Settings, StartError, raise_descriptor_limit};
pub use telemetry::records::RecordTarget;
