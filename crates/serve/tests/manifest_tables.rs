//! Manifests in files: those in `good` can be used, those in `bad` cannot. What is told of each stands at its
//! end, exactly, in lines that begin with `#=`.

use sandgrain_serve::manifest::Manifest;
use std::fs;
use std::path::Path;

/// Compares what is told of each manifest in a directory with what it says itself.
fn compare(directory: &str, expect_good: bool) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory);
    let mut wrong = String::new();
    let mut count = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let expected: String = text
            .lines()
            .filter_map(|line| line.strip_prefix("#= "))
            .map(|line| line.to_owned() + "\n")
            .collect();
        let report = Manifest::parse(&text, "app.toml");
        if report.to_string() != expected || report.is_good() != expect_good {
            wrong += &format!("{}:\n{report}", path.display());
        }
        count += 1;
    }
    assert!(count > 0);
    assert!(wrong.is_empty(), "told instead:\n{wrong}");
}

#[test]
fn good_manifests_can_be_used() {
    compare("good", true);
}

#[test]
fn of_bad_manifests_everything_that_is_wrong_is_told() {
    compare("bad", false);
}
