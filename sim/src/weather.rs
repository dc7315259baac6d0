//! Which trouble a run has: a weather is the climate that was asked for, a swarm is what this run drew from it.
//!
//! A run with everything on hides bugs that a run with one thing on shows, so each kind is on or off per run.

use std::fmt;

use crate::decision::{Decisions, Domain, Ratio, Site};
use crate::fault::FaultKind;

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
            latency,
            loopback: Latency::constant(0),
            wake: Latency::constant(20 * MICROSECOND),
            clock_origin_ns: 1_000 * MILLISECOND,
        }
    }

    /// Draws which kinds are on and how strong, in the order of [`FaultKind::ALL`].
    pub fn draw(weather: Weather, decisions: &mut Decisions) -> Swarm {
        let mut swarm = Swarm::calm(Latency::constant(50 * MICROSECOND));
        swarm.weather = weather;
        if weather == Weather::Calm {
            return swarm;
        }
        let on = match weather {
            Weather::Cruel => Ratio::new(2, 3),
            _ => Ratio::new(1, 3),
        };
        for (index, &kind) in FaultKind::ALL.iter().enumerate() {
            let entity = index as u32;
            if decisions.chance(Domain::Swarm, Site(kind.name()), entity, on) {
                let strength = decisions.draw(Domain::Swarm, Site("strength"), entity, 3);
                swarm.rates[index] = rate_of(kind, strength, weather == Weather::Cruel);
            }
        }
        let reach = decisions.draw(Domain::Swarm, Site("latency between hosts"), 0, 4) as usize;
        let max_ns = [100 * MICROSECOND, MILLISECOND, 10 * MILLISECOND, 100 * MILLISECOND][reach];
        swarm.latency = Latency { min_ns: 50 * MICROSECOND, max_ns };
        let reach = decisions.draw(Domain::Swarm, Site("latency inside a host"), 0, 3) as usize;
        swarm.loopback.max_ns = [0, 10 * MICROSECOND, 200 * MICROSECOND][reach];
        let reach = decisions.draw(Domain::Swarm, Site("latency of wake-ups"), 0, 3) as usize;
        swarm.wake.max_ns = [50 * MICROSECOND, 200 * MICROSECOND, 2 * MILLISECOND][reach];
        if swarm.is_on(FaultKind::ClockLimits) {
            swarm.clock_origin_ns = draw_clock_origin_ns(decisions);
        }
        if swarm.is_on(FaultKind::StillClock) {
            swarm.wake = Latency::constant(0);
        }
        swarm
    }

    /// How often this kind happens where it can.
    pub fn rate(&self, kind: FaultKind) -> Ratio {
        self.rates[kind as usize]
    }

    /// Whether this run has this kind at all.
    pub fn is_on(&self, kind: FaultKind) -> bool {
        self.rates[kind as usize].numerator > 0
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

/// The rate of a kind that is on: frequent for what only shifts times and sizes, rare for what ends connections.
fn rate_of(kind: FaultKind, strength: u64, cruel: bool) -> Ratio {
    let often = matches!(
        kind,
        FaultKind::SplitSegments
            | FaultKind::ResetOvertakes
            | FaultKind::ScheduleTies
            | FaultKind::SmallBuffers
            | FaultKind::ShortBatches
            | FaultKind::ReorderedBatches
            | FaultKind::ClockLimits
            | FaultKind::StillClock
    );
    let sometimes = matches!(
        kind,
        FaultKind::LateSegments
            | FaultKind::DelayedAcks
            | FaultKind::ChangingBuffers
            | FaultKind::InterruptedWaits
            | FaultKind::LateWaits
            | FaultKind::StaleBatches
            | FaultKind::EarlyActors
            | FaultKind::LostSyns
            | FaultKind::FailedConnects
            | FaultKind::AcceptErrors
            | FaultKind::AcceptAborts
            | FaultKind::CreationErrors
    );
    let step = strength as u32 + u32::from(cruel) * 2 + 1;
    if often {
        Ratio::new(step, 6)
    } else if sometimes {
        Ratio::new(step, 60)
    } else {
        Ratio::new(step, 1_000)
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

    #[test]
    fn zeros_draw_no_fault_in_any_weather() {
        for weather in Weather::ALL {
            let swarm = Swarm::draw(weather, &mut Decisions::zeros());
            assert!(FaultKind::ALL.iter().all(|&kind| !swarm.is_on(kind)), "{weather}");
        }
    }

    #[test]
    fn default_weather_turns_about_a_third_of_the_kinds_on() {
        let runs = 300;
        let on: usize = (0..runs)
            .map(|seed| Swarm::draw(Weather::Default, &mut Decisions::from_seed(seed)))
            .map(|swarm| FaultKind::ALL.iter().filter(|&&kind| swarm.is_on(kind)).count())
            .sum();
        let all = usize::try_from(runs).unwrap() * FaultKind::COUNT;
        assert!((all / 4..all * 2 / 5).contains(&on), "{on} of {all}");
    }
}
