//! Two soaks in numbers, and the ratio of the second to the first.

use super::chart::Chart;
use super::series::{charts, in_one};
use super::source::Source;

/// A table of two soaks.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) names: [String; 2],
    pub(crate) rows: Vec<Row>,
}

/// What one line of a chart was in both.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) texts: [String; 2],
    /// The second by the first, or a dash.
    pub(crate) ratio: String,
}

impl Comparison {
    /// Compares what both measured.
    pub(crate) fn of(a: &Source, b: &Source) -> Comparison {
        let mut rows = Vec::new();
        for (of_a, of_b) in pairs(a, b) {
            for line in &of_a.lines {
                let Some(other) = of_b.lines.iter().find(|other| other.label == line.label) else { continue };
                let (Some(a), Some(b)) = (in_one(&of_a, line), in_one(&of_b, other)) else { continue };
                rows.push(Row {
                    what: format!("{}: {}", of_a.title, line.label),
                    texts: [a, b].map(|value| of_a.unit.text(value)),
                    ratio: if a == 0.0 { "-".to_owned() } else { format!("{:.2}", b / a) },
                });
            }
        }
        Comparison { names: [a.name(), b.name()], rows }
    }
}

/// The charts that both have, in the order of the first.
pub(crate) fn pairs(a: &Source, b: &Source) -> Vec<(Chart, Chart)> {
    let mut of_b = charts(b);
    let pair = |of_a: Chart| {
        let index = of_b.iter().position(|chart| chart.title == of_a.title)?;
        Some((of_a, of_b.remove(index)))
    };
    charts(a).into_iter().filter_map(pair).collect()
}
