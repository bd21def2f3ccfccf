//! Options that are put together and read again, and texts that are not options.

use super::*;
use proptest::prelude::*;

/// A name without the characters that separate.
fn name() -> impl Strategy<Value = String> {
    "[^:=]{1,12}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_grant_is_read_as_it_was_put_together(
        host in name(),
        guest in name(),
        read_only: bool,
    ) {
        let end = if read_only { "::ro" } else { "" };
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let expected = Directory { host: host.clone().into(), guest: guest.clone(), access };
        prop_assert_eq!(directory(&format!("{host}::{guest}{end}")), Ok(expected));
    }

    #[test]
    fn names_and_what_they_stand_for_are_told_apart_at_the_first_sign(
        name in name(),
        rest in ".{1,20}",
    ) {
        let text = format!("{name}={rest}");
        prop_assert_eq!(variable(&text), Ok(Variable::Set(name.clone(), rest.clone())));
        prop_assert_eq!(preload(&text), Ok(Preload { name, file: rest.into() }));
    }

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
        let read = timeout(&format!("{number}{unit}")).unwrap().0.unwrap();
        // What a 64-bit float rounds away.
        prop_assert!(read.abs_diff(expected) <= Duration::from_micros(1), "{read:?} {expected:?}");
    }

    #[test]
    fn any_text_is_an_option_or_an_error(
        text in prop_oneof![
            "(?s).{0,12}",
            "[0-9.]{0,400}[a-zA-Z]{0,3}",
            "[0.]{1,3}(us|ms|s|m|h)",
            "[:=a-z]{0,12}",
        ],
    ) {
        if let Ok(Timeout(Some(limit))) = timeout(&text) {
            prop_assert!(!limit.is_zero());
        }
        if let Ok(directory) = directory(&text) {
            prop_assert!(!directory.guest.is_empty() && !directory.host.as_os_str().is_empty());
        }
        let _ = (size(&text), variable(&text), preload(&text));
    }
}
