//! One script on both kernels, step by step.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use super::call::Call;
use super::observation::Observation;
use super::perform::{Performer, Ranks};
use crate::decision::Decisions;
use crate::kernel::Kernel;
use crate::kernel::syscalls::SimSyscalls;
use crate::script::probe::Probe;
use crate::weather::{Latency, Swarm};
use crate::world::{SharedWorld, WorldOptions};

/// Where two kernels first answered differently.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The place of the call in the script.
    pub step: usize,
    /// The verb of the call.
    pub verb: &'static str,
    /// What the live kernel answered, each time.
    pub live: Observation,
    /// What the simulated kernel answered.
    pub simulated: Observation,
}

impl Difference {
    /// Whether another difference is of the same sort: then a shorter script still shows what this one shows.
    pub fn is_like(&self, other: &Difference) -> bool {
        self.signature() == other.signature()
    }

    /// Which call differs, and how: what differences are grouped by.
    pub fn signature(&self) -> String {
        let (live, simulated) = (self.live.kind(), self.simulated.kind());
        match (&self.live, &self.simulated) {
            (Observation::Events(live), Observation::Events(simulated)) => {
                format!("{}: {}", self.verb, how_events_differ(live, simulated))
            }
            (Observation::Drained { end: live, .. }, Observation::Drained { end: simulated, .. })
                if live != simulated =>
            {
                format!("{}: ends with {live:?}, simulated {simulated:?}", self.verb)
            }
            _ if live == simulated => format!("{}: another {live}", self.verb),
            _ => format!("{}: {live}, simulated {simulated}", self.verb),
        }
    }
}

/// Missing and extra events, changed bits, or another order: the first that applies.
fn how_events_differ(live: &[(super::Slot, u32)], simulated: &[(super::Slot, u32)]) -> String {
    let bits = |bits: u32| super::call::Bits(bits).to_string();
    for (slot, theirs) in live {
        match simulated.iter().find(|(other, _)| other == slot) {
            None => return format!("missing {}", bits(*theirs)),
            Some((_, ours)) if ours != theirs => {
                return format!("missing bits {}, extra bits {}", bits(theirs & !ours), bits(ours & !theirs));
            }
            Some(_) => {}
        }
    }
    let extra = simulated.iter().find(|(slot, _)| live.iter().all(|(other, _)| other != slot));
    match extra {
        Some((_, ours)) => format!("extra {}", bits(*ours)),
        None => "another order".to_owned(),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "live {}, simulated {}", self.live, self.simulated)
    }
}

/// How a script ended on both kernels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Every step was answered alike.
    Same,
    /// The live kernel contradicted itself: it says nothing about the simulated one.
    Unstable,
    /// A call is lacking on one side, by its capability.
    Lacking(&'static str),
    /// The simulated kernel answered otherwise than the live one did each time.
    Different(Difference),
}

/// The live kernel, or whatever stands in for it, with what is known of it.
#[derive(Debug)]
pub struct Reference<P: Probe> {
    probe: P,
    ranks: Ranks,
    next_host: u32,
    /// How often the reference must say the same before it is believed.
    repetitions: usize,
    /// What one of the kernels has turned out to lack, and how many calls were left out for it.
    lacking: BTreeMap<&'static str, u64>,
}

/// Runs beyond the ordinary ones before a difference is believed.
const CONFIRMATIONS: usize = 4;
/// Runs before a difference that nothing explains is told. In a million scripts, one on which the live kernel tosses a coin falls
/// on the same side six times now and then.
const STEADY_RUNS: usize = 200;
/// Of 127.0.0.0/8; the first ones are left to others.
const HOST_FIRST: u32 = 0x0001_0000;
const HOST_COUNT: u32 = 0x00fe_0000;

