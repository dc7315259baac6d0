//! shutdown(2), close(2), and the ways in which a connection ends.

use reactor::sys::{Errno, Fd, Shutdown};

use super::drift::Drift;
use super::socket::{Attempt, State};
use super::watch::Key;
use super::{Kernel, NONE, Object, cost};
use crate::event::EventKind;
use crate::fault::FaultKind;
use crate::scene::PacketKind;
use crate::schedule::ThreadId;
use crate::violation::Excuse;
use crate::world::World;

/// A close that waits until what was sent is acknowledged, or its time is over (T76).
#[derive(Copy, Clone, Debug)]
pub(crate) struct Lingering {
    connection: u32,
    side: usize,
    until: u64,
}

const SECOND_NS: u64 = 1_000_000_000;

impl World {
    pub(crate) fn shutdown(&mut self, thread: u32, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        self.spend(thread, cost::SHUTDOWN);
        let id = self.socket_behind(thread, fd)?;
        let kernel = self.kernel_of(thread);
        let read = matches!(how, Shutdown::Read | Shutdown::Both);
        let write = matches!(how, Shutdown::Write | Shutdown::Both);
        let result = match self.sockets[id].state {
            State::Listening => {
                if read {
                    self.stop_listening(id);
                }
                Ok(())
            }
            State::SynSent => {
                // The attempt is given up (T25).
                self.give_up(id, Some(Errno::ECONNRESET));
                Ok(())
            }
            State::Closed => {
                if !kernel.is_bsd() {
                    // Refused, but the mark stays (T26).
                    let socket = &mut self.sockets[id];
                    socket.receive_shut |= read;
                    socket.send_shut |= write;
                    if socket.attempt == Attempt::Started {
                        socket.attempt = Attempt::Shut;
                    }
                }
                Err(Errno::ENOTCONN)
            }
            State::Connected => self.shut_connection(id, read, write, kernel),
        };
        // The peer hears of it first.
        self.deliver_due(thread);
        self.wake(Object::Socket(id), Key::Any);
        result
    }

    /// Back to a fresh socket, which is told of as an error.
    pub(crate) fn give_up(&mut self, id: u32, error: Option<Errno>) {
        self.make_fresh(id);
        if error.is_some() {
            self.sockets[id].error = error;
        }
        self.wake(Object::Socket(id), Key::Error);
    }

    /// The listener is a fresh socket again; its queue is reset (T41).
    pub(crate) fn stop_listening(&mut self, id: u32) {
        self.close_listener(id);
        self.make_fresh(id);
    }

    fn shut_connection(&mut self, id: u32, read: bool, write: bool, kernel: Kernel) -> Result<(), Errno> {
        let over = self.has_ended(id);
        let socket = &mut self.sockets[id];
        socket.attempt = Attempt::Known;
        let (connection, outgoing, incoming) = (socket.connection, socket.outgoing(), socket.incoming());
        if over || (kernel == Kernel::Macos && write && socket.send_shut) {
            return Err(Errno::ENOTCONN);
        }
        socket.receive_shut |= read;
        socket.send_shut |= write;
        if read && kernel.is_bsd() {
            // The queue is flushed and later data dropped (T69).
            let stream = &mut self.connections[connection].streams[incoming];
            stream.discards = true;
            stream.read = stream.arrived.min(stream.written);
        }
        // A shutdown before connect has left its mark, but no FIN (T26).
        if write && !self.connections[connection].streams[outgoing].finished {
            self.connections[connection].streams[outgoing].finished = true;
            self.transmit(connection, outgoing);
            if self.drifts(Drift::EndOutOfBand) {
                self.show_end(connection, outgoing);
            }
        }
        Ok(())
    }

    /// The other end sees the FIN before the data ahead of it.
    #[cold]
    fn show_end(&mut self, connection: u32, side: usize) {
        let receiver = self.connections[connection].sockets[1 - side];
        if receiver != NONE {
            self.sockets[receiver].receive_shut = true;
            self.wake(Object::Socket(receiver), Key::Any);
        }
    }

    pub(crate) fn close(&mut self, thread: u32, fd: Fd) -> Result<(), Errno> {
        self.spend(thread, cost::CLOSE);
        let object = self.object(thread, fd)?;
        let process = self.threads[thread as usize].process;
        if !self.close_descriptor(process, fd, object) {
            self.violate("closed-descriptor", ThreadId(thread), format!("close of {fd:?}"));
            return Err(Errno::EBADF);
        }
        self.progress(thread);
        // The descriptor is gone whatever close answers (T79).
        let host = self.threads[thread as usize].host;
        if self.fault(FaultKind::InterruptedCloses, host) { Err(Errno::EINTR) } else { Ok(()) }
    }

