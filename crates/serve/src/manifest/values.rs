//! Sizes, times and names, as manifests write them.

use std::time::Duration;

use toml::de::DeInteger;

/// How long names may be. They become labels of metrics and parts of logs.
pub const MAX_NAME: usize = 64;

/// A whole number that is not negative.
pub(super) fn number(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Bytes: a whole number, with K, M or G (or KiB, MiB, GiB) behind it for powers of 1024, as on the command line.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Bytes as [`size`] reads them, with the largest unit of which they are a whole number.
pub(super) fn shown_size(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units.iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// A time with its unit, or `none`, as on the command line. It is more than nothing.
pub(super) fn time(text: &str) -> Option<Option<Duration>> {
    if text == "none" {
        return Some(None);
    }
    let end = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let time = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()?;
    (!time.is_zero()).then_some(Some(time))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("65536", Some(65536)),
            ("512K", Some(512 << 10)),
            ("64m", Some(64 << 20)),
            ("1GiB", Some(1 << 30)),
            ("", None),
            ("M", None),
            ("64MB", None),
            ("-1", None),
            ("+1", None),
            ("1.5G", None),
            ("1 M", None),
            ("99999999999999999999", None),
            ("20000000000G", None),
            ("1\u{b2}", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
            if let Some(bytes) = expected {
                assert_eq!(size(&shown_size(bytes)), expected, "{text}");
            }
        }
    }

    #[test]
    fn sizes_are_shown_with_the_unit_that_fits() {
        let shown = [0, 1, 1023, 1024, 1 << 20, 3 << 29, 5 << 30].map(shown_size);
        assert_eq!(shown, ["0", "1", "1023", "1K", "1M", "1536M", "5G"]);
    }

    #[test]
    fn times_have_a_unit() {
        for (text, expected) in [
            ("500ms", Some(Some(Duration::from_millis(500)))),
            ("1.5m", Some(Some(Duration::from_secs(90)))),
            ("none", Some(None)),
            ("0s", None),
            ("30", None),
            ("-1s", None),
            ("1e3s", None),
            ("1..5s", None),
            (".s", None),
            ("s", None),
            ("99999999999999999999999h", None),
            ("infs", None),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
