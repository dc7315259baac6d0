//! Which charts a soak has: places in an interval's object, as `soak/REPORT_FORMAT.md` has them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::chart::{Chart, Line, Mark};
use super::source::{Source, number};
use super::unit::Unit;

/// When an interval ended, in seconds since the soak began.
const AT_S: &str = "/elapsed_s";

/// How a line's value follows from an interval.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Take {
    /// As it stands there.
    Level,
    /// It is a counter: what came since the interval before, per second.
    Growth,
    /// It is a counter, and what counts is how far it has come.
    Total,
}

/// A chart of the whole process.
struct Plan {
    title: &'static str,
    caption: &'static str,
    unit: Unit,
    take: Take,
    lines: &'static [(&'static str, &'static str)],
}

/// What each workload has a chart of: title, caption and place in the workload's object. All are percentiles.
const TIMES: [(&str, &str, &str); 3] = [
    (
        "latency, corrected",
        "From the planned time of a message to its answer: what a user waits who does not care why.",
        "latency/corrected",
    ),
    (
        "latency, uncorrected",
        "From the sending of a message to its answer: a stall that delays the sending does not show here.",
        "latency/uncorrected",
    ),
    ("timer lateness", "From the deadline of a timer to its callback.", "timer_lateness"),
];
const PERCENTILES: [(&str, &str); 6] = [
    ("p50", "p50_ns"),
    ("p90", "p90_ns"),
    ("p99", "p99_ns"),
    ("p99.9", "p99_9_ns"),
    ("p99.99", "p99_99_ns"),
    ("max", "max_ns"),
];

const PLANS: &[Plan] = &[
    Plan {
        title: "Resident memory",
        caption: "Of the whole process, when each interval ended. A leak is a slope that does not end.",
        unit: Unit::Bytes,
        take: Take::Level,
        lines: &[("resident", "/resident_bytes")],
    },
    Plan {
        title: "Allocated memory",
        caption: "What the program has asked for and not given back, when each interval ended.",
        unit: Unit::Bytes,
        take: Take::Level,
        lines: &[("allocated", "/allocated_bytes")],
    },
    Plan {
        title: "Descriptors",
        caption: "Open descriptors of the process, and connections and listeners of the loops, when each interval ended.",
        unit: Unit::Count,
        take: Take::Level,
        lines: &[("descriptors", "/descriptors"), ("connections", "/live")],
    },
    Plan {
        title: "Timers and mailboxes",
        caption: "Timers armed and messages waiting in mailboxes when each interval ended.",
        unit: Unit::Count,
        take: Take::Level,
        lines: &[("timers", "/timers_armed"), ("messages waiting", "/mailbox_queued")],
    },
    Plan {
        title: "Traffic",
        caption: "Bytes that the loops read and wrote, each second.",
        unit: Unit::BytesPerSecond,
        take: Take::Growth,
        lines: &[("read", "/bytes_read"), ("written", "/bytes_written")],
    },
    Plan {
        title: "Turns",
        caption: "Turns of the loops, those of them without an event, and wake-ups by other threads, each second.",
        unit: Unit::PerSecond,
        take: Take::Growth,
        lines: &[("turns", "/turns"), ("empty", "/turns_empty"), ("wake-ups", "/wakes")],
    },
    Plan {
        title: "Trouble",
        caption: "Counted since the beginning. Errors that a sound loop cannot make must stay at zero.",
        unit: Unit::Count,
        take: Take::Total,
        lines: &[
            ("impossible", "/errors_impossible"),
            ("unlisted", "/errors_unlisted"),
            ("stale events", "/events_stale"),
            ("shed", "/shed"),
            ("accept errors", "/accept_errors"),
            ("connects failed", "/connects_failed"),
        ],
    },
];

