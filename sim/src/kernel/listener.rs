//! bind(2), listen(2), accept4(2): ports, and the queue of connections that nobody has accepted yet.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use reactor::sys::{Accepted, Errno, Fd};

use super::drift::Drift;
use super::socket::{Attempt, State};
use super::watch::Key;
use super::{Kernel, NONE, Object, cost};
use crate::decision::seed::mix;
use crate::event::EventKind;
use crate::fault::FaultKind;
use crate::schedule::ThreadId;
use crate::violation::Excuse;
use crate::world::{Details, World};

/// What listen(2) adds to a socket.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Distinguishes it from later listeners of the same socket.
    pub(crate) serial: u64,
    /// Connections admitted at most, handshakes under way included.
    pub(crate) limit: u64,
    pub(crate) half_open: u64,
    /// Sockets of completed handshakes, in the order of completion (T33).
    pub(crate) queue: VecDeque<u32>,
}

const SOMAXCONN: u32 = 4096;

/// T30, T31. A negative backlog, seen without its sign, is as large as any.
fn admitted(kernel: Kernel, backlog: u32) -> u64 {
    let backlog = u64::from(backlog.min(SOMAXCONN));
    match kernel {
        Kernel::Linux => backlog + 1,
        Kernel::Freebsd => backlog * 3 / 2 + 1,
        Kernel::Macos if backlog == 0 => u64::from(SOMAXCONN),
        Kernel::Macos => backlog,
    }
}

impl World {
    pub(crate) fn listen(&mut self, thread: u32, fd: Fd, backlog: u32) -> Result<(), Errno> {
        self.spend(thread, cost::SETTING);
        let id = self.tcp_behind(thread, fd)?;
        let limit = admitted(self.kernel_of(thread), backlog);
        if let Some(listener) = &mut self.sockets[id].listener {
            listener.limit = limit;
            return Ok(());
        }
        let attempted = self.sockets[id].attempt != Attempt::None && !self.kernel_of(thread).is_bsd();
        if self.sockets[id].state != State::Closed || attempted {
            return Err(Errno::EINVAL);
        }
        if self.sockets[id].holds_port {
            if self.is_listened_on(id) {
                return Err(Errno::EADDRINUSE);
            }
        } else {
            let chosen = self.sockets[id].local.filter(|_| self.sockets[id].address_chosen);
            let ip = chosen.map_or(Ipv4Addr::UNSPECIFIED, |address| *address.ip());
            let port = self.port_to_bind(self.sockets[id].host).ok_or(Errno::EADDRINUSE)?;
            self.take_port(id, SocketAddrV4::new(ip, port));
        }
        let serial = self.next_serial();
        let socket = &mut self.sockets[id];
        socket.state = State::Listening;
        socket.listener = Some(Box::new(Listener { serial, limit, half_open: 0, queue: VecDeque::new() }));
        Ok(())
    }

    /// Whether another socket listens on the address that this one is bound to (T12).
    fn is_listened_on(&self, id: u32) -> bool {
        let socket = &self.sockets[id];
        let Some(address) = socket.local else { return false };
        let others = self.hosts[socket.host as usize].ports.holders(address.port(), &self.work);
        others.iter().filter(|&&other| other != id).any(|&other| {
            let other = &self.sockets[other];
            let theirs = other.local.map_or(Ipv4Addr::UNSPECIFIED, |address| *address.ip());
            let overlap = theirs == *address.ip() || theirs.is_unspecified() || address.ip().is_unspecified();
            other.listener.is_some() && overlap && !(socket.shared.port && other.shared.port)
        })
    }

    /// The listener that a SYN for this address reaches. Several listeners of one port share by hash on Linux and
    /// FreeBSD (T13); macOS gives everything to the first.
    pub(crate) fn find_listener(&self, host: u32, to: SocketAddrV4, from: SocketAddrV4) -> Option<u32> {
        let host = &self.hosts[host as usize];
        let bound = host.ports.holders(to.port(), &self.work);
        let mut exact = false;
        let mut found = 0_u64;
        for &id in bound {
            let socket = &self.sockets[id];
            let Some(local) = socket.local.filter(|_| socket.listener.is_some()) else { continue };
            if local.ip() == to.ip() && !exact {
                (exact, found) = (true, 0);
            }
            found += u64::from(local.ip() == to.ip() || (!exact && local.ip().is_unspecified()));
        }
        if found == 0 {
            return None;
        }
        let hash =
            mix(crate::trace::word_of_address(from) ^ crate::trace::word_of_address(to).rotate_left(16));
        let chosen = if host.kernel == Kernel::Macos { 0 } else { hash % found };
        self.work.add(bound.len());
        let matching = bound.iter().copied().filter(|&id| {
            let socket = &self.sockets[id];
            let local = socket.local.filter(|_| socket.listener.is_some());
            local.is_some_and(|local| local.ip() == to.ip() || (!exact && local.ip().is_unspecified()))
        });
        matching.into_iter().nth(usize::try_from(chosen).ok()?)
    }

