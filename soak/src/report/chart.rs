//! One chart: lines over time as SVG, in colours that the page's style chooses.

use std::cmp::Ordering;
use std::fmt::Write;

use super::unit::{Unit, escape, span};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;
/// Lines have colours of their own up to this many.
pub(crate) const LINES_MAX: usize = 6;

/// A line of a chart; gaps are where there is no value.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) values: Vec<Option<f64>>,
}

/// Something that happened at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mark {
    pub(crate) at_s: f64,
    pub(crate) text: String,
    pub(crate) is_failure: bool,
}

/// A chart's lines, over the seconds at which they were measured.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What the lines mean, in a sentence.
    pub(crate) caption: String,
    pub(crate) unit: Unit,
    pub(crate) is_logarithmic: bool,
    /// Its lines count from the beginning: where they end says more than where they were.
    pub(crate) is_cumulative: bool,
    pub(crate) at_s: Vec<f64>,
    pub(crate) lines: Vec<Line>,
}

/// What the axes span; the same for charts that are to be compared.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Axes {
    pub(crate) seconds: f64,
    low: f64,
    high: f64,
}

impl Chart {
    /// Whether there is anything to draw.
    pub(crate) fn has_values(&self) -> bool {
        self.lines.iter().any(|line| line.values.iter().any(Option::is_some))
    }

    /// Axes that fit these charts, which are of one kind.
    pub(crate) fn axes(charts: &[&Chart]) -> Axes {
        let seconds = charts.iter().filter_map(|chart| chart.at_s.last().copied()).fold(1.0, f64::max);
        let is_logarithmic = charts.iter().any(|chart| chart.is_logarithmic);
        let values = || {
            charts
                .iter()
                .flat_map(|chart| &chart.lines)
                .flat_map(|line| line.values.iter().flatten().copied())
        };
        let high = values().fold(f64::MIN, f64::max);
        if is_logarithmic {
            let low = values().filter(|&value| value > 0.0).fold(f64::MAX, f64::min).min(high.max(1.0));
            let low = 10f64.powf(low.log10().floor());
            return Axes { seconds, low, high: 10f64.powf(high.max(1.0).log10().ceil()).max(low * 10.0) };
        }
        let low = values().fold(f64::MAX, f64::min);
        // What moves a little high above zero is looked at closely: a leak is a slope, not a level.
        let may_rise = charts.iter().all(|chart| !chart.unit.is_rate());
        let low =
            if may_rise && low > high * 0.7 && high - low > 0.0 { low - (high - low) * 0.25 } else { 0.0 };
        Axes { seconds, low, high: if high > low { high } else { low + 1.0 } }
    }

    /// The chart as an `svg` element.
    pub(crate) fn svg(&self, axes: Axes, marks: &[Mark]) -> String {
        let mut svg = String::new();
        let label = format!("{}: {}", self.title, self.caption);
        let _ = write!(
            svg,
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}" data-left="{LEFT}" data-right="{}" data-seconds="{}">"#,
            escape(&label),
            WIDTH - RIGHT,
            axes.seconds
        );
        self.grid(&mut svg, axes);
        for (at_s, text, is_failure) in together(marks, axes) {
            let x = x_of(at_s, axes);
            let class = if is_failure { "failure" } else { "event" };
            let _ = write!(
                svg,
                r#"<g class="{class}"><line x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{:.1}"/><path d="M{x:.1} {TOP}l-4 -7h8z"/><title>{}</title></g>"#,
                HEIGHT - BOTTOM,
                escape(&text)
            );
        }
        // Points closer than this would run together.
        let dense = if self.at_s.len() > WIDTH as usize / 2 { " dense" } else { "" };
        for (index, line) in self.lines.iter().enumerate() {
            let path = self.path(line, axes);
            let _ = write!(svg, r#"<path class="line s{}{dense}" d="{path}"/>"#, index % LINES_MAX);
        }
        let _ = write!(
            svg,
            r#"<line class="cursor" y1="{TOP}" y2="{:.1}" x1="-9" x2="-9"/></svg>"#,
            HEIGHT - BOTTOM
        );
        svg
    }

