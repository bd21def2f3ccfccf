//! Numbers, names and paths, as manifests write them.

use toml::de::DeInteger;

/// How long names may be. They become labels of metrics and parts of logs.
pub const MAX_NAME: usize = 64;

/// A whole number that is not negative.
pub(super) fn number(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What is wrong with the name of an application or a tenant.
pub(super) fn name_problem(text: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() {
        Some("is empty".to_owned())
    } else if text.len() > MAX_NAME {
        Some(format!("has more than {MAX_NAME} characters"))
    } else if let Some(c) = text.chars().find(|c| !is_allowed(*c)) {
        Some(format!("has the character {c:?}"))
    } else {
        (!text.starts_with(|c: char| c.is_ascii_alphanumeric()))
            .then(|| "does not begin with a letter or digit".to_owned())
    }
}

/// What is wrong with the id of a component: words of letters and digits with one `-` between them.
pub(super) fn id_problem(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("is empty".to_owned());
    }
    if text.len() > MAX_NAME {
        return Some(format!("has more than {MAX_NAME} characters"));
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Some(format!("has the character {c:?}"));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Some("does not begin with a letter".to_owned());
    }
    text.split('-').any(str::is_empty).then(|| "has a - too many".to_owned())
}

/// What is wrong with a path of the host, and what to do. It is relative to the manifest's directory, or absolute.
pub(super) fn path_problem(text: &str) -> Option<(&'static str, &'static str)> {
    if text.is_empty() {
        Some(("is empty", "a path"))
    } else if text.contains('\0') {
        Some(("contains a NUL byte", "a path without it"))
    } else if text.split('/').any(|part| part == "..") {
        Some((
            "leads up with \"..\", and so might leave the manifest's directory",
            "a path below that directory, or an absolute one",
        ))
    } else {
        None
    }
}
