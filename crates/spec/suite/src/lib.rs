//! Nothing: this package only names another one, see its `Cargo.toml`.
