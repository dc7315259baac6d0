//! recv(2) and send(2) in their full width, and what else only scripts ask of a connection.

use std::io::IoSlice;
use std::net::SocketAddrV4;

use reactor::sys::{Errno, Fd, Shutdown};

use super::socket::State;
use super::watch::Key;
use super::{Kernel, NONE, Object, cost};
use crate::script::probe::MessageFlags;
use crate::violation::Excuse;
use crate::world::World;

/// writev(2) takes no more segments than this (T64).
const SEGMENTS_MAX: usize = 1_024;

impl World {
    /// recv(2) with flags; a read that leaves the bytes where they are takes the error all the same on Linux (T49).
    pub(crate) fn recv_message(
        &mut self,
        thread: u32,
        fd: Fd,
        length: usize,
        flags: MessageFlags,
    ) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; length];
        let count = if flags.contains(MessageFlags::PEEK) {
            self.peek(thread, fd, &mut buffer)?
        } else {
            self.recv(thread, fd, &mut buffer)?
        };
        buffer.truncate(count);
        Ok(buffer)
    }

    fn peek(&mut self, thread: u32, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.spend(thread, cost::RECV);
        let id = self.socket_behind(thread, fd)?;
        let socket = &self.sockets[id];
        let (state, incoming) = (socket.state, socket.incoming());
        if let Some(entry) = self.connections.get(socket.connection)
            && entry.streams[incoming].readable() > 0
        {
            return Ok(entry.streams[incoming].peek_into(buffer));
        }
        if state == State::Listening {
            return Err(Errno::ENOTCONN);
        }
        let pending = self.sockets[id].error;
        let result = self.receive_end(thread, fd, id);
        if self.kernel_of(thread).is_bsd() {
            self.sockets[id].error = pending;
        }
        result
    }

    /// send(2) with flags: a broken pipe raises a signal unless it is told not to (T63).
    pub(crate) fn send_message(
        &mut self,
        thread: u32,
        fd: Fd,
        bytes: &[u8],
        flags: MessageFlags,
    ) -> Result<usize, Errno> {
        let result = self.send(thread, fd, &[IoSlice::new(bytes)]);
        if result == Err(Errno::EPIPE) && !flags.contains(MessageFlags::NOSIGNAL) {
            self.raise_pipe_signal(thread);
        }
        result
    }

    /// A SIGPIPE for the process of this thread.
    pub(crate) fn raise_pipe_signal(&mut self, thread: u32) {
        self.process_of(thread).pipe_signals += 1;
    }

    /// writev(2) of equal segments; nothing to write is nothing, whatever the socket's state (T64).
    pub(crate) fn write_segments(
        &mut self,
        thread: u32,
        fd: Fd,
        segments: i32,
        length: usize,
    ) -> Result<usize, Errno> {
        self.socket_behind(thread, fd)?;
        let segments = usize::try_from(segments).map_err(|_| Errno::EINVAL)?;
        if segments > SEGMENTS_MAX {
            return Err(Errno::EINVAL);
        }
        if segments * length == 0 {
            return Ok(0);
        }
        let result = self.send_segments(thread, fd, segments, length);
        if result == Err(Errno::EPIPE) {
            self.raise_pipe_signal(thread);
        }
        result
    }

    /// sendmsg(2) of equal segments, without a signal.
    pub(crate) fn send_segments(
        &mut self,
        thread: u32,
        fd: Fd,
        segments: usize,
        length: usize,
    ) -> Result<usize, Errno> {
        let bytes = vec![b'x'; length];
        // However many more there are, the call is refused: no memory is taken for them.
        let segments = segments.min(SEGMENTS_MAX + 1);
        let slices: Vec<IoSlice<'_>> = (0..segments).map(|_| IoSlice::new(&bytes)).collect();
        self.send(thread, fd, &slices)
    }

    /// connect(2) with AF_UNSPEC: the connection is reset and the socket fresh again (T28).
    pub(crate) fn disconnect(&mut self, thread: u32, fd: Fd) -> Result<(), Errno> {
        self.spend(thread, cost::SHUTDOWN);
        let id = self.socket_behind(thread, fd)?;
        if self.kernel_of(thread).is_bsd() {
            return Err(Errno::EAFNOSUPPORT);
        }
        let over = self.has_ended(id);
        match self.sockets[id].state {
            State::Listening => {
                self.stop_listening(id);
                self.wake(Object::Socket(id), Key::Error);
            }
            State::SynSent => self.give_up(id, Some(Errno::ECONNRESET)),
            State::Connected if over => self.give_up(id, None),
            State::Connected => {
                let socket = &self.sockets[id];
                let (connection, side) = (socket.connection, socket.outgoing());
                self.excuse_connection(connection, Excuse::ResetOnClose);
                self.send_reset(connection, side);
                self.deliver_due(thread);
                self.give_up(id, Some(Errno::ECONNRESET));
            }
            State::Closed => self.give_up(id, None),
        }
        Ok(())
    }

    /// Both directions have ended and the peer knows: the kernel has forgotten the connection (T68).
    pub(crate) fn has_ended(&mut self, id: u32) -> bool {
        let now = self.now;
        let socket = &self.sockets[id];
        let (connection, outgoing, fin_received) =
            (socket.connection, socket.outgoing(), socket.fin_received);
        if connection == NONE {
            return true;
        }
        let stream = &mut self.connections[connection].streams[outgoing];
        stream.settle(now, &self.work);
        fin_received && stream.fin_acked()
    }

    pub(crate) fn peer_name(&mut self, thread: u32, fd: Fd) -> Result<SocketAddrV4, Errno> {
        self.spend(thread, cost::SETTING);
        let id = self.socket_behind(thread, fd)?;
        let socket = &self.sockets[id];
        let (state, connection, side) = (socket.state, socket.connection, socket.outgoing());
        if self.kernel_of(thread) == Kernel::Macos && socket.receive_shut && socket.send_shut {
            return Err(Errno::EINVAL);
        }
        if state != State::Connected || self.has_ended(id) {
            return Err(Errno::ENOTCONN);
        }
        Ok(self.connections[connection].addresses[1 - side])
    }

    /// shutdown(2) with any number (T72).
    pub(crate) fn shutdown_numbered(&mut self, thread: u32, fd: Fd, how: i32) -> Result<(), Errno> {
        self.socket_behind(thread, fd)?;
        let how = match how {
            0 => Shutdown::Read,
            1 => Shutdown::Write,
            2 => Shutdown::Both,
            _ => return Err(Errno::EINVAL),
        };
        self.shutdown(thread, fd, how)
    }
}
