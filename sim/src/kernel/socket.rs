//! A TCP socket: its states, its one error slot, and what it is ready for.

use std::net::SocketAddrV4;

use reactor::sys::{EpollMask, Errno, Family, Fd};

use super::address::Sharing;
use super::drift::Drift;
use super::listener::Listener;
use super::option::{RECEIVE_CAPACITY_MIN, SEND_CAPACITY_MIN};
use super::watch::Watchers;
use super::{NONE, Object, cost};
use crate::fault::FaultKind;
use crate::weather::Weather;
use crate::world::{Details, World};

/// The state of the protocol, as far as calls can tell.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Fresh, or over.
    Closed,
    Listening,
    SynSent,
    /// From the handshake to the end of both directions.
    Connected,
}

/// How far the process has taken its connection attempt; what connect(2) answers depends on it (T16 to T21).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Attempt {
    None,
    /// Started, and the process has not yet learnt how it ended.
    Started,
    /// The process knows that it is connected.
    Known,
    /// Failed, and shut down before the process had learnt of it: it never connects again, unless disconnected.
    Shut,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) host: u32,
    pub(crate) state: State,
    pub(crate) attempt: Attempt,
    /// The pending error: one slot, which the next taker empties (T51).
    pub(crate) error: Option<Errno>,
    /// Nothing more is received: FIN, reset, or local SHUT_RD.
    pub(crate) receive_shut: bool,
    /// Nothing more is sent: local SHUT_WR, or reset.
    pub(crate) send_shut: bool,
    /// The peer's FIN came before anything worse (T50).
    pub(crate) fin_received: bool,
    /// A sender ran out of room and is owed a wake-up (M5).
    pub(crate) no_space: bool,
    /// It is not reported as writable until the event with this serial; zero for none.
    pub(crate) tight: u64,
    /// The same debt, as the check of obligations keeps it.
    pub(crate) room_owed: bool,
    /// Watchers that want to hear of every acknowledgement: armed write knotes (K10).
    pub(crate) write_knotes: u32,
    pub(crate) connection: u32,
    /// 0 for the side that connected, 1 for the side that accepted.
    pub(crate) side: u8,
    /// The stream that it receives on: the other one, unless it is connected to itself (T8).
    incoming: u8,
    /// What getsockname(2) tells; it stays when the port has gone (T80).
    pub(crate) local: Option<SocketAddrV4>,
    /// bind(2) or listen(2) holds the port of `local`.
    pub(crate) holds_port: bool,
    /// bind(2) named the port: it stays when a connection or a listener ends (T41).
    pub(crate) port_chosen: bool,
    /// bind(2) named the address.
    pub(crate) address_chosen: bool,
    pub(crate) shared: Sharing,
    pub(crate) no_delay: bool,
    pub(crate) keep_alive: bool,
    /// `SO_LINGER` with its seconds: none is off, zero resets (T75, T76).
    pub(crate) linger_s: Option<u32>,
    /// `TCP_SYNCNT`; zero leaves it to the system (T22).
    pub(crate) syn_count: u8,
    /// Fewer readable bytes than this are none (T52).
    pub(crate) receive_low_water: u64,
    /// This many bytes that have not been sent make it unwritable (T56).
    pub(crate) unsent_limit: u64,
    pub(crate) send_capacity: u64,
    pub(crate) receive_capacity: u64,
    pub(crate) listener: Option<Box<Listener>>,
    pub(crate) watchers: Watchers,
}

impl Socket {
    /// The stream that it sends on, in the table of connections.
    #[inline]
    pub(crate) fn outgoing(&self) -> usize {
        usize::from(self.side)
    }

    #[inline]
    pub(crate) fn incoming(&self) -> usize {
        usize::from(self.incoming)
    }

    /// Whether both ends of its connection are its own (T8).
    pub(crate) fn is_its_own_peer(&self) -> bool {
        self.incoming == self.side
    }

    /// Takes a side of a connection.
    pub(crate) fn attach(&mut self, connection: u32, side: u8) {
        self.connection = connection;
        self.side = side;
        self.incoming = 1 - side;
    }

    /// What it sends comes back to it (T8).
    pub(crate) fn attach_to_itself(&mut self) {
        self.incoming = self.side;
    }
}

/// As large as a buffer is where nothing is drawn.
const CAPACITY_DEFAULT: u64 = 256 << 10;

impl World {
    pub(crate) fn socket_create(&mut self, thread: u32, family: Family) -> Result<Fd, Errno> {
        self.spend(thread, cost::CREATE);
        self.may_create(thread)?;
        if family != Family::V4 {
            return Err(Errno::EAFNOSUPPORT);
        }
        let host = self.threads[thread as usize].host;
        let socket = self.new_socket(host);
        Ok(self.install(thread, Object::Socket(socket)))
    }

    pub(crate) fn new_socket(&mut self, host: u32) -> u32 {
        let send_capacity = self.draw_capacity(host, SEND_CAPACITY_MIN);
        let receive_capacity = self.draw_capacity(host, RECEIVE_CAPACITY_MIN);
        self.sockets.insert(Socket {
            host,
            state: State::Closed,
            attempt: Attempt::None,
            error: None,
            receive_shut: false,
            send_shut: false,
            fin_received: false,
            no_space: false,
            tight: 0,
            room_owed: false,
            write_knotes: 0,
            connection: NONE,
            side: 0,
            incoming: 1,
            local: None,
            holds_port: false,
            port_chosen: false,
            address_chosen: false,
            shared: Sharing::default(),
            no_delay: false,
            keep_alive: false,
            linger_s: None,
            syn_count: 0,
            receive_low_water: 1,
            unsent_limit: u64::MAX,
            send_capacity,
            receive_capacity,
            listener: None,
            watchers: Watchers::default(),
        })
    }

