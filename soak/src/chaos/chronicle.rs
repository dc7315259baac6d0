//! What went wrong on purpose, for records and the summary.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kind::Kind;
use super::schedule::Event;

/// An event that happened.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Happened {
    pub(crate) event: Event,
    /// On the machine's clock.
    pub(crate) begun_ns: u64,
    /// Connections, waits, calls: what the kind strikes, counted.
    pub(crate) touched: u64,
}

/// How often each kind came, and what it struck.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Count {
    pub(crate) events: u64,
    pub(crate) touched: u64,
}

#[derive(Default, Debug)]
struct Written {
    /// Not yet taken.
    news: Vec<Happened>,
    counts: [Count; Kind::ALL.len()],
}

/// See the module. One for all episodes of a run.
#[derive(Default, Debug)]
pub(crate) struct Chronicle {
    written: Mutex<Written>,
}

impl Chronicle {
    /// `event` began at `begun_ns` and struck so much.
    pub(crate) fn happened(&self, event: Event, begun_ns: u64, touched: u64) {
        let mut written = self.written.lock().expect("nobody panics while it writes");
        let count = &mut written.counts[event.kind as usize];
        count.events += 1;
        count.touched += touched;
        written.news.push(Happened { event, begun_ns, touched });
    }

    /// Counts what a part of the run before this one wrote down of an event.
    pub(crate) fn restore(&self, record: &Value) {
        let Some(kind) = record["kind"].as_str().and_then(Kind::from_name) else { return };
        let mut written = self.written.lock().expect("nobody panics while it writes");
        let count = &mut written.counts[kind as usize];
        count.events += 1;
        count.touched += record["touched"].as_u64().unwrap_or(0);
    }

    /// What has happened since the last call.
    pub(crate) fn take(&self) -> Vec<Happened> {
        std::mem::take(&mut self.written.lock().expect("nobody panics while it writes").news)
    }

    /// How often `kind` came.
    pub(crate) fn count(&self, kind: Kind) -> Count {
        self.written.lock().expect("nobody panics while it writes").counts[kind as usize]
    }

    /// By kind, for the summary: `events`, `touched`.
    pub(crate) fn to_json(&self) -> Value {
        let kind = |kind: Kind| {
            let Count { events, touched } = self.count(kind);
            (events > 0).then(|| (kind.name().to_owned(), json!({ "events": events, "touched": touched })))
        };
        Value::Object(Kind::ALL.into_iter().filter_map(kind).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told_once_and_counted_for_good() {
        let chronicle = Chronicle::default();
        let event = Event { number: 3, at_ns: 7, duration_ns: 1, kind: Kind::Reset, strength: 5 };
        chronicle.happened(event, 100, 4);
        chronicle.happened(event, 200, 0);
        assert_eq!(chronicle.take().len(), 2);
        assert_eq!(chronicle.take(), []);
        assert_eq!(chronicle.count(Kind::Reset), Count { events: 2, touched: 4 });
        assert_eq!(chronicle.to_json(), json!({ "reset": { "events": 2, "touched": 4 } }));
    }
}
