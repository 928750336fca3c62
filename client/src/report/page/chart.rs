//! Pictures of numbers, as inline SVG.

use std::fmt::Write as _;

use super::{day, escaped};
use crate::drill::Verdict;
use crate::report::material::{DrillItem, Period};
use coffer_model::Timestamp;

const WIDTH: u64 = 720;
const LEFT: u64 = 70;
const RIGHT: u64 = 20;

/// `part` of `whole`, scaled to `length`.
fn scaled(part: u64, whole: u64, length: u64) -> u64 {
    let scaled = u128::from(part) * u128::from(length) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(length).min(length)
}

/// A horizontal bar for each line: name, value, most, text.
pub(super) fn bars(title: &str, lines: &[(String, u64, u64, String, bool)]) -> String {
    let height = 14 + 30 * u64::try_from(lines.len()).unwrap_or(1);
    let mut svg = open(title, height);
    for (line, top) in lines.iter().zip((0..).map(|at| 8 + 30 * at)) {
        let (name, value, most, text, good) = line;
        let class = if *good { "bar" } else { "bad" };
        let width = scaled(*value, *most, WIDTH - LEFT - 210).max(3);
        let (text_at, base) = (LEFT + 10 + width, top + 15);
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
            <rect class=\"{class}\" x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"20\" rx=\"4\"/>\
            <text class=\"soft\" x=\"{text_at}\" y=\"{base}\">{}</text>",
            LEFT - 10,
            escaped(name),
            escaped(text),
        );
    }
    svg.push_str("</svg>");
    svg
}

fn open(title: &str, height: u64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escaped(title))
}

/// When each drill was, in the period; and whether all of it came back.
pub(super) fn timeline(drills: &[&DrillItem], period: Period) -> String {
    let mut svg = open("Drills in the period", 96);
    let (right, length) = (WIDTH - RIGHT, WIDTH - RIGHT - 20);
    let _ = write!(svg, "<line class=\"axis\" x1=\"20\" y1=\"50\" x2=\"{right}\" y2=\"50\"/>");
    let (from, to) = (period.from.to_string(), period.to.to_string());
    let _ = write!(
        svg,
        "<text class=\"soft\" x=\"20\" y=\"84\">{}</text><text class=\"soft\" x=\"{right}\" y=\"84\" text-anchor=\"end\">{}</text>",
        day(&from),
        day(&to)
    );
    for drill in drills {
        let since = drill.declared().0.saturating_sub(period.from.0);
        let x = 20 + scaled(since, period.to.0.saturating_sub(period.from.0), length);
        let good = drill.brought_back() && drill.record.verdicts.integrity == Verdict::Satisfied;
        let class = if good { "good" } else { "bad" };
        let _ = write!(
            svg,
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"50\" r=\"8\"><title>{}: {}</title></circle>",
            escaped(drill.record.declared.utc()),
            escaped(&drill.record.scenario),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// How long each restoration took, against what was promised.
pub(super) fn trend(drills: &[&DrillItem]) -> String {
    let taken = |drill: &DrillItem| drill.record.measured.rta_ns;
    let most = drills.iter().map(|drill| taken(drill)).max().unwrap_or(1).max(1);
    let (bottom, tall) = (190, 160);
    let mut svg = open("Restoration time of each drill", 230);
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\"/>\
        <text class=\"soft\" x=\"{}\" y=\"38\" text-anchor=\"end\">{}</text>\
        <text class=\"soft\" x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0 s</text>",
        WIDTH - RIGHT,
        LEFT - 8,
        seconds(most),
        LEFT - 8,
    );
    let count = u64::try_from(drills.len()).unwrap_or(1).max(1);
    let step = (WIDTH - LEFT - RIGHT) / count;
    let (mut points, mut dots) = (String::new(), String::new());
    for (drill, at) in drills.iter().zip(0_u64..) {
        let x = LEFT + step / 2 + step * at;
        let y = bottom - scaled(taken(drill), most, tall - 10);
        let _ = write!(points, "{x},{y} ");
        let class = if drill.record.verdicts.rto == Verdict::Satisfied { "dot" } else { "bad" };
        let _ = write!(
            dots,
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"5\"><title>{}</title></circle>",
            seconds(taken(drill))
        );
        // Days under the dots, where there is room for them.
        if count <= 8 {
            let _ = write!(
                dots,
                "<text class=\"soft\" x=\"{x}\" y=\"212\" text-anchor=\"middle\">{}</text>",
                escaped(day(drill.record.declared.utc()))
            );
        }
    }
    let _ = write!(svg, "<polyline class=\"line\" points=\"{}\"/>{dots}</svg>", points.trim_end());
    svg
}

/// Seconds with a sensible number of digits.
pub(super) fn seconds(nanos: u64) -> String {
    match nanos / 1_000_000 {
        millis @ 0..10_000 => format!("{}.{:02} s", millis / 1000, millis % 1000 / 10),
        millis @ 10_000..600_000 => format!("{} s", millis / 1000),
        millis @ 600_000..36_000_000 => format!("{} min", millis / 60_000),
        millis => format!("{} h", millis / 3_600_000),
    }
}

/// Whether a period has a middle at all.
pub(super) fn is_long(period: Period) -> bool {
    period.to > Timestamp(period.from.0.saturating_add(1))
}