    /// Takes a descriptor out of the table and drops its reference. Answers whether it could be taken out.
    pub(crate) fn close_descriptor(&mut self, process: u32, fd: Fd, object: Object) -> bool {
        let entry = &mut self.processes[process as usize];
        if entry.remove(fd).is_none() {
            return false;
        }
        let bsd = self.hosts[entry.host as usize].kernel.is_bsd();
        if self.drifts(Drift::CloseUnregisters) {
            self.items_of_number_removed(object, fd);
        }
        if self.descriptions.is_shared(object) && bsd {
            self.knotes_of_number_removed(process, object, fd);
        }
        self.release(object);
        true
    }

    /// The last descriptor is closed: FIN, or reset, or nothing (T71, T75).
    pub(crate) fn close_socket(&mut self, id: u32) {
        self.close_listener(id);
        let socket = &self.sockets[id];
        let (connection, outgoing) = (socket.connection, socket.outgoing());
        if socket.state == State::Connected {
            let linger_s = socket.linger_s;
            let fin_queued = self.connections[connection].streams[outgoing].finished;
            if self.readable(id) > 0 && !self.drifts(Drift::CloseIgnoresUnread) {
                self.excuse_connection(connection, Excuse::ClosedWithUnreadData);
                self.send_reset(connection, outgoing);
            } else if linger_s == Some(0) {
                self.excuse_connection(connection, Excuse::ResetOnClose);
                self.send_reset(connection, outgoing);
            } else if !fin_queued {
                self.connections[connection].streams[outgoing].finished = true;
                self.transmit(connection, outgoing);
            }
            if let Some(seconds @ 1..) = linger_s {
                self.linger(id, seconds);
            }
        }
        self.remove_socket(id);
    }

    /// Makes the close under way wait. Linux waits whatever the descriptor's mode (T76); of the others only the loop's
    /// mode is modelled, in which they do not.
    #[cold]
    fn linger(&mut self, id: u32, seconds: u32) {
        let socket = &self.sockets[id];
        let (connection, side) = (socket.connection, socket.outgoing());
        if self.kernel_at(id).is_bsd() || self.connections[connection].streams[side].aborted {
            return;
        }
        let until = self.now + u64::from(seconds) * SECOND_NS;
        self.lingering = Some(Lingering { connection, side, until });
        // This also keeps the connection until then.
        let stream = connection * 2 + side as u32;
        self.queue_connection_event(connection, until, EventKind::Acknowledgement { stream });
    }

    /// Whether the close that waits may return by now.
    pub(crate) fn linger_ends(&mut self) -> bool {
        let Some(Lingering { connection, side, until }) = self.lingering else { return true };
        let now = self.now;
        let ended = now >= until || {
            let stream = &mut self.connections[connection].streams[side];
            stream.settle(now, &self.work);
            stream.fin_acked() || stream.cut || stream.aborted
        };
        if ended {
            self.lingering = None;
        }
        ended
    }

    /// Takes the socket out of its connection; what it sent goes on by itself (T74).
    pub(crate) fn detach(&mut self, id: u32) {
        let socket = &mut self.sockets[id];
        let (connection, side) = (socket.connection, usize::from(socket.side));
        socket.connection = NONE;
        if connection != NONE {
            let entry = &mut self.connections[connection];
            entry.shared[side] = socket.shared;
            entry.sockets[side] = NONE;
            // An attempt that is given up leaves nothing behind.
            entry.streams[side].aborted |= socket.state == State::SynSent;
            if socket.is_its_own_peer() {
                entry.sockets[1 - side] = NONE;
            }
            self.free_if_over(connection);
        }
    }

    pub(crate) fn remove_socket(&mut self, id: u32) {
        self.detach(id);
        self.release_port(id);
        self.sockets.remove(id);
    }

    /// Resets a connection whose socket has no descriptor: it is in an accept queue, or on its way there.
    pub(crate) fn abort_socket(&mut self, id: u32) {
        let socket = &self.sockets[id];
        let (connection, side, state) = (socket.connection, socket.outgoing(), socket.state);
        if state == State::Connected {
            self.send_reset(connection, side);
        }
        self.remove_socket(id);
    }

