//! Sandgrain's function server, so far: its [routes].
#![forbid(unsafe_code)]

pub mod routes;
