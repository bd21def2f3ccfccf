//! The distributions as a picture: for each row how many of its samples took at most how long.

use super::{Report, Row};
use std::fmt::Write;

/// Of a row, in pixels.
const LANE: f64 = 24.0;
const GAP: f64 = 34.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 90.0;
const PLOT: f64 = 700.0;
const TOP: f64 = 84.0;
/// Points of a curve.
const POINTS: usize = 80;

/// Colours, and what they are for.
const KINDS: [(&str, &str); 4] = [
    ("#6b7280", "floor"),
    ("#1d4ed8", "Sandgrain"),
    ("#b45309", "wasmtime in process"),
    ("#7c3aed", "a process of its own"),
];

fn colour(row: &Row) -> &'static str {
    let kind = match row.name {
        name if name.starts_with("wasmtime run") => 3,
        name if name.starts_with("wasmtime") => 2,
        name if row.floor.is_none() || name.starts_with("bare") => 0,
        _ => 1,
    };
    KINDS[kind].0
}

/// A picture of all rows, as SVG.
#[must_use]
pub fn svg(report: &Report) -> String {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| !row.times.is_empty()).collect();
    let axis = Axis::of(&rows);
    let mut body = String::new();
    let mut y = TOP;
    let mut block = None;
    for row in rows {
        let this = (row.function, row.callers, row.parked);
        if block != Some(this) {
            y += GAP;
            let title = title(row);
            text(&mut body, (12.0, y - 8.0), "start", "font-weight=\"bold\"", &title);
        }
        block = Some(this);
        lane(&mut body, row, &axis, y);
        y += LANE;
    }
    let (width, height) = (LEFT + PLOT + RIGHT, y + 40.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text += &legend(report);
    text += &axis.lines(y);
    text + &body + "</svg>\n"
}

/// The heading of a block.
#[must_use]
pub fn title(row: &Row) -> String {
    let callers = if row.callers == 1 { "1 caller" } else { &format!("{} callers", row.callers) };
    let parked = if row.parked == 1 { "1 VM" } else { &format!("{} VMs", row.parked) };
    format!("{}, {callers}, {parked} parked", row.function)
}

