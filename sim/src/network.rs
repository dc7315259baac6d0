//! The network between hosts: latency per segment, bandwidth, late segments, links that stall, and barriers.
//!
//! Delivery is in order per direction of a connection, always; what a lossy link does to TCP shows as lateness. Only what
//! a barrier swallows is lost, and sent again.

mod barrier;

pub(crate) use barrier::Barrier;

use crate::decision::{Domain, Site};
use crate::fault::FaultKind;
use crate::weather::{Latency, Swarm};
use crate::world::{Details, World};

/// What is not as on every other link.
#[derive(Debug, Default)]
pub(crate) struct Network {
    stalled: Vec<StalledLink>,
    narrow: Vec<NarrowLink>,
    barriers: Vec<Barrier>,
    /// How many hosts have no power.
    pub(crate) hosts_down: u32,
    /// Whether the run has any of the kinds that befall links.
    draws: bool,
}

/// A link that passes nothing for a while.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct StalledLink {
    from: u32,
    to: u32,
    until: u64,
}

/// A link that takes its time for every byte.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct NarrowLink {
    from: u32,
    to: u32,
    byte_ns: u64,
    until: u64,
    /// When it has passed on what it was given so far.
    busy_until: u64,
}

/// The kinds of trouble that are drawn where a segment is sent.
const LINK_FAULTS: [FaultKind; 6] = [
    FaultKind::StalledLinks,
    FaultKind::HeavyTails,
    FaultKind::NarrowLinks,
    FaultKind::Partitions,
    FaultKind::OneWayPartitions,
    FaultKind::BlackHoles,
];

const MILLISECOND: u64 = 1_000_000;
const LATE_NS_MAX: u64 = 400 * MILLISECOND;
const STALL_NS_MAX: u64 = 3_000 * MILLISECOND;
/// How long a barrier stands, or a link is narrow.
const TROUBLES_NS: [u64; 4] =
    [100 * MILLISECOND, 1_000 * MILLISECOND, 5_000 * MILLISECOND, 20_000 * MILLISECOND];
/// What a packet weighs beside its data.
const HEADER_BYTES: u64 = 52;

impl Network {
    pub(crate) fn new(swarm: &Swarm) -> Network {
        Network { draws: LINK_FAULTS.into_iter().any(|kind| swarm.is_on(kind)), ..Network::default() }
    }

    /// Whether anything can be lost at all.
    #[inline]
    pub(crate) fn is_troubled(&self) -> bool {
        !self.barriers.is_empty() || self.hosts_down > 0
    }

    /// Every link is as it should be, and stays so.
    pub(crate) fn heal(&mut self) {
        *self = Network { hosts_down: self.hosts_down, ..Network::default() };
    }
}

impl World {
    /// One value between the bounds, both included; nothing is drawn where they are equal.
    #[inline]
    pub(crate) fn draw_latency(&mut self, latency: Latency, site: &'static str, entity: u32) -> u64 {
        let span_ns = latency.max_ns.saturating_sub(latency.min_ns);
        if span_ns == 0 {
            return latency.min_ns;
        }
        latency.min_ns + self.decisions.draw(Domain::Network, Site(site), entity, span_ns + 1)
    }

    /// When something sent now arrives; `entity` is the stream, and `bytes` the data of the packet.
    #[inline]
    pub(crate) fn arrival_between(&mut self, entity: u32, from: u32, to: u32, bytes: u64) -> u64 {
        let latency = if from == to { self.swarm.loopback } else { self.swarm.latency };
        let mut at = self.now + self.draw_latency(latency, "latency of a segment", entity);
        let late = |details: &mut Details<'_>| details.draw("how late a segment is", LATE_NS_MAX);
        if let Some(late_ns) = self.fault_with(FaultKind::LateSegments, entity, late) {
            at += late_ns;
        }
        if self.network.draws && from != to {
            at += self.draw_link_trouble(entity, from, to);
        }
        if !self.network.stalled.is_empty() {
            at = self.after_stalls(from, to, at);
        }
        if !self.network.narrow.is_empty() {
            at += self.serialisation_ns(from, to, bytes + HEADER_BYTES);
        }
        at
    }

