//! The network between hosts: latency per segment, late segments, links that stall.
//!
//! Delivery is in order per direction of a connection, always; what a lossy link does to TCP shows as lateness.

use crate::decision::{Domain, Site};
use crate::fault::FaultKind;
use crate::weather::Latency;
use crate::world::{Details, World};

/// A link that passes nothing for a while.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct StalledLink {
    from: u32,
    to: u32,
    until: u64,
}

const LATE_NS_MAX: u64 = 400_000_000;
const STALL_NS_MAX: u64 = 3_000_000_000;

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

    /// When something sent now arrives; `entity` is the stream.
    #[inline]
    pub(crate) fn arrival_between(&mut self, entity: u32, from: u32, to: u32) -> u64 {
        let latency = if from == to { self.swarm.loopback } else { self.swarm.latency };
        let mut at = self.now + self.draw_latency(latency, "latency of a segment", entity);
        let late = |details: &mut Details<'_>| details.draw("how late a segment is", LATE_NS_MAX);
        if let Some(late_ns) = self.fault_with(FaultKind::LateSegments, entity, late) {
            at += late_ns;
        }
        let stall = |details: &mut Details<'_>| {
            let lasts_ns = 1 + details.draw("how long a link stalls", STALL_NS_MAX);
            (lasts_ns, details.draw("in both directions", 2) == 1)
        };
        if let Some((lasts_ns, both)) = self.fault_with(FaultKind::StalledLinks, from, stall) {
            self.stall_link(from, to, lasts_ns, both);
        }
        if !self.stalled_links.is_empty() {
            at = self.after_stalls(from, to, at);
        }
        at
    }

    fn stall_link(&mut self, from: u32, to: u32, lasts_ns: u64, both: bool) {
        let until = self.now + lasts_ns;
        self.note(|| {
            format!("the link from host {from} to host {to} stalls for {lasts_ns} ns (both ways: {both})")
        });
        self.stalled_links.push(StalledLink { from, to, until });
        if both {
            self.stalled_links.push(StalledLink { from: to, to: from, until });
        }
    }

    #[cold]
    fn after_stalls(&mut self, from: u32, to: u32, at: u64) -> u64 {
        let now = self.now;
        self.work.add(self.stalled_links.len() * 2);
        self.stalled_links.retain(|link| link.until > now);
        let blocked = self.stalled_links.iter().filter(|link| (link.from, link.to) == (from, to));
        blocked.map(|link| link.until).fold(at, u64::max)
    }
}