    fn grid(&self, svg: &mut String, axes: Axes) {
        for value in value_ticks(self.unit, self.is_logarithmic, axes) {
            let y = self.y_of(value, axes);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 7.0,
                y + 4.0,
                self.unit.text(value)
            );
        }
        for at_s in time_ticks(axes.seconds) {
            let x = x_of(at_s, axes);
            let _ = write!(
                svg,
                r#"<line class="tickmark" x1="{x:.1}" x2="{x:.1}" y1="{:.1}" y2="{:.1}"/><text class="tick" x="{x:.1}" y="{:.1}" text-anchor="{}">{}</text>"#,
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 4.0,
                HEIGHT - 8.0,
                if x > WIDTH - 40.0 { "end" } else { "middle" },
                span(at_s)
            );
        }
        let _ = write!(
            svg,
            r#"<line class="axis" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#,
            WIDTH - RIGHT,
            y = HEIGHT - BOTTOM
        );
    }

    fn y_of(&self, value: f64, axes: Axes) -> f64 {
        let share = if self.is_logarithmic {
            // Zero has no place on this scale, and is drawn at its lower end.
            (value.max(axes.low) / axes.low).log10() / (axes.high / axes.low).log10()
        } else {
            (value - axes.low) / (axes.high - axes.low)
        };
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }

    /// The line's path. Of many points within a pixel the highest and the lowest stay, so that no spike is lost.
    fn path(&self, line: &Line, axes: Axes) -> String {
        let mut path = String::new();
        let mut is_down = false;
        let mut draw = |at_s: f64, value: f64, is_down: &mut bool| {
            let (x, y) = (x_of(at_s, axes), self.y_of(value, axes));
            if std::mem::replace(is_down, true) {
                let _ = write!(path, "L{x:.1} {y:.1}");
            } else {
                // A point of its own is seen, too: a line of no length has round ends.
                let _ = write!(path, "M{x:.1} {y:.1}L{x:.1} {y:.1}");
            }
        };
        let mut column: Vec<(f64, f64)> = Vec::new();
        let column_of = |at_s: f64| x_of(at_s, axes) as i64;
        for (&at_s, value) in self.at_s.iter().zip(&line.values) {
            let begins_anew = column.first().is_some_and(|&(first, _)| column_of(first) != column_of(at_s));
            if value.is_none() || begins_anew {
                for (at_s, value) in extremes(&column) {
                    draw(at_s, value, &mut is_down);
                }
                column.clear();
            }
            match value {
                Some(value) => column.push((at_s, *value)),
                None => is_down = false,
            }
        }
        for (at_s, value) in extremes(&column) {
            draw(at_s, value, &mut is_down);
        }
        path
    }
}

fn x_of(at_s: f64, axes: Axes) -> f64 {
    LEFT + (at_s / axes.seconds).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

/// Marks of one kind that are less than a triangle apart are drawn as one: when, all of their texts, and whether they are failures.
fn together(marks: &[Mark], axes: Axes) -> Vec<(f64, String, bool)> {
    const APART: f64 = 4.0;
    const TEXTS_MAX: usize = 12;
    let mut sorted: Vec<&Mark> = marks.iter().filter(|mark| mark.at_s <= axes.seconds).collect();
    sorted.sort_by(|a, b| {
        (a.is_failure, a.at_s).partial_cmp(&(b.is_failure, b.at_s)).unwrap_or(Ordering::Equal)
    });
    let is_near = |a: &&Mark, b: &&Mark| {
        a.is_failure == b.is_failure && x_of(b.at_s, axes) - x_of(a.at_s, axes) < APART
    };
    let one = |group: &[&Mark]| {
        let mut texts: Vec<String> =
            group.iter().take(TEXTS_MAX).map(|mark| format!("{} {}", span(mark.at_s), mark.text)).collect();
        if group.len() > TEXTS_MAX {
            texts.push(format!("and {} more", group.len() - TEXTS_MAX));
        }
        (group[0].at_s, texts.join("\n"), group[0].is_failure)
    };
    sorted.chunk_by(is_near).map(one).collect()
}

/// The highest and the lowest of some points, in the order of time.
fn extremes(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let by_value = |a: &(usize, &(f64, f64)), b: &(usize, &(f64, f64))| a.1.1.total_cmp(&b.1.1);
    let low = points.iter().enumerate().min_by(by_value);
    let high = points.iter().enumerate().max_by(by_value);
    let (Some((low, _)), Some((high, _))) = (low, high) else { return Vec::new() };
    let mut both = vec![low.min(high), low.max(high)];
    both.dedup();
    both.into_iter().map(|index| points[index]).collect()
}

fn value_ticks(unit: Unit, is_logarithmic: bool, axes: Axes) -> Vec<f64> {
    if is_logarithmic {
        let mut ticks = Vec::new();
        let mut value = axes.low;
        while value <= axes.high * 1.001 {
            ticks.push(value);
            value *= 10.0;
        }
        return ticks;
    }
    const TICKS: f64 = 5.0;
    let rough = (axes.high - axes.low) / TICKS;
    let step = if unit.is_binary() {
        rough.log2().ceil().exp2()
    } else {
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * decade).find(|&step| step >= rough);
        step.unwrap_or(rough)
    };
    // Half a thing does not exist.
    let step = if unit == Unit::Count { step.max(1.0) } else { step };
    let first = (axes.low / step).ceil() as i64;
    let last = (axes.high / step).floor() as i64;
    (first..=last).map(|number| number as f64 * step).collect()
}

