//! Addresses of sockets: bind(2), who may share a port, and the connections that are over and keep theirs for a while.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use reactor::sys::{Errno, Fd};

use super::port::Half;
use super::socket::State;
use super::{Kernel, NONE, cost};
use crate::world::World;

const SECOND_NS: u64 = 1_000_000_000;
/// After this time a connection to the same loopback address may take the port again (T6).
const LOOPBACK_REUSE_NS: u64 = SECOND_NS;

/// The end of a connection whose side closed first: it keeps its pair of addresses (T6, T10).
#[derive(Copy, Clone, Debug)]
pub(crate) struct TimeWait {
    local: SocketAddrV4,
    remote: SocketAddrV4,
    since: u64,
    /// Whether the socket allowed others to bind its address (T11).
    shared: Sharing,
}

/// What a socket allows others to do with its address.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sharing {
    /// `SO_REUSEADDR`.
    pub(crate) address: bool,
    /// `SO_REUSEPORT`.
    pub(crate) port: bool,
}

/// How long a connection is remembered: twice the longest life of a segment.
const fn time_wait_ns(kernel: Kernel) -> u64 {
    match kernel {
        Kernel::Linux | Kernel::Freebsd => 60 * SECOND_NS,
        Kernel::Macos => 30 * SECOND_NS,
    }
}

fn overlap(one: Ipv4Addr, other: Ipv4Addr) -> bool {
    one == other || one.is_unspecified() || other.is_unspecified()
}

