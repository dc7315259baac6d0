//! Sustained loads: what a workload does for as long as it is told, on real sockets; and how often.
//!
//! A plan that is [drawn](super::Workload) is a short story. A load is a long one, of which only this is kept: how many
//! connections, how often, how long. Each workload has a function `load`, which makes a plan of it; the same decisions and
//! the same load give the same plan. What a plan under load does depends on the clock as well: how much fits into the time.
//!
//! Ledgers stay bounded: a stream, timer or request that ended as it should is forgotten.

use reactor::time::Instant;

use super::Numbered;

const SECOND_NS: u128 = 1_000_000_000;

/// What is asked of one episode.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// Connections at once, 1 to [`Load::CONNECTIONS_MAX`]. For `wake` the loops that are woken, and for `timers` the callers; at most
    /// [`Load::LOOPS_MAX`] of the first.
    pub connections: u32,
    /// Messages a second in all, each with a planned time, 1 to [`Load::RATE_MAX`]; `None` for a closed loop, in which each party
    /// waits for an answer, and perhaps thinks, before it goes on. For `timers`, operations a second.
    pub rate_per_s: Option<u64>,
    /// How long new things are begun, in nanoseconds of the loops' clocks, at least 1. What has begun then ends.
    pub duration_ns: u64,
}

impl Load {
    /// The most loops that a load has, of any kind.
    pub const LOOPS_MAX: u32 = 4;

    /// The most connections.
    pub const CONNECTIONS_MAX: u32 = 1_000_000;

    /// The highest rate.
    pub const RATE_MAX: u64 = 100_000_000;
}

/// A message to any loop under load: its time is over now, earlier than planned. That it is a message gives it a place in a
/// recording.
pub const OVER: Numbered = Numbered { producer: u32::MAX, number: u64::MAX };

/// The planned times of the messages of one of several parties that share a rate: those of the parties follow each other in
/// turn. Integers only, so that no message drifts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    begin: Instant,
    rate_per_s: u64,
    party: u64,
    parties: u64,
}

impl Schedule {
    /// The schedule of `party`, counted from 0, of `parties`. The rate is that of all together.
    ///
    /// # Panics
    /// When there are no parties, or the rate is zero.
    pub fn new(begin: Instant, rate_per_s: u64, party: u64, parties: u64) -> Schedule {
        assert!(party < parties, "party {party} of {parties}");
        assert!(rate_per_s > 0, "a rate of zero plans nothing");
        Schedule { begin, rate_per_s, party, parties }
    }

    /// When message `number` of this party is planned; messages are counted from 0.
    pub fn planned(&self, number: u64) -> Instant {
        let place = u128::from(self.party) + u128::from(number) * u128::from(self.parties);
        let after_ns = place * SECOND_NS / u128::from(self.rate_per_s);
        self.begin.saturating_add_ns(u64::try_from(after_ns).unwrap_or(u64::MAX))
    }

    /// How many messages of this party are planned up to `now`, that instant included.
    pub fn due(&self, now: Instant) -> u64 {
        let Some(elapsed_ns) = now.as_ns().checked_sub(self.begin.as_ns()) else { return 0 };
        // The last place whose time, rounded down, has come.
        let places = ((u128::from(elapsed_ns) + 1) * u128::from(self.rate_per_s) - 1) / SECOND_NS;
        let Some(beyond) = places.checked_sub(u128::from(self.party)) else { return 0 };
        u64::try_from(beyond / u128::from(self.parties) + 1).unwrap_or(u64::MAX)
    }
}

/// How long one answer took.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AnswerTime {
    /// From the planned time of its message, in nanoseconds. Without a plan, as `uncorrected_ns`.
    pub corrected_ns: u64,
    /// From the time its message was given to the loop, in nanoseconds.
    pub uncorrected_ns: u64,
}

/// What a party under load has measured, by the clock of its loop.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Measures {
    /// Each answer.
    pub answers: Vec<AnswerTime>,
    /// For each timer that fired, how long after its deadline, in nanoseconds.
    pub timer_lateness_ns: Vec<u64>,
}

