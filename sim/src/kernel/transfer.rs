//! recv(2) and send(2), and the segments and acknowledgements between them.

use std::io::IoSlice;

use reactor::sys::{Errno, Fd};

use super::drift::Drift;
use super::socket::State;
use super::watch::Key;
use super::{Kernel, NONE, Object, cost};
use crate::event::EventKind;
use crate::fault::FaultKind;
use crate::obligation::Lapse;
use crate::scene::{PacketKind, Shown};
use crate::schedule::ThreadId;
use crate::violation::Excuse;
use crate::world::{Details, World};

/// The longest segment, as segmentation offload makes them.
const SEGMENT_BYTES_MAX: u64 = 65_536;
/// Below this a segment is small, and waits if the socket allows that (T66).
const SMALL_BYTES: u64 = 1_448;
const DELAYED_ACK_NS: u64 = 40_000_000;
/// The tick of the kernel's timers.
const TICK_NS: u64 = 4_000_000;
/// sendmsg(2) takes no more segments than this (T64).
const SEGMENTS_MAX: usize = 1_024;

impl World {
    pub(crate) fn recv(&mut self, thread: u32, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.spend(thread, cost::RECV);
        let id = match self.object(thread, fd)? {
            Object::Socket(id) => id,
            other => return self.recv_elsewhere(thread, fd, other, buffer),
        };
        let socket = &mut self.sockets[id];
        if socket.state == State::Listening {
            self.violate("illegal-call", ThreadId(thread), format!("recv on {fd:?}, which listens"));
            return Err(Errno::ENOTCONN);
        }
        let (connection, incoming) = (socket.connection, socket.incoming());
        let kernel = self.kernel_of(thread);
        if self.fault_under(kernel, FaultKind::InterruptedCalls, id) {
            return Err(Errno::EINTR);
        }
        if let Some(entry) = self.connections.get_mut(connection) {
            let stream = &mut entry.streams[incoming];
            if stream.readable() > 0 {
                let count = stream.read_into(buffer, &mut self.rings);
                let drained = stream.acknowledges_when_drained();
                let owes = (stream.owes_window_update() || drained) && !stream.cut;
                self.spend(thread, cost::RECV_DATA + count as u64 / 16 * cost::COPY_16_BYTES);
                self.progress(thread);
                if owes {
                    self.acknowledge(connection, incoming);
                }
                if self.readable(id) == 0 && self.fault_under(kernel, FaultKind::SpuriousEdges, id) {
                    self.wake(Object::Socket(id), Key::Any);
                }
                return Ok(count);
            }
        }
        self.receive_end(thread, fd, id)
    }

    /// What recv(2) answers when nothing is queued: the end, the pending error once, or that it would wait.
    pub(crate) fn receive_end(&mut self, thread: u32, fd: Fd, id: u32) -> Result<usize, Errno> {
        let kernel = self.kernel_of(thread);
        let socket = &mut self.sockets[id];
        let fin_first = socket.fin_received && !kernel.is_bsd();
        let result = if fin_first {
            Ok(0)
        } else if let Some(error) = socket.error.take() {
            Err(error)
        } else if socket.receive_shut {
            Ok(0)
        } else if socket.state == State::Closed {
            Err(Errno::ENOTCONN)
        } else {
            return Err(Errno::EAGAIN);
        };
        if result == Err(Errno::ENOTCONN) {
            self.violate(
                "illegal-call",
                ThreadId(thread),
                format!("recv on {fd:?}, which was never connected"),
            );
        }
        self.progress(thread);
        result
    }

    pub(crate) fn send(&mut self, thread: u32, fd: Fd, segments: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.spend(thread, cost::SEND);
        let id = match self.object(thread, fd)? {
            Object::Socket(id) => id,
            other => return self.send_elsewhere(thread, fd, other, segments),
        };
        if segments.len() > SEGMENTS_MAX {
            return Err(Errno::EMSGSIZE);
        }
        self.may_send(thread, id)?;
        let length: usize = segments.iter().map(|segment| segment.len()).sum();
        if length == 0 {
            return Ok(0);
        }
        let kernel = self.kernel_of(thread);
        if let Some(error) = self.send_trouble(kernel, id, length) {
            return Err(error);
        }
        if self.fault(FaultKind::ChangingBuffers, id) {
            self.change_send_capacity(id);
        }
        let room = self.room(id);
        let count = usize::try_from(room).unwrap_or(usize::MAX).min(length);
        if count < length && !self.kernel_of(thread).is_bsd() {
            self.sockets[id].no_space = true;
        }
        if count < length {
            self.owe_room(id);
        }
        if count == 0 {
            self.expect_ack(id);
            return Err(Errno::EAGAIN);
        }
        let socket = &self.sockets[id];
        let (connection, side) = (socket.connection, socket.outgoing());
        let stream = &mut self.connections[connection].streams[side];
        let mut left = count;
        for segment in segments {
            let taken = segment.len().min(left);
            stream.write(&segment[..taken], &mut self.rings);
            self.work.add(1);
            left -= taken;
            if left == 0 {
                break;
            }
        }
        if self.trace.collects() {
            self.show_bytes(connection, side, segments, count);
        }
        self.spend(thread, cost::SEND_DATA + count as u64 / 16 * cost::COPY_16_BYTES);
        self.progress(thread);
        self.transmit(connection, side);
        if count < length {
            self.expect_ack(id);
        }
        Ok(count)
    }