    /// Sends a reset from this side. It follows the segments under way, unless the run lets it overtake them; what was
    /// never sent is lost (T73, T78).
    pub(crate) fn send_reset(&mut self, connection: u32, side: usize) {
        let at = self.arrival(connection, side);
        let entity = connection * 2 + side as u32;
        let overtakes = self.fault(FaultKind::ResetOvertakes, entity);
        let entry = &mut self.connections[connection];
        entry.streams[1 - side].cut = true;
        let stream = &mut entry.streams[side];
        if stream.aborted {
            return;
        }
        stream.aborted = true;
        let at = if overtakes { at } else { at.max(stream.last_arrival + 1) };
        self.show_bare_packet(connection, side, PacketKind::Reset, at, false);
        self.queue_connection_event(connection, at, EventKind::Reset { stream: entity });
    }

    pub(crate) fn reset_event(&mut self, stream: u32) {
        let (connection, side) = (stream / 2, (stream % 2) as usize);
        self.release_event(connection);
        let now = self.now;
        if self.connections.get(connection).is_none() {
            return;
        }
        if self.network.is_troubled() && self.loss(connection, side).is_some() {
            self.lose_reset(connection, side);
            return;
        }
        let entry = &mut self.connections[connection];
        let receiver = entry.sockets[1 - side];
        entry.streams[side].cut = true;
        entry.streams[1 - side].settle(now, &self.work);
        let all_acked = entry.streams[1 - side].fin_acked();
        let finished = entry.streams[1 - side].finished;
        entry.streams[1 - side].cut = true;
        if receiver == NONE {
            return;
        }
        let bsd = self.kernel_at(receiver).is_bsd();
        let socket = &self.sockets[receiver];
        // Once both directions have ended, a reset is invisible (T77).
        if socket.state == State::Closed || (socket.fin_received && all_acked) {
            return;
        }
        // Its own FIN has not gone out, whatever mark a shutdown before connect has left (T26).
        let piped = socket.fin_received && !finished && !bsd;
        let error = if piped { Errno::EPIPE } else { Errno::ECONNRESET };
        self.note_on(connection, || format!("a reset arrives for connection {connection}"));
        self.end_socket(receiver, Some(error));
    }

    /// A reset from outside: this side fails, and the other hears of it too.
    pub(crate) fn fail_socket(&mut self, id: u32, error: Errno) {
        let socket = &self.sockets[id];
        let (connection, side) = (socket.connection, socket.outgoing());
        if socket.state == State::Closed {
            return;
        }
        self.end_socket(id, Some(error));
        self.send_reset(connection, side);
    }

    /// Resets the ends that would wait for ever for a side that failed alone: what keepalive does in hours.
    pub(crate) fn release_half_dead(&mut self) {
        let connections: Vec<u32> = self.connections.iter().map(|(connection, _)| connection).collect();
        for connection in connections {
            for side in [0, 1] {
                let entry = &self.connections[connection];
                let is_live = |socket: u32| socket != NONE && self.sockets[socket].state == State::Connected;
                let [dead, other] = [entry.sockets[side], entry.sockets[1 - side]];
                let untold = (entry.streams[side].cut || entry.silent[side]) && !entry.streams[side].aborted;
                if !is_live(dead) && is_live(other) && untold {
                    self.send_reset(connection, side);
                }
            }
        }
    }

    /// The protocol is over for this socket: nothing comes, nothing goes; what has arrived stays readable (T49).
    pub(crate) fn end_socket(&mut self, id: u32, error: Option<Errno>) {
        let socket = &mut self.sockets[id];
        socket.state = State::Closed;
        socket.receive_shut = true;
        socket.send_shut = true;
        socket.no_space = false;
        if let Some(error) = error {
            socket.error = Some(error);
        }
        self.release_chosen_port(id);
        let socket = &self.sockets[id];
        if let Some(entry) = self.connections.get_mut(socket.connection) {
            entry.streams[0].cut = true;
            entry.streams[1].cut = true;
        }
        if error.is_some() {
            self.wake(Object::Socket(id), Key::Error);
        }
        self.wake(Object::Socket(id), Key::Any);
    }

    /// A queued event that names the connection has been taken out.
    pub(crate) fn release_event(&mut self, connection: u32) {
        self.connections[connection].events -= 1;
        self.free_if_over(connection);
    }

    fn free_if_over(&mut self, connection: u32) {
        let entry = &self.connections[connection];
        if entry.sockets != [NONE, NONE] || entry.events > 0 {
            return;
        }
        self.remember_connection(connection);
        self.hide_connection(connection);
        let mut entry = self.connections.remove(connection);
        for stream in &mut entry.streams {
            stream.release(&mut self.rings);
        }
        for side in [0, 1] {
            if let Some(host) = self.hosts.get_mut(entry.hosts[side] as usize)
                && entry.counted[side]
            {
                host.ports.disconnect(entry.addresses[side].port(), &self.work);
            }
        }
    }
}
