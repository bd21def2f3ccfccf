//! The library as its users see it: good and bad input, limits, streams, threads.
//!
//! One binary, since linking the compiler takes long.

mod artifacts;
mod asynchronous;
mod bad_modules;
mod calls;
mod component_resources;
mod component_streams;
mod component_violations;
mod components;
mod components_random;
mod exits;
mod exits_clock;
mod filesystem;
mod growth;
mod heap;
mod host_functions;
mod hypervisors;
mod imports;
mod input;
mod limits;
mod messages;
mod nested;
mod pool;
mod proposals;
mod references;
mod snapshots;
mod starts;
mod stats;
mod stopping;
mod store;
mod streams;
mod streams_program;
mod support;
mod threads;
mod traps;
mod workers;
