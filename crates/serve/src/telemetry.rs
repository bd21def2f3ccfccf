//! What happens, for those who run the server: counts, records and traces.

pub(crate) mod denials;
pub(crate) mod export;
pub(crate) mod metrics;
pub(crate) mod otlp_json;
pub(crate) mod records;
pub(crate) mod trace_context;

pub(crate) use metrics::{Failure, Metrics};