impl<P: Probe> Reference<P> {
    /// A reference that must repeat itself so often, at least once.
    ///
    /// # Errors
    /// What the making of descriptors answers.
    pub fn new(mut probe: P, repetitions: usize) -> Result<Reference<P>, reactor::sys::Errno> {
        let ranks = Ranks::measure(&mut probe)?;
        Ok(Reference {
            probe,
            ranks,
            next_host: std::process::id() % HOST_COUNT,
            repetitions: repetitions.max(1),
            lacking: BTreeMap::new(),
        })
    }

    /// Another address for each script, so that ports in TIME_WAIT are never in the way (T6).
    fn host(&mut self) -> Ipv4Addr {
        self.next_host = (self.next_host + 1) % HOST_COUNT;
        Ipv4Addr::from_bits(0x7f00_0000 | (HOST_FIRST + self.next_host))
    }

    /// What one of the kernels lacks, and how many calls were left out for it.
    pub fn lacking(&self) -> &BTreeMap<&'static str, u64> {
        &self.lacking
    }

    /// As [`Reference::compare`], without the calls that one of the kernels lacks: what is left of the script, and how that ended.
    pub fn compare_available(
        &mut self,
        mut calls: Vec<Call>,
        options: &WorldOptions,
    ) -> (Vec<Call>, Outcome) {
        loop {
            calls.retain(|call| match self.lacking.get_mut(call.capability()) {
                Some(count) => {
                    *count += 1;
                    false
                }
                None => true,
            });
            match self.compare(&calls, options) {
                Outcome::Lacking(capability) => {
                    self.lacking.insert(capability, 0);
                }
                outcome => return (calls, outcome),
            }
        }
    }

    /// What each call answers here.
    pub fn observe(&mut self, calls: &[Call]) -> Vec<Observation> {
        let host = self.host();
        observe(&mut self.probe, host, &self.ranks, calls)
    }

    /// Whether the script answers the same here, however often it runs.
    pub fn is_steady(&mut self, calls: &[Call]) -> bool {
        let first = self.observe(calls);
        (1..STEADY_RUNS).all(|_| self.observe(calls) == first)
    }

    /// Runs the script here until it is believed, and compares it with what the simulated kernel answers.
    pub fn compare(&mut self, calls: &[Call], options: &WorldOptions) -> Outcome {
        let live = self.observe(calls);
        for _ in 1..self.repetitions {
            if self.observe(calls) != live {
                return Outcome::Unstable;
            }
        }
        let simulated = observe_simulated(calls, options);
        for (call, (live, simulated)) in calls.iter().zip(live.iter().zip(&simulated)) {
            if live.is_unsupported() || simulated.is_unsupported() {
                return Outcome::Lacking(call.capability());
            }
            if live != simulated {
                break;
            }
        }
        let Some(step) = (0..calls.len()).find(|&step| live[step] != simulated[step]) else {
            return Outcome::Same;
        };
        for _ in 0..CONFIRMATIONS {
            if self.observe(calls) != live {
                return Outcome::Unstable;
            }
        }
        Outcome::Different(Difference {
            step,
            verb: calls[step].verb(),
            live: live[step].clone(),
            simulated: simulated[step].clone(),
        })
    }
}

fn observe(probe: &mut impl Probe, host: Ipv4Addr, ranks: &Ranks, calls: &[Call]) -> Vec<Observation> {
    let mut performer = Performer::new(probe, host, ranks);
    let observations = calls.iter().map(|call| performer.perform(call)).collect();
    performer.tear_down();
    observations
}

/// A simulated Linux on which everything is delivered inside the call that causes it.
fn synchronous(options: &WorldOptions) -> SimSyscalls {
    let swarm = Some(Swarm::calm(Latency::constant(0)));
    let world = SharedWorld::new(WorldOptions { swarm, ..options.clone() }, Decisions::zeros());
    let host = world.add_host(Kernel::Linux);
    world.add_thread(host)
}

/// What each call answers on the simulated kernel.
pub fn observe_simulated(calls: &[Call], options: &WorldOptions) -> Vec<Observation> {
    let mut probe = synchronous(options);
    let ranks = Ranks::after(3);
    observe(&mut probe, Ipv4Addr::new(127, 1, 0, 1), &ranks, calls)
}
