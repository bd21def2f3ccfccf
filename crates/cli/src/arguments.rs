//! Values of options.

use sandgrain::wasi::Access;
use sandgrain_serve::units;
use std::path::PathBuf;
use std::time::Duration;

/// A directory to grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub host: PathBuf,
    pub guest: String,
    pub access: Access,
}

/// `HOST[::GUEST[::ro]]`.
pub fn directory(text: &str) -> Result<Directory, String> {
    let parts: Vec<&str> = text.split("::").collect();
    let (host, guest, access) = match parts[..] {
        [host] => (host, host, Access::ReadWrite),
        [host, guest] => (host, guest, Access::ReadWrite),
        [host, guest, "ro"] => (host, guest, Access::ReadOnly),
        _ => return Err("expected HOST, HOST::GUEST or HOST::GUEST::ro".to_owned()),
    };
    if host.is_empty() || guest.is_empty() {
        return Err("the name of a directory is empty".to_owned());
    }
    Ok(Directory { host: host.into(), guest: guest.to_owned(), access })
}

/// A variable for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    Set(String, String),
    /// With the value that it has here.
    Inherit(String),
}

/// `NAME=VALUE` or `NAME`.
pub fn variable(text: &str) -> Result<Variable, String> {
    let variable = match text.split_once('=') {
        Some((name, value)) => Variable::Set(name.to_owned(), value.to_owned()),
        None => Variable::Inherit(text.to_owned()),
    };
    match &variable {
        Variable::Set(name, _) | Variable::Inherit(name) if name.is_empty() => {
            Err("the name of a variable is empty".to_owned())
        }
        _ => Ok(variable),
    }
}

/// A module that others import from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preload {
    pub name: String,
    pub file: PathBuf,
}

/// `NAME=FILE`.
pub fn preload(text: &str) -> Result<Preload, String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok(Preload { name: name.to_owned(), file: file.into() })
        }
        _ => Err("expected NAME=FILE".to_owned()),
    }
}

/// A time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

/// A time as manifests have it, or `none`.
pub fn timeout(text: &str) -> Result<Timeout, &'static str> {
    units::time(text).map(Timeout)
}

#[cfg(test)]
#[path = "arguments_random.rs"]
mod random;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_the_same_name_in_the_guest_unless_told_otherwise() {
        let granted = |guest: &str, access| Directory {
            host: "./data".into(),
            guest: guest.to_owned(),
            access,
        };
        assert_eq!(directory("./data"), Ok(granted("./data", Access::ReadWrite)));
        assert_eq!(directory("./data::/d"), Ok(granted("/d", Access::ReadWrite)));
        assert_eq!(directory("./data::/d::ro"), Ok(granted("/d", Access::ReadOnly)));
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        for text in ["", "::/d", "a::", "a::b::rw", "a::b::ro::c"] {
            assert!(directory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_variable_is_set_or_inherited() {
        let set = |value: &str| Variable::Set("K".to_owned(), value.to_owned());
        assert_eq!(variable("K=a=b"), Ok(set("a=b")));
        assert_eq!(variable("K="), Ok(set("")));
        assert_eq!(variable("K"), Ok(Variable::Inherit("K".to_owned())));
        assert!(variable("=V").is_err() && variable("").is_err());
    }
}