impl Measures {
    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.timer_lateness_ns.is_empty()
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.answers.clear();
        self.timer_lateness_ns.clear();
    }

    /// Notes an answer that has come `now`.
    pub(crate) fn answered(&mut self, planned: Instant, sent: Instant, now: Instant) {
        let uncorrected_ns = now.saturating_ns_since(sent);
        self.answers.push(AnswerTime { corrected_ns: now.saturating_ns_since(planned), uncorrected_ns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Decisions;
    use crate::kernel::Kernel;
    use crate::runner::setup::Setup;
    use crate::runner::{Outcome, RunOptions, run_plan};
    use crate::weather::Weather;
    use crate::workload::cluster::Cluster;
    use crate::workload::echo::Echo;
    use crate::workload::timers::Timers;
    use crate::workload::wake::Wake;
    use crate::workload::{Workload, WorkloadKind};

    fn run<W: Workload>(
        workload: WorkloadKind,
        weather: Weather,
        seed: u64,
        plan: impl Fn(&mut Decisions) -> W,
    ) -> Outcome {
        let mut decisions = Decisions::from_seed(seed);
        let plan = plan(&mut decisions);
        // Limits of a few bytes, as runs draw them, would make millions of calls of a load.
        let setup = Setup::plain(workload, Kernel::Linux, weather);
        let outcome = run_plan(&plan, setup, &RunOptions::default(), decisions);
        assert_eq!(outcome.failure, None, "{workload} with seed {seed} in {weather:?}");
        outcome
    }

    #[test]
    fn loads_hold_under_the_simulated_kernel_too() {
        for seed in 0..6 {
            for rate_per_s in [None, Some(5_000)] {
                for weather in [Weather::Calm, Weather::Default] {
                    let load = Load { connections: 6, rate_per_s, duration_ns: 200_000_000 };
                    let kind = WorkloadKind::Echo;
                    let outcome = run(kind, weather, seed, |decisions| Echo::load(decisions, &load));
                    assert!(
                        outcome.counters.closed > 12,
                        "streams follow each other: {:?}",
                        outcome.counters
                    );
                    // Producers that never pause take more steps than a run may have.
                    let paced = Load { rate_per_s: Some(5_000), ..load };
                    let kind = WorkloadKind::Wake;
                    let outcome = run(kind, weather, seed, |decisions| Wake::load(decisions, &paced));
                    assert!(outcome.messages > 200, "{}", outcome.messages);
                    let kind = WorkloadKind::Timers;
                    let outcome = run(kind, weather, seed, |decisions| Timers::load(decisions, &load));
                    assert!(outcome.counters.timers_fired > 200, "{:?}", outcome.counters);
                    let kind = WorkloadKind::Cluster;
                    let outcome = run(kind, weather, seed, |decisions| Cluster::load(decisions, &load));
                    assert!(outcome.messages > 20, "{}", outcome.messages);
                }
            }
        }
    }

    #[test]
    fn a_message_is_due_from_its_planned_time_on_and_not_before() {
        for (rate, parties) in [(1, 1), (3, 2), (7, 5), (1000, 3), (999_999_937, 4), (2_000_000_000, 3)] {
            for party in 0..parties {
                let schedule = Schedule::new(Instant::from_ns(17), rate, party, parties);
                for number in 0..200 {
                    let at = schedule.planned(number);
                    assert!(schedule.due(at) > number, "{schedule:?}: {number} is not due at its time");
                    let before = Instant::from_ns(at.as_ns().saturating_sub(1));
                    assert!(schedule.due(before) <= number, "{schedule:?}: {number} is due too early");
                }
            }
        }
    }

    #[test]
    fn parties_share_a_rate() {
        let second = Instant::from_ns(999_999_999);
        for (rate, parties) in [(1, 4), (10, 3), (1000, 7), (100_000, 100)] {
            let due: u64 = (0..parties)
                .map(|party| Schedule::new(Instant::from_ns(0), rate, party, parties).due(second))
                .sum();
            assert_eq!(due, rate);
        }
    }

    #[test]
    fn a_day_does_not_drift() {
        let schedule = Schedule::new(Instant::from_ns(0), 3, 0, 1);
        assert_eq!(schedule.planned(3 * 86_400), Instant::from_ns(86_400 * 1_000_000_000));
    }
}
