//! The server as clients, operators and faults meet it: over sockets, with functions in VMs.

mod answers;
mod client;
mod faults;
mod host;
mod limits;
mod load;
mod operations;
mod outbound;
mod programs;
mod reloads;
mod tenants;