fn legend(report: &Report) -> String {
    let mut text_of = String::new();
    let heading = "From the request to the result: share of samples that took at most so long";
    text(&mut text_of, (12.0, 22.0), "start", "font-size=\"15\" font-weight=\"bold\"", heading);
    let machine = &report.machine;
    let machine = format!(
        "Sandgrain {}, {}, {} CPUs, Linux {}, {}",
        machine.sandgrain, machine.cpu, machine.cpus, machine.kernel, machine.hypervisor
    );
    text(&mut text_of, (12.0, 42.0), "start", "fill=\"#374151\"", &machine);
    let mut x = 12.0;
    for (colour, kind) in KINDS {
        let _ = writeln!(
            text_of,
            "<rect x=\"{x:.0}\" y=\"54\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        );
        text(&mut text_of, (x + 17.0, 64.0), "start", "", kind);
        x += 40.0 + 6.5 * kind.len() as f64;
    }
    let marks = "| median    \u{25cf} p99    \u{25cb} p99.9    the number is the median";
    text(&mut text_of, (x, 64.0), "start", "fill=\"#374151\" xml:space=\"preserve\"", marks);
    text_of
}

fn lane(body: &mut String, row: &Row, axis: &Axis, y: f64) {
    let (bottom, height) = (y + LANE - 4.0, LANE - 6.0);
    let colour = colour(row);
    text(body, (LEFT - 8.0, bottom - 3.0), "end", "", row.name);
    let count = row.times.len();
    let mut curve = vec![(axis.x(row.min), bottom)];
    for point in 0..=POINTS {
        let share = point as f64 / POINTS as f64;
        let time = row.times[((count - 1) as f64 * share).round() as usize];
        curve.push((axis.x(time), bottom - height * share));
    }
    // What is within a line says nothing.
    let ends: Vec<_> = (0..curve.len())
        .filter(|at| {
            let same = |other: Option<&(f64, f64)>| other.is_some_and(|(x, _)| *x == curve[*at].0);
            !(same(at.checked_sub(1).and_then(|at| curve.get(at))) && same(curve.get(at + 1)))
        })
        .map(|at| format!("{:.1},{:.1}", curve[at].0, curve[at].1))
        .collect();
    let points = ends.join(" ");
    let right = LEFT + PLOT;
    let _ = writeln!(
        body,
        "<polygon points=\"{points} {right:.1},{:.1} {right:.1},{bottom:.1}\" fill=\"{colour}\" \
         fill-opacity=\"0.12\"/>\n<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\"/>",
        bottom - height
    );
    let (median, p99, p999) = (axis.x(row.median), axis.x(row.p99), axis.x(row.p999));
    let (top, middle) = (bottom - height, bottom - height / 2.0);
    let _ = writeln!(
        body,
        "<path d=\"M{median:.1},{top:.1}V{bottom:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
         <circle cx=\"{p999:.1}\" cy=\"{middle:.1}\" r=\"3\" fill=\"#ffffff\" stroke=\"{colour}\"/>\n\
         <circle cx=\"{p99:.1}\" cy=\"{middle:.1}\" r=\"3\" fill=\"{colour}\"/>"
    );
    text(body, (right + 8.0, bottom - 3.0), "start", "fill=\"#374151\"", &time(row.median));
}

/// Powers of ten from left to right.
struct Axis {
    from: i32,
    to: i32,
}

impl Axis {
    fn of(rows: &[&Row]) -> Self {
        let times = || rows.iter().flat_map(|row| row.times.iter().copied()).filter(|t| *t > 0.0);
        let (least, most) = (times().fold(f64::MAX, f64::min), times().fold(f64::MIN, f64::max));
        if least > most {
            return Self { from: 0, to: 1 };
        }
        let (from, to) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        Self { from, to: to.max(from + 1) }
    }

    /// Where a time is, in microseconds.
    fn x(&self, time: f64) -> f64 {
        let share = (time.log10() - f64::from(self.from)) / f64::from(self.to - self.from);
        LEFT + PLOT * share.clamp(0.0, 1.0)
    }

    fn lines(&self, bottom: f64) -> String {
        let mut lines = String::new();
        for power in self.from..=self.to {
            for step in 1..10 {
                let value = f64::from(step) * 10f64.powi(power);
                if value > 10f64.powi(self.to) {
                    break;
                }
                let colour = if step == 1 { "#d1d5db" } else { "#f3f4f6" };
                let x = self.x(value);
                let _ =
                    writeln!(lines, "<path d=\"M{x:.1},{TOP}V{bottom:.1}\" stroke=\"{colour}\"/>");
                if step == 1 {
                    for y in [TOP - 4.0, bottom + 16.0] {
                        text(&mut lines, (x, y), "middle", "fill=\"#374151\"", &time(value));
                    }
                }
            }
        }
        lines
    }
}

/// A time with its unit, in three digits.
fn time(micros: f64) -> String {
    let (value, unit) = match micros {
        micros if micros < 1000.0 => (micros, "us"),
        micros if micros < 1e6 => (micros / 1e3, "ms"),
        micros => (micros / 1e6, "s"),
    };
    let digits = match value {
        value if value >= 99.95 || (value.fract() == 0.0 && value >= 1.0) => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

fn text(to: &mut String, (x, y): (f64, f64), anchor: &str, more: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let more = if more.is_empty() { String::new() } else { format!(" {more}") };
    // Into a string it cannot fail; so everywhere in this file.
    let _ = writeln!(
        to,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{content}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Machine;
    use crate::start::figures::{Floor, Subject};
    use crate::start::{LeftOut, Memory};

    fn report(rows: Vec<Row>) -> Report {
        let machine = Machine {
            kernel: "6.1".to_owned(),
            cpu: "A CPU <fast> & small".to_owned(),
            cpus: 2,
            hypervisor: "Kvm".to_owned(),
            sandgrain: "0.1.0",
        };
        let memory = Memory { functions: Vec::new(), parked: Vec::new() };
        let left_out = vec![LeftOut::new("a thing", "there is none")];
        Report {
            machine,
            load: [Some(0.5), None],
            unit: "us",
            rows,
            crowded: Vec::new(),
            left_out,
            memory,
        }
    }

    fn row(name: &'static str, parked: usize, times: &[f64]) -> Row {
        let subject = Subject { function: "f", name, callers: 1, parked };
        let times: Vec<_> = times.iter().copied().map(Some).collect();
        Row::new(subject, &times, Some((Floor::RoundTrip, &times)), &[])
    }

    /// Every element that is opened is closed, in order; there is one at the top.
    fn is_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            assert!(!rest[..start].contains('>'), "a stray > in {:?}", &rest[..start]);
            let end = start + rest[start..].find('>').expect("an end of the tag");
            let tag = &rest[start + 1..end];
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                assert!(!open.is_empty() || start == 0, "a second top");
                open.push(tag.split(' ').next().unwrap_or_default());
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "{open:?} are open");
        for entity in svg.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;"].iter().any(|name| entity.starts_with(name)));
        }
    }

    #[test]
    fn each_row_with_samples_is_in_it() {
        let rows = vec![
            row("bare exit", 1, &[50.0, 60.0, 55.0]),
            row("a call <b>", 1, &[99.0, 105.0]),
            row("many", 100, &[7000.0]),
            row("only misses", 100, &[]),
        ];
        let svg = svg(&report(rows));
        is_well_formed(&svg);
        for part in [
            ">bare exit</text>",
            ">a call &lt;b&gt;</text>",
            ">f, 1 caller, 100 VMs parked</text>",
            ">7 ms</text>",
            ">10 us</text>",
            "A CPU &lt;fast&gt; &amp; small",
            "p99.9",
        ] {
            assert!(svg.contains(part), "no {part:?} in {svg}");
        }
        assert!(!svg.contains("only misses") && !svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 3);
    }

    #[test]
    fn without_rows_it_is_still_a_picture() {
        is_well_formed(&svg(&report(Vec::new())));
    }

    #[test]
    fn a_longer_time_is_further_to_the_right() {
        let (a, b) = (row("a", 1, &[20.0, 30.0]), row("b", 1, &[900.0]));
        let axis = Axis::of(&[&a, &b]);
        let at = [10.0, 20.0, 30.0, 900.0, 1000.0].map(|time| axis.x(time));
        assert!(at.is_sorted() && at[0] == LEFT && at[4] == LEFT + PLOT, "{at:?}");
    }

    #[test]
    fn the_report_is_json_with_figures_and_without_samples() {
        let json = serde_json::to_value(report(vec![row("a", 1, &[20.0, 30.0])])).unwrap();
        let row = &json["rows"][0];
        assert_eq!((row["median"].as_f64(), row["samples"].as_u64()), (Some(20.0), Some(2)));
        assert_eq!((&row["floor"], &row["ratio"]), (&"round_trip".into(), &1.0.into()));
        assert!(row.get("times").is_none());
        assert_eq!(json["left_out"][0]["reason"], "there is none");
        assert_eq!(json["load"][1], serde_json::Value::Null);
        assert!(json["memory"]["parked"].is_array());
    }
}