    /// What befalls the link now. Answers by how much this segment is later for it.
    fn draw_link_trouble(&mut self, entity: u32, from: u32, to: u32) -> u64 {
        let stall = |details: &mut Details<'_>| {
            let lasts_ns = 1 + details.draw("how long a link stalls", STALL_NS_MAX);
            (lasts_ns, details.draw("in both directions", 2) == 1)
        };
        if let Some((lasts_ns, both)) = self.fault_with(FaultKind::StalledLinks, from, stall) {
            self.stall_link(from, to, lasts_ns, both);
        }
        let narrow = |details: &mut Details<'_>| {
            let byte_ns = details.choose("nanoseconds of a byte", &[80, 800, 8_000, 80_000]);
            (byte_ns, details.choose("how long a link is narrow", &TROUBLES_NS))
        };
        if let Some((byte_ns, lasts_ns)) = self.fault_with(FaultKind::NarrowLinks, from, narrow) {
            self.narrow_link(from, to, byte_ns, self.now + lasts_ns);
        }
        self.draw_barriers(from, to);
        let tail = |details: &mut Details<'_>| {
            // Each power is half as likely as the one before it.
            let word = details.draw("weight of the tail", 1 << 12);
            word.trailing_ones()
        };
        let unit_ns = self.swarm.latency.min_ns.max(1_000);
        self.fault_with(FaultKind::HeavyTails, entity, tail).map_or(0, |power| unit_ns << power)
    }

    fn draw_barriers(&mut self, from: u32, to: u32) {
        let stands = |details: &mut Details<'_>| details.choose("how long a barrier stands", &TROUBLES_NS);
        if let Some(lasts_ns) = self.fault_with(FaultKind::OneWayPartitions, from, stands) {
            self.part(from, to, false, self.now + lasts_ns, false);
        }
        if let Some(lasts_ns) = self.fault_with(FaultKind::BlackHoles, from, stands) {
            self.swallow(to, self.now + lasts_ns);
        }
        let split = |details: &mut Details<'_>| {
            let lasts_ns = details.choose("how long a barrier stands", &TROUBLES_NS);
            (lasts_ns, details.draw("hosts on the far side", 1 << SPLIT_HOSTS_MAX) as u32)
        };
        if let Some((lasts_ns, far)) = self.fault_with(FaultKind::Partitions, from, split) {
            let until = self.now + lasts_ns;
            let hosts = (self.hosts.len() as u32).min(SPLIT_HOSTS_MAX);
            let is_far = |host: u32| host == to || (host != from && far >> host & 1 == 1);
            if from >= hosts || to >= hosts {
                self.part(from, to, true, until, true);
            }
            for near in (0..hosts).filter(|&host| !is_far(host)) {
                for other in (0..hosts).filter(|&host| is_far(host)) {
                    self.part(near, other, true, until, true);
                }
            }
        }
    }

    /// From now until then each byte that passes this link takes this long.
    pub(crate) fn narrow_link(&mut self, from: u32, to: u32, byte_ns: u64, until: u64) {
        self.note(|| format!("the link from host {from} to host {to} takes {byte_ns} ns for a byte"));
        let now = self.now;
        let links = &mut self.network.narrow;
        links.retain(|link| link.until > now && (link.from, link.to) != (from, to));
        links.push(NarrowLink { from, to, byte_ns, until, busy_until: now });
    }

    /// How long a packet takes to get onto the link, behind those before it.
    #[cold]
    fn serialisation_ns(&mut self, from: u32, to: u32, bytes: u64) -> u64 {
        let now = self.now;
        let is_it = |link: &&mut NarrowLink| (link.from, link.to) == (from, to) && link.until > now;
        let Some(link) = self.network.narrow.iter_mut().find(is_it) else { return 0 };
        link.busy_until = link.busy_until.max(now) + bytes * link.byte_ns;
        link.busy_until - now
    }

    fn stall_link(&mut self, from: u32, to: u32, lasts_ns: u64, both: bool) {
        let until = self.now + lasts_ns;
        self.note(|| {
            format!("the link from host {from} to host {to} stalls for {lasts_ns} ns (both ways: {both})")
        });
        self.network.stalled.push(StalledLink { from, to, until });
        if both {
            self.network.stalled.push(StalledLink { from: to, to: from, until });
        }
    }

    #[cold]
    fn after_stalls(&mut self, from: u32, to: u32, at: u64) -> u64 {
        let now = self.now;
        self.work.add(self.network.stalled.len() * 2);
        let stalled = &mut self.network.stalled;
        stalled.retain(|link| link.until > now);
        let blocked = stalled.iter().filter(|link| (link.from, link.to) == (from, to));
        blocked.map(|link| link.until).fold(at, u64::max)
    }
}

/// A partition divides at most this many hosts, the first ones; beyond them it parts two.
const SPLIT_HOSTS_MAX: u32 = 8;