    fn draw_capacity(&mut self, host: u32, minimum: u64) -> u64 {
        if let Some(bytes) = self.options.buffer_bytes {
            return bytes.max(1);
        }
        let tiny = self.swarm.weather == Weather::Tiny;
        let small = |details: &mut Details<'_>| {
            if tiny {
                return 1 + details.draw("bytes of a tiny buffer", 600);
            }
            let spread = minimum << details.draw("scale of a buffer", 5);
            minimum + details.draw("bytes of a buffer", spread)
        };
        self.fault_with(FaultKind::SmallBuffers, host, small).unwrap_or(CAPACITY_DEFAULT)
    }

    /// Draws a send buffer anew while it is in use. A smaller one may hold more than it has room for; it then takes
    /// nothing until enough is acknowledged, as under memory pressure.
    pub(crate) fn change_send_capacity(&mut self, id: u32) {
        let host = self.sockets[id].host;
        self.sockets[id].send_capacity = self.draw_capacity(host, SEND_CAPACITY_MIN);
    }

    pub(crate) fn socket_name(&mut self, thread: u32, fd: Fd) -> Result<SocketAddrV4, Errno> {
        self.spend(thread, cost::SETTING);
        let id = self.socket_behind(thread, fd)?;
        Ok(self.sockets[id].local.unwrap_or(SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0)))
    }

    pub(crate) fn socket_error(&mut self, thread: u32, fd: Fd) -> Result<Option<Errno>, Errno> {
        self.spend(thread, cost::SETTING);
        if let Object::Unix(unix) = self.object(thread, fd)? {
            return Ok(self.unixes[unix].take_error());
        }
        let id = self.socket_behind(thread, fd)?;
        let socket = &mut self.sockets[id];
        if socket.attempt == Attempt::Started && socket.state != State::SynSent {
            self.progress(thread);
        }
        if self.drifts(Drift::ErrorTwice) {
            return Ok(self.sockets[id].error);
        }
        Ok(self.sockets[id].error.take())
    }

    /// Bytes that can be read, and whether they ever existed: a fresh socket has no stream.
    #[inline]
    pub(crate) fn readable(&self, id: u32) -> u64 {
        let socket = &self.sockets[id];
        match self.connections.get(socket.connection) {
            Some(connection) => connection.streams[socket.incoming()].readable(),
            None => 0,
        }
    }

    /// Free room in the send buffer, in bytes, with every acknowledgement of by now taken in.
    #[inline]
    pub(crate) fn room(&mut self, id: u32) -> u64 {
        let socket = &self.sockets[id];
        let (outgoing, capacity) = (socket.outgoing(), socket.send_capacity);
        match self.connections.get_mut(socket.connection) {
            Some(connection) => {
                let stream = &mut connection.streams[outgoing];
                stream.settle(self.now, &self.work);
                capacity.saturating_sub(stream.queued())
            }
            None => capacity,
        }
    }

    /// The one-third rule (T56): free space is at least half of what is queued, and not too much of that is unsent.
    #[inline]
    pub(crate) fn is_writable(&mut self, id: u32) -> bool {
        let room = self.room(id);
        let socket = &self.sockets[id];
        let queued = socket.send_capacity.saturating_sub(room);
        room > 0
            && socket.tight == 0
            && room >= queued / 2
            && (socket.unsent_limit == u64::MAX || self.unsent(id) < socket.unsent_limit)
    }

    /// Bytes that were written and have not been sent.
    #[cold]
    fn unsent(&self, id: u32) -> u64 {
        let socket = &self.sockets[id];
        self.connections.get(socket.connection).map_or(0, |connection| {
            let stream = &connection.streams[socket.outgoing()];
            stream.written.saturating_sub(stream.sent)
        })
    }

    /// The event bits of a socket, as tcp_poll computes them; finding no room arms the shortage flag (M5).
    pub(crate) fn socket_readiness(&mut self, id: u32) -> EpollMask {
        let socket = &self.sockets[id];
        if let Some(listener) = &socket.listener {
            return if listener.queue.is_empty() { EpollMask::empty() } else { EpollMask::IN };
        }
        let mut mask = EpollMask::empty();
        if socket.state == State::Closed || (socket.receive_shut && socket.send_shut) {
            mask |= EpollMask::HUP;
        }
        if socket.receive_shut {
            mask |= EpollMask::IN | EpollMask::RDHUP;
        }
        if socket.error.is_some() {
            mask |= EpollMask::ERR;
        }
        if socket.state == State::SynSent {
            return mask;
        }
        let always_out = socket.send_shut || socket.state == State::Closed;
        if self.readable(id) >= self.sockets[id].receive_low_water {
            mask |= EpollMask::IN;
        }
        if always_out || self.is_writable(id) || self.drifts(Drift::OutWithoutRoom) {
            mask |= EpollMask::OUT;
        } else if self.sockets[id].tight == 0 {
            self.sockets[id].no_space = true;
            self.expect_ack(id);
        }
        mask
    }
}
