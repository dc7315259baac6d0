//! The ports of a host: who holds which, and which is the next free one.

use std::collections::{BTreeMap, VecDeque};

use super::address::TimeWait;
use crate::number_set::NumberSet;
use crate::work::WorkCount;

/// First and one past the last ephemeral port: Linux's default range.
const EPHEMERAL: (u16, u16) = (32_768, 61_000);

/// What a port is wanted for; each prefers its own half of the range (T4).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Half {
    /// connect(2).
    Even = 0,
    /// bind(2) and listen(2).
    Odd = 1,
}

#[derive(Debug)]
pub(crate) struct Ports {
    /// Sockets that hold a port by bind or listen.
    bound: BTreeMap<u16, Vec<u32>>,
    /// Ports of connections that have an end here, and of remembered ones, with their counts.
    connections: BTreeMap<u16, u32>,
    /// The even and the odd ports that are in either of these, halved.
    taken: [NumberSet; 2],
    /// First and one past the last port that the kernel chooses by itself.
    range: (u16, u16),
    next: u16,
    /// Whether the loopback has never been up: it has no address and no route then (T9).
    pub(crate) loopback_is_down: bool,
    /// Connections that are over and keep their addresses, the oldest first (T6).
    pub(crate) time_wait: VecDeque<TimeWait>,
}

impl Default for Ports {
    fn default() -> Ports {
        Ports {
            bound: BTreeMap::new(),
            connections: BTreeMap::new(),
            taken: Default::default(),
            range: EPHEMERAL,
            next: EPHEMERAL.0,
            loopback_is_down: false,
            time_wait: VecDeque::new(),
        }
    }
}

impl Ports {
    /// The sockets that hold a port by bind or listen, in the order in which they took it.
    pub(crate) fn holders(&self, port: u16, work: &WorkCount) -> &[u32] {
        work.descend(self.bound.len());
        let holders = self.bound.get(&port).map_or(&[][..], Vec::as_slice);
        work.add(holders.len());
        holders
    }

    /// A socket takes a port by bind or listen.
    pub(crate) fn bind(&mut self, port: u16, socket: u32, work: &WorkCount) {
        work.descend(self.bound.len());
        self.bound.entry(port).or_default().push(socket);
        self.take(port);
    }

    /// A socket gives back what it took by bind or listen, if it did.
    pub(crate) fn unbind(&mut self, port: u16, socket: u32, work: &WorkCount) {
        work.descend(self.bound.len());
        let Some(holders) = self.bound.get_mut(&port) else { return };
        work.add(holders.len());
        holders.retain(|&other| other != socket);
        if holders.is_empty() {
            self.bound.remove(&port);
            self.give_back(port);
        }
    }

    /// A connection is made from a port.
    pub(crate) fn connect(&mut self, port: u16, work: &WorkCount) {
        work.descend(self.connections.len());
        *self.connections.entry(port).or_default() += 1;
        self.take(port);
    }

    /// A connection that was made from a port is over.
    pub(crate) fn disconnect(&mut self, port: u16, work: &WorkCount) {
        work.descend(self.connections.len());
        let Some(count) = self.connections.get_mut(&port) else { return };
        *count -= 1;
        if *count == 0 {
            self.connections.remove(&port);
            self.give_back(port);
        }
    }

    /// The ports that the kernel chooses from by itself.
    pub(crate) fn range(&self) -> std::ops::Range<u16> {
        self.range.0..self.range.1
    }

    /// Sets that range, both ends included; `low` is not above `high`, and `high` is not the last port there is.
    pub(crate) fn set_range(&mut self, low: u16, high: u16) {
        self.range = (low, high + 1);
        self.next = low;
    }

    /// Whether some connection has an end at this port, or is remembered there.
    pub(crate) fn has_connections(&self, port: u16, work: &WorkCount) -> bool {
        work.descend(self.connections.len());
        self.connections.contains_key(&port)
    }

    fn take(&mut self, port: u16) {
        self.taken[usize::from(port % 2)].insert(usize::from(port / 2));
    }

    fn give_back(&mut self, port: u16) {
        if !self.bound.contains_key(&port) && !self.connections.contains_key(&port) {
            self.taken[usize::from(port % 2)].remove(usize::from(port / 2));
        }
    }

    /// The next free ephemeral port: one of the other half only where none is left in this one (T4), and none where both
    /// are taken (T5).
    pub(crate) fn next_ephemeral(&mut self, half: Half, work: &WorkCount) -> Option<u16> {
        let (first, end) = self.range;
        let preferred = half as u16;
        let port = [preferred, 1 - preferred].into_iter().find_map(|parity| {
            let found = |start: u16, end: u16| {
                let set = &self.taken[usize::from(parity)];
                // The first port of this parity from `start` on, halved.
                let from = usize::from((start + ((start % 2) ^ parity)) / 2);
                let port = set.first_absent(from, work) * 2 + usize::from(parity);
                u16::try_from(port).ok().filter(|&port| port < end)
            };
            found(self.next, end).or_else(|| found(first, self.next))
        })?;
        self.next = if port + 1 >= end { first } else { port + 1 };
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ephemeral_ports_come_in_turn_from_their_own_half_first_and_end_when_both_are_taken() {
        let (mut ports, work) = (Ports::default(), WorkCount::default());
        let connect = |ports: &mut Ports| {
            let port = ports.next_ephemeral(Half::Even, &work)?;
            ports.connect(port, &work);
            Some(port)
        };
        assert_eq!(connect(&mut ports), Some(32_768));
        assert_eq!(connect(&mut ports), Some(32_770));
        ports.disconnect(32_768, &WorkCount::default());
        assert_eq!(connect(&mut ports), Some(32_772), "a port that was just given back is not the next");
        let half = (60_999 - 32_768) / 2 + 1;
        for _ in 2..half - 1 {
            assert_eq!(connect(&mut ports).expect("a port is free") % 2, 0);
        }
        assert_eq!(connect(&mut ports), Some(32_768), "the range begins anew");
        assert_eq!(connect(&mut ports).expect("the other half is free") % 2, 1);
        let mut left = 0;
        while connect(&mut ports).is_some() {
            left += 1;
        }
        assert_eq!(left, half - 1);
        ports.disconnect(40_001, &WorkCount::default());
        assert_eq!(connect(&mut ports), Some(40_001));
    }

    #[test]
    fn a_port_is_free_when_neither_a_socket_nor_a_connection_holds_it() {
        let (mut ports, work) = (Ports::default(), WorkCount::default());
        let taken = |ports: &mut Ports| {
            ports.next = 32_769;
            ports.next_ephemeral(Half::Odd, &work) != Some(32_769)
        };
        assert!(!taken(&mut ports));
        ports.bind(32_769, 4, &work);
        ports.connect(32_769, &work);
        ports.unbind(32_769, 5, &work);
        assert_eq!(ports.holders(32_769, &work), [4]);
        ports.unbind(32_769, 4, &work);
        assert!(taken(&mut ports));
        ports.disconnect(32_769, &work);
        assert!(!taken(&mut ports));
    }
}
