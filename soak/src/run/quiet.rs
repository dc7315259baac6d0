//! What is left in the process when nothing but the long-lived service runs: looked at between rounds, and judged by its
//! slope.

use serde_json::{Value, json};

use super::record::Process;
use super::roster::Roster;
use super::slope::{Verdict, judge};
use crate::Failure;

/// A value that must not keep growing.
#[derive(Debug)]
struct Series {
    name: &'static str,
    /// By how much it may grow over all samples. [`super::slope`] says why healthy runs stay below it.
    allowed: i64,
    /// Milliseconds since the run began, value.
    samples: Vec<(u64, i64)>,
}

impl Series {
    const fn new(name: &'static str, allowed: i64) -> Series {
        Series { name, allowed, samples: Vec::new() }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct QuietPoints {
    allocated: Series,
    resident: Series,
    descriptors: Series,
    threads: Series,
}

impl Default for QuietPoints {
    fn default() -> QuietPoints {
        QuietPoints {
            allocated: Series::new("allocated_bytes", 1 << 20),
            resident: Series::new("resident_bytes", 256 << 20),
            descriptors: Series::new("descriptors", 4),
            threads: Series::new("threads", 4),
        }
    }
}

impl QuietPoints {
    /// Looks at the process, at a quiet point, with `kept_bytes` of memory that are kept on purpose.
    pub(super) fn look(&mut self, elapsed_ms: u64, roster: &Roster, kept_bytes: u64) {
        let (process, now) = (Process::look(), roster.now());
        let add = |series: &mut Series, value: Option<i64>| {
            series.samples.extend(value.map(|value| (elapsed_ms, value)));
        };
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        add(&mut self.allocated, Some(signed(process.allocated_bytes) - signed(kept_bytes)));
        add(&mut self.resident, process.resident_bytes.map(|bytes| signed(bytes) - signed(kept_bytes)));
        // Beside those that loops hold and know of.
        add(&mut self.descriptors, process.descriptors.map(|count| signed(count) - now.descriptors));
        add(&mut self.threads, process.threads.map(|count| signed(count) - signed(now.loops)));
    }

    fn all(&self) -> [&Series; 4] {
        [&self.allocated, &self.resident, &self.descriptors, &self.threads]
    }

    /// What keeps growing.
    pub(super) fn leaks(&self) -> Vec<Failure> {
        let leak = |series: &Series| match judge(&series.samples, series.allowed) {
            Verdict::Leak { per_hour } => {
                let (first, last) = (series.samples[0].1, series.samples[series.samples.len() - 1].1);
                Some(Failure::Leak(format!(
                    "leak: {} keep growing, by {per_hour} an hour at this pace; from {first} to {last} over {} quiet points between \
                     rounds",
                    series.name,
                    series.samples.len()
                )))
            }
            Verdict::Steady | Verdict::TooFew => None,
        };
        self.all().into_iter().filter_map(leak).collect()
    }

    /// As the summary has it.
    pub(super) fn to_json(&self) -> Value {
        let slopes = self.all().into_iter().map(|series| {
            let (verdict, per_hour) = match judge(&series.samples, series.allowed) {
                Verdict::TooFew => ("too few samples", None),
                Verdict::Steady => ("steady", None),
                Verdict::Leak { per_hour } => ("leak", Some(per_hour)),
            };
            json!({
                "value": series.name,
                "verdict": verdict,
                "per_hour": per_hour,
                "allowed": series.allowed,
                "samples": series.samples,
            })
        });
        Value::Array(slopes.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(value: impl Fn(i64) -> i64) -> QuietPoints {
        let mut points = QuietPoints::default();
        points.descriptors.samples = (0..12).map(|round| (round as u64 * 60_000, value(round))).collect();
        points
    }

    #[test]
    fn a_descriptor_that_each_round_leaves_behind_is_a_leak_with_a_name() {
        let leaks = points(|round| 9 + round).leaks();
        let [Failure::Leak(text)] = &leaks[..] else { panic!("{leaks:?}") };
        assert!(text.starts_with("leak: descriptors keep growing, by 60 an hour"), "{text}");
        assert!(points(|_| 9).leaks().is_empty());
    }
}
