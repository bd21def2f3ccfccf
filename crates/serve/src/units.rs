//! Sizes and times with their units, as manifests and the options of the command line write them.

use std::time::Duration;

/// Bytes: a whole number, with K, M or G (or KiB, MiB, GiB) behind it for powers of 1024.
///
/// # Errors
/// What was expected instead.
pub fn size(text: &str) -> Result<u64, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err("expected bytes, such as 65536, 512K, 64M or 1GiB"),
    };
    let number: u64 =
        number.parse().map_err(|_| "expected a whole number of bytes, such as 64M")?;
    number.checked_mul(1 << shift).ok_or("more bytes than 64 bits can count")
}

/// Bytes as [`size`] reads them, with the largest unit of which they are a whole number.
pub(crate) fn shown_size(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units.iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// A time, which is more than nothing: a number with its unit (`500ms`, `30s`, `1.5m`, `2h`), or `none`.
///
/// # Errors
/// What was expected instead.
pub fn time(text: &str) -> Result<Option<Duration>, &'static str> {
    const EXPECTED: &str = "expected a time with its unit, such as 500ms, 30s or 5m, or none";
    if text == "none" {
        return Ok(None);
    }
    let end = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(EXPECTED),
    };
    let number: f64 = number.parse().map_err(|_| EXPECTED)?;
    let time = Duration::try_from_secs_f64(number * unit).map_err(|_| EXPECTED)?;
    if time.is_zero() {
        return Err("the time must be more than zero; none is for no limit");
    }
    Ok(Some(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            assert_eq!(size(text).ok(), expected, "{text}");
            if let Some(bytes) = expected {
                assert_eq!(size(&shown_size(bytes)), Ok(bytes), "{text}");
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
            ("", None),
            ("0s", None),
            ("30", None),
            ("-1s", None),
            ("1e3s", None),
            ("1..5s", None),
            ("1.2.3s", None),
            ("1s2", None),
            (".s", None),
            ("s", None),
            ("99999999999999999999999h", None),
            ("inf", None),
            ("infs", None),
            ("nan", None),
        ] {
            assert_eq!(time(text).ok(), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_size_is_its_number_times_its_unit_or_too_large(
            (bits, number) in (1..=64_u32, any::<u64>()),
            (unit, shift) in prop::sample::select(vec![
                ("", 0), ("B", 0), ("K", 10), ("KiB", 10), ("m", 20), ("MiB", 20), ("g", 30), ("GIB", 30),
            ]),
        ) {
            let number = number >> (64 - bits);
            let expected = u64::try_from(u128::from(number) << shift).ok();
            prop_assert_eq!(size(&format!("{number}{unit}")).ok(), expected);
        }

        #[test]
        fn a_time_is_its_number_times_its_unit(
            number in 1..1_000_000_u64,
            (unit, nanoseconds) in prop::sample::select(vec![
                ("us", 1_000_u64), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
            ]),
        ) {
            let expected = Duration::from_nanos(number * nanoseconds);
            let read = time(&format!("{number}{unit}")).unwrap().unwrap();
            // What a 64-bit float rounds away.
            prop_assert!(read.abs_diff(expected) <= Duration::from_micros(1), "{read:?} {expected:?}");
        }

        #[test]
        fn any_text_is_a_size_a_time_or_an_error(
            text in prop_oneof![
                "(?s).{0,12}",
                "[0-9.]{0,400}[a-zA-Z]{0,3}",
                "[0.]{1,3}(us|ms|s|m|h)",
            ],
        ) {
            if let Ok(Some(time)) = time(&text) {
                prop_assert!(!time.is_zero());
            }
            let _ = size(&text);
        }
    }
}
