//! The report for a terminal.

use std::fmt::Write;

use super::compare::Comparison;
use super::fact::facts;
use super::series::{charts, median};
use super::source::Source;
use super::unit::span;
use super::verdict::ending;

/// Columns of a line's picture.
const COLUMNS: usize = 48;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One soak.
pub(crate) fn soak(source: &Source) -> String {
    let mut text = String::new();
    let ending = ending(source);
    let _ = writeln!(text, "{}: {}", source.name(), ending.word);
    if !ending.text.is_empty() {
        let _ = writeln!(text, "  {}", ending.text.replace('\n', "\n  "));
    }
    for remark in &source.remarks {
        let _ = writeln!(text, "  note: {remark}");
    }
    for recording in &source.recordings {
        let _ = writeln!(text, "  recorded: sim replay {}", recording.display());
    }
    for fact in facts(source.run.as_ref(), source.summary.as_ref()) {
        let _ = writeln!(text, "  {:<32} {}", fact.name, fact.text);
    }
    for chart in &charts(source) {
        let until = chart.at_s.last().copied().unwrap_or_default();
        let _ = writeln!(text, "\n{} (over {})", chart.title, span(until));
        for line in &chart.lines {
            let all = || line.values.iter().flatten().copied();
            let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
            let _ = writeln!(
                text,
                "  {:<16} {}  min {}, median {}, max {}",
                line.label,
                picture(&line.values),
                chart.unit.text(low),
                median(line).map_or_else(|| "-".to_owned(), |value| chart.unit.text(value)),
                chart.unit.text(high)
            );
        }
    }
    for mark in &source.marks {
        let kind = if mark.is_failure { "failure" } else { "event" };
        let _ = writeln!(text, "{kind} at {}: {}", span(mark.at_s), mark.text);
    }
    text
}

/// Two soaks.
pub(crate) fn comparison(comparison: &Comparison) -> String {
    let mut text = String::new();
    let [a, b] = &comparison.names;
    let _ =
        writeln!(text, "{:<44} {a:>16} {b:>16} {:>8}", "medians over the intervals; trouble: sum", "ratio");
    for row in &comparison.rows {
        let [a, b] = &row.texts;
        let _ = writeln!(text, "{:<44} {a:>16} {b:>16} {:>8}", row.what, row.ratio);
    }
    text
}

/// A line in blocks, from the lowest to the highest of its columns. Of several values in a column the highest counts.
fn picture(values: &[Option<f64>]) -> String {
    let columns = COLUMNS.min(values.len());
    let highest = |column: usize| {
        let part = &values[column * values.len() / columns..(column + 1) * values.len() / columns];
        part.iter().flatten().copied().reduce(f64::max)
    };
    let highest: Vec<Option<f64>> = (0..columns).map(highest).collect();
    let all = || highest.iter().flatten().copied();
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
    let block = |value: &Option<f64>| {
        value.map_or(' ', |value| {
            let share = if high > low { (value - low) / (high - low) } else { 0.0 };
            BLOCKS[((share * 7.0).round() as usize).min(7)]
        })
    };
    highest.iter().map(block).collect()
}
