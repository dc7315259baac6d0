//! Which trouble a run has: a weather is the climate that was asked for, a swarm is what this run drew from it.
//!
//! A run with everything on hides bugs that a run with one thing on shows, so each kind is on or off per run.

use std::fmt;

use crate::decision::{Decisions, Domain, Ratio, Site};
use crate::fault::{FaultKind, FaultSet, FaultSwitches, Strength};
use crate::kernel::Kernel;

/// How much trouble runs may have.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Weather {
    /// No faults, the same latency for every segment, large buffers, one segment per send.
    Calm,
    /// Each kind on in about one run of three, at moderate strength.
    #[default]
    Default,
    /// Each kind on in two runs of three, and stronger.
    Cruel,
    /// As the default, with limits below what a real kernel grants: buffers of a few bytes, descriptors just enough.
    Tiny,
}

impl Weather {
    /// Every weather.
    pub const ALL: [Weather; 4] = [Weather::Calm, Weather::Default, Weather::Cruel, Weather::Tiny];

    /// The name used in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Weather::Calm => "calm",
            Weather::Default => "default",
            Weather::Cruel => "cruel",
            Weather::Tiny => "tiny",
        }
    }

    /// The weather with this name.
    pub fn from_name(name: &str) -> Option<Weather> {
        Weather::ALL.into_iter().find(|weather| weather.name() == name)
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Bounds of a latency that is drawn per segment, both in nanoseconds and both included.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Latency {
    /// The benign value.
    pub min_ns: u64,
    /// At least `min_ns`.
    pub max_ns: u64,
}

impl Latency {
    /// The same latency for every segment.
    pub const fn constant(ns: u64) -> Latency {
        Latency { min_ns: ns, max_ns: ns }
    }
}

/// What one run drew from its weather.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swarm {
    /// The weather it was drawn from.
    pub weather: Weather,
    rates: [Ratio; FaultKind::COUNT],
    suppressed: FaultSet,
    /// Between two hosts.
    pub latency: Latency,
    /// Between two sockets of one host.
    pub loopback: Latency,
    /// From the event that ends a wait to the first instruction after it.
    pub wake: Latency,
    /// Added to every clock reading of the run, in nanoseconds.
    pub clock_origin_ns: u64,
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;

impl Swarm {
    /// No trouble at all, with these latencies.
    pub fn calm(latency: Latency) -> Swarm {
        Swarm {
            weather: Weather::Calm,
            rates: [Ratio::NEVER; FaultKind::COUNT],
            suppressed: FaultSet::EMPTY,
            latency,
            loopback: Latency::constant(0),
            wake: Latency::constant(20 * MICROSECOND),
            clock_origin_ns: 1_000 * MILLISECOND,
        }
    }

    /// Draws the latencies, then which kinds are on and how strong, in the order of [`FaultKind::ALL`]. `kernel` is that
    /// of every host, if they all have the same: what is illegal under it is never on.
    pub fn draw(
        weather: Weather,
        kernel: Option<Kernel>,
        switches: FaultSwitches,
        decisions: &mut Decisions,
    ) -> Swarm {
        let mut swarm = Swarm::calm(Latency::constant(50 * MICROSECOND));
        swarm.weather = weather;
        swarm.suppressed = switches.suppressed;
        if weather != Weather::Calm {
            swarm.draw_latencies(decisions);
        }
        let on = match weather {
            Weather::Calm => Ratio::NEVER,
            Weather::Cruel => Ratio::new(2, 3),
            Weather::Default | Weather::Tiny => Ratio::new(1, 3),
        };
        for (index, &kind) in FaultKind::ALL.iter().enumerate() {
            let entity = index as u32;
            let drawn = decisions.chance(Domain::Swarm, Site(kind.name()), entity, on);
            let level = if drawn {
                decisions.draw(Domain::Swarm, Site("strength"), entity, Strength::LEVELS as u64)
            } else {
                0
            };
            let wanted = switches.only.map_or(drawn, |only| only.contains(kind));
            let legal = kernel.is_none_or(|kernel| kind.is_legal_under(kernel));
            if wanted && legal && !switches.without.contains(kind) {
                let Strength { default, cruel } = kind.entry().strength;
                let rates = if weather == Weather::Cruel { cruel } else { default };
                swarm.rates[index] = rates[level as usize];
            }
        }
        if swarm.is_on(FaultKind::ClockLimits) {
            let origin_ns = draw_clock_origin_ns(decisions);
            if swarm.applies(FaultKind::ClockLimits) {
                swarm.clock_origin_ns = origin_ns;
            }
        }
        if swarm.applies(FaultKind::StillClock) {
            swarm.wake = Latency::constant(0);
        }
        swarm
    }

    fn draw_latencies(&mut self, decisions: &mut Decisions) {
        let reach = decisions.draw(Domain::Swarm, Site("latency between hosts"), 0, 4) as usize;
        let max_ns = [100 * MICROSECOND, MILLISECOND, 10 * MILLISECOND, 100 * MILLISECOND][reach];
        self.latency = Latency { min_ns: 50 * MICROSECOND, max_ns };
        let reach = decisions.draw(Domain::Swarm, Site("latency inside a host"), 0, 3) as usize;
        self.loopback.max_ns = [0, 10 * MICROSECOND, 200 * MICROSECOND][reach];
        let reach = decisions.draw(Domain::Swarm, Site("latency of wake-ups"), 0, 3) as usize;
        self.wake.max_ns = [50 * MICROSECOND, 200 * MICROSECOND, 2 * MILLISECOND][reach];
    }

    /// How often this kind happens where it can.
    pub fn rate(&self, kind: FaultKind) -> Ratio {
        self.rates[kind as usize]
    }

    /// Whether this run has this kind at all.
    pub fn is_on(&self, kind: FaultKind) -> bool {
        self.rates[kind as usize].numerator > 0
    }

    /// Whether something comes of this kind: it is on and not suppressed.
    #[inline]
    pub fn applies(&self, kind: FaultKind) -> bool {
        self.is_on(kind) && !self.suppressed.contains(kind)
    }

    /// Whether decisions for this kind are made and nothing comes of them.
    #[inline]
    pub fn is_suppressed(&self, kind: FaultKind) -> bool {
        self.suppressed.contains(kind)
    }

    /// The kinds that this run has.
    pub fn on(&self) -> FaultSet {
        FaultKind::ALL.iter().copied().filter(|&kind| self.is_on(kind)).collect()
    }

    /// The same swarm with this kind at this rate.
    #[must_use]
    pub fn with(mut self, kind: FaultKind, rate: Ratio) -> Swarm {
        self.rates[kind as usize] = rate;
        self
    }

    /// Turns every kind off; latencies return to their lower bounds.
    pub(crate) fn calm_down(&mut self) {
        self.rates = [Ratio::NEVER; FaultKind::COUNT];
        self.latency.max_ns = self.latency.min_ns;
        self.loopback.max_ns = self.loopback.min_ns;
        self.wake.max_ns = self.wake.min_ns;
    }
}

/// A clock origin some seconds before a place where arithmetic on times goes wrong.
fn draw_clock_origin_ns(decisions: &mut Decisions) -> u64 {
    const SECOND: u64 = 1_000 * MILLISECOND;
    let limits = [
        0,
        (1 << 32) * MICROSECOND,
        (1 << 31) * MILLISECOND,
        (1 << 32) * MILLISECOND,
        1 << 48,
        1 << 53,
        1 << 63,
    ];
    let which = decisions.draw(Domain::Clock, Site("which limit of the clock"), 0, limits.len() as u64);
    let before = decisions.draw(Domain::Clock, Site("seconds before the limit"), 0, 60);
    limits[which as usize].saturating_sub(before * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(weather: Weather, switches: FaultSwitches, seed: u64) -> Swarm {
        Swarm::draw(weather, Some(Kernel::Linux), switches, &mut Decisions::from_seed(seed))
    }

    #[test]
    fn zeros_draw_no_fault_in_any_weather() {
        for weather in Weather::ALL {
            let swarm = Swarm::draw(weather, None, FaultSwitches::default(), &mut Decisions::zeros());
            assert!(swarm.on().is_empty(), "{weather}");
        }
    }

    #[test]
    fn default_weather_turns_about_a_third_of_the_kinds_on() {
        let runs = 300;
        let on: usize = (0..runs)
            .map(|seed| {
                Swarm::draw(Weather::Default, None, FaultSwitches::default(), &mut Decisions::from_seed(seed))
            })
            .map(|swarm| swarm.on().iter().count())
            .sum();
        let all = usize::try_from(runs).unwrap() * FaultKind::COUNT;
        assert!((all / 4..all * 2 / 5).contains(&on), "{on} of {all}");
    }

    #[test]
    fn what_is_illegal_under_a_kernel_is_never_on_and_leaves_the_others_as_they_were() {
        for kernel in Kernel::ALL {
            for seed in 0..100 {
                let switches = FaultSwitches::default();
                let anywhere = Swarm::draw(Weather::Cruel, None, switches, &mut Decisions::from_seed(seed));
                let here =
                    Swarm::draw(Weather::Cruel, Some(kernel), switches, &mut Decisions::from_seed(seed));
                for &kind in FaultKind::ALL {
                    let rate = if kind.is_legal_under(kernel) { anywhere.rate(kind) } else { Ratio::NEVER };
                    assert_eq!(here.rate(kind), rate, "{} under {kernel}", kind.name());
                }
            }
        }
    }

    #[test]
    fn switches_choose_the_kinds_and_leave_the_rates_of_the_others_as_they_were() {
        let kind = FaultKind::LateWaits;
        let one = FaultSet::of(kind);
        for seed in 0..100 {
            let free = drawn(Weather::Default, FaultSwitches::default(), seed);
            let only =
                drawn(Weather::Default, FaultSwitches { only: Some(one), ..FaultSwitches::default() }, seed);
            assert_eq!(only.on(), one);
            let without =
                drawn(Weather::Default, FaultSwitches { without: one, ..FaultSwitches::default() }, seed);
            for &other in FaultKind::ALL.iter().filter(|&&other| other != kind) {
                assert_eq!(without.rate(other), free.rate(other));
            }
            assert!(!without.is_on(kind));
        }
        let calm = drawn(Weather::Calm, FaultSwitches { only: Some(one), ..FaultSwitches::default() }, 1);
        assert_eq!(calm.on(), one, "also where the weather has none");
    }
}
