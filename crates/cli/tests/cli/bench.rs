//! `bench start` and `bench floor`; with few samples, which say nothing about the machine.

use crate::command::Place;
use serde_json::Value;

#[test]
fn starting_is_measured_in_every_way() {
    let place = Place::new();
    let ended = place.run(&[
        "bench",
        "start",
        "--samples",
        "5",
        "--callers",
        "1,2",
        "--parked",
        "1,10,1001",
        "--json",
        "report.json",
        "--svg",
        "plot.svg",
    ]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let report: Value = serde_json::from_slice(&place.read("report.json")).unwrap();
    let svg = String::from_utf8(place.read("plot.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    for (name, samples) in [
        ("bare exit and back (E)", 5),
        ("fresh VM to first exit (F)", 5),
        ("from nothing", 5),
        ("from a snapshot", 5),
        ("call and reset", 5),
        ("call and reset, in a worker", 5),
        ("from a snapshot, in a worker", 5),
        ("warm call", 5),
        ("wasmtime, on demand", 5),
        ("wasmtime, pooling", 5),
    ] {
        let row = row(&report, name, 1);
        assert_eq!(row["samples"], samples, "{row}");
        assert!(row["min"].as_f64() > Some(0.0) && row["median"].as_f64() <= row["p999"].as_f64());
        assert!(ended.stdout.contains(name) && svg.contains(&format!(">{name}</text>")), "{name}");
    }
    // However busy the machine is: a miss is counted, or there is a sample.
    let parked = row(&report, "parked, fresh", 2);
    let count = |what: &str| parked[what].as_u64().unwrap();
    assert_eq!(count("samples") + count("misses"), 10, "{parked}");
    // There is no search path here.
    let left_out = report["left_out"].as_array().unwrap();
    let reasons = |what: &str| left_out.iter().filter(|entry| entry["what"] == what).count();
    assert_eq!(reasons("1001 VMs parked in this process"), 1, "{left_out:?}");
    // Those that are too many for one process are in workers, which are this command once more.
    let crowded = report["crowded"].as_array().unwrap();
    assert!(crowded.iter().any(|row| row["parked"] == 1001), "{crowded:?}");
    assert_eq!(reasons("wasmtime run, empty export"), 1, "{left_out:?}");
    assert!(report["memory"]["parked"].as_array().unwrap().len() >= 3, "{report}");
}

fn row<'a>(report: &'a Value, name: &str, callers: u64) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == name && row["callers"] == callers);
    row.unwrap_or_else(|| panic!("no {name:?} of {callers} callers in {report}"))
}

#[test]
fn the_floor_is_a_rate_and_what_each_part_takes() {
    let place = Place::new();
    let ended = place.run(&["bench", "floor", "--seconds", "1", "--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(report["vms"].as_u64() > Some(0), "{report}");
    assert!(report["vms_per_second"].as_f64() > Some(0.0), "{report}");
    for part in ["make", "enter", "drop", "whole"] {
        let time = |figure: &str| report[part][figure].as_f64().unwrap();
        assert!(time("median") > 0.0 && time("median") <= time("p99"), "{part} in {report}");
        assert!(time("p99") <= time("p999"), "{part} in {report}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_anything_is_measured() {
    let ended = Place::new().run(&["bench", "start", "--svg", "missing/plot.svg"]);
    let line = ended.fails_with_one_line(202);
    assert!(line.contains("missing/plot.svg"), "{line}");
    assert_eq!(ended.stdout, "");
}

#[test]
fn options_of_one_benchmark_are_not_the_others() {
    let place = Place::new();
    for arguments in [
        &["bench", "--quick", "start"][..],
        &["bench", "start", "--quick"],
        &["bench", "--samples", "5", "floor"],
        &["bench", "floor", "--seconds", "0"],
    ] {
        let ended = place.run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    }
}
