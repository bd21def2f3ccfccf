//! Manifests made of anything: reading them comes to an end, and what is told has a place in them.

use proptest::prelude::*;
use sandgrain_serve::manifest::{Manifest, SECTIONS};

const GOOD: &str = include_str!("good/full.toml");

/// Reads a text, and looks whether the report is one.
fn read(text: &str) -> Result<bool, TestCaseError> {
    let report = Manifest::parse(text, "app.toml");
    // The last line may be empty, and an error can be behind its end.
    let lines: Vec<usize> = text.split('\n').map(|line| line.chars().count()).collect();
    for problem in report.problems() {
        let position = problem.position.expect("what is wrong is at some place");
        let length = lines.get(position.line - 1);
        prop_assert!(
            length.is_some_and(|length| (1..=length + 1).contains(&position.column)),
            "{}",
            problem
        );
        let line = problem.to_string();
        prop_assert!(!line.contains(char::is_control) && line.contains("; try: "), "{:?}", line);
    }
    prop_assert!(report.problems().is_sorted_by_key(|problem| problem.position));
    let text = report.to_string();
    prop_assert_eq!(text.lines().count(), report.problems().len());
    Ok(report.is_good())
}

/// A piece of what manifests are made of.
fn piece() -> impl Strategy<Value = String> {
    let mut pieces: Vec<String> = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\r\n",
        "#",
        "\"",
        "'",
        "\"\"\"",
        " ",
        "\\u0000",
        "\u{feff}",
        "1",
        "-1",
        "0",
        "2",
        "0x",
        "1.5",
        "true",
        "nan",
        "1979-05-27",
        "\"64M\"",
        "\"0\"",
        "\"none\"",
        "\"/a\"",
        "\"/...\"",
        "\"../x\"",
        "\"a\"",
        "a",
        "ä",
        "[component.a]\n",
        "[[trigger.http]]\n",
        "[[trigger.cron]]\n",
        "[limits]\n",
        "component.a.limits.",
        "trigger.http",
        "spin_manifest_version = 2\n",
        "\"*://*:*\"",
        "\"* * * * *\"",
    ]
    .map(str::to_owned)
    .to_vec();
    for section in SECTIONS {
        pieces.extend(section.keys.iter().map(|key| format!("{} = ", key.name)));
    }
    prop::sample::select(pieces)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text_is_read(text in "(?s).{0,40}|\\PC*|[\\[\\]{}=.,\"'# \\\\\n\ra-c0-9]*") {
        read(&text)?;
    }

    #[test]
    fn any_pieces_of_manifests_are_read(pieces in prop::collection::vec(piece(), 0..60)) {
        read(&pieces.concat())?;
    }

    #[test]
    fn a_good_manifest_with_changes_is_read(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..8_usize, piece()), 1..6),
    ) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, removed, put) in changes {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, put.chars());
        }
        read(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn a_good_manifest_without_some_lines_is_read(
        removed in prop::collection::btree_set(0..GOOD.lines().count(), 1..20),
    ) {
        let lines = GOOD.lines().enumerate().filter(|(at, _)| !removed.contains(at));
        read(&lines.map(|(_, line)| format!("{line}\n")).collect::<String>())?;
    }

    #[test]
    fn a_good_manifest_with_a_piece_cut_off_is_read(at in any::<prop::sample::Index>()) {
        let at = at.index(GOOD.len());
        if let (Some(before), Some(behind)) = (GOOD.get(..at), GOOD.get(at..)) {
            read(before)?;
            read(behind)?;
        }
    }
}
