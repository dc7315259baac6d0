//! How long things took: histograms of one interval and of the whole run.

use hdrhistogram::Histogram;
use sim::workload::Measures;

/// What is timed.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timed {
    /// An answer, from the planned time of its message.
    Corrected,
    /// An answer, from the time its message was really sent.
    Uncorrected,
    /// A timer, from its deadline.
    Lateness,
}

impl Timed {
    pub(crate) const ALL: [Timed; 3] = [Timed::Corrected, Timed::Uncorrected, Timed::Lateness];

    /// Its name in logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Timed::Corrected => "corrected",
            Timed::Uncorrected => "uncorrected",
            Timed::Lateness => "lateness",
        }
    }

    /// What has this name.
    pub(crate) fn from_name(name: &str) -> Option<Timed> {
        Timed::ALL.into_iter().find(|timed| timed.name() == name)
    }
}

/// The longest time that is told apart: an hour. What is longer counts as an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Digits that are kept of each time.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Histograms of all that is timed.
#[derive(Clone, Debug)]
pub(crate) struct LatencyBook {
    histograms: [Histogram<u64>; 3],
}

impl Default for LatencyBook {
    fn default() -> LatencyBook {
        let empty =
            || Histogram::new_with_max(LONGEST_NS, SIGNIFICANT_DIGITS).expect("bounds that are in order");
        LatencyBook { histograms: [empty(), empty(), empty()] }
    }
}

impl LatencyBook {
    /// Takes what a party has measured.
    pub(crate) fn take(&mut self, measures: &mut Measures) {
        for answer in &measures.answers {
            self.histograms[0].saturating_record(answer.corrected_ns);
            self.histograms[1].saturating_record(answer.uncorrected_ns);
        }
        for &lateness_ns in &measures.timer_lateness_ns {
            self.histograms[2].saturating_record(lateness_ns);
        }
        measures.clear();
    }

    /// What was recorded of it.
    pub(crate) fn of(&self, timed: Timed) -> &Histogram<u64> {
        &self.histograms[timed as usize]
    }

    /// Adds a histogram of the same.
    pub(crate) fn add(&mut self, timed: Timed, other: &Histogram<u64>) {
        // Times beyond the range were recorded as the end of the range.
        self.histograms[timed as usize].add(other).expect("both have the same range");
    }

    /// Adds all of another book.
    pub(crate) fn add_all(&mut self, other: &LatencyBook) {
        for timed in Timed::ALL {
            self.add(timed, other.of(timed));
        }
    }

    /// Forgets all, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for histogram in &mut self.histograms {
            histogram.reset();
        }
    }
}

/// The percentiles that are reported, with their names.
const PERCENTILES: [(&str, f64); 6] = [
    ("p50_ns", 50.0),
    ("p75_ns", 75.0),
    ("p90_ns", 90.0),
    ("p99_ns", 99.0),
    ("p99_9_ns", 99.9),
    ("p99_99_ns", 99.99),
];

/// A histogram as percentiles in nanoseconds; null for an empty one.
pub(crate) fn percentiles(histogram: &Histogram<u64>) -> serde_json::Value {
    if histogram.is_empty() {
        return serde_json::Value::Null;
    }
    let mut object = serde_json::Map::new();
    object.insert("count".to_owned(), histogram.len().into());
    for (name, percentile) in PERCENTILES {
        object.insert(name.to_owned(), histogram.value_at_percentile(percentile).into());
    }
    object.insert("max_ns".to_owned(), histogram.max().into());
    object.into()
}