/// The charts of a soak, in the order of the page.
pub(crate) fn charts(source: &Source) -> Vec<Chart> {
    let at_s: Vec<f64> = timed(source).map(|(at_s, _)| at_s).collect();
    let mut charts = Vec::new();
    let workloads = workloads(source);
    for workload in &workloads {
        for (title, caption, field) in TIMES {
            let line = |(label, percentile): (&str, &str)| {
                let place = format!("/workloads/{workload}/{field}/{percentile}");
                Line { label: label.to_owned(), values: values(source, &place, Take::Level, &at_s) }
            };
            charts.push(Chart {
                title: format!("{workload}: {title}"),
                caption: caption.to_owned(),
                unit: Unit::Ns,
                is_logarithmic: true,
                is_cumulative: false,
                at_s: at_s.clone(),
                lines: PERCENTILES.map(line).to_vec(),
            });
        }
    }
    let throughput = |workload: &String| {
        let place = format!("/workloads/{workload}/counters/messages");
        Line { label: workload.clone(), values: values(source, &place, Take::Growth, &at_s) }
    };
    charts.push(Chart {
        title: "Throughput".to_owned(),
        caption: "Messages that were found right, each second; of timers, those that fired.".to_owned(),
        unit: Unit::PerSecond,
        is_logarithmic: false,
        is_cumulative: false,
        at_s: at_s.clone(),
        lines: workloads.iter().map(throughput).collect(),
    });
    for plan in PLANS {
        let line = |(label, place): &(&str, &str)| Line {
            label: (*label).to_owned(),
            values: values(source, place, plan.take, &at_s),
        };
        charts.push(Chart {
            title: plan.title.to_owned(),
            caption: plan.caption.to_owned(),
            unit: plan.unit,
            is_logarithmic: false,
            is_cumulative: plan.take == Take::Total,
            at_s: at_s.clone(),
            lines: plan.lines.iter().map(line).collect(),
        });
    }
    for chart in &mut charts {
        chart.lines.retain(|line| line.values.iter().any(Option::is_some));
    }
    charts.retain(Chart::has_values);
    charts
}

/// Where the soak went on after it was stopped, as the intervals tell it.
pub(crate) fn marks(source: &Source) -> Vec<Mark> {
    let mut marks = Vec::new();
    let mut part = None;
    for (at_s, interval) in timed(source) {
        let now = number(interval, "/part");
        if part.is_some() && now != part {
            marks.push(Mark { at_s, text: "went on after it was stopped".to_owned(), is_failure: false });
        }
        part = now;
    }
    marks
}

fn timed(source: &Source) -> impl Iterator<Item = (f64, &Value)> {
    source.intervals.iter().filter_map(|interval| Some((number(interval, AT_S)?, interval)))
}

fn workloads(source: &Source) -> BTreeSet<String> {
    let of = |interval: &Value| {
        interval["workloads"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>())
    };
    source.intervals.iter().filter_map(of).flatten().collect()
}

fn values(source: &Source, place: &str, take: Take, at_s: &[f64]) -> Vec<Option<f64>> {
    let levels: Vec<Option<f64>> = timed(source).map(|(_, interval)| number(interval, place)).collect();
    match take {
        Take::Level | Take::Total => levels,
        Take::Growth => growth(at_s, &levels),
    }
}

/// What a counter grew by in each second of each interval. A counter that went back tells nothing, nor does an interval that
/// was cut short: it has what a whole one finished, and little time.
fn growth(at_s: &[f64], counter: &[Option<f64>]) -> Vec<Option<f64>> {
    let spans: Vec<f64> =
        at_s.iter().scan(0.0, |began_s, &at_s| Some(at_s - std::mem::replace(began_s, at_s))).collect();
    let mut sorted = spans.clone();
    sorted.sort_by(f64::total_cmp);
    let ordinary_s = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let mut before = Some(0.0);
    let growth = |(&seconds, &count): (&f64, &Option<f64>)| {
        let began = std::mem::replace(&mut before, count);
        let grown = count? - began?;
        (grown >= 0.0 && seconds > ordinary_s / 2.0).then(|| grown / seconds)
    };
    spans.iter().zip(counter).map(growth).collect()
}

/// A line as one number: its median, or its end where it counts from the beginning.
pub(crate) fn in_one(chart: &Chart, line: &Line) -> Option<f64> {
    if chart.is_cumulative { line.values.iter().rev().flatten().next().copied() } else { median(line) }
}

/// The middle one of a line's values.
pub(crate) fn median(line: &Line) -> Option<f64> {
    let mut values: Vec<f64> = line.values.iter().flatten().copied().collect();
    values.sort_by(f64::total_cmp);
    // Of two in the middle the lower one: a value that was measured.
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_drawn_as_what_it_grew_by_each_second() {
        let counts = [Some(20.0), Some(30.0), None, Some(50.0), Some(5.0)];
        let grown = growth(&[10.0, 15.0, 20.0, 25.0, 30.0], &counts);
        assert_eq!(grown, [Some(2.0), Some(2.0), None, None, None]);
        let cut_short = growth(&[10.0, 20.0, 30.0, 30.5], &[Some(10.0), Some(20.0), Some(30.0), Some(40.0)]);
        assert_eq!(cut_short, [Some(1.0), Some(1.0), Some(1.0), None]);
    }

    #[test]
    fn the_median_is_a_value_that_was_measured() {
        let line = |values: &[f64]| Line {
            label: String::new(),
            values: values.iter().copied().map(Some).collect(),
        };
        assert_eq!(median(&line(&[3.0, 1.0, 2.0])), Some(2.0));
        assert_eq!(median(&line(&[4.0, 1.0])), Some(1.0));
        assert_eq!(median(&line(&[])), None);
    }
}
