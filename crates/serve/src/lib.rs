//! Sandgrain's function server, so far: its [manifest], its [routes], and a [check](check()) of both.
//!
//! Nothing is served yet, and nothing here depends on the library that runs functions: the types say what its
//! limits, pools and grants are going to be.
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

mod check;
pub mod manifest;
mod report;
pub mod routes;

pub use check::check;
pub use report::{MAX_PROBLEMS, Position, Problem, Report, Severity};
