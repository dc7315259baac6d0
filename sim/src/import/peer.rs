//! One peer of an imported loop: a raw socket, and how far its stream has come.

use std::net::SocketAddr;

use reactor::sys::{Errno, Family, Fd, Shutdown, SocketOption, Syscalls};

use super::act::Deed;
use super::bytes::PeerBytes;
use crate::kernel::syscalls::SimSyscalls;
use crate::kernel::{NONE, Object};
use crate::workload::Breach;
use crate::workload::content::{Content, HEADER_BYTES};

/// What a peer reads at once.
const READ_BYTES: usize = 64 << 10;

/// How a peer stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Standing {
    /// It has not connected.
    Absent,
    /// It sends.
    Open(Fd),
    /// It has ended its stream.
    Finished(Fd),
    /// It has gone, or was turned away.
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    standing: Standing,
    sent: u64,
    received: u64,
    /// The first bytes that came.
    header: Vec<u8>,
    /// The loop has ended its stream.
    ended: bool,
    /// Either side has reset the connection.
    broken: bool,
}

impl Peer {
    pub(super) fn new() -> Peer {
        let header = Vec::new();
        Peer { standing: Standing::Absent, sent: 0, received: 0, header, ended: false, broken: false }
    }

    /// Whether there is no connection to it yet.
    pub(super) fn is_absent(&self) -> bool {
        self.standing == Standing::Absent
    }

    /// Whether it has ended its stream.
    pub(super) fn has_finished(&self) -> bool {
        matches!(self.standing, Standing::Finished(_))
    }

    /// The loop has connected to it.
    pub(super) fn meet(&mut self, fd: Fd) {
        self.standing = Standing::Open(fd);
    }

    /// How far it is.
    pub(super) fn progress(&self) -> (u64, u64, bool, bool) {
        (self.sent, self.received, self.ended, self.is_over())
    }

    /// Whether an echo can do this already: it has what it is to send, and ends its stream after the other side's.
    pub(super) fn can_echo(&self, deed: Deed, amount: u64) -> bool {
        match deed {
            _ if self.broken => true,
            Deed::Send => self.received - self.sent >= amount,
            Deed::Finish => self.ended,
            _ => true,
        }
    }

    /// What an echo has to send: what it has got. Streams say in their first bytes what the others are.
    pub(super) fn echo(&self) -> PeerBytes {
        let header = self.header.first_chunk::<{ HEADER_BYTES as usize }>().and_then(Content::from_header);
        match header {
            Some(content) => PeerBytes::Stream(content, self.received.min(content.length)),
            None => PeerBytes::Whole(self.header.clone()),
        }
    }

    fn fd(&self) -> Option<Fd> {
        match self.standing {
            Standing::Open(fd) | Standing::Finished(fd) => Some(fd),
            Standing::Absent | Standing::Gone => None,
        }
    }

    /// Whether nothing is awaited of it, and nothing of the loop.
    pub(super) fn is_over(&self) -> bool {
        self.fd().is_none() || self.broken || (self.ended && matches!(self.standing, Standing::Finished(_)))
    }

    /// Does it; what makes no sense any more is left out, as whatever a socket refuses.
    pub(super) fn act(
        &mut self,
        sys: &mut SimSyscalls,
        to: Option<SocketAddr>,
        bytes: &PeerBytes,
        (deed, amount): (Deed, u64),
    ) {
        match (deed, self.standing) {
            (Deed::Connect, Standing::Absent) => {
                if let Some(to) = to {
                    self.connect(sys, to);
                }
            }
            (Deed::Send, Standing::Open(fd)) => {
                let end = self.sent.saturating_add(amount);
                self.send_up_to(sys, fd, bytes, end);
            }
            (Deed::Finish, Standing::Open(fd)) => {
                self.send_up_to(sys, fd, bytes, u64::MAX);
                let _ = sys.shutdown(fd, Shutdown::Write);
                self.standing = Standing::Finished(fd);
            }
            (Deed::Reset, Standing::Open(fd) | Standing::Finished(fd)) => {
                reset(sys, fd);
                self.broken = true;
                self.standing = Standing::Gone;
            }
            (Deed::Nudge, Standing::Open(fd) | Standing::Finished(fd)) => nudge_other_end(sys, fd),
            _ => {}
        }
    }

