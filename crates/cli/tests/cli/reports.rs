//! `--stats` and `--json`.

use crate::command::{Ended, Place, example};
use crate::program::exits_with;
use serde_json::{Value, json};

/// The last line of a stream, as JSON.
#[track_caller]
fn report(stream: &str) -> Value {
    let line = stream.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {stream:?}"))
}

fn fib(options: &[&str]) -> Ended {
    let fib = example("wat/fib.wasm");
    Place::new().run(&[&["run", "--invoke", "fib"], options, &[&fib, "30"]].concat())
}

#[test]
fn results_are_in_the_report_in_place_of_lines() {
    let ended = fib(&["--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
    let report = report(&ended.stdout);
    assert_eq!(report["status"], "ok");
    assert_eq!(report["exit_code"], 0);
    assert_eq!(report["results"], json!([{ "type": "i32", "value": "832040" }]));
    assert_eq!(report["error"], Value::Null);
    assert_eq!(report["without_vm"], false);
    assert_eq!(report["compile"]["cached"], false);
    assert!(report["compile"]["ms"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn the_report_has_what_it_cost() {
    let report = report(&fib(&["--json"]).stdout);
    for step in ["create", "call"] {
        let figures = &report["stats"][step];
        assert!(figures["total_ms"].as_f64().unwrap() > 0.0, "{report}");
        assert!(figures["guest_ms"].as_f64().unwrap() > 0.0, "{report}");
        assert!(figures["host_ms"].as_f64().unwrap() >= 0.0, "{report}");
        assert!(figures["exits"].as_u64().unwrap() >= 1, "{report}");
        assert!(figures["hypercalls"].as_u64().unwrap() >= 1, "{report}");
        assert_eq!(figures["host_calls"], 0, "{report}");
        assert!(figures["pages_touched"].is_u64(), "{report}");
    }
}

#[test]
fn a_program_s_report_is_on_standard_error() {
    let ended = Place::new().run(&["run", "--json", &example("wat/hello.wasm")]);
    ended.prints("Hello, world!\n");
    let report = report(&ended.stderr);
    assert_eq!(report["results"], Value::Null);
    assert_eq!(report["stats"]["call"]["host_calls"], 1, "{report}");
}

#[test]
fn a_report_in_a_file_leaves_the_output_alone() {
    let fib = example("wat/fib.wasm");
    let place = Place::new();
    place.run(&["run", "--json=report.json", "--invoke", "fib", &fib, "30"]).prints("832040\n");
    let content = String::from_utf8(place.read("report.json")).unwrap();
    assert_eq!(content.lines().count(), 1);
    assert_eq!(report(&content)["results"][0]["value"], "832040");
}

#[test]
fn a_report_with_no_place_to_go_is_known_before_the_program_runs() {
    let ended = Place::new().run(&["run", "--json=no/dir/report", &example("wat/hello.wasm")]);
    ended.fails_with_one_line(202);
    assert_eq!(ended.stdout, "");
}

#[test]
fn an_exit_is_told_from_an_error() {
    let ended = Place::with("exit.wat", exits_with(256)).run(&["run", "--json", "exit.wat"]);
    let report = report(&ended.stderr);
    assert_eq!(
        (ended.code, &report["status"], &report["exit_code"]),
        (255, &json!("exit"), &json!(255))
    );
    assert_eq!(report["program_exit_code"], 256);
    assert_eq!(report["error"], Value::Null);
}

#[test]
fn a_trap_is_in_the_report() {
    let traps = example("wat/traps.wasm");
    let ended = Place::new().run(&["run", "--json", "--invoke", "div_by_zero", &traps]);
    ended.fails(207);
    let report = report(&ended.stdout);
    assert_eq!((&report["status"], &report["exit_code"]), (&json!("error"), &json!(207)));
    let error = &report["error"];
    assert_eq!(error["name"], "trap");
    assert!(error["message"].as_str().unwrap().contains("divide by zero"), "{report}");
    assert!(!error["try"].as_str().unwrap().is_empty(), "{report}");
    assert_eq!(error["trap"]["code"], "IntegerDivisionByZero");
    assert_eq!(error["trap"]["backtrace"][0]["name"], "divides");
    assert_eq!(error["trap"]["backtrace"][1]["name"], "div_by_zero");
    assert!(report["stats"]["call"]["exits"].as_u64().unwrap() >= 1, "{report}");
}

#[test]
fn a_failure_before_the_call_is_in_the_report() {
    let ended = Place::new().run(&["run", "--json", "nothing.wasm"]);
    ended.fails(202);
    let report = report(&ended.stderr);
    assert_eq!(report["error"]["name"], "file");
    assert_eq!(report["stats"], json!({ "create": null, "call": null }));
    assert_eq!(report["compile"], Value::Null);
}

#[test]
fn the_figures_are_a_table_for_people() {
    let ended = fib(&["--stats"]);
    ended.prints("832040\n");
    for row in
        ["module", "time", "in the guest", "in the host", "exits", "hypercalls", "host calls"]
    {
        let line = ended.stderr.lines().find(|line| line.starts_with(row));
        let line = line.unwrap_or_else(|| panic!("no {row}: {ended:?}"));
        assert!(line.contains(|c: char| c.is_ascii_digit()), "{line}");
    }
    let pages = ended.stderr.lines().find(|line| line.starts_with("pages touched")).unwrap();
    assert!(pages.contains(|c: char| c.is_ascii_digit()), "{pages}");
}

#[test]
fn the_figures_of_a_failed_call_are_shown() {
    let traps = example("wat/traps.wasm");
    let ended = Place::new().run(&["run", "--stats", "--invoke", "div_by_zero", &traps]);
    ended.fails(207);
    let exits = ended.stderr.lines().find(|line| line.starts_with("exits")).unwrap();
    assert!(!exits.ends_with('-'), "{exits}");
}

#[test]
fn more_is_logged_when_asked_for() {
    let hello = example("wat/hello.wasm");
    let place = Place::new();
    let ended = place.run(&["-vv", "run", &hello]);
    ended.prints("Hello, world!\n");
    for span in ["compile", "create", "call"] {
        assert!(ended.stderr.contains(span), "no {span}: {ended:?}");
    }
    let ended = place.run(&["run", "--log", "sandgrain=debug", &hello]);
    assert!(ended.stderr.contains("DEBUG"), "{ended:?}");
    assert_eq!(place.run(&["run", &hello]).stderr, "");
}
