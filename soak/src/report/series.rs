//! Which charts a soak has: places in an interval's object, as `soak/REPORT_FORMAT.md` has them.

use super::chart::{Chart, Line};
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
}

struct Plan {
    title: &'static str,
    caption: &'static str,
    unit: Unit,
    is_logarithmic: bool,
    take: Take,
    lines: &'static [(&'static str, &'static str)],
}

const PLANS: &[Plan] = &[
    Plan {
        title: "Latency, corrected",
        caption: "From the planned time of a message to its answer: what a user waits who does not care why.",
        unit: Unit::Ns,
        is_logarithmic: true,
        take: Take::Level,
        lines: &[
            ("p50", "/latency/corrected/p50_ns"),
            ("p90", "/latency/corrected/p90_ns"),
            ("p99", "/latency/corrected/p99_ns"),
            ("p99.9", "/latency/corrected/p99_9_ns"),
            ("max", "/latency/corrected/max_ns"),
        ],
    },
    Plan {
        title: "Latency, uncorrected",
        caption: "From the sending of a message to its answer: a stall that delays the sending does not show here.",
        unit: Unit::Ns,
        is_logarithmic: true,
        take: Take::Level,
        lines: &[
            ("p50", "/latency/uncorrected/p50_ns"),
            ("p90", "/latency/uncorrected/p90_ns"),
            ("p99", "/latency/uncorrected/p99_ns"),
            ("p99.9", "/latency/uncorrected/p99_9_ns"),
            ("max", "/latency/uncorrected/max_ns"),
        ],
    },
    Plan {
        title: "Throughput",
        caption: "Messages that came whole and right, each second.",
        unit: Unit::PerSecond,
        is_logarithmic: false,
        take: Take::Growth,
        lines: &[("messages", "/messages")],
    },
    Plan {
        title: "Resident memory",
        caption: "Of the whole process. A leak is a slope that does not end.",
        unit: Unit::Bytes,
        is_logarithmic: false,
        take: Take::Level,
        lines: &[("resident", "/resident_bytes")],
    },
    Plan {
        title: "Descriptors",
        caption: "Open descriptors of the process, at the end of each interval.",
        unit: Unit::Count,
        is_logarithmic: false,
        take: Take::Level,
        lines: &[("open", "/descriptors")],
    },
    Plan {
        title: "Timer lateness",
        caption: "How long after its deadline a timer fired.",
        unit: Unit::Ns,
        is_logarithmic: true,
        take: Take::Level,
        lines: &[
            ("p50", "/timer_lateness/p50_ns"),
            ("p99", "/timer_lateness/p99_ns"),
            ("max", "/timer_lateness/max_ns"),
        ],
    },
    Plan {
        title: "Timers",
        caption: "Armed at the end of each interval.",
        unit: Unit::Count,
        is_logarithmic: false,
        take: Take::Level,
        lines: &[("armed", "/timers_armed")],
    },
];

/// The charts for which a soak has values, in the order of the page.
pub(crate) fn charts(source: &Source) -> Vec<Chart> {
    PLANS.iter().map(|plan| chart(plan, source)).collect()
}

fn chart(plan: &Plan, source: &Source) -> Chart {
    let timed: Vec<_> =
        source.intervals.iter().filter_map(|interval| Some((number(interval, AT_S)?, interval))).collect();
    let at_s: Vec<f64> = timed.iter().map(|(at_s, _)| *at_s).collect();
    let line = |(label, place): &(&str, &str)| {
        let levels = timed.iter().map(|(_, interval)| number(interval, place));
        let values = match plan.take {
            Take::Level => levels.collect(),
            Take::Growth => growth(&at_s, &levels.collect::<Vec<_>>()),
        };
        Line { label: (*label).to_owned(), values }
    };
    Chart {
        title: plan.title,
        caption: plan.caption,
        unit: plan.unit,
        is_logarithmic: plan.is_logarithmic,
        lines: plan.lines.iter().map(line).filter(|line| line.values.iter().any(Option::is_some)).collect(),
        at_s,
    }
}

/// What a counter grew by in each second of each interval. A counter that went back tells nothing.
fn growth(at_s: &[f64], counter: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut before = (0.0, Some(0.0));
    let growth = |(&at_s, &count): (&f64, &Option<f64>)| {
        let (began_s, began) = std::mem::replace(&mut before, (at_s, count));
        let (grown, seconds) = (count? - began?, at_s - began_s);
        (grown >= 0.0 && seconds > 0.0).then(|| grown / seconds)
    };
    at_s.iter().zip(counter).map(growth).collect()
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