    fn connect(&mut self, sys: &mut SimSyscalls, address: SocketAddr) {
        let Ok(fd) = sys.socket(Family::V4) else { return };
        let _ = sys.setsockopt(fd, SocketOption::NoDelay(true));
        self.standing = match sys.connect(fd, &address) {
            Ok(()) | Err(Errno::EINPROGRESS) => Standing::Open(fd),
            Err(_) => {
                let _ = sys.close(fd);
                Standing::Gone
            }
        };
    }

    fn send_up_to(&mut self, sys: &mut SimSyscalls, fd: Fd, bytes: &PeerBytes, end: u64) {
        let left = bytes.range(self.sent, end);
        let mut left = &left[..];
        while !left.is_empty() {
            match sys.send(fd, left) {
                Ok(count) => {
                    self.sent += count as u64;
                    left = &left[count..];
                }
                // Its buffers hold all that one run sends.
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
    }

    /// Takes what has come. With `echoes`, it must be what was sent.
    pub(super) fn read(
        &mut self,
        sys: &mut SimSyscalls,
        bytes: &PeerBytes,
        echoes: bool,
    ) -> Result<(), Breach> {
        let Some(fd) = self.fd() else { return Ok(()) };
        if self.ended || self.broken || !has_news(sys, fd) {
            return Ok(());
        }
        let mut buffer = vec![0; READ_BYTES];
        while !self.ended && !self.broken && has_news(sys, fd) {
            match sys.recv(fd, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    let missing = (HEADER_BYTES as usize).saturating_sub(self.header.len());
                    self.header.extend_from_slice(&buffer[..count.min(missing)]);
                    if echoes {
                        self.compare(&buffer[..count], bytes)?;
                    }
                    self.received += count as u64;
                }
                Err(Errno::EAGAIN) => break,
                Err(_) => self.broken = true,
            }
        }
        let in_order = self.ended && matches!(self.standing, Standing::Finished(_)) && !self.broken;
        if echoes && in_order && self.received < self.sent {
            let Peer { sent, received, .. } = self;
            let details =
                format!("the loop ended a stream in order after {received} of {sent} bytes had come back");
            return Err(Breach::new("byte-stream", details));
        }
        Ok(())
    }

    fn compare(&self, came: &[u8], bytes: &PeerBytes) -> Result<(), Breach> {
        let end = self.received + came.len() as u64;
        let sent = bytes.range(self.received, end.min(self.sent));
        if *sent == *came {
            return Ok(());
        }
        let same = came.iter().zip(&*sent).take_while(|(came, sent)| came == sent).count();
        let details = if same == sent.len() {
            format!("{} bytes were sent to the loop, and more came back", self.sent)
        } else {
            let at = self.received + same as u64;
            format!("the byte at offset {at} that came back is not the one that was sent")
        };
        Err(Breach::new("byte-stream", details))
    }
}

/// The socket behind a descriptor, and the one at the other end of its connection.
fn ends(sys: &SimSyscalls, fd: Fd) -> Option<(u32, u32)> {
    let world = sys.world().borrow();
    let process = world.threads[sys.thread().0 as usize].process;
    let Some(Object::Socket(id)) = world.processes[process as usize].get(fd) else { return None };
    let socket = &world.sockets[id];
    let other = world.connections.get(socket.connection)?.sockets[socket.incoming()];
    Some((id, other))
}

/// How many connections a listener has to give.
pub(super) fn queued(sys: &SimSyscalls, fd: Fd) -> usize {
    let world = sys.world().borrow();
    let process = world.threads[sys.thread().0 as usize].process;
    match world.processes[process as usize].get(fd) {
        Some(Object::Socket(id)) => {
            world.sockets[id].listener.as_ref().map_or(0, |listener| listener.queue.len())
        }
        _ => 0,
    }
}

/// Gives a connection up.
pub(super) fn reset(sys: &mut SimSyscalls, fd: Fd) {
    let _ = sys.setsockopt(fd, SocketOption::ResetOnClose(true));
    let _ = sys.close(fd);
}

fn nudge_other_end(sys: &SimSyscalls, fd: Fd) {
    if let Some((_, other)) = ends(sys, fd)
        && other != NONE
    {
        sys.world().borrow_mut().nudge(other);
    }
}

/// Whether there is anything to read, the end and an error included.
fn has_news(sys: &SimSyscalls, fd: Fd) -> bool {
    let world = sys.world().borrow();
    let process = world.threads[sys.thread().0 as usize].process;
    match world.processes[process as usize].get(fd) {
        Some(Object::Socket(id)) => {
            let socket = &world.sockets[id];
            world.readable(id) > 0 || socket.receive_shut || socket.error.is_some()
        }
        _ => false,
    }
}
