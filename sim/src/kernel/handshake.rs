//! connect(2), and what the network makes of it.

use std::net::{Ipv4Addr, SocketAddrV4};

use reactor::sys::{Errno, Fd};

use super::address::Sharing;
use super::socket::{Attempt, State};
use super::stream::Stream;
use super::watch::Key;
use super::{Kernel, NONE, Object, cost};
use crate::event::EventKind;
use crate::fault::FaultKind;
use crate::scene::PacketKind;
use crate::violation::Excuse;
use crate::world::{Details, World};

/// A connection: two streams, and the sockets at their ends.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Each carries what the side of its index sends.
    pub(crate) streams: [Stream; 2],
    /// [`NONE`] for a side that has not come to be, or has closed.
    pub(crate) sockets: [u32; 2],
    pub(crate) addresses: [SocketAddrV4; 2],
    pub(crate) hosts: [u32; 2],
    /// Sides that are gone without the other one having been told: their host lost power, or their reset was lost.
    pub(crate) silent: [bool; 2],
    /// Which SYN came last, and how often the last packet of the handshake was lost.
    pub(crate) syn_attempt: u32,
    pub(crate) acks_lost: u32,
    /// The handshake is complete on the accepting side.
    pub(crate) established: bool,
    /// The socket that listened, and the serial of its listener.
    pub(crate) listener: (u32, u64),
    /// Queued events that name it.
    pub(crate) events: u32,
    /// Which side heard of the other's end before its own: it does not remember the connection (T10).
    pub(crate) ended_by_peer: [bool; 2],
    /// Whether each side is counted as a user of its port.
    pub(crate) counted: [bool; 2],
    /// What each side allowed others to do with its address when it closed.
    pub(crate) shared: [Sharing; 2],
}

/// When SYNs are sent, in seconds after the first; afterwards the attempt times out (T22, Linux 6.5 and later).
const SYN_SECONDS: [u64; 11] = [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67];
const SYN_TIMEOUT_SECONDS: u64 = 131;
const SECOND_NS: u64 = 1_000_000_000;

impl World {
    pub(crate) fn connect(&mut self, thread: u32, fd: Fd, to: SocketAddrV4) -> Result<(), Errno> {
        self.spend(thread, cost::SETTING);
        let id = self.tcp_behind(thread, fd)?;
        let kernel = self.kernel_of(thread);
        let socket = &self.sockets[id];
        match (socket.state, socket.attempt) {
            (State::Listening, _) | (_, Attempt::Known) => Err(Errno::EISCONN),
            (State::SynSent, _) => Err(Errno::EALREADY),
            (State::Connected, _) if kernel.is_bsd() => Err(Errno::EISCONN),
            (State::Connected, _) => {
                // The attempt has succeeded and this call is the first to say so (T16).
                self.sockets[id].attempt = Attempt::Known;
                self.progress(thread);
                Ok(())
            }
            (State::Closed, Attempt::Started) if kernel.is_bsd() => {
                Err(self.sockets[id].error.take().unwrap_or(Errno::EINVAL))
            }
            (State::Closed, Attempt::Started) => {
                // The attempt has failed: the error, and the socket is fresh again (T19, T21).
                let error = self.sockets[id].error.take().unwrap_or(Errno::ECONNABORTED);
                self.give_up(id, None);
                self.progress(thread);
                Err(error)
            }
            (State::Closed, Attempt::Shut) => Err(Errno::EINVAL),
            (State::Closed, Attempt::None) => self.start_connecting(thread, id, to),
        }
    }

    /// Back to a socket that has never been connected; unread data goes.
    pub(crate) fn make_fresh(&mut self, id: u32) {
        self.detach(id);
        self.release_chosen_port(id);
        let socket = &mut self.sockets[id];
        socket.attempt = Attempt::None;
        socket.state = State::Closed;
        socket.receive_shut = false;
        socket.send_shut = false;
        socket.fin_received = false;
        socket.no_space = false;
    }

