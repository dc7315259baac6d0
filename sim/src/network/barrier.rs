//! Links that pass nothing: partitions, in one direction or in both, and black holes.

use crate::event::EventKind;
use crate::world::World;

/// Nothing passes between these hosts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Barrier {
    /// The sending host; `None` for every other one.
    pub(crate) from: Option<u32>,
    /// The receiving host; `None` for every other one.
    pub(crate) to: Option<u32>,
    pub(crate) until: u64,
    /// Whether a router says so to who tries to connect.
    pub(crate) tells: bool,
}

impl Barrier {
    fn stands(&self, from: u32, to: u32, now: u64) -> bool {
        // What a host sends to itself meets no link.
        from != to
            && self.until > now
            && self.from.is_none_or(|host| host == from)
            && self.to.is_none_or(|host| host == to)
    }
}

impl super::Network {
    /// Whether what is sent between these hosts is lost now, and then whether the sender is told.
    pub(crate) fn blocks(&self, from: u32, to: u32, now: u64) -> Option<bool> {
        let mut standing = self.barriers.iter().filter(|barrier| barrier.stands(from, to, now));
        standing.next().map(|barrier| barrier.tells)
    }
}

impl World {
    /// Puts up a barrier from one host to another, and perhaps the one in the other direction.
    pub(crate) fn part(&mut self, from: u32, to: u32, both: bool, until: u64, tells: bool) {
        self.note(|| format!("nothing passes from host {from} to host {to} (both ways: {both})"));
        self.put_up(Barrier { from: Some(from), to: Some(to), until, tells });
        if both {
            self.put_up(Barrier { from: Some(to), to: Some(from), until, tells });
        }
    }

    /// Nothing reaches a host, and nothing that it sends reaches anybody; nobody is told.
    pub(crate) fn swallow(&mut self, host: u32, until: u64) {
        self.note(|| format!("host {host} is in a black hole"));
        self.put_up(Barrier { from: Some(host), to: None, until, tells: false });
        self.put_up(Barrier { from: None, to: Some(host), until, tells: false });
    }

    fn put_up(&mut self, barrier: Barrier) {
        self.network.barriers.push(barrier);
        if barrier.until < u64::MAX {
            self.queue_event(barrier.until, EventKind::BarrierFalls);
        }
    }

    /// Takes away the barriers whose time is over.
    pub(crate) fn barrier_falls_event(&mut self) {
        let now = self.now;
        self.network.barriers.retain(|barrier| barrier.until > now);
    }
}
