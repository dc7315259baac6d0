//! Sees loops that owe something and do nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::episode::pause;
use super::roster::Roster;
use crate::gauge::Gauge;

/// See the module.
#[derive(Debug)]
pub(super) struct Watchdog {
    after_ns: u64,
    /// By the address of its gauge: how far a loop had got when it last got on, and when that was.
    seen: BTreeMap<usize, (u64, u64)>,
}

impl Watchdog {
    /// A loop has stalled when it has not got on for so long.
    pub(super) fn new(after: Duration) -> Watchdog {
        Watchdog { after_ns: u64::try_from(after.as_nanos()).unwrap_or(u64::MAX), seen: BTreeMap::new() }
    }

    /// Looks at everybody who runs; `now_ns` is the run's own clock. Answers what is known of those that have stalled.
    pub(super) fn look(&mut self, roster: &Roster, now_ns: u64) -> Option<String> {
        let running = roster.running();
        let key = |gauge: &Arc<Gauge>| Arc::as_ptr(gauge) as usize;
        let mut seen = BTreeMap::new();
        let mut stalled = false;
        for gauge in &running {
            let progress = gauge.progress();
            let since_ns = match self.seen.get(&key(gauge)) {
                Some(&(before, since_ns)) if before == progress && !gauge.is_finished() => since_ns,
                _ => now_ns,
            };
            stalled |= now_ns.saturating_sub(since_ns) > self.after_ns;
            seen.insert(key(gauge), (progress, since_ns));
        }
        self.seen = seen;
        if !stalled {
            return None;
        }
        // Those that can turn say what they miss.
        running.iter().for_each(|gauge| gauge.ask());
        pause(Duration::from_millis(200));
        let late = |gauge: &&Arc<Gauge>| {
            let (_, since_ns) = self.seen[&key(gauge)];
            now_ns.saturating_sub(since_ns) > self.after_ns
        };
        // Those of the same episode that have not stalled say what the others may wait for.
        let dumps: Vec<String> = running
            .iter()
            .map(|gauge| {
                let mark = if late(&gauge) { "stalled: " } else { "beside it: " };
                format!("{mark}{}", gauge.dump())
            })
            .collect();
        Some(dumps.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::member::Role;
    use sim::workload::WorkloadKind;

    #[test]
    fn who_does_nothing_and_owes_something_has_stalled_after_a_while() {
        let roster = Roster::new([(WorkloadKind::Echo, Default::default())]);
        let mut watchdog = Watchdog::new(Duration::from_secs(10));
        let _idle = roster.enter(WorkloadKind::Echo, Role::Client, "the idle one".to_owned());
        let second_ns = 1_000_000_000;
        for second in 0..=10 {
            assert_eq!(watchdog.look(&roster, second * second_ns), None, "after {second} s");
        }
        let dump = watchdog.look(&roster, 11 * second_ns).expect("it has done nothing for eleven seconds");
        assert!(dump.starts_with("stalled: the idle one"), "{dump}");
    }

    #[test]
    fn who_comes_and_goes_has_not_stalled() {
        let roster = Roster::new([(WorkloadKind::Echo, Default::default())]);
        let mut watchdog = Watchdog::new(Duration::from_secs(10));
        for round in 0..10 {
            let gauge = roster.enter(WorkloadKind::Echo, Role::Client, "one of many".to_owned());
            assert_eq!(watchdog.look(&roster, round * 8_000_000_000), None);
            roster.leave(WorkloadKind::Echo, &gauge);
            assert_eq!(watchdog.look(&roster, round * 8_000_000_000 + 1), None);
        }
    }
}
