#![doc = "Placeholder."]
fn main() {}
