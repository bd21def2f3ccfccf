//! docs/serve.md has every key that a manifest can have, with what it takes and its default, and no other.

use sandgrain_serve::manifest::{Manifest, SECTIONS, Use};
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../docs/serve.md");

/// The cells of a row of a table, without what makes them code.
fn cells(row: &str) -> Vec<String> {
    row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
}

/// The keys of the page's tables: heading, key, what it takes, default.
fn documented() -> BTreeSet<[String; 4]> {
    let mut keys = BTreeSet::new();
    let (mut heading, mut is_table_of_keys) = ("", false);
    for line in PAGE.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().trim_matches('`');
        }
        if line.starts_with("| key |") {
            is_table_of_keys = true;
        } else if !line.starts_with('|') {
            is_table_of_keys = false;
        } else if is_table_of_keys && !line.starts_with("|---") {
            let [key, kind, default, _meaning] = cells(line).try_into().expect(line);
            assert!(keys.insert([heading.to_owned(), key, kind, default]), "{line} is there twice");
        }
    }
    keys
}

/// The lists of keys below a heading: section, key.
fn listed(heading: &str) -> BTreeSet<[String; 2]> {
    let (_, below) = PAGE.split_once(heading).expect("a heading of the page");
    let rows = below.lines().skip(1).take_while(|line| !line.starts_with('#'));
    let rows = rows.filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let [section, keys] = cells(row).try_into().expect(row);
        keys.split(", ").map(|key| [section.clone(), key.to_owned()]).collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn every_key_of_the_page_is_known_and_every_known_key_is_on_the_page() {
    let (mut read, mut refused, mut ignored) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for section in SECTIONS {
        for key in section.keys {
            let names = [section.name.to_owned(), key.name.to_owned()];
            match key.used {
                Use::Read { kind, default, .. } => {
                    let [section, key] = names;
                    read.insert([section, key, kind.to_owned(), default.to_owned()]);
                }
                Use::Refused { .. } => {
                    refused.insert(names);
                }
                Use::Ignored => {
                    ignored.insert(names);
                }
            }
        }
    }
    let differences = |known: &BTreeSet<[String; 4]>, told: &BTreeSet<_>| {
        known.symmetric_difference(told).cloned().collect::<Vec<_>>()
    };
    assert_eq!(differences(&read, &documented()), Vec::<[String; 4]>::new());
    assert_eq!(refused, listed("### Keys of Spin's that are refused"));
    assert_eq!(ignored, listed("### Keys of Spin's that are ignored"));
}

/// The beginning of a manifest whose last section is this one.
fn beginning(section: &str) -> Option<&'static str> {
    Some(match section {
        "the manifest" => "",
        "[application]" => "[application]\n",
        "[trigger]" => "[trigger]\n",
        "[[trigger.http]]" => "[[trigger.http]]\n",
        "executor" => "[[trigger.http]]\n[trigger.http.executor]\n",
        "[[trigger.cron]]" => "[[trigger.cron]]\n",
        "[component.ID]" => "[component.a]\n",
        "files" => "[[component.a.files]]\n",
        "[limits]" => "[limits]\n",
        "[pool]" => "[pool]\n",
        "[tenant]" => "[tenant]\n",
        _ => return None,
    })
}

#[test]
fn every_known_key_is_looked_at_where_it_stands() {
    for section in SECTIONS {
        let beginning = beginning(section.name).expect(section.name);
        let line = beginning.lines().count() + 1;
        for key in section.keys {
            // A date is what no key takes.
            let text = format!("{beginning}{} = 1979-05-27\n", key.name);
            let report = Manifest::parse(&text, "app.toml");
            let here = report
                .problems()
                .iter()
                .filter(|problem| problem.position.is_some_and(|position| position.line == line));
            let told: Vec<_> = here.map(ToString::to_string).collect();
            let unknown = told.iter().any(|told| told.contains("has no key"));
            let expected = usize::from(!matches!(key.used, Use::Ignored));
            let is_first = line == 1;
            assert!(
                !unknown && (is_first || told.len() == expected),
                "{} {}: {told:?}",
                section.name,
                key.name
            );
            assert!(
                expected == 0
                    || told.iter().any(|told| told.contains(key.name) || told.contains("version"))
            );
        }
    }
}

#[test]
fn the_page_tells_its_example_and_its_defaults_as_they_are() {
    let example = PAGE.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let report = Manifest::parse(example, "app.toml");
    assert!(report.problems().is_empty(), "{report}");
    let with_defaults = |section: &str| -> Manifest {
        let section = SECTIONS.iter().find(|known| known.name == section).unwrap();
        let mut text = format!("{example}\n{}\n", section.name);
        for key in section.keys {
            let Use::Read { default, .. } = key.used else { continue };
            let is_number = default.bytes().all(|c| c.is_ascii_digit());
            let value = if is_number { default.to_owned() } else { format!("{default:?}") };
            if !["the application's", "all other hosts"].contains(&default) {
                text += &format!("{} = {value}\n", key.name);
            }
        }
        Manifest::parse(&text, "app.toml")
            .into_manifest()
            .unwrap_or_else(|report| panic!("{text}{report}"))
    };
    let plain = report.into_manifest().unwrap();
    assert_eq!(with_defaults("[limits]").functions, plain.functions);
    assert_eq!(with_defaults("[pool]").functions, plain.functions);
    assert_eq!(with_defaults("[tenant]").tenant, plain.tenant);
}
