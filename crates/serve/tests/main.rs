//! Tests of the function server's manifest and routes.

mod check;
mod documentation;
mod manifest;
mod manifest_random;
mod manifest_tables;
mod routes;