    /// What keeps a healthy socket from taking bytes though it has room.
    fn send_trouble(&mut self, kernel: Kernel, id: u32, length: usize) -> Option<Errno> {
        if self.fault_under(kernel, FaultKind::InterruptedCalls, id) {
            return Some(Errno::EINTR);
        }
        if self.fault_under(kernel, FaultKind::ExhaustedBuffers, id) {
            return Some(Errno::ENOBUFS);
        }
        // With nothing queued the system takes the bytes whatever memory there is, for no acknowledgement would come
        // to tell of more.
        if self.swarm.is_on(FaultKind::MemoryPressure)
            && self.room(id) >= length as u64
            && self.room(id) < self.sockets[id].send_capacity
            && self.fault_under(kernel, FaultKind::MemoryPressure, id)
        {
            self.sockets[id].no_space = true;
            self.owe_room(id);
            self.expect_ack(id);
            return Some(Errno::EAGAIN);
        }
        None
    }

    /// Whether the socket takes bytes at all, in the order in which each system looks (T60, T61).
    fn may_send(&mut self, thread: u32, id: u32) -> Result<(), Errno> {
        let bsd = self.kernel_of(thread).is_bsd();
        let socket = &mut self.sockets[id];
        if bsd {
            if socket.send_shut {
                return Err(Errno::EPIPE);
            }
            if let Some(error) = socket.error.take() {
                return Err(error);
            }
        } else if let Some(error) = socket.error.take() {
            return Err(error);
        } else if socket.send_shut && socket.state != State::SynSent {
            return Err(Errno::EPIPE);
        }
        match socket.state {
            State::Connected => Ok(()),
            State::SynSent => Err(Errno::EAGAIN),
            State::Closed | State::Listening => {
                self.violate(
                    "illegal-call",
                    ThreadId(thread),
                    "send on a socket that is not connected".to_owned(),
                );
                Err(if bsd { Errno::ENOTCONN } else { Errno::EPIPE })
            }
        }
    }

    /// Sends what the window allows; schedules nothing but arrival times.
    pub(crate) fn transmit(&mut self, connection: u32, side: usize) {
        let entity = connection * 2 + side as u32;
        loop {
            self.work.add(1);
            let stream = &self.connections[connection].streams[side];
            if stream.aborted || stream.cut || stream.sent >= stream.end() {
                return;
            }
            let (sent, written) = (stream.sent, stream.written);
            let mut end = written.min(stream.window_end).min(sent + SEGMENT_BYTES_MAX);
            let length = end.saturating_sub(sent);
            let only_fin = sent == written;
            let small = stream.holds_small && length < SMALL_BYTES && sent > stream.acked && !stream.finished;
            if (length == 0 && !only_fin) || small {
                self.expect_stream_ack(connection, side);
                return;
            }
            let cut = |details: &mut Details<'_>| details.draw("where a segment is cut", length - 1);
            if length > 1
                && let Some(shorter) = self.fault_with(FaultKind::SplitSegments, entity, cut)
            {
                end -= shorter;
            }
            let at = self.arrival_of(connection, side, end - sent);
            let stream = &mut self.connections[connection].streams[side];
            if end == written && stream.finished {
                end += 1;
            }
            let at = at.max(stream.last_arrival + 1);
            stream.last_arrival = at;
            stream.sent = end;
            if self.trace.collects() {
                let kind = PacketKind::Data;
                let now = self.now;
                let shown =
                    Shown { kind, sent: now, arrives: at, from: sent, to: end, again: false, lost: false };
                self.show_packet(connection, side, shown);
            }
            self.answer(connection, side, at);
            self.queue_connection_event(connection, at, EventKind::Segment { stream: entity, end });
        }
    }

