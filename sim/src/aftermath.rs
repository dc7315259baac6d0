//! What a world looks like when a run has failed: which loops sleep, and what they sleep through.

use std::fmt;

use reactor::sys::Fd;
use reactor::time::Instant;

use crate::kernel::socket::State;
use crate::kernel::{NONE, Object};
use crate::schedule::{Phase, ThreadId};
use crate::world::World;

/// Descriptors of one loop that are told of.
const WAITING_MAX: usize = 4;

/// Something that is there for a loop to take, and was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Where.
    pub fd: Fd,
    /// Bytes to be read.
    pub bytes: u64,
    /// The other side has ended its direction.
    pub ended: bool,
    /// Connections to be accepted.
    pub connections: u64,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fd = self.fd.as_raw();
        if self.connections > 0 {
            return write!(f, "{} to accept on fd{fd}", counted(self.connections, "connection"));
        }
        match (self.bytes, self.ended) {
            (0, _) => write!(f, "the end of the stream unread on fd{fd}"),
            (bytes, false) => write!(f, "{} unread on fd{fd}", counted(bytes, "byte")),
            (bytes, true) => {
                write!(f, "{} and the end of the stream unread on fd{fd}", counted(bytes, "byte"))
            }
        }
    }
}

/// A loop that sleeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sleeper {
    /// Which.
    pub thread: ThreadId,
    /// Since when.
    pub since: Instant,
    /// When its wait gives up; `None` for never.
    pub until: Option<Instant>,
    /// What it sleeps through: the first few descriptors.
    pub waiting: Vec<Waiting>,
}

/// `1 byte`, `2 bytes`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

impl World {
    /// Every loop that sleeps now.
    pub(crate) fn sleeping_loops(&self) -> Vec<Sleeper> {
        let mut found = Vec::new();
        for (number, thread) in (0..).zip(&self.threads) {
            let Some(sleep) = thread.sleep.filter(|_| thread.phase == Phase::Sleeping) else { continue };
            found.push(Sleeper {
                thread: ThreadId(number),
                since: self.clock(sleep.began),
                until: (sleep.fires != u64::MAX).then(|| self.clock(sleep.fires)),
                waiting: self.waiting_in(thread.process),
            });
        }
        found
    }

    fn waiting_in(&self, process: u32) -> Vec<Waiting> {
        let open = self.processes[process as usize].open();
        let sockets = open.filter_map(|(fd, object)| match object {
            Object::Socket(id) => Some((fd, id)),
            _ => None,
        });
        sockets.filter_map(|(fd, id)| self.waiting_at(fd, id)).take(WAITING_MAX).collect()
    }

    fn waiting_at(&self, fd: Fd, id: u32) -> Option<Waiting> {
        let socket = self.sockets.get(id)?;
        if let Some(listener) = &socket.listener {
            let connections = listener.queue.len() as u64;
            return (connections > 0).then_some(Waiting { fd, bytes: 0, ended: false, connections });
        }
        if socket.connection == NONE || socket.state == State::SynSent {
            return None;
        }
        let (bytes, ended) = (self.readable(id), socket.fin_received);
        (bytes > 0).then_some(Waiting { fd, bytes, ended, connections: 0 })
    }
}
