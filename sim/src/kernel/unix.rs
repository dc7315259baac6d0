//! AF_UNIX streams: what is sent is in the peer's queue at once, and descriptors travel along (T82).

use std::collections::VecDeque;
use std::io::IoSlice;

use reactor::sys::{EpollMask, Errno, Fd};

use super::watch::{Key, Watchers};
use super::{NONE, Object, cost};
use crate::world::World;

/// The default send buffer, in bytes of kernel memory.
const SEND_BUFFER_BYTES: usize = 212_992;
/// What a message costs beyond its bytes.
const OVERHEAD_BYTES: usize = 576;
/// A longer send is cut into messages of at most this many bytes.
const MESSAGE_BYTES_MAX: usize = SEND_BUFFER_BYTES / 2 - 64;
/// The smallest piece of memory that a message lies in.
const PIECE_BYTES_MIN: usize = 192;

/// A piece of what was sent, in the receiver's queue. It fills the sender's buffer until it is read to its end.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    read: usize,
    /// The kernel memory that it takes.
    cost_bytes: usize,
    /// A descriptor under way: one reference to its file.
    passed: Option<Object>,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Unix {
    /// [`NONE`] for a socket that was never connected, or whose peer is closed.
    peer: u32,
    connected: bool,
    queue: VecDeque<Message>,
    /// Kernel memory of this end's messages in the peer's queue.
    queued_bytes: usize,
    receive_shut: bool,
    send_shut: bool,
    /// One slot, as every socket has.
    error: Option<Errno>,
    pub(crate) watchers: Watchers,
}

impl Unix {
    fn new(connected: bool) -> Unix {
        Unix {
            peer: NONE,
            connected,
            queue: VecDeque::new(),
            queued_bytes: 0,
            receive_shut: false,
            send_shut: false,
            error: None,
            watchers: Watchers::default(),
        }
    }

    /// A quarter of the buffer may be in use.
    fn is_writable(&self) -> bool {
        self.queued_bytes * 4 <= SEND_BUFFER_BYTES
    }

    pub(crate) fn readiness(&self) -> EpollMask {
        let mut mask = EpollMask::empty();
        mask.set(EpollMask::ERR, self.error.is_some());
        mask.set(EpollMask::HUP, !self.connected || (self.receive_shut && self.send_shut));
        mask.set(EpollMask::RDHUP, self.receive_shut);
        mask.set(EpollMask::IN, self.receive_shut || !self.queue.is_empty());
        mask.set(EpollMask::OUT, self.is_writable());
        mask
    }

    /// Bytes that can be read.
    pub(crate) fn readable(&self) -> usize {
        self.queue.iter().map(|message| message.bytes.len() - message.read).sum()
    }

    /// SO_SNDBUF, in bytes of kernel memory.
    pub(crate) fn send_capacity(&self) -> usize {
        SEND_BUFFER_BYTES
    }

    /// Room in the send buffer, in bytes of kernel memory.
    pub(crate) fn room(&self) -> usize {
        SEND_BUFFER_BYTES.saturating_sub(self.queued_bytes)
    }

    /// Which directions are shut: receiving, sending.
    pub(crate) fn is_shut(&self) -> (bool, bool) {
        (self.receive_shut, self.send_shut)
    }

    /// SO_ERROR.
    pub(crate) fn take_error(&mut self) -> Option<Errno> {
        self.error.take()
    }
}

/// What a receive finds.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    /// One reference, which now belongs to the receiver.
    pub(crate) passed: Option<Object>,
}

impl World {
    /// A stream that is not connected.
    pub(crate) fn unix_create(&mut self, thread: u32) -> Result<Fd, Errno> {
        self.spend(thread, cost::CREATE);
        self.may_create(thread)?;
        let unix = self.unixes.insert(Unix::new(false));
        Ok(self.install(thread, Object::Unix(unix)))
    }

    /// socketpair(2).
    pub(crate) fn unix_pair(&mut self, thread: u32) -> Result<(Fd, Fd), Errno> {
        self.spend(thread, cost::CREATE);
        self.may_create_two(thread)?;
        let first = self.unixes.insert(Unix::new(true));
        let second = self.unixes.insert(Unix::new(true));
        self.unixes[first].peer = second;
        self.unixes[second].peer = first;
        Ok((self.install(thread, Object::Unix(first)), self.install(thread, Object::Unix(second))))
    }

    /// Sends bytes, and with the first of them one reference to a file.
    pub(crate) fn unix_send(
        &mut self,
        unix: u32,
        bytes: &[u8],
        passed: Option<Object>,
    ) -> Result<usize, Errno> {
        let entry = &self.unixes[unix];
        if entry.send_shut {
            return Err(Errno::EPIPE);
        }
        if !entry.connected {
            return Err(Errno::ENOTCONN);
        }
        let peer = entry.peer;
        if peer == NONE || self.unixes[peer].receive_shut {
            return Err(Errno::EPIPE);
        }
        if let Some(error) = self.unixes[unix].error.take() {
            return Err(error);
        }
        let mut passed = passed;
        let mut sent = 0;
        for piece in bytes.chunks(MESSAGE_BYTES_MAX) {
            if self.unixes[unix].queued_bytes >= SEND_BUFFER_BYTES {
                break;
            }
            let cost_bytes = piece.len().next_multiple_of(PIECE_BYTES_MIN) + OVERHEAD_BYTES;
            let passed = passed.take();
            if let Some(object) = passed {
                self.descriptions.add_reference(object);
            }
            let message = Message { bytes: piece.to_vec(), read: 0, cost_bytes, passed };
            self.unixes[unix].queued_bytes += cost_bytes;
            self.unixes[peer].queue.push_back(message);
            sent += piece.len();
            self.wake(Object::Unix(peer), Key::In);
        }
        if sent == 0 && !bytes.is_empty() { Err(Errno::EAGAIN) } else { Ok(sent) }
    }

