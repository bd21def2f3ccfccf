//! Values of options.

use sandgrain::wasi::Access;
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

/// Bytes: a whole number, with K, M or G (or KiB, MiB, GiB) behind it for powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err("expected bytes, such as 65536, 512K, 64M or 1GiB".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "expected a whole number of bytes, such as 64M".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more bytes than 64 bits can count".to_owned())
}

/// A time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

/// A number with its unit (`500ms`, `30s`, `1.5m`, `2h`), or `none`.
pub fn timeout(text: &str) -> Result<Timeout, String> {
    if text == "none" {
        return Ok(Timeout(None));
    }
    let expected = || "expected a time with its unit, such as 500ms, 30s or 5m, or none".to_owned();
    let end = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let number: f64 = number.parse().map_err(|_| expected())?;
    let limit = Duration::try_from_secs_f64(number * unit).map_err(|_| expected())?;
    if limit.is_zero() {
        return Err("the time must be more than zero; none is for no limit".to_owned());
    }
    Ok(Timeout(Some(limit)))
}

#[cfg(test)]
#[path = "arguments_random.rs"]
mod random;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("512K"), Ok(512 << 10));
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "64MB", "-1", "1.5G", "1 M", "99999999999999999999", "20000000000G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(timeout("500ms"), Ok(Timeout(Some(Duration::from_millis(500)))));
        assert_eq!(timeout("1.5m"), Ok(Timeout(Some(Duration::from_secs(90)))));
        assert_eq!(timeout("none"), Ok(Timeout(None)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "30", "s", "-1s", "1e3s", "0s", "inf", "nan", "1.2.3s", "1s2"] {
            assert!(timeout(text).is_err(), "{text}");
        }
    }

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
