//! Acknowledgements: what is kept back and until when, when they reach the sender, and what it makes of them.

use super::drift::Drift;
use super::watch::Key;
use super::{NONE, Object};
use crate::event::EventKind;
use crate::fault::FaultKind;
use crate::obligation::Lapse;
use crate::scene::PacketKind;
use crate::world::World;

/// An acknowledgement is kept back for so long, to be sent along with an answer (T66).
const DELAYED_ACK_NS: u64 = 40_000_000;
/// The tick of the kernel's timers.
const TICK_NS: u64 = 4_000_000;
/// The longest frame between hosts; within one there is no such limit.
const FRAME_BYTES_MAX: u64 = 1_448;

/// What the receiver sees as the length of one segment of these.
#[inline]
fn frame_bytes([from, to]: [u32; 2], segment_bytes: u64) -> u64 {
    if from == to { segment_bytes } else { segment_bytes.min(FRAME_BYTES_MAX) }
}

impl World {
    /// What this side sends carries the acknowledgement of what it has got; to send soon after something has come is to answer.
    #[inline]
    pub(super) fn answer(&mut self, connection: u32, side: usize, at: u64) {
        let now = self.now;
        let incoming = &mut self.connections[connection].streams[1 - side];
        if incoming.arrived == 0 {
            return;
        }
        incoming.interactive |= incoming.last_arrival <= now && now - incoming.last_arrival < DELAYED_ACK_NS;
        if incoming.keeps_ack() && !self.network.is_troubled() {
            incoming.acknowledge(at);
            if self.waits_for_ack(connection, 1 - side) {
                self.expect_stream_ack(connection, 1 - side);
            }
        }
    }

    /// Something has arrived: the receiver acknowledges it at once, or keeps the acknowledgement back for a while.
    pub(super) fn acknowledge_arrival(&mut self, connection: u32, side: usize, segment_bytes: u64) {
        let entry = &mut self.connections[connection];
        let frame_bytes = frame_bytes(entry.hosts, segment_bytes);
        // In trouble each acknowledgement is sent at once, so that each can be lost.
        let at_once = entry.streams[side].acknowledges_at_once(frame_bytes);
        // Any receiver may do that. Puppets read when they act, and not, as whom they stand for, whenever something comes.
        let at_once = at_once || self.options.imposed.is_some();
        if at_once || self.network.is_troubled() {
            self.acknowledge(connection, side);
            return;
        }
        self.keep_ack_back(connection, side, DELAYED_ACK_NS);
    }

    /// The end of a stream has arrived. A Linux receiver that goes on sending keeps its acknowledgement back, to send it along with
    /// what it may have to say (E21).
    pub(super) fn acknowledge_end(&mut self, connection: u32, side: usize, segment_bytes: u64) {
        let entry = &mut self.connections[connection];
        let receiver = entry.sockets[1 - side];
        let goes_on = !entry.streams[self.sockets[receiver].outgoing()].finished;
        let frame_bytes = frame_bytes(entry.hosts, segment_bytes);
        let stream = &mut entry.streams[side];
        if segment_bytes > 0 {
            // The segment counts, whoever is told of it.
            stream.acknowledges_at_once(frame_bytes);
        }
        // Where no data has ever come there is no estimate to wait for, but only the next tick.
        let after_ns = if stream.written == 0 { TICK_NS } else { DELAYED_ACK_NS };
        stream.interactive = true;
        let at_once = !goes_on || stream.has_a_frame_unacknowledged();
        if at_once || self.kernel_at(receiver).is_bsd() || self.network.is_troubled() {
            self.acknowledge(connection, side);
        } else {
            self.keep_ack_back(connection, side, after_ns);
        }
    }

    fn keep_ack_back(&mut self, connection: u32, side: usize, after_ns: u64) {
        let [a, b] = self.connections[connection].hosts;
        let latency = if a == b { self.swarm.loopback } else { self.swarm.latency };
        let at = self.now + after_ns + latency.min_ns;
        self.connections[connection].streams[side].delay_ack(at);
        if self.waits_for_ack(connection, side) {
            self.expect_stream_ack(connection, side);
        }
    }

    /// TCP_QUICKACK: what was kept back goes out, if nothing is left to read, and nothing is kept back until something is
    /// answered again.
    pub(crate) fn acknowledge_quickly(&mut self, id: u32, on: bool) {
        let socket = &self.sockets[id];
        let (connection, incoming) = (socket.connection, socket.incoming());
        let Some(entry) = self.connections.get_mut(connection) else { return };
        let stream = &mut entry.streams[incoming];
        stream.interactive = !on;
        let sends =
            on && stream.keeps_ack() && (stream.readable() == 0 || stream.has_a_frame_unacknowledged());
        if sends && !stream.cut {
            self.acknowledge(connection, incoming);
        }
    }

