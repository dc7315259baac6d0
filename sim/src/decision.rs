//! The one source of every decision of a simulated run.
//!
//! A decision is addressed by a domain, an entity (a host, a connection ... or zero) and the count of decisions made so
//! far in that domain for that entity; its site says in the code's own words what is being decided. Four sources give
//! the same shape of answer:
//!
//! | source | a value comes from |
//! |---|---|
//! | [`Decisions::from_seed`] | one ChaCha8 stream per domain |
//! | [`Decisions::from_bytes`] | one lane of bytes per domain; zero when the lane is exhausted |
//! | [`Decisions::from_tape`] | one lane of values per domain and entity; zero when the lane is exhausted |
//! | [`Decisions::from_script`] | a list of single values; everything unlisted is zero |
//!
//! Whatever the source, [`Decisions::recorded`] writes down what was chosen, so that each can be turned into each other.
//!
//! Zero is always the benign outcome, so a shorter tape with more zeros tells a simpler story; and a new fault kind in
//! one domain leaves the values of the other domains alone.

pub mod bytes;
pub mod log;
pub mod script;
pub mod seed;
pub mod tape;

use std::fmt;

use reactor::sys::EpollEvent;
use reactor::time::Instant;

use crate::trace::CallRecord;

use bytes::Lanes;
use log::ChoiceLog;
use script::Script;
use seed::SeedStreams;
use tape::{Player, Tape};

/// What a decision is about. The numbers are stable: kept failures depend on them, so a domain is never renumbered or
/// reused, and new ones take a spare number.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Domain {
    /// Which kernel, weather and workload a run has.
    Setup = 0,
    /// Which fault kinds a run has on, and how strong.
    Swarm = 1,
    /// What the workload does.
    Workload = 2,
    /// Ties between events of the same time, and who runs first.
    Schedule = 3,
    /// Latency, segment boundaries, stalled links.
    Network = 4,
    /// Capacities of socket buffers.
    Buffers = 5,
    /// Size and order of event batches.
    Batches = 6,
    /// Interrupted and late waits.
    WaitFaults = 7,
    /// Connections that are reset or fail under way.
    Resets = 8,
    /// Errors at accept.
    AcceptFaults = 9,
    /// Errors at connect.
    ConnectFaults = 10,
    /// Descriptor limits, and errors of calls that create descriptors or registrations.
    Descriptors = 11,
    /// Pauses between a wait and what follows it.
    Stalls = 12,
    /// Where clocks and counters start.
    Clock = 13,
    /// Other threads of a process that run inside a call.
    Actors = 14,
    /// Which processes are killed, frozen and started again, and which hosts lose power.
    Processes = 15,
}

impl Domain {
    /// How many domains there are.
    pub const COUNT: usize = 16;

    /// Every domain, by number.
    pub const ALL: [Domain; Domain::COUNT] = [
        Domain::Setup,
        Domain::Swarm,
        Domain::Workload,
        Domain::Schedule,
        Domain::Network,
        Domain::Buffers,
        Domain::Batches,
        Domain::WaitFaults,
        Domain::Resets,
        Domain::AcceptFaults,
        Domain::ConnectFaults,
        Domain::Descriptors,
        Domain::Stalls,
        Domain::Clock,
        Domain::Actors,
        Domain::Processes,
    ];