    /// Receives at most `length` bytes; stops after a message that brings a descriptor. A peek leaves everything.
    pub(crate) fn unix_receive(&mut self, unix: u32, length: usize, peek: bool) -> Result<Received, Errno> {
        let entry = &mut self.unixes[unix];
        if !entry.connected {
            return Err(Errno::EINVAL);
        }
        let mut received = Received::default();
        if entry.queue.is_empty() {
            if let Some(error) = entry.error.take() {
                return Err(error);
            }
            return if entry.receive_shut { Ok(received) } else { Err(Errno::EAGAIN) };
        }
        if peek {
            let unread = entry.queue.iter().flat_map(|message| &message.bytes[message.read..]);
            received.bytes = unread.take(length).copied().collect();
            return Ok(received);
        }
        let mut freed_bytes = 0;
        while received.bytes.len() < length
            && received.passed.is_none()
            && let Some(message) = entry.queue.front_mut()
        {
            let count = (message.bytes.len() - message.read).min(length - received.bytes.len());
            received.bytes.extend_from_slice(&message.bytes[message.read..message.read + count]);
            message.read += count;
            received.passed = message.passed.take();
            if message.read == message.bytes.len() {
                freed_bytes += message.cost_bytes;
                entry.queue.pop_front();
            }
        }
        let peer = entry.peer;
        self.unix_frees(peer, freed_bytes);
        Ok(received)
    }

    /// recv(2) of what is no TCP socket.
    #[cold]
    pub(crate) fn recv_elsewhere(
        &mut self,
        thread: u32,
        fd: Fd,
        object: Object,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        let Object::Unix(unix) = object else {
            return self.socket_behind(thread, fd).and(Err(Errno::ENOTSOCK));
        };
        let bytes = self.unix_receive(unix, buffer.len(), false)?.bytes;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    /// send(2) to what is no TCP socket.
    #[cold]
    pub(crate) fn send_elsewhere(
        &mut self,
        thread: u32,
        fd: Fd,
        object: Object,
        segments: &[IoSlice<'_>],
    ) -> Result<usize, Errno> {
        let Object::Unix(unix) = object else {
            return self.socket_behind(thread, fd).and(Err(Errno::ENOTSOCK));
        };
        let bytes: Vec<u8> = segments.iter().flat_map(|segment| segment.iter().copied()).collect();
        self.unix_send(unix, &bytes, None)
    }

    /// The receiver has let go of this much of what this end had sent. Every time is a wake-up, if there is room now.
    fn unix_frees(&mut self, unix: u32, freed_bytes: usize) {
        let Some(entry) = self.unixes.get_mut(unix) else { return };
        entry.queued_bytes -= freed_bytes;
        if freed_bytes > 0 && entry.is_writable() {
            self.wake(Object::Unix(unix), Key::Out);
        }
    }

    /// shutdown(2), of either direction or both: the peer's directions are shut with it.
    pub(crate) fn unix_shutdown(&mut self, unix: u32, read: bool, write: bool) {
        let entry = &mut self.unixes[unix];
        entry.receive_shut |= read;
        entry.send_shut |= write;
        let peer = entry.peer;
        self.wake(Object::Unix(unix), Key::Any);
        if let Some(peer_entry) = self.unixes.get_mut(peer) {
            peer_entry.receive_shut |= write;
            peer_entry.send_shut |= read;
            self.wake(Object::Unix(peer), Key::Any);
        }
    }

    /// The last descriptor of this end is closed. What it had not read is an error for the peer (T82).
    pub(crate) fn unix_close(&mut self, unix: u32) {
        let entry = self.unixes.remove(unix);
        if let Some(peer) = self.unixes.get_mut(entry.peer) {
            peer.peer = NONE;
            peer.receive_shut = true;
            peer.send_shut = true;
            peer.queued_bytes = 0;
            if !entry.queue.is_empty() {
                peer.error = Some(Errno::ECONNRESET);
            }
            self.wake(Object::Unix(entry.peer), Key::Any);
        }
        for object in entry.queue.into_iter().filter_map(|message| message.passed) {
            self.release(object);
        }
    }

    /// Sends a byte and a reference to the file behind a descriptor.
    pub(crate) fn descriptor_send(&mut self, thread: u32, fd: Fd, passed: Fd) -> Result<(), Errno> {
        self.spend(thread, cost::SEND_DATA);
        let Object::Unix(unix) = self.object(thread, fd)? else { return Err(Errno::EINVAL) };
        let object = self.object(thread, passed)?;
        self.unix_send(unix, &[0], Some(object)).map(|_| ())
    }

    /// Receives a byte, and the file that came with it under the lowest free number.
    pub(crate) fn descriptor_receive(&mut self, thread: u32, fd: Fd) -> Result<Fd, Errno> {
        self.spend(thread, cost::RECV_DATA);
        let Object::Unix(unix) = self.object(thread, fd)? else { return Err(Errno::EINVAL) };
        let received = self.unix_receive(unix, 1, false)?;
        let Some(object) = received.passed else { return Err(Errno::EINVAL) };
        if let Err(error) = self.may_create(thread) {
            self.release(object);
            return Err(error);
        }
        Ok(self.install(thread, object))
    }
}