fn time_ticks(seconds: f64) -> Vec<f64> {
    const STEPS_S: [u32; 16] =
        [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800];
    const TICKS_MAX: f64 = 8.0;
    let step = STEPS_S.into_iter().map(f64::from).find(|step| seconds / step <= TICKS_MAX);
    let step = step.unwrap_or(seconds / TICKS_MAX);
    (0..=(seconds / step) as u32).map(|number| f64::from(number) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[Option<f64>]) -> Chart {
        Chart {
            title: "a".to_owned(),
            caption: "b".to_owned(),
            unit: Unit::Count,
            is_logarithmic: false,
            is_cumulative: false,
            at_s: (0u32..).take(values.len()).map(f64::from).collect(),
            lines: vec![Line { label: "c".to_owned(), values: values.to_vec() }],
        }
    }

    #[test]
    fn a_spike_among_very_many_points_is_drawn() {
        let mut values = vec![Some(1.0); 100_000];
        values[54_321] = Some(1000.0);
        let chart = chart(&values);
        let axes = Chart::axes(&[&chart]);
        let path = chart.path(&chart.lines[0], axes);
        assert!(path.contains(&format!(" {TOP:.1}")), "the highest place of the chart is not reached");
        assert!(path.len() < 60_000, "{} bytes", path.len());
    }

    #[test]
    fn a_gap_is_not_bridged_and_a_lonely_point_is_seen() {
        let chart = chart(&[Some(1.0), Some(2.0), None, Some(3.0), None]);
        let path = chart.path(&chart.lines[0], Chart::axes(&[&chart]));
        assert_eq!(path.matches('M').count(), 2);
    }

    #[test]
    fn axes_have_a_few_ticks_whatever_they_span() {
        for exponent in 0..14 {
            for factor in [1.0, 1.7, 3.3, 9.9] {
                let axes = Axes { seconds: 1.0, low: 0.0, high: factor * 10f64.powi(exponent) };
                for unit in [Unit::Ns, Unit::Bytes, Unit::PerSecond, Unit::BytesPerSecond] {
                    let ticks = value_ticks(unit, false, axes).len();
                    assert!((2..=12).contains(&ticks), "{ticks} ticks for {axes:?} of {unit:?}");
                }
                assert!(time_ticks(axes.high).len() <= 10);
            }
        }
    }

    #[test]
    fn no_mark_is_lost_where_many_are_close_together() {
        let mark = |number: u32| Mark {
            at_s: f64::from(number) / 100.0,
            text: format!("event {number}"),
            is_failure: number == 7,
        };
        let marks: Vec<Mark> = (0..100).map(mark).collect();
        let drawn = together(&marks, Axes { seconds: 1000.0, low: 0.0, high: 1.0 });
        assert_eq!(drawn.len(), 2);
        assert!(drawn[0].1.ends_with("and 87 more"), "{}", drawn[0].1);
        assert_eq!(drawn[1].1, "0 s event 7");
    }

    #[test]
    fn a_small_slope_on_a_high_level_fills_the_chart() {
        let chart = chart(&[Some(1000.0), Some(1001.0), Some(1002.0)]);
        let axes = Chart::axes(&[&chart]);
        assert!(axes.low > 990.0, "{axes:?}");
    }
}
