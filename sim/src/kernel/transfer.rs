//! recv(2) and send(2), and the segments between them.

use std::io::IoSlice;

use reactor::sys::{Errno, Fd};

use super::socket::State;
use super::watch::Key;
use super::{Kernel, NONE, Object, cost};
use crate::event::EventKind;
use crate::fault::FaultKind;
use crate::scene::{PacketKind, Shown};
use crate::schedule::ThreadId;
use crate::violation::Excuse;
use crate::world::{Details, World};

/// The longest segment, as segmentation offload makes them.
const SEGMENT_BYTES_MAX: u64 = 65_536;
/// Below this a segment is small, and waits if the socket allows that (T66).
const SMALL_BYTES: u64 = 1_448;
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
        let imposed = self.imposed_room(thread);
        let room = imposed.unwrap_or_else(|| self.room(id));
        let count = usize::try_from(room).unwrap_or(usize::MAX).min(length);
        if imposed.is_some() {
            // The room that comes is a decision too, and no acknowledgement's doing.
            self.promise_room(id);
            if count == 0 {
                return Err(Errno::EAGAIN);
            }
        } else if count < length && !self.kernel_of(thread).is_bsd() {
            self.sockets[id].no_space = true;
        }
        if count < length && imposed.is_none() {
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
        if count < length && imposed.is_none() {
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
        // What a puppet sends stands for all that had come by then: parts that arrive one after the other would be news each.
        let segment_bytes_max = if self.options.imposed.is_some() { u64::MAX } else { SEGMENT_BYTES_MAX };
        loop {
            self.work.add(1);
            let stream = &self.connections[connection].streams[side];
            if stream.aborted || stream.cut || stream.sent >= stream.end() {
                return;
            }
            let (sent, written) = (stream.sent, stream.written);
            let mut end = written.min(stream.window_end).min(sent.saturating_add(segment_bytes_max));
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
        let segment_bytes = end.min(stream.written).saturating_sub(stream.arrived);
        let data = segment_bytes > 0;
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
        let ended = self.connections[connection].streams[socket.outgoing()].finished;
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
            self.acknowledge_end(connection, side, segment_bytes);
        } else {
            self.acknowledge_arrival(connection, side, segment_bytes);
        }
        if data {
            self.wake(Object::Socket(receiver), Key::In);
        }
        if fin {
            self.wake(Object::Socket(receiver), Key::Any);
        }
    }
}
