//! What is lost is sent again: segments, acknowledgements and resets that a link does not pass, or that nobody is there to
//! take.
//!
//! A segment that is lost leaves a gap, and what comes after it is of no use; the sender sends everything from the gap on
//! again, later and later. It gives up after as many attempts as its host allows, with `ETIMEDOUT`; it tells nobody.

use reactor::sys::Errno;

use super::NONE;
use super::socket::State;
use crate::event::EventKind;
use crate::scene::{PacketKind, Shown};
use crate::violation::Excuse;
use crate::world::World;

/// The first retransmission comes this long after the loss; each one after it takes twice as long, up to a limit.
const TIMEOUT_NS_MIN: u64 = 200_000_000;
const TIMEOUT_NS_MAX: u64 = 120_000_000_000;

impl World {
    /// Whether a packet that this side sends is lost now, and then whether the sender is told by a router.
    pub(crate) fn loss(&self, connection: u32, side: usize) -> Option<bool> {
        let [a, b] = self.connections[connection].hosts;
        let (from, to) = if side == 0 { (a, b) } else { (b, a) };
        if to == NONE || from == NONE {
            return None;
        }
        if !self.hosts[to as usize].up {
            return Some(false);
        }
        self.network.blocks(from, to, self.now)
    }

    /// Whether a segment that arrives now does arrive, and is of use.
    #[cold]
    pub(crate) fn segment_passes(&mut self, connection: u32, side: usize) -> bool {
        if self.loss(connection, side).is_some() {
            self.show_loss(connection, side);
            self.note_on(connection, || format!("a segment of connection {connection} is lost"));
            self.connections[connection].streams[side].lost = true;
            self.expect_answer(connection, side);
            return false;
        }
        if self.connections[connection].streams[side].lost {
            return false;
        }
        if side == 0 {
            // Data also says that the client has heard the answer to its SYN.
            self.establish(connection);
        }
        true
    }

    /// The sender of this stream hears nothing of what it has sent: it will send again.
    #[cold]
    pub(crate) fn expect_answer(&mut self, connection: u32, side: usize) {
        let stream = &mut self.connections[connection].streams[side];
        if stream.retransmits {
            return;
        }
        stream.retransmits = true;
        let after_ns = (TIMEOUT_NS_MIN << stream.retries.min(20)).min(TIMEOUT_NS_MAX);
        let event = EventKind::Retransmission { stream: connection * 2 + side as u32 };
        self.queue_connection_event(connection, self.now.saturating_add(after_ns), event);
    }

    pub(crate) fn retransmission_event(&mut self, stream: u32) {
        let (connection, side) = (stream / 2, (stream % 2) as usize);
        self.release_event(connection);
        let now = self.now;
        let Some(entry) = self.connections.get_mut(connection) else { return };
        let silent = entry.silent[side];
        let [from, _] = if side == 0 { entry.hosts } else { [entry.hosts[1], entry.hosts[0]] };
        let stream = &mut entry.streams[side];
        stream.retransmits = false;
        stream.settle(now, &self.work);
        let unheard = stream.acked < stream.sent || stream.unheard;
        if silent || stream.aborted || stream.cut || !(unheard || stream.lost) {
            return;
        }
        stream.retries += 1;
        let (retries, again, end) =
            (stream.retries, stream.lost || stream.arrived < stream.sent, stream.sent);
        if self.loss(connection, side).is_some() {
            if retries > self.hosts[from as usize].retransmissions_max {
                self.give_up_sending(connection, side);
            } else {
                self.expect_answer(connection, side);
            }
        } else if again {
            self.note_on(connection, || format!("what connection {connection} has lost is sent again"));
            self.connections[connection].streams[side].lost = false;
            let at = self.arrival(connection, side);
            let stream = &mut self.connections[connection].streams[side];
            let at = at.max(stream.last_arrival + 1);
            stream.last_arrival = at;
            let from = stream.arrived;
            if self.trace.collects() {
                let kind = PacketKind::Data;
                let shown = Shown { kind, sent: now, arrives: at, from, to: end, again: true, lost: false };
                self.show_packet(connection, side, shown);
            }
            let event = EventKind::Segment { stream: connection * 2 + side as u32, end };
            self.queue_connection_event(connection, at, event);
        } else {
            // Everything has arrived, and the acknowledgement was lost: the receiver says it again.
            self.connections[connection].streams[side].unheard = false;
            self.acknowledge(connection, side);
            let still_unheard = self.connections[connection].streams[side].unheard;
            if still_unheard && retries > self.hosts[from as usize].retransmissions_max {
                self.give_up_sending(connection, side);
            }
        }
    }

    /// The kernel has sent in vain for too long.
    fn give_up_sending(&mut self, connection: u32, side: usize) {
        self.excuse_connection(connection, Excuse::KeptApart);
        let entry = &mut self.connections[connection];
        entry.silent[side] = true;
        let sender = entry.sockets[side];
        self.note_on(connection, || format!("connection {connection} times out at side {side}"));
        if sender != NONE && self.sockets[sender].state == State::Connected {
            self.end_socket(sender, Some(Errno::ETIMEDOUT));
        }
    }

    /// A reset is not sent again. Whoever it was for learns of it from the answer to what it sends next.
    #[cold]
    pub(crate) fn lose_reset(&mut self, connection: u32, side: usize) {
        let receiver = self.connections[connection].sockets[1 - side];
        if receiver == NONE || self.sockets[receiver].state == State::Closed {
            return;
        }
        self.show_loss(connection, side);
        self.note_on(connection, || format!("a reset of connection {connection} is lost"));
        let entry = &mut self.connections[connection];
        entry.silent[side] = true;
        entry.streams[side].aborted = false;
        entry.streams[1 - side].cut = false;
        let waits = entry.streams[1 - side].acked < entry.streams[1 - side].sent;
        self.transmit(connection, 1 - side);
        if waits {
            self.expect_answer(connection, 1 - side);
        }
    }
}