    pub(crate) fn accept(&mut self, thread: u32, fd: Fd) -> Result<Accepted, Errno> {
        self.spend(thread, cost::RECV);
        let kernel = self.kernel_of(thread);
        let id = match self.tcp_behind(thread, fd) {
            Ok(id) if self.sockets[id].listener.is_some() => id,
            // Linux reserves the number before it looks what the other one stands for (T35).
            Err(Errno::EBADF) => return Err(Errno::EBADF),
            _ if kernel == Kernel::Linux => {
                self.may_create(thread)?;
                self.tcp_behind(thread, fd)?
            }
            other => other?,
        };
        let Some(listener) = &self.sockets[id].listener else {
            self.violate(
                "illegal-call",
                ThreadId(thread),
                format!("accept on {fd:?}, which does not listen"),
            );
            return Err(Errno::EINVAL);
        };
        let empty = listener.queue.is_empty();
        if empty && (kernel == Kernel::Macos || self.drifts(Drift::LimitAfterEmpty)) {
            return Err(Errno::EAGAIN);
        }
        // The number is reserved first, so a full table answers EMFILE whatever the queue holds (T35).
        if let Err(error) = self.may_create(thread) {
            if kernel == Kernel::Macos {
                // ... but macOS has already taken the connection out, and drops it.
                let lost = self.take_queued(id);
                self.note(|| format!("{} at accept loses a connection", error.name()));
                self.excuse_socket(lost, Excuse::AbortedAtAccept);
                self.abort_socket(lost);
            }
            return Err(error);
        }
        if empty {
            return Err(Errno::EAGAIN);
        }
        self.progress(thread);
        if self.fault_under(kernel, FaultKind::AcceptRefusals, id) {
            return Err(Errno::EPERM);
        }
        if self.fault(FaultKind::StolenConnections, id) {
            self.lose_queued(id, Errno::EAGAIN);
            if self.sockets[id].listener.as_ref().is_none_or(|listener| listener.queue.is_empty()) {
                return Err(Errno::EAGAIN);
            }
        }
        let error = |details: &mut Details<'_>| details.choose("which error", accept_errors(kernel));
        if let Some(error) = self.fault_with(FaultKind::AcceptErrors, id, error) {
            return Err(self.lose_queued(id, error));
        }
        if self.fault(FaultKind::AcceptAborts, id) {
            let queue = &self.sockets[id].listener.as_ref().expect("it listens").queue;
            let first = queue[0];
            self.excuse_socket(first, Excuse::Injected);
            self.fail_socket(first, Errno::ECONNRESET);
        }
        let socket = self.take_queued(id);
        let over = self.sockets[socket].state == State::Closed;
        if over && kernel == Kernel::Freebsd {
            self.abort_socket(socket);
            return Err(Errno::ECONNABORTED);
        }
        self.spend(thread, cost::ACCEPT);
        let connection = self.sockets[socket].connection;
        let peer = self.connections[connection].addresses[0];
        let fd = self.install(thread, Object::Socket(socket));
        let peer = (!(over && kernel == Kernel::Macos)).then_some(SocketAddr::V4(peer));
        Ok(Accepted { fd, peer })
    }

    /// accept4(2) with other flags than the loop's: on macOS the mode comes from the listener, as with accept(2) (T36).
    pub(crate) fn accept_flagged(
        &mut self,
        thread: u32,
        fd: Fd,
        non_blocking: bool,
        bad_flags: bool,
    ) -> Result<Fd, Errno> {
        let listener = self.object(thread, fd)?;
        if bad_flags {
            return Err(Errno::EINVAL);
        }
        let accepted = self.accept(thread, fd)?.fd;
        let inherits = self.kernel_of(thread) == Kernel::Macos;
        let blocking = if inherits { self.descriptions.is_blocking(listener) } else { !non_blocking };
        if blocking {
            let object = self.object(thread, accepted)?;
            self.descriptions.set_blocking(object, true);
        }
        Ok(accepted)
    }