impl World {
    pub(crate) fn bind(&mut self, thread: u32, fd: Fd, address: SocketAddrV4) -> Result<(), Errno> {
        self.spend(thread, cost::SETTING);
        let id = self.tcp_behind(thread, fd)?;
        let host = self.sockets[id].host;
        if self.sockets[id].holds_port || self.sockets[id].state != State::Closed {
            return Err(Errno::EINVAL);
        }
        if !self.is_local(host, *address.ip()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let port = match address.port() {
            0 => self.port_to_bind(host).ok_or(Errno::EADDRINUSE)?,
            port => port,
        };
        let bound = SocketAddrV4::new(*address.ip(), port);
        if self.conflicts(id, bound) {
            return Err(Errno::EADDRINUSE);
        }
        self.take_port(id, bound);
        let socket = &mut self.sockets[id];
        socket.port_chosen = address.port() != 0;
        socket.address_chosen = !address.ip().is_unspecified();
        Ok(())
    }

    /// Holds a port for a socket, until the socket lets it go.
    pub(crate) fn take_port(&mut self, id: u32, address: SocketAddrV4) {
        let socket = &mut self.sockets[id];
        socket.local = Some(address);
        socket.holds_port = true;
        self.hosts[socket.host as usize].ports.bind(address.port(), id, &self.work);
    }

    /// Gives back the port that bind(2) or listen(2) took.
    pub(crate) fn release_port(&mut self, id: u32) {
        let socket = &mut self.sockets[id];
        if !socket.holds_port {
            return;
        }
        socket.holds_port = false;
        let Some(address) = socket.local else { return };
        self.hosts[socket.host as usize].ports.unbind(address.port(), id, &self.work);
    }

    /// The protocol is over for this socket: a port that the kernel chose goes back, one that was asked for stays (T41).
    pub(crate) fn release_chosen_port(&mut self, id: u32) {
        if !self.sockets[id].port_chosen {
            self.release_port(id);
        }
    }

    pub(crate) fn is_local(&self, host: u32, ip: Ipv4Addr) -> bool {
        let host = &self.hosts[host as usize];
        ip.is_unspecified() || ip == host.ip || (ip.is_loopback() && !host.ports.loopback_is_down)
    }

    /// T10 to T14: whether another user of the port keeps this socket from it.
    fn conflicts(&mut self, id: u32, address: SocketAddrV4) -> bool {
        let socket = &self.sockets[id];
        let (host, mine) = (socket.host, socket.shared);
        let kernel = self.hosts[host as usize].kernel;
        let others = self.hosts[host as usize].ports.holders(address.port(), &self.work);
        let taken = others.iter().filter(|&&other| other != id).any(|&other| {
            let other = &self.sockets[other];
            let theirs = other.local.map_or(Ipv4Addr::UNSPECIFIED, |address| *address.ip());
            let shared = (mine.port && other.shared.port)
                || (mine.address && other.shared.address && other.listener.is_none());
            overlap(theirs, *address.ip()) && !shared
        });
        self.forget_time_waits(host);
        if taken || !self.hosts[host as usize].ports.has_connections(address.port(), &self.work) {
            return taken;
        }
        // What earlier connections left: on Linux their own flag counts as well, on BSD only the new socket's (T11).
        let may_share = |theirs: Sharing| {
            (mine.address && (kernel.is_bsd() || theirs.address)) || (mine.port && theirs.port)
        };
        let is_mine =
            |local: SocketAddrV4| local.port() == address.port() && overlap(*local.ip(), *address.ip());
        let remembered = &self.hosts[host as usize].ports.time_wait;
        self.work.add(remembered.len());
        if remembered.iter().any(|entry| is_mine(entry.local) && !may_share(entry.shared)) {
            return true;
        }
        // A rare look at everything: only for a port that has connections.
        self.connections.iter().any(|(connection, entry)| {
            self.work.add(1);
            [0, 1].into_iter().any(|side| {
                entry.hosts[side] == host
                    && is_mine(entry.addresses[side])
                    && entry.sockets[side] != id
                    && !may_share(self.sharing_of(connection, side))
                    && self.end_holds_port(connection, side)
            })
        })
    }

    fn sharing_of(&self, connection: u32, side: usize) -> Sharing {
        let entry = &self.connections[connection];
        self.sockets.get(entry.sockets[side]).map_or(entry.shared[side], |socket| socket.shared)
    }

    /// Whether an end of a connection still occupies its address: it is neither reset, nor over and forgotten.
    fn end_holds_port(&self, connection: u32, side: usize) -> bool {
        let entry = &self.connections[connection];
        let closed =
            self.sockets.get(entry.sockets[side]).is_some_and(|socket| socket.state == State::Closed);
        let [mine, theirs] = [&entry.streams[side], &entry.streams[1 - side]];
        // A side that has not come to be holds nothing.
        let exists = side == 0 || entry.sockets[1] != NONE || mine.end() > 0 || theirs.arrived > 0;
        let over = mine.fin_arrived() && theirs.fin_arrived();
        exists && !closed && !mine.aborted && !mine.cut && (!over || !entry.ended_by_peer[side])
    }

    /// A connection is about to be forgotten: the side that closed first remembers it (T10).
    pub(crate) fn remember_connection(&mut self, connection: u32) {
        let entry = &self.connections[connection];
        // The last FIN may be arriving just now: nothing else is under way.
        let over = entry.streams.iter().all(|stream| stream.finished && !stream.cut && !stream.aborted);
        if !over {
            return;
        }
        for side in [0, 1] {
            let entry = &self.connections[connection];
            if entry.ended_by_peer[side] {
                continue;
            }
            let [local, remote] = [entry.addresses[side], entry.addresses[1 - side]];
            let (host, shared) = (entry.hosts[side], entry.shared[side]);
            self.forget_time_waits(host);
            let since = self.now;
            let ports = &mut self.hosts[host as usize].ports;
            ports.time_wait.push_back(TimeWait { local, remote, since, shared });
            ports.connect(local.port(), &self.work);
        }
    }

    /// Drops what has been remembered for long enough.
    fn forget_time_waits(&mut self, host: u32) {
        let now = self.now;
        let host = &mut self.hosts[host as usize];
        let lasts_ns = time_wait_ns(host.kernel);
        let ports = &mut host.ports;
        while let Some(first) = ports.time_wait.front().filter(|first| first.since + lasts_ns <= now) {
            let port = first.local.port();
            ports.time_wait.pop_front();
            ports.disconnect(port, &self.work);
        }
    }

    /// A port for bind(2) or listen(2) that nothing uses (T3).
    pub(crate) fn port_to_bind(&mut self, host: u32) -> Option<u16> {
        self.forget_time_waits(host);
        self.hosts[host as usize].ports.next_ephemeral(Half::Odd, &self.work)
    }

    /// A port for a connection from `ip`: one that nobody uses, else one that is free toward this destination (T5, T6).
    pub(crate) fn port_to_connect(&mut self, host: u32, ip: Ipv4Addr, to: SocketAddrV4) -> Option<u16> {
        self.forget_time_waits(host);
        let port = self.hosts[host as usize].ports.next_ephemeral(Half::Even, &self.work);
        if port.is_some() {
            return port;
        }
        let used: BTreeSet<u16> = (self.locals_toward(host, to))
            .filter(|local| *local.ip() == ip)
            .map(|local| local.port())
            .collect();
        let ports = &self.hosts[host as usize].ports;
        let is_bound = |port: u16| !ports.holders(port, &self.work).is_empty();
        let port = ports.range().into_iter().find(|port| !is_bound(*port) && !used.contains(port))?;
        self.forget_time_wait(host, SocketAddrV4::new(ip, port), to);
        Some(port)
    }

    /// Whether a connection between these addresses exists, or is remembered and may not come again (T6, T7).
    pub(crate) fn is_connected_between(&mut self, host: u32, local: SocketAddrV4, to: SocketAddrV4) -> bool {
        self.forget_time_waits(host);
        let taken = self.locals_toward(host, to).any(|other| other == local);
        if !taken {
            self.forget_time_wait(host, local, to);
        }
        taken
    }

    /// The local addresses that are taken toward a destination.
    fn locals_toward(&self, host: u32, to: SocketAddrV4) -> impl Iterator<Item = SocketAddrV4> + '_ {
        let now = self.now;
        let live = self.connections.iter().flat_map(move |(connection, entry)| {
            [0, 1].into_iter().filter_map(move |side| {
                let meant = entry.hosts[side] == host && entry.addresses[1 - side] == to;
                (meant && self.end_holds_port(connection, side)).then_some(entry.addresses[side])
            })
        });
        let remembered = self.hosts[host as usize].ports.time_wait.iter().filter(move |entry| {
            let again = to.ip().is_loopback() && now >= entry.since + LOOPBACK_REUSE_NS;
            entry.remote == to && !again
        });
        live.chain(remembered.map(|entry| entry.local))
    }

    /// The pair of addresses is used again before its time.
    fn forget_time_wait(&mut self, host: u32, local: SocketAddrV4, remote: SocketAddrV4) {
        let ports = &mut self.hosts[host as usize].ports;
        let place = ports.time_wait.iter().position(|entry| (entry.local, entry.remote) == (local, remote));
        if let Some(place) = place {
            ports.time_wait.remove(place);
            ports.disconnect(local.port(), &self.work);
        }
    }
}
