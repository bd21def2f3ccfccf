//! Placeholder while the harness is being written.
fn main() {}