    fn start_connecting(&mut self, thread: u32, id: u32, to: SocketAddrV4) -> Result<(), Errno> {
        self.spend(thread, cost::CONNECT);
        let host = self.sockets[id].host;
        let to_ip = if to.ip().is_unspecified() { Ipv4Addr::LOCALHOST } else { *to.ip() };
        let to = SocketAddrV4::new(to_ip, to.port());
        let local_ip = if to_ip.is_loopback() { to_ip } else { self.hosts[host as usize].ip };
        let to_host = if to_ip.is_loopback() { Some(host) } else { self.host_at(to_ip) };
        let no_route = if to_ip.is_loopback() {
            self.hosts[host as usize].ports.loopback_is_down
        } else {
            to_host.is_none() && to_ip.octets()[0] != 10
        };
        if no_route {
            return Err(Errno::ENETUNREACH);
        }
        let error = |details: &mut Details<'_>| {
            details.choose("which error", &[Errno::EADDRNOTAVAIL, Errno::ENETUNREACH])
        };
        if let Some(error) = self.fault_with(FaultKind::RefusedAtOnce, host, error) {
            return Err(error);
        }
        let socket = &self.sockets[id];
        let bound = socket.local.filter(|_| socket.holds_port || socket.address_chosen);
        let local_ip =
            bound.map(|address| *address.ip()).filter(|ip| !ip.is_unspecified()).unwrap_or(local_ip);
        let local = match bound.filter(|_| socket.holds_port) {
            Some(address) => SocketAddrV4::new(local_ip, address.port()),
            None => {
                let port = self.port_to_connect(host, local_ip, to).ok_or(Errno::EADDRNOTAVAIL)?;
                SocketAddrV4::new(local_ip, port)
            }
        };
        if bound.is_some() && self.is_connected_between(host, local, to) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let receive_capacity = self.sockets[id].receive_capacity;
        // What the other side can receive is known once it exists.
        let mut streams = [(); 2].map(|()| Stream::new(receive_capacity));
        streams[0].holds_small = !self.sockets[id].no_delay;
        let connection = self.connections.insert(Connection {
            streams,
            sockets: [id, NONE],
            addresses: [local, to],
            hosts: [host, to_host.unwrap_or(NONE)],
            silent: [false; 2],
            syn_attempt: 0,
            acks_lost: 0,
            established: false,
            listener: (NONE, 0),
            events: 0,
            ended_by_peer: [false; 2],
            counted: [true, false],
            shared: [Sharing::default(); 2],
        });
        self.show_connection(connection);
        self.hosts[host as usize].ports.connect(local.port(), &self.work);
        let socket = &mut self.sockets[id];
        socket.local = Some(local);
        socket.attach(connection, 0);
        socket.state = State::SynSent;
        // What a connection before has left is forgotten.
        socket.error = None;
        socket.attempt = Attempt::Started;
        if to_host.is_none() {
            let at = self.now + SYN_TIMEOUT_SECONDS * SECOND_NS;
            self.fail_attempt_at(connection, at, Errno::ETIMEDOUT, Excuse::Refused);
            return Err(Errno::EINPROGRESS);
        }
        let failure = |details: &mut Details<'_>| {
            let errors = [Errno::ECONNREFUSED, Errno::EHOSTUNREACH, Errno::ENETUNREACH, Errno::ETIMEDOUT];
            (details.choose("which error", &errors), details.draw("when it fails", 3 * SECOND_NS))
        };
        if let Some((error, after_ns)) = self.fault_with(FaultKind::FailedConnects, host, failure) {
            let at = self.arrival(connection, 0).saturating_add(after_ns);
            self.fail_attempt_at(connection, at, error, Excuse::ConnectFailed);
        } else {
            self.send_syn(connection, 0, self.now);
        }
        Err(Errno::EINPROGRESS)
    }

    fn fail_attempt_at(&mut self, connection: u32, at: u64, error: Errno, excuse: Excuse) {
        self.excuse_connection(connection, excuse);
        self.queue_connection_event(connection, at, EventKind::ConnectFailed { connection, error });
    }

    fn send_syn(&mut self, connection: u32, attempt: u32, first: u64) {
        let host = self.connections[connection].hosts[0];
        if self.fault(FaultKind::LostSyns, host) {
            self.show_syn(connection, attempt, self.now, true);
            self.note_on(connection, || format!("the SYN of connection {connection} is lost"));
            self.retry_syn(connection, attempt, first);
            return;
        }
        let at = self.arrival(connection, 0);
        self.queue_connection_event(connection, at, EventKind::Syn { connection, attempt });
    }

    /// The next SYN goes out on the client's schedule (T22, T32): whole seconds, never microseconds.
    fn retry_syn(&mut self, connection: u32, attempt: u32, first: u64) {
        let next = attempt as usize + 1;
        let client = self.connections[connection].sockets[0];
        let tries = self.sockets.get(client).map_or(0, |socket| socket.syn_count);
        match SYN_SECONDS.get(next) {
            Some(&seconds) if tries > 0 && (1 << (u32::from(tries) + 1).min(20)) - 1 <= seconds => {
                // As many tries as the socket asked for, counted in the time that they take when it doubles.
                let at = (first + seconds * SECOND_NS).max(self.now);
                self.fail_attempt_at(connection, at, Errno::ETIMEDOUT, Excuse::Refused);
            }
            Some(seconds) => {
                let at = (first + seconds * SECOND_NS).max(self.now + 1);
                let latency_ns = self.arrival(connection, 0) - self.now;
                let attempt = attempt + 1;
                self.expect_syn(connection, at);
                self.queue_connection_event(
                    connection,
                    at + latency_ns,
                    EventKind::Syn { connection, attempt },
                );
            }
            None => {
                let at = first + SYN_TIMEOUT_SECONDS * SECOND_NS;
                self.fail_attempt_at(connection, at, Errno::ETIMEDOUT, Excuse::Refused);
            }
        }
    }

    pub(crate) fn syn_event(&mut self, connection: u32, attempt: u32) {
        self.release_event(connection);
        let Some(entry) = self.connections.get_mut(connection) else { return };
        entry.syn_attempt = attempt;
        let ([from, to], [_, host]) = (entry.addresses, entry.hosts);
        let client = entry.sockets[0];
        // A client that has given up never appears in the queue (T24).
        if client == NONE || self.sockets[client].state != State::SynSent {
            self.drop_half_open(connection);
            return;
        }
        if self.network.is_troubled() && !self.syn_passes(connection, 0) {
            self.show_syn(connection, attempt, self.now, true);
            return;
        }
        self.show_syn(connection, attempt, self.now, false);
        if self.connections[connection].sockets[1] != NONE {
            // The answer to an earlier SYN was lost.
            let at = self.arrival(connection, 1);
            self.show_bare_packet(connection, 1, PacketKind::SynAck, at, false);
            self.queue_connection_event(connection, at, EventKind::SynAck { connection });
            return;
        }
        let Some(listener) = self.find_listener(host, to, from) else {
            if from == to {
                self.connect_to_itself(connection);
                return;
            }
            let at = self.arrival(connection, 1);
            self.show_bare_packet(connection, 1, PacketKind::Reset, at, false);
            self.fail_attempt_at(connection, at, Errno::ECONNREFUSED, Excuse::Refused);
            return;
        };
        let entry = self.sockets[listener].listener.as_mut().expect("the listener was just found");
        if entry.queue.len() as u64 + entry.half_open >= entry.limit {
            self.note_on(connection, || {
                format!("the accept queue of {to} is full: a SYN from {from} is dropped")
            });
            self.retry_lost_syn(connection);
            return;
        }
        entry.half_open += 1;
        let serial = entry.serial;
        self.connections[connection].listener = (listener, serial);
        self.make_server_side(connection, listener, host, to);
        let at = self.arrival(connection, 1);
        self.show_bare_packet(connection, 1, PacketKind::SynAck, at, false);
        self.queue_connection_event(connection, at, EventKind::SynAck { connection });
    }

    /// A SYN that comes back to the socket that sent it: a simultaneous open with itself (T8).
    fn connect_to_itself(&mut self, connection: u32) {
        let entry = &mut self.connections[connection];
        let id = entry.sockets[0];
        entry.sockets[1] = id;
        entry.established = true;
        let socket = &mut self.sockets[id];
        socket.attach_to_itself();
        socket.state = State::Connected;
        self.wake(Object::Socket(id), Key::Any);
    }

    /// The accepting side's socket: it has the listener's options (T36).
    fn make_server_side(&mut self, connection: u32, listener: u32, host: u32, local: SocketAddrV4) {
        let id = self.new_socket(host);
        let parent = &self.sockets[listener];
        let (no_delay, keep_alive, linger_s) = (parent.no_delay, parent.keep_alive, parent.linger_s);
        let (shared, low_water, unsent_limit) =
            (parent.shared, parent.receive_low_water, parent.unsent_limit);
        let (send, receive) = (parent.send_capacity, parent.receive_capacity);
        // The marks of a shutdown that was refused go over too (T26).
        let (receive_shut, send_shut) = (parent.receive_shut, parent.send_shut);
        let socket = &mut self.sockets[id];
        socket.state = State::Connected;
        socket.attempt = Attempt::Known;
        socket.attach(connection, 1);
        socket.local = Some(local);
        socket.no_delay = no_delay;
        socket.keep_alive = keep_alive;
        socket.linger_s = linger_s;
        socket.shared = shared;
        socket.receive_low_water = low_water;
        socket.unsent_limit = unsent_limit;
        socket.receive_shut = receive_shut;
        socket.send_shut = send_shut;
        socket.send_capacity = send;
        socket.receive_capacity = receive;
        self.hosts[host as usize].ports.connect(local.port(), &self.work);
        let entry = &mut self.connections[connection];
        entry.sockets[1] = id;
        entry.counted[1] = true;
        entry.streams[1].holds_small = !no_delay;
        let stream = &mut entry.streams[0];
        stream.receive_capacity = receive;
        stream.window_end = receive;
        stream.window_told = receive;
    }

    pub(crate) fn syn_ack_event(&mut self, connection: u32) {
        self.release_event(connection);
        let Some(entry) = self.connections.get(connection) else { return };
        let [client, server] = entry.sockets;
        if client == NONE || self.sockets[client].state != State::SynSent {
            if server != NONE {
                self.forget_half_open(connection);
                self.abort_socket(server);
            }
            return;
        }
        if self.network.is_troubled() && !self.syn_passes(connection, 1) {
            return;
        }
        let socket = &mut self.sockets[client];
        // A shutdown before connect has left its mark (T26), which refuses to send; the FIN waits for a shutdown or a close.
        socket.state = State::Connected;
        let at = self.arrival(connection, 0);
        self.connections[connection].streams[0].last_arrival = at;
        self.show_bare_packet(connection, 0, PacketKind::Acknowledgement, at, false);
        self.queue_connection_event(connection, at, EventKind::HandshakeAck { connection });
        self.wake(Object::Socket(client), Key::Any);
    }

    /// Whether a packet of the handshake gets through. If not, the client sends its SYN again in due time, unless a router
    /// has told it that there is no way.
    #[cold]
    fn syn_passes(&mut self, connection: u32, side: usize) -> bool {
        let Some(told) = self.loss(connection, side) else { return true };
        let entry = &self.connections[connection];
        let address = entry.addresses[0];
        self.show_loss(connection, side);
        self.note_on(connection, || format!("a packet of the handshake of {address} is lost"));
        self.excuse_connection(connection, Excuse::KeptApart);
        if told && side == 0 {
            let at = self.now + self.swarm.latency.min_ns;
            self.fail_attempt_at(connection, at, Errno::EHOSTUNREACH, Excuse::KeptApart);
        } else {
            self.retry_lost_syn(connection);
        }
        false
    }

    fn retry_lost_syn(&mut self, connection: u32) {
        let attempt = self.connections[connection].syn_attempt;
        let first = self.now.saturating_sub(SYN_SECONDS[attempt as usize] * SECOND_NS);
        self.retry_syn(connection, attempt, first);
    }

    /// The client has gone while packets of the handshake were lost: the accepting side hears so when it asks again.
    pub(crate) fn drop_half_open(&mut self, connection: u32) {
        let entry = &self.connections[connection];
        let server = entry.sockets[1];
        if server != NONE && !entry.established {
            self.forget_half_open(connection);
            self.remove_socket(server);
        }
    }

    /// The client went away before the handshake was complete.
    pub(crate) fn forget_half_open(&mut self, connection: u32) {
        let (listener, serial) = self.connections[connection].listener;
        let listens = self.sockets.get_mut(listener).and_then(|socket| socket.listener.as_mut());
        if let Some(listener) = listens.filter(|listener| listener.serial == serial) {
            listener.half_open -= 1;
        }
    }

    pub(crate) fn connect_failed_event(&mut self, connection: u32, error: Errno) {
        self.release_event(connection);
        let Some(entry) = self.connections.get(connection) else { return };
        let client = entry.sockets[0];
        if client != NONE && self.sockets[client].state == State::SynSent {
            self.note_on(connection, || format!("connection attempt {connection} fails: {}", error.name()));
            self.end_socket(client, Some(error));
        }
        if self.connections.get(connection).is_some() {
            self.drop_half_open(connection);
        }
    }

    /// When something sent now by this side of the connection arrives at the other.
    pub(crate) fn arrival(&mut self, connection: u32, side: usize) -> u64 {
        self.arrival_of(connection, side, 0)
    }

    /// As [`World::arrival`], for a packet with this many bytes of data.
    #[inline]
    pub(crate) fn arrival_of(&mut self, connection: u32, side: usize, bytes: u64) -> u64 {
        let [a, b] = self.connections[connection].hosts;
        let (from, to) = if side == 0 { (a, b) } else { (b, a) };
        self.arrival_between(connection * 2 + side as u32, from, to, bytes)
    }

    /// Records for both ends why their stream may end early.
    pub(crate) fn excuse_connection(&mut self, connection: u32, excuse: Excuse) {
        let [client, server] = self.connections[connection].addresses;
        self.work.descend(self.excuses.len());
        self.excuses.entry((client, server)).or_insert(excuse);
        self.excuses.entry((server, client)).or_insert(excuse);
    }

    pub(crate) fn excuse_socket(&mut self, socket: u32, excuse: Excuse) {
        let connection = self.sockets[socket].connection;
        if self.connections.get(connection).is_some() {
            self.excuse_connection(connection, excuse);
        }
    }

    /// The kernel of the host that an end of a connection is on.
    pub(crate) fn kernel_at(&self, socket: u32) -> Kernel {
        self.hosts[self.sockets[socket].host as usize].kernel
    }
}