    pub(crate) fn segment_event(&mut self, stream: u32, end: u64) {
        let (connection, side) = (stream / 2, (stream % 2) as usize);
        self.release_event(connection);
        let Some(entry) = self.connections.get_mut(connection) else { return };
        let plain = entry.established && !entry.streams[side].lost && !self.network.is_troubled();
        if !plain && !self.segment_passes(connection, side) {
            return;
        }
        let entry = &mut self.connections[connection];
        let receiver = entry.sockets[1 - side];
        let answered = entry.streams[1 - side].aborted || entry.streams[side].aborted;
        let stream = &mut entry.streams[side];
        if stream.cut {
            // A side that failed by itself answers what still comes with a reset, as any closed port does.
            if !answered {
                self.send_reset(connection, 1 - side);
            }
            return;
        }
        let data = end.min(stream.written) > stream.arrived;
        let gone = receiver == NONE || self.sockets[receiver].state == State::Closed;
        if gone {
            if end > stream.written {
                entry.ended_by_peer[1 - side] = !entry.streams[1 - side].finished;
            }
            let silent = entry.silent[1 - side];
            let stream = &mut entry.streams[side];
            if data || receiver != NONE || silent {
                // Nobody is there to take it: a reset comes back (T62, T77).
                stream.cut = true;
                self.excuse_connection(connection, Excuse::DataAfterClose);
                self.send_reset(connection, 1 - side);
            } else {
                stream.arrived = end;
                self.acknowledge(connection, side);
            }
            return;
        }
        if self.fault(FaultKind::InjectedResets, connection) {
            self.note_on(connection, || format!("connection {connection} is reset from outside"));
            self.excuse_connection(connection, Excuse::Injected);
            self.fail_socket(receiver, Errno::ECONNRESET);
            return;
        }
        let failure = |details: &mut Details<'_>| {
            details.choose("which error", &[Errno::ETIMEDOUT, Errno::EHOSTUNREACH, Errno::ENETUNREACH])
        };
        if let Some(error) = self.fault_with(FaultKind::FailedConnections, connection, failure) {
            self.note_on(connection, || {
                format!("one side of connection {connection} fails: {}", error.name())
            });
            self.excuse_connection(connection, Excuse::Injected);
            self.end_socket(receiver, Some(error));
            return;
        }
        let bsd = self.kernel_at(receiver).is_bsd();
        let socket = &mut self.sockets[receiver];
        let ended = self.connections[connection].streams[1 - side].finished;
        if data && !bsd && socket.receive_shut && ended && !socket.fin_received {
            // Shut both ways and still sent to (T70). A shutdown before connect has left its mark, but no FIN (T26).
            self.excuse_connection(connection, Excuse::DataAfterClose);
            self.fail_socket(receiver, Errno::ECONNRESET);
            return;
        }
        let now = self.now;
        let stream = &mut self.connections[connection].streams[side];
        stream.settle(now, &self.work);
        stream.arrived = end;
        stream.retries = 0;
        if stream.discards {
            stream.read = end.min(stream.written);
        }
        let fin = stream.fin_arrived();
        let socket = &mut self.sockets[receiver];
        if fin {
            let entry = &mut self.connections[connection];
            entry.ended_by_peer[1 - side] = !entry.streams[1 - side].finished;
            socket.fin_received = true;
            socket.receive_shut = true;
        }
        if self.trace.collects() {
            let end_note = if fin { ", and its end" } else { "" };
            let address = self.connections[connection].addresses[1 - side];
            self.note_on(connection, || format!("bytes up to {end} arrive at {address}{end_note}"));
        }
        if fin {
            self.acknowledge_end(connection, side, data);
        } else {
            self.acknowledge_arrival(connection, side);
        }
        if data {
            self.wake(Object::Socket(receiver), Key::In);
        }
        if fin {
            self.wake(Object::Socket(receiver), Key::Any);
        }
    }

    /// What this side sends carries the acknowledgement of what it has got; to send soon after something has come is to answer.
    #[inline]
    fn answer(&mut self, connection: u32, side: usize, at: u64) {
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
    fn acknowledge_arrival(&mut self, connection: u32, side: usize) {
        // In trouble each acknowledgement is sent at once, so that each can be lost.
        let at_once = self.connections[connection].streams[side].acknowledges_at_once();
        if at_once || self.network.is_troubled() {
            self.acknowledge(connection, side);
            return;
        }
        self.keep_ack_back(connection, side, DELAYED_ACK_NS);
    }

    /// The end of a stream has arrived. A Linux receiver that goes on sending keeps its acknowledgement back, to send it along with
    /// what it may have to say (E21).
    fn acknowledge_end(&mut self, connection: u32, side: usize, data: bool) {
        let entry = &mut self.connections[connection];
        let goes_on = !entry.streams[1 - side].finished;
        let stream = &mut entry.streams[side];
        if data {
            // The segment counts, whoever is told of it.
            stream.acknowledges_at_once();
        }
        // Where no data has ever come there is no estimate to wait for, but only the next tick.
        let after_ns = if stream.written == 0 { TICK_NS } else { DELAYED_ACK_NS };
        stream.interactive = true;
        let at_once = !goes_on || stream.has_a_frame_unacknowledged();
        let receiver = self.connections[connection].sockets[1 - side];
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

    fn expect_stream_ack(&mut self, connection: u32, side: usize) {
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
            if end_told && !self.kernel_at(sender).is_bsd() {
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