    fn take_queued(&mut self, id: u32) -> u32 {
        let listener = self.sockets[id].listener.as_mut().expect("it listens");
        listener.queue.pop_front().expect("a connection is queued")
    }

    /// The queue's first connection has an error, and goes with it (T44).
    fn lose_queued(&mut self, id: u32, error: Errno) -> Errno {
        let lost = self.take_queued(id);
        self.note(|| format!("accept reports {} and its connection is gone", error.name()));
        self.excuse_socket(lost, Excuse::AbortedAtAccept);
        self.abort_socket(lost);
        error
    }

    /// Stops listening: every queued connection is reset (T42).
    pub(crate) fn close_listener(&mut self, id: u32) {
        let Some(listener) = self.sockets[id].listener.take() else { return };
        for socket in listener.queue {
            self.work.add(1);
            self.excuse_socket(socket, Excuse::ListenerClosed);
            self.abort_socket(socket);
        }
    }

    /// The handshake is complete: the connection enters the accept queue, or is reset if its listener has gone.
    pub(crate) fn handshake_ack_event(&mut self, connection: u32) {
        self.release_event(connection);
        if self.connections.get(connection).is_none() {
            return;
        }
        if self.network.is_troubled() && self.loss(connection, 0).is_some() {
            self.lose_handshake_ack(connection);
        } else {
            self.establish(connection);
        }
    }

    /// The accepting side asks again a few times, and then forgets the attempt without a word.
    #[cold]
    fn lose_handshake_ack(&mut self, connection: u32) {
        const ATTEMPTS: u32 = 5;
        const SECOND_NS: u64 = 1_000_000_000;
        let entry = &mut self.connections[connection];
        let lost = entry.acks_lost;
        entry.acks_lost += 1;
        let server = entry.sockets[1];
        if lost < ATTEMPTS {
            let at = self.now + (SECOND_NS << lost);
            self.queue_connection_event(connection, at, EventKind::HandshakeAck { connection });
        } else if server != NONE && !entry.established {
            entry.silent[1] = true;
            self.excuse_connection(connection, Excuse::KeptApart);
            self.drop_half_open(connection);
        }
    }

    /// Puts a connection into the accept queue; the first packet that shows that the client is there does it.
    pub(crate) fn establish(&mut self, connection: u32) {
        let entry = &mut self.connections[connection];
        let socket = entry.sockets[1];
        if socket == NONE || entry.established {
            return;
        }
        entry.established = true;
        let (listener, serial) = entry.listener;
        let listens = self.sockets.get_mut(listener).and_then(|socket| socket.listener.as_mut());
        let Some(listener_entry) = listens.filter(|listener| listener.serial == serial) else {
            self.excuse_socket(socket, Excuse::ListenerClosed);
            self.abort_socket(socket);
            return;
        };
        listener_entry.half_open -= 1;
        listener_entry.queue.push_back(socket);
        self.sockets[socket].attempt = Attempt::Known;
        self.wake(Object::Socket(listener), Key::In);
        if self.sockets[socket].send_shut {
            // A mark that the listener had before it listened: the FIN goes out at once.
            let outgoing = self.sockets[socket].outgoing();
            self.connections[connection].streams[outgoing].finished = true;
            self.transmit(connection, outgoing);
        }
    }
}

/// The errors of the connection that accept may report (T44); the first is the commonest.
const fn accept_errors(kernel: Kernel) -> &'static [Errno] {
    match kernel {
        Kernel::Linux => &[
            Errno::ECONNABORTED,
            Errno::EPROTO,
            Errno::ENETDOWN,
            Errno::EHOSTUNREACH,
            Errno::ENETUNREACH,
            Errno::ENOPROTOOPT,
            Errno::EHOSTDOWN,
            Errno::ENONET,
            Errno::EOPNOTSUPP,
        ],
        Kernel::Freebsd | Kernel::Macos => &[Errno::ECONNABORTED],
    }
}
