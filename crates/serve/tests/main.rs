//! Tests of the function server's manifest and routes.

mod routes;
