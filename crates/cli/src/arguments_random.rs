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
    fn any_text_is_an_option_or_an_error(
        text in prop_oneof![
            "(?s).{0,12}",
            "[:=a-z]{0,12}",
        ],
    ) {
        if let Ok(directory) = directory(&text) {
            prop_assert!(!directory.guest.is_empty() && !directory.host.as_os_str().is_empty());
        }
        let _ = (variable(&text), preload(&text));
    }
}
