//! The example components, in VMs: what examples/components/expected.json says of each, which other engines have
//! confirmed (tools/check-components).

mod calls;
mod http;
mod readme;
mod table;
mod trace;