    /// The name used in scripts and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Domain::Setup => "setup",
            Domain::Swarm => "swarm",
            Domain::Workload => "workload",
            Domain::Schedule => "schedule",
            Domain::Network => "network",
            Domain::Buffers => "buffers",
            Domain::Batches => "batches",
            Domain::WaitFaults => "wait-faults",
            Domain::Resets => "resets",
            Domain::AcceptFaults => "accept-faults",
            Domain::ConnectFaults => "connect-faults",
            Domain::Descriptors => "descriptors",
            Domain::Stalls => "stalls",
            Domain::Clock => "clock",
            Domain::Actors => "actors",
            Domain::Processes => "processes",
        }
    }

    /// The domain with this name.
    pub fn from_name(name: &str) -> Option<Domain> {
        Domain::ALL.into_iter().find(|domain| domain.name() == name)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where in the code a decision is made, in words that a story can use: `"latency of a segment"`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Site(pub &'static str);

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// A probability as two integers. A numerator of zero is never; certainty is left out, see [`Decisions::chance`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ratio {
    /// Below the denominator.
    pub numerator: u32,
    /// At least 1.
    pub denominator: u32,
}

impl Ratio {
    /// Never.
    pub const NEVER: Ratio = Ratio::new(0, 1);

    /// `numerator` out of `denominator`.
    pub const fn new(numerator: u32, denominator: u32) -> Ratio {
        Ratio { numerator, denominator }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

/// Who answers each decision of a run as it comes, and is shown what the run does meanwhile.
pub(crate) trait Guide: fmt::Debug {
    /// A decision in `0..bound`; a larger answer becomes the largest.
    fn choose(&mut self, domain: Domain, site: Site, entity: u32, bound: u64) -> u64;

    /// What a clock says, just before a decision about time.
    fn tell_time(&mut self, now: Instant);

    /// A call has ended.
    fn called(&mut self, record: &CallRecord);

    /// What a wait has found, in the order in which it found it, before a decision about the order.
    fn found(&mut self, events: &[EpollEvent]);

    /// What the bytes that a send has taken may be summed up as in a recording, before its call ends.
    fn sent(&mut self, checksums: [[u8; 4]; 2]);

    /// What a wait reports, before its call ends.
    fn reported(&mut self, events: &[EpollEvent]);
}

#[derive(Debug)]
enum Source {
    Seed(Box<SeedStreams>),
    Bytes(Box<Lanes>),
    Tape(Player),
    Script(Script),
    Guide(Box<dyn Guide>),
}

/// The source of every decision of one run.
#[derive(Debug)]
pub struct Decisions {
    source: Source,
    counts: [u64; Domain::COUNT],
    log: Option<Box<ChoiceLog>>,
    step: u64,
}

impl Decisions {
    /// Decisions expanded from a seed.
    pub fn from_seed(seed: u64) -> Decisions {
        Decisions::of(Source::Seed(Box::new(SeedStreams::new(seed))))
    }

    /// Decisions read from arbitrary bytes, as a fuzzer makes them; any bytes are valid.
    pub fn from_bytes(bytes: &[u8]) -> Decisions {
        Decisions::of(Source::Bytes(Box::new(Lanes::new(bytes))))
    }

    /// Decisions played back from a tape.
    pub fn from_tape(tape: Tape) -> Decisions {
        Decisions::of(Source::Tape(Player::new(tape)))
    }

    /// The decisions that a script lists, zero elsewhere.
    pub fn from_script(script: Script) -> Decisions {
        Decisions::of(Source::Script(script))
    }

    /// The decisions that somebody makes while the run goes on.
    pub(crate) fn from_guide(guide: Box<dyn Guide>) -> Decisions {
        Decisions::of(Source::Guide(guide))
    }

    /// Who makes them, if somebody does.
    pub(crate) fn guide(&mut self) -> Option<&mut dyn Guide> {
        match &mut self.source {
            Source::Guide(guide) => Some(guide.as_mut()),
            _ => None,
        }
    }

    /// Zero everywhere: the calmest run there is.
    pub fn zeros() -> Decisions {
        Decisions::from_script(Script::default())
    }

    fn of(source: Source) -> Decisions {
        Decisions { source, counts: [0; Domain::COUNT], log: None, step: 0 }
    }

    /// The same source, with every decision written down.
    #[must_use]
    pub fn recorded(mut self) -> Decisions {
        self.log = Some(Box::default());
        self
    }

    /// What has been written down.
    pub fn take_log(&mut self) -> Option<ChoiceLog> {
        self.log.take().map(|log| *log)
    }

    /// Says how many calls have been made: decisions are written down with it.
    #[inline]
    pub(crate) fn at_step(&mut self, step: u64) {
        self.step = step;
    }

    /// One decision in `0..bound`; zero is the benign outcome. A bound below 2 leaves nothing to decide, and draws
    /// nothing. Every decision of a run passes through here.
    pub fn draw(&mut self, domain: Domain, site: Site, entity: u32, bound: u64) -> u64 {
        if bound < 2 {
            return 0;
        }
        self.counts[domain as usize] += 1;
        let value = match &mut self.source {
            Source::Seed(streams) => streams.draw(domain, bound),
            Source::Bytes(lanes) => lanes.draw(domain, bound),
            Source::Tape(player) => player.draw(domain, entity, bound),
            Source::Script(script) => script.draw(domain, entity, bound),
            Source::Guide(guide) => guide.choose(domain, site, entity, bound).min(bound - 1),
        };
        if let Some(log) = &mut self.log {
            log.add(self.step, domain, site, entity, (value, bound));
        }
        value
    }

    /// Whether something unlikely happens, with this probability. The value zero is `false` whatever the ratio, so a
    /// ratio of one behaves as `(denominator - 1) / denominator`.
    pub fn chance(&mut self, domain: Domain, site: Site, entity: u32, ratio: Ratio) -> bool {
        if ratio.numerator == 0 {
            return false;
        }
        let denominator = u64::from(ratio.denominator).max(2);
        let hits = u64::from(ratio.numerator).min(denominator - 1);
        self.draw(domain, site, entity, denominator) >= denominator - hits
    }

    /// How many decisions this domain has made.
    pub fn count(&self, domain: Domain) -> u64 {
        self.counts[domain as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_never_the_unlikely_outcome() {
        let mut zeros = Decisions::zeros();
        for ratio in [Ratio::NEVER, Ratio::new(1, 2), Ratio::new(99, 100), Ratio::new(1, 1)] {
            assert!(!zeros.chance(Domain::Network, Site("test"), 0, ratio));
        }
    }

    #[test]
    fn a_bound_below_two_draws_nothing() {
        let mut decisions = Decisions::from_seed(7);
        assert_eq!(decisions.draw(Domain::Network, Site("test"), 0, 0), 0);
        assert_eq!(decisions.draw(Domain::Network, Site("test"), 0, 1), 0);
        assert_eq!(decisions.count(Domain::Network), 0);
    }

    #[test]
    fn domains_are_numbered_in_order() {
        for (number, domain) in Domain::ALL.into_iter().enumerate() {
            assert_eq!(domain as usize, number);
            assert_eq!(Domain::from_name(domain.name()), Some(domain));
        }
    }
}