    /// The receiver of a stream acknowledges what it has, and tells its window.
    pub(crate) fn acknowledge(&mut self, connection: u32, side: usize) {
        if self.network.is_troubled() && self.loss(connection, 1 - side).is_some() {
            self.connections[connection].streams[side].unheard = true;
            self.show_bare_packet(connection, 1 - side, PacketKind::Acknowledgement, self.now, true);
            self.expect_answer(connection, side);
            return;
        }
        let [a, b] = self.connections[connection].hosts;
        let latency = if a == b { self.swarm.loopback } else { self.swarm.latency };
        let mut at = self.now + latency.min_ns;
        if self.fault(FaultKind::DelayedAcks, connection) {
            at += DELAYED_ACK_NS;
        }
        self.show_bare_packet(connection, 1 - side, PacketKind::Acknowledgement, at, false);
        self.connections[connection].streams[side].acknowledge(at);
        if self.waits_for_ack(connection, side) {
            self.expect_stream_ack(connection, side);
        }
    }

    /// Whether the sender has a use for an acknowledgement at the time it comes, rather than when it next looks.
    fn waits_for_ack(&self, connection: u32, side: usize) -> bool {
        let entry = &self.connections[connection];
        let stream = &entry.streams[side];
        let sender = entry.sockets[side];
        if stream.cut || stream.aborted {
            return false;
        }
        let watched = sender != NONE
            && (self.sockets[sender].no_space
                || self.sockets[sender].write_knotes > 0
                || (stream.finished && !stream.fin_told));
        stream.sent < stream.end() || watched || self.lingering.is_some()
    }

    /// The sender behind this socket is short of room: acknowledgements become events.
    pub(crate) fn expect_ack(&mut self, id: u32) {
        let socket = &self.sockets[id];
        let (connection, side) = (socket.connection, socket.outgoing());
        if connection != NONE {
            self.expect_stream_ack(connection, side);
        }
    }

    pub(super) fn expect_stream_ack(&mut self, connection: u32, side: usize) {
        let now = self.now;
        let stream = &mut self.connections[connection].streams[side];
        // An acknowledgement that was kept back may be overtaken by one that is sent at once.
        if let Some(at) = stream.next_ack().map(|at| at.max(now)).filter(|&at| at < stream.ack_event_at) {
            stream.ack_event_at = at;
            let event = EventKind::Acknowledgement { stream: connection * 2 + side as u32 };
            self.queue_connection_event(connection, at, event);
        }
    }

    pub(crate) fn acknowledgement_event(&mut self, stream: u32) {
        let (connection, side) = (stream / 2, (stream % 2) as usize);
        self.release_event(connection);
        let Some(entry) = self.connections.get_mut(connection) else { return };
        let stream = &mut entry.streams[side];
        if stream.ack_event_at <= self.now {
            stream.ack_event_at = u64::MAX;
        }
        stream.settle(self.now, &self.work);
        let sender = entry.sockets[side];
        let end_told = stream.fin_acked() && !stream.fin_told && !stream.cut;
        stream.fin_told |= end_told;
        self.transmit(connection, side);
        if sender != NONE {
            self.space_freed(sender);
            // Where waits are imposed, when that happened is known from the recording, and comes as a nudge.
            if end_told && !self.kernel_at(sender).is_bsd() && self.options.imposed.is_none() {
                // Its state changes, and everyone hears of that (E21).
                self.wake(Object::Socket(sender), Key::Any);
            }
        }
        if self.waits_for_ack(connection, side) {
            self.expect_stream_ack(connection, side);
        }
    }

    /// The wake-up for freed room: on Linux only after a shortage, and only once a third is free (M5); on BSD always.
    fn space_freed(&mut self, id: u32) {
        if self.kernel_at(id).is_bsd() {
            self.wake(Object::Socket(id), Key::Out);
        } else if self.sockets[id].no_space && self.is_writable(id) {
            self.sockets[id].no_space = false;
            if self.lapses(Lapse::SkipFreedRoom) || self.drifts(Drift::LostRoomEdge) {
                return;
            }
            self.pay_room(id);
            self.wake(Object::Socket(id), Key::Out);
        }
    }
}
